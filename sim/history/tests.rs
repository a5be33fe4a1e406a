//! The checker against histories that were made in an order, and against trying every order.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::linear::{OPERATIONS_MAX, check, check_within};
use super::*;
use crate::dice::Seed;

/// An object that is simply asked, one thing after the other.
trait Object: Model<Output: PartialEq> {
    /// Does what is asked.
    fn ask(state: &Self::State, input: &Self::Input) -> (Self::Output, Self::State);
    /// What may happen by itself; comes to an end.
    fn moves(state: &Self::State) -> Vec<Self::State>;
    /// The refusal that changes nothing.
    const NOT_DONE: Self::Output;
}

impl Object for Register {
    const NOT_DONE: RegisterOutput = RegisterOutput::NotDone;

    fn ask(state: &Option<String>, input: &RegisterInput) -> (RegisterOutput, Option<String>) {
        use {RegisterInput as I, RegisterOutput as O};
        match (state, input) {
            (None, I::Create(value)) | (Some(_), I::Update(value)) => {
                (O::Done, Some(value.clone()))
            }
            (Some(_), I::Create(_)) => (O::AlreadyExists, state.clone()),
            (None, I::Update(_) | I::Delete | I::Get) => (O::NotFound, None),
            (Some(_), I::Delete) => (O::Done, None),
            (Some(value), I::Get) => (O::Value(value.clone()), state.clone()),
        }
    }

    fn moves(_: &Option<String>) -> Vec<Option<String>> {
        Vec::new()
    }
}

impl Object for Queue {
    const NOT_DONE: QueueOutput = QueueOutput::NotDone;

    fn ask(state: &QueueState, input: &QueueInput) -> (QueueOutput, QueueState) {
        use {QueueInput as I, QueueOutput as O};
        let mut after = state.clone();
        let output = match input {
            I::Enqueue(name) => {
                after.items.push(Item { name: name.clone(), pending: false });
                O::Done
            }
            I::Flush => {
                after.items.retain(|item| item.pending);
                O::Done
            }
            I::Cancel(name) => match state.items.iter().position(|item| item.name == *name) {
                None => O::NotFound,
                Some(at) if state.items[at].pending => O::AlreadyHandedOut,
                Some(at) => {
                    after.items.remove(at);
                    O::Done
                }
            },
            I::List => O::Items(state.items.clone()),
        };
        (output, after)
    }

    fn moves(state: &QueueState) -> Vec<QueueState> {
        let mut moves = Vec::new();
        if !state.hands_out {
            return moves;
        }
        for at in 0..state.items.len() {
            let mut after = state.clone();
            if state.items[at].pending {
                after.items.remove(at);
                moves.push(after);
            } else {
                after.items[at].pending = true;
                moves.push(after);
                break;
            }
        }
        moves
    }
}

type Operations<M> = Vec<Operation<<M as Model>::Input, <M as Model>::Output>>;

/// One operation: what is asked, what happens by itself before, what becomes of the answer, and the
/// times before and after the moment at which it is done.
type Draw = (u8, u8, u8, (u64, u64));

fn draws(most: usize) -> impl Strategy<Value = Vec<Draw>> {
    let draw = (any::<u8>(), any::<u8>(), 0..10_u8, (0..40_u64, 0..40_u64));
    proptest::collection::vec(draw, 1..=most)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asks in the order of the draws, one operation each 10 ms, whatever calls and returns overlap.
fn lived<M: Object>(
    start: &M::State,
    draws: &[Draw],
    input: impl Fn(usize, u8) -> M::Input,
) -> Operations<M> {
    let mut state = start.clone();
    let mut all = Vec::new();
    for (place, (kind, by_itself, fate, (before, after))) in draws.iter().enumerate() {
        for _ in 0..by_itself % 4 {
            let moves = M::moves(&state);
            if let Some(moved) = moves.get(usize::from(*by_itself) % moves.len().max(1)) {
                state = moved.clone();
            }
        }
        let input = input(place, *kind);
        let (output, changed) = M::ask(&state, &input);
        // 0: lost on the way there, 1: on the way back, 2: refused, else answered.
        if ![0, 2].contains(fate) {
            state = changed;
        }
        let output = match fate {
            0 | 1 => None,
            2 => Some(M::NOT_DONE),
            _ => Some(output),
        };
        let moment = 100 + 10 * place as u64;
        let ret = output.map(|output| Return { at: millis(moment + after), output });
        let (client, key) = (format!("c{}", place % 5), "key".to_owned());
        all.push(Operation { client, key, call: millis(moment - before), ret, input });
    }
    all
}

fn register_input(place: usize, kind: u8) -> RegisterInput {
    match kind % 8 {
        0 | 1 => RegisterInput::Create(format!("v{place}")),
        2 | 3 => RegisterInput::Update(format!("v{place}")),
        4 => RegisterInput::Delete,
        _ => RegisterInput::Get,
    }
}

fn queue_input(place: usize, kind: u8) -> QueueInput {
    match kind % 8 {
        0..=2 => QueueInput::Enqueue(format!("v{place}")),
        3 => QueueInput::Flush,
        4 | 5 => QueueInput::Cancel(format!("v{}", usize::from(kind / 8) % (place + 1))),
        _ => QueueInput::List,
    }
}

/// Tries every order.
fn explained<M: Object>(state: &M::State, all: &Operations<M>, placed: u32) -> bool {
    let is_placed = |at: usize| placed >> at & 1 == 1;
    if all.iter().enumerate().all(|(at, one)| one.ret.is_none() || is_placed(at)) {
        return true;
    }
    let waits_for = |call: Duration| {
        let ended = |one: &Operation<M::Input, M::Output>| {
            one.ret.as_ref().is_some_and(|ret| ret.at < call)
        };
        all.iter().enumerate().any(|(at, one)| !is_placed(at) && ended(one))
    };
    let asked = all.iter().enumerate().any(|(at, one)| {
        if is_placed(at) || waits_for(one.call) {
            return false;
        }
        let (output, after) = M::ask(state, &one.input);
        let after = match &one.ret {
            Some(ret) if ret.output == M::NOT_DONE => state.clone(),
            Some(ret) if ret.output != output => return false,
            Some(_) | None => after,
        };
        explained::<M>(&after, all, placed | 1 << at)
    });
    asked || M::moves(state).iter().any(|moved| explained::<M>(moved, all, placed))
}

fn agrees<M: Object<Output: Debug>>(start: &M::State, all: &Operations<M>) {
    let verdict = check::<M>(start, all);
    let expected = explained::<M>(start, all, 0);
    let fine = matches!(verdict, Verdict::Linearizable { .. });
    assert_eq!(fine, expected, "{verdict:?} of {all:#?}");
    assert!(fine || matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
}

fn answered<M: Model>(all: &mut Operations<M>, which: usize) -> Option<&mut M::Output> {
    let count = all.iter().filter(|one| one.ret.is_some()).count();
    let mut answers = all.iter_mut().filter_map(|one| one.ret.as_mut());
    answers.nth(which % count.max(1)).map(|ret| &mut ret.output)
}

fn steadily(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(steadily(400))]

    #[test]
    fn registers_that_were_lived_are_accepted(draws in draws(120)) {
        let all = lived::<Register>(&None, &draws, register_input);
        let verdict = check::<Register>(&None, &all);
        prop_assert!(matches!(verdict, Verdict::Linearizable { .. }), "{:?}", verdict);
    }

    #[test]
    fn queues_that_were_lived_are_accepted(draws in draws(120), hands_out in any::<bool>()) {
        let start = QueueState::empty(hands_out);
        let all = lived::<Queue>(&start, &draws, queue_input);
        let verdict = check::<Queue>(&start, &all);
        prop_assert!(matches!(verdict, Verdict::Linearizable { .. }), "{:?}", verdict);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_refused(draws in draws(120), which in any::<usize>()) {
        let mut all = lived::<Register>(&None, &draws, register_input);
        all.retain(|one| one.input != RegisterInput::Get || one.ret.is_some());
        let gets = all.iter().filter(|one| one.input == RegisterInput::Get).count();
        prop_assume!(gets > 0);
        let mut gets_of = all.iter_mut().filter(|one| one.input == RegisterInput::Get);
        let ret = gets_of.nth(which % gets).and_then(|one| one.ret.as_mut());
        ret.unwrap().output = RegisterOutput::Value("nobody's".to_owned());
        let verdict = check::<Register>(&None, &all);
        prop_assert!(matches!(verdict, Verdict::Broken(_)), "{:?}", verdict);
    }
}

/// One answer is not what it was.
fn alter_register(all: &mut Operations<Register>, which: usize, altered: usize) {
    use RegisterOutput as O;
    if let Some(output) = answered::<Register>(all, which) {
        *output = match altered {
            0 => O::Done,
            1 => O::AlreadyExists,
            2 => O::NotFound,
            3 => O::NotDone,
            4 => O::Odd("odd".to_owned()),
            value => O::Value(format!("v{}", value - 5)),
        };
    }
}

/// One answer is not what it was; a list, perhaps, only nearly.
fn alter_queue(all: &mut Operations<Queue>, which: usize, altered: u8, items: &[(u8, bool)]) {
    use QueueOutput as O;
    if let Some(output) = answered::<Queue>(all, which) {
        *output = match (altered, &output) {
            (0, _) => O::Done,
            (1, _) => O::NotFound,
            (2, _) => O::AlreadyHandedOut,
            (3, O::Items(items)) => O::Items(items.iter().skip(1).cloned().collect()),
            (4, O::Items(items)) => O::Items(items.iter().rev().cloned().collect()),
            _ => {
                let item =
                    |(name, pending): &_| Item { name: format!("v{name}"), pending: *pending };
                O::Items(items.iter().map(item).collect())
            }
        };
    }
}

/// What a client oracle says, when it is told all of it in its order.
fn complaints<M: Model>(
    all: &Operations<M>,
    hands_out: bool,
    question: fn(M::Input) -> Question,
    answer: fn(M::Output) -> Answer,
) -> Vec<String> {
    let mut events = Vec::new();
    for (number, one) in (0..).zip(all) {
        let (call, at, client, key) =
            (CallId(number), one.call, one.client.clone(), one.key.clone());
        let question = question(one.input.clone());
        events.push((at, false, HistoryEvent::Called { call, client, key, at, question }));
        if let Some(Return { at, output }) = &one.ret {
            let answer = Some(answer(output.clone()));
            events.push((*at, true, HistoryEvent::Returned { call, at: *at, answer }));
        }
    }
    events.sort_by_key(|(at, ends, _)| (*at, *ends));
    let mut oracle = ClientOracle::new(hands_out);
    let facts = events.into_iter().map(|(_, _, event)| ClientFact::Call(event));
    facts.flat_map(|fact| oracle.observe(&fact)).collect()
}

proptest! {
    #![proptest_config(steadily(3_000))]

    #[test]
    fn altered_registers_are_judged_as_by_trying_every_order(
        draws in draws(7),
        which in any::<usize>(),
        altered in 0..12_usize,
    ) {
        let mut all = lived::<Register>(&None, &draws, register_input);
        alter_register(&mut all, which, altered);
        agrees::<Register>(&None, &all);
    }

    #[test]
    fn altered_queues_are_judged_as_by_trying_every_order(
        draws in draws(6),
        which in any::<usize>(),
        altered in 0..6_u8,
        items in proptest::collection::vec((0..6_u8, any::<bool>()), 0..4),
        hands_out in any::<bool>(),
    ) {
        let start = QueueState::empty(hands_out);
        let mut all = lived::<Queue>(&start, &draws, queue_input);
        alter_queue(&mut all, which, altered, &items);
        agrees::<Queue>(&start, &all);
    }
}

proptest! {
    #![proptest_config(steadily(1_000))]

    #[test]
    fn a_client_oracle_complains_only_of_what_no_order_explains(
        draws in draws(40),
        which in any::<usize>(),
        altered in 0..45_usize,
        items in proptest::collection::vec((0..40_u8, any::<bool>()), 0..4),
        hands_out in any::<bool>(),
    ) {
        let mut all = lived::<Register>(&None, &draws, register_input);
        let told =
        |all: &_| complaints::<Register>(all, false, Question::Register, Answer::Register);
        prop_assert_eq!(told(&all), Vec::<String>::new());
        alter_register(&mut all, which, altered);
        let fits = matches!(check::<Register>(&None, &all), Verdict::Linearizable { .. });
        prop_assert!(!fits || told(&all).is_empty(), "{:?} of {all:#?}", told(&all));

        let start = QueueState::empty(hands_out);
        let mut all = lived::<Queue>(&start, &draws, queue_input);
        let told = |all: &_| complaints::<Queue>(all, hands_out, Question::Queue, Answer::Queue);
        prop_assert_eq!(told(&all), Vec::<String>::new());
        alter_queue(&mut all, which, u8::try_from(altered % 6).unwrap(), &items);
        let fits = matches!(check::<Queue>(&start, &all), Verdict::Linearizable { .. });
        prop_assert!(!fits || told(&all).is_empty(), "{:?} of {all:#?}", told(&all));
    }
}

/// Five clients who never rest, and answers of which one in a hundred is lost.
fn busy<M: Object>(
    start: &M::State,
    operations: usize,
    seed: u64,
    input: impl Fn(usize, u8) -> M::Input,
) -> Operations<M> {
    let mut dice = Seed(seed).stream("history");
    let mut free = [0_u64; 5];
    let mut all = Vec::new();
    for place in 0..operations {
        let client = place % free.len();
        let call = free[client] + 1 + dice.below(3);
        let ret = call + 1 + dice.below(30);
        let moment = call + dice.below(ret - call);
        free[client] = ret;
        let input = input(place, dice.below(256).try_into().unwrap());
        let lost = dice.chance(0.01);
        all.push((moment, client, call, ret, input, lost));
    }
    all.sort_by_key(|one| one.0);
    let mut state = start.clone();
    all.into_iter()
        .map(|(_, client, call, ret, input, lost)| {
            let (output, after) = M::ask(&state, &input);
            state = after;
            let ret = (!lost).then(|| Return { at: millis(ret), output });
            let (client, key) = (format!("c{client}"), "key".to_owned());
            Operation { client, key, call: millis(call), ret, input }
        })
        .collect()
}

fn registers(operations: usize, seed: u64) -> Operations<Register> {
    busy::<Register>(&None, operations, seed, register_input)
}

fn queues(operations: usize, seed: u64, hands_out: bool) -> Operations<Queue> {
    busy::<Queue>(&QueueState::empty(hands_out), operations, seed, queue_input)
}

fn steps(verdict: &Verdict) -> u64 {
    let Verdict::Linearizable { steps } = verdict else { panic!("{verdict:?}") };
    *steps
}

/// The last list is given an item that the one before had not.
fn spoilt_queue(mut all: Operations<Queue>) -> Operations<Queue> {
    let lists =
        all.iter_mut().filter_map(|one| match one.ret.as_mut().map(|ret| &mut ret.output) {
            Some(QueueOutput::Items(items)) => Some(items),
            Some(_) | None => None,
        });
    let last = lists.last().unwrap();
    last.insert(0, Item { name: "v0".to_owned(), pending: false });
    all
}

/// The last read is given a value that was overwritten long before.
fn spoilt(mut all: Operations<Register>) -> Operations<Register> {
    let read = |one: &Operation<RegisterInput, RegisterOutput>| match &one.ret {
        Some(Return { output: RegisterOutput::Value(value), .. }) => Some(value.clone()),
        Some(_) | None => None,
    };
    let early = all.iter().find_map(read).unwrap();
    let late = all.iter_mut().rev().find(|one| read(one).is_some()).unwrap();
    late.ret.as_mut().unwrap().output = RegisterOutput::Value(early);
    all
}

#[test]
fn a_thousand_operations_of_five_clients_take_few_steps_right_or_wrong() {
    for seed in 1..=20 {
        let all = registers(1_000, seed);
        let fine = steps(&check::<Register>(&None, &all));
        assert!((1_000..20_000).contains(&fine), "{fine} steps with seed {seed}");
        let verdict = check_within::<Register>(&None, &spoilt(all), 100_000);
        assert!(matches!(verdict, Verdict::Broken(_)), "seed {seed}: {verdict:?}");
        for hands_out in [false, true] {
            let (all, start) = (queues(1_000, seed, hands_out), QueueState::empty(hands_out));
            let fine = steps(&check::<Queue>(&start, &all));
            assert!((1_000..50_000).contains(&fine), "{fine} steps with seed {seed}");
            let verdict = check_within::<Queue>(&start, &spoilt_queue(all), 200_000);
            assert!(matches!(verdict, Verdict::Broken(_)), "seed {seed}: {verdict:?}");
        }
    }
}

fn measured<M: Object>(what: &str, start: &M::State, all: &Operations<M>) {
    #[expect(clippy::disallowed_methods, reason = "a measurement, outside of any simulated world")]
    let now = std::time::Instant::now;
    let begun = now();
    let verdict = check::<M>(start, all);
    let took = begun.elapsed();
    let steps = if let Verdict::Linearizable { steps } = verdict { steps } else { 0 };
    eprintln!("{what}: {took:?}, {steps} steps");
    assert!(took <= millis(100), "{what} took {took:?}");
}

/// Run it optimised: `cargo sim-test a_thousand_operations_within -- --ignored --nocapture`.
#[test]
#[ignore = "measures time"]
fn a_thousand_operations_within_a_tenth_of_a_second() {
    for seed in 1..=20 {
        let all = registers(1_000, seed);
        measured::<Register>("register", &None, &all);
        measured::<Register>("register, spoilt", &None, &spoilt(all));
        let start = QueueState::empty(false);
        measured::<Queue>("queue", &start, &queues(1_000, seed, false));
    }
}

#[test]
fn too_many_steps_and_too_many_operations_are_undecided() {
    let all = registers(OPERATIONS_MAX + 100, 1);
    let verdict = check_within::<Register>(&None, &all, 10);
    let Verdict::Undecided { limit: Limit::Steps(10), so_far: Some(so_far) } = &verdict else {
        panic!("{verdict:?}")
    };
    assert!(so_far.placed < 10 && so_far.answered > 1_900, "{so_far}");
    assert!(verdict.to_string().starts_with("undecided: 10 questions to the model"), "{verdict}");
    let limit = Limit::Operations(OPERATIONS_MAX + 100);
    let beyond = Verdict::Undecided { limit, so_far: None };
    assert_eq!(check::<Register>(&None, &all), beyond);
    assert_eq!(check::<Register>(&None, &spoilt(all.clone())), beyond, "spoilt beyond the limit");
    let early = [spoilt(all[..100].to_vec()), all[100..].to_vec()].concat();
    assert!(matches!(check::<Register>(&None, &early), Verdict::Broken(_)));
}

fn told(book: &mut Book, call: u64, from: u64, question: Question) {
    let (client, key) = (format!("c{}", call % 3), "gateway 1".to_owned());
    let call = CallId(call);
    book.observe(&HistoryEvent::Called { call, client, key, at: millis(from), question });
}

fn answer(book: &mut Book, call: u64, at: u64, answer: Option<RegisterOutput>) {
    let answer = answer.map(Answer::Register);
    book.observe(&HistoryEvent::Returned { call: CallId(call), at: millis(at), answer });
}

#[test]
fn a_lost_write_is_explained_in_a_few_lines() {
    use {RegisterInput as I, RegisterOutput as O};
    let mut book = Book::new(false);
    let asked = [I::Create("a".to_owned()), I::Update("b".to_owned()), I::Get, I::Get];
    let told_back = [O::Done, O::Done, O::Value("b".to_owned()), O::Value("a".to_owned())];
    for (at, (input, output)) in (0..).zip(asked.into_iter().zip(told_back)) {
        told(&mut book, at, 10 * at, Question::Register(input));
        answer(&mut book, at, 10 * at + 5, Some(output));
    }
    // Nobody knows what came of this one, but it cannot bring back a value either.
    told(&mut book, 9, 12, Question::Register(I::Update("c".to_owned())));
    answer(&mut book, 9, 90, None);
    assert_eq!(book.counts(), (5, 4));
    let judged = book.judge();
    let [(key, Verdict::Broken(explanation))] = judged.as_slice() else { panic!("{judged:?}") };
    assert_eq!(key, "gateway 1");
    let text = "\
the longest order found explains 3 of 4 answers
  fits      0.000000s..0.005000s c0: Create(\"a\") -> Done
  fits      0.010000s..0.015000s c1: Update(\"b\") -> Done
  fits      0.020000s..0.025000s c2: Get -> Value(\"b\")
  leads to  Some(\"b\")
  cannot be 0.030000s..0.035000s c0: Get -> Value(\"a\")";
    assert_eq!(explanation.to_string(), text);
}

#[test]
fn an_unknown_write_may_show_late_or_never_and_keys_stand_alone() {
    use {RegisterInput as I, RegisterOutput as O};
    let mut book = Book::new(false);
    told(&mut book, 0, 0, Question::Register(I::Create("a".to_owned())));
    answer(&mut book, 0, 5, None);
    for (call, output) in [(1, O::NotFound), (2, O::NotFound), (3, O::Value("a".to_owned()))] {
        told(&mut book, call, 10 * call, Question::Register(I::Get));
        answer(&mut book, call, 10 * call + 5, Some(output));
    }
    let (client, key) = ("c".to_owned(), "queue of 1".to_owned());
    let question = Question::Queue(QueueInput::List);
    let (call, at) = (CallId(8), millis(50));
    book.observe(&HistoryEvent::Called { call, client, key, at, question });
    let items = vec![Item { name: "x".to_owned(), pending: false }];
    let answer = Some(Answer::Queue(QueueOutput::Items(items)));
    book.observe(&HistoryEvent::Returned { call, at, answer });
    let judged = book.judge();
    assert!(matches!(judged[0].1, Verdict::Linearizable { .. }), "{judged:?}");
    assert!(matches!(judged[1].1, Verdict::Broken(_)), "{judged:?}");
}
