//! Whether an order of the operations on one key explains all their answers.
//!
//! Wing, Gong and Lowe: place one operation after the other, each only when nothing that had ended
//! before its call is missing, and take back what leads nowhere. What was tried is remembered as
//! the set of operations placed and the state they lead to. An operation whose outcome is unknown
//! may be placed at any time after its call, or never.
//!
//! Source: J. Wing, C. Gong, "Testing and verifying concurrent objects", 1993; G. Lowe, "Testing
//! for linearizability", 2017; requirements, part G, S9.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::model::Model;

/// Operations of one key that are looked at: the answers until the next call.
pub const OPERATIONS_MAX: usize = 2_000;
/// Questions to the model before the search is given up.
pub const STEPS_MAX: u64 = 500_000;
/// Operations of each kind that an explanation shows.
const SHOWN_MAX: usize = 6;

/// One call of a client about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Who called.
    pub client: String,
    /// About what.
    pub key: String,
    /// When, in virtual time.
    pub call: Duration,
    /// What came of it; `None`: nobody knows, it may take effect at any later time, or never.
    pub ret: Option<Return<O>>,
    /// What was asked.
    pub input: I,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return<O> {
    /// When it came, in virtual time; not before the call.
    pub at: Duration,
    /// What it was: refusals are answers as well.
    pub output: O,
}

impl<I: fmt::Debug, O: fmt::Debug> fmt::Display for Operation<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.call.as_secs_f64();
        match &self.ret {
            Some(Return { at, output }) => {
                write!(f, "{call:.6}s..{:.6}s ", at.as_secs_f64())?;
                write!(f, "{}: {:?} -> {output:?}", self.client, self.input)
            }
            None => write!(f, "{call:.6}s.. {}: {:?} -> unknown", self.client, self.input),
        }
    }
}

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable {
        /// Questions to the model.
        steps: u64,
    },
    /// There is none.
    Broken(Explanation),
    /// Not known. Never to be taken for fine.
    Undecided {
        /// Why.
        limit: Limit,
        /// Where the search stood, if it was given up.
        so_far: Option<Explanation>,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable { .. } => f.write_str("linearizable"),
            Self::Broken(why) => write!(f, "not linearizable: {why}"),
            Self::Undecided { limit, so_far: None } => write!(f, "undecided: {limit}"),
            Self::Undecided { limit, so_far: Some(so_far) } => {
                write!(f, "undecided: {limit}; {so_far}")
            }
        }
    }
}

/// What the search ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Too many orders.
    #[error("{0} questions to the model did not suffice")]
    Steps(u64),
    /// The beginning of the history is linearizable; the rest was not looked at.
    #[error("{0} operations, of which the first {OPERATIONS_MAX} fit together")]
    Operations(usize),
    /// Calls about keys that there was no room for.
    #[error("{0} calls about keys that were not taken down")]
    Keys(usize),
}

/// How far a history can be explained, and what cannot follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Answered operations.
    pub answered: usize,
    /// How many of them the longest linearizable prefix holds.
    pub placed: usize,
    /// The end of that prefix, in its order.
    pub last: Vec<String>,
    /// The state it leads to.
    pub state: String,
    /// The operations one of which would have to be next, none of which can.
    pub stuck: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { placed, answered, .. } = self;
        writeln!(f, "the longest order found explains {placed} of {answered} answers")?;
        for line in &self.last {
            writeln!(f, "  fits      {line}")?;
        }
        write!(f, "  leads to  {}", self.state)?;
        for line in &self.stuck {
            write!(f, "\n  cannot be {line}")?;
        }
        Ok(())
    }
}

/// Looks for an order of the operations on one key, which begins in the state `start`.
pub fn check<M: Model>(start: &M::State, operations: &[Operation<M::Input, M::Output>]) -> Verdict {
    check_within::<M>(start, operations, STEPS_MAX)
}

/// As [`check`], with another bound on the questions to the model.
pub fn check_within<M: Model>(
    start: &M::State,
    operations: &[Operation<M::Input, M::Output>],
    steps_max: u64,
) -> Verdict {
    let mut sorted: Vec<_> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.call);
    // What was answered later may tell of what was called later: for the beginning alone it is
    // as good as unanswered.
    let end = sorted.get(OPERATIONS_MAX).map(|operation| operation.call);
    sorted.truncate(OPERATIONS_MAX);
    let answer = |operation: &Operation<M::Input, M::Output>| {
        operation.ret.as_ref().is_some_and(|ret| end.is_none_or(|end| ret.at < end))
    };
    let (answered, open) = sorted.into_iter().partition(|operation| answer(operation));
    let mut search = Search::<M>::new(answered, open, steps_max);
    match search.run(start) {
        Verdict::Linearizable { .. } if end.is_some() => {
            let limit = Limit::Operations(operations.len());
            Verdict::Undecided { limit, so_far: None }
        }
        verdict => verdict,
    }
}

/// A set of numbers most of whose members are the smallest ones. One set, one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bits {
    /// All numbers below 64 times this are in it.
    full: usize,
    /// The others, beginning there; the last word is not zero.
    words: Vec<u64>,
}

impl Bits {
    fn has(&self, number: usize) -> bool {
        let Some(word) = (number / 64).checked_sub(self.full) else { return true };
        self.words.get(word).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn with(&self, number: usize) -> Self {
        let mut set = self.clone();
        let word = (number / 64).checked_sub(set.full).expect("a number is added once");
        if set.words.len() <= word {
            set.words.resize(word + 1, 0);
        }
        set.words[word] |= 1 << (number % 64);
        while set.words.first() == Some(&u64::MAX) {
            set.words.remove(0);
            set.full += 1;
        }
        set
    }

    fn first_missing(&self) -> usize {
        let ones = self.words.first().map_or(0, |word| word.trailing_ones());
        self.full * 64 + ones as usize
    }
}

/// An operation, by its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    Answered(usize),
    Open(usize),
}

/// Which operations are placed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    answered: Bits,
    open: Bits,
}

impl Placed {
    fn has(&self, pick: Pick) -> bool {
        match pick {
            Pick::Answered(at) => self.answered.has(at),
            Pick::Open(at) => self.open.has(at),
        }
    }

    fn with(&self, pick: Pick) -> Self {
        let Self { answered, open } = self;
        match pick {
            Pick::Answered(at) => Self { answered: answered.with(at), open: open.clone() },
            Pick::Open(at) => Self { answered: answered.clone(), open: open.with(at) },
        }
    }
}

/// An operation with its answer.
struct Answered<'a, M: Model> {
    operation: &'a Operation<M::Input, M::Output>,
    ret: &'a Return<M::Output>,
    /// Simplified.
    input: M::Input,
}

/// An operation without an answer.
struct Open<'a, M: Model> {
    operation: &'a Operation<M::Input, M::Output>,
    /// Simplified.
    input: M::Input,
    /// The one before it that comes to the same: as long as that is not placed, this need not be.
    twin: Option<usize>,
}

/// Where the search stands: what was placed last, and what may be placed next.
struct Frame<S> {
    pick: Option<Pick>,
    placed: Placed,
    next: std::vec::IntoIter<(Pick, S)>,
}

/// The longest prefix so far.
struct Best<S> {
    picks: Vec<Pick>,
    answered: usize,
    placed: Placed,
    state: S,
}

struct Search<'a, M: Model> {
    /// By their calls.
    answered: Vec<Answered<'a, M>>,
    /// By their calls.
    open: Vec<Open<'a, M>>,
    /// What the answers tell to have been placed before each answered one, and before each open.
    earlier: (Vec<Vec<Pick>>, Vec<Vec<Pick>>),
    /// What was tried.
    tried: BTreeSet<(Placed, M::State)>,
    steps: u64,
    steps_max: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(
        answered: Vec<&'a Operation<M::Input, M::Output>>,
        unanswered: Vec<&'a Operation<M::Input, M::Output>>,
        steps_max: u64,
    ) -> Self {
        let answers = answered.iter().map(|one| (&one.input, one.ret.as_ref()));
        let answers = answers.map(|(input, ret)| (input, ret.map(|ret| &ret.output)));
        let open = unanswered.iter().map(|one| (&one.input, None));
        let history: Vec<_> = answers.chain(open).collect();
        let met = M::met(&history);
        let sequences = M::sequences(&history);
        let answered = answered.into_iter().filter_map(|operation| {
            let input = M::simplified(&operation.input, &met);
            Some(Answered { operation, ret: operation.ret.as_ref()?, input })
        });
        let answered: Vec<_> = answered.collect();
        let mut open: Vec<Open<'a, M>> = Vec::new();
        for operation in unanswered {
            let input = M::simplified(&operation.input, &met);
            if M::helps(&input) {
                let twin = open.iter().rposition(|earlier| earlier.input == input);
                open.push(Open { operation, input, twin });
            }
        }
        let earlier = (vec![Vec::new(); answered.len()], vec![Vec::new(); open.len()]);
        let tried = BTreeSet::new();
        let mut search = Self { answered, open, earlier, tried, steps: 0, steps_max };
        for (first, second) in sequences {
            let Some(first) = search.find(&first) else { continue };
            match search.find(&second) {
                Some(Pick::Answered(at)) => search.earlier.0[at].push(first),
                Some(Pick::Open(at)) => search.earlier.1[at].push(first),
                None => {}
            }
        }
        search
    }

    fn find(&self, input: &M::Input) -> Option<Pick> {
        let answered = self.answered.iter().position(|one| one.input == *input);
        let open = || self.open.iter().position(|one| one.input == *input);
        answered.map(Pick::Answered).or_else(|| open().map(Pick::Open))
    }

    fn run(&mut self, start: &M::State) -> Verdict {
        let nothing = Placed::default();
        let mut best =
            Best { picks: Vec::new(), answered: 0, placed: nothing.clone(), state: start.clone() };
        let next = self.next(&nothing, start).into_iter();
        let mut stack = vec![Frame { pick: None, placed: nothing, next }];
        let mut depth = 0;
        while let Some(top) = stack.last_mut() {
            if depth == self.answered.len() {
                return Verdict::Linearizable { steps: self.steps };
            }
            if self.steps > self.steps_max {
                let limit = Limit::Steps(self.steps_max);
                return Verdict::Undecided { limit, so_far: Some(self.explain(&best)) };
            }
            let Some((pick, state)) = top.next.next() else {
                depth -= usize::from(matches!(top.pick, Some(Pick::Answered(_))));
                stack.pop();
                continue;
            };
            let placed = top.placed.with(pick);
            if !self.tried.insert((placed.clone(), state.clone())) {
                continue;
            }
            let next = self.next(&placed, &state).into_iter();
            stack.push(Frame { pick: Some(pick), placed: placed.clone(), next });
            depth += usize::from(matches!(pick, Pick::Answered(_)));
            if depth > best.answered {
                let picks = stack.iter().filter_map(|frame| frame.pick).collect();
                best = Best { picks, answered: depth, placed, state };
            }
        }
        Verdict::Broken(self.explain(&best))
    }

    /// Answered operations that may come next: nothing that ended before their calls is missing.
    ///
    /// * Returns them by their ends, and the end of the first.
    fn ready(&self, placed: &Placed) -> (Vec<usize>, Duration) {
        let mut ready = Vec::new();
        let mut end = Duration::MAX;
        for at in placed.answered.first_missing()..self.answered.len() {
            let Answered { operation, ret, .. } = &self.answered[at];
            if operation.call > end {
                break;
            }
            if !placed.answered.has(at) {
                end = end.min(ret.at);
                ready.push(at);
            }
        }
        ready.sort_by_key(|at| self.answered[*at].ret.at);
        (ready, end)
    }

    /// What may be placed next, the most promising first.
    fn next(&mut self, placed: &Placed, state: &M::State) -> Vec<(Pick, M::State)> {
        let (ready, end) = self.ready(placed);
        let mut next = Vec::new();
        for at in ready {
            if !self.earlier.0[at].iter().all(|pick| placed.has(*pick)) {
                continue;
            }
            let Answered { ret, input, .. } = &self.answered[at];
            self.steps += 1;
            let Some(after) = M::answered(state, input, &ret.output) else { continue };
            if after == *state && M::does_nothing(&ret.output) {
                // It may stand here whatever follows: see the model's promise.
                return vec![(Pick::Answered(at), after)];
            }
            next.push((Pick::Answered(at), after));
        }
        for (at, open) in self.open.iter().enumerate() {
            if open.operation.call > end {
                break;
            }
            let twin_waits = open.twin.is_some_and(|twin| !placed.open.has(twin));
            let waits = twin_waits || !self.earlier.1[at].iter().all(|pick| placed.has(*pick));
            if waits || placed.open.has(at) {
                continue;
            }
            self.steps += 1;
            let after = M::unanswered(state, &open.input).filter(|after| after != state);
            next.extend(after.map(|after| (Pick::Open(at), after)));
        }
        next
    }

    fn operation(&self, pick: Pick) -> &'a Operation<M::Input, M::Output> {
        match pick {
            Pick::Answered(at) => self.answered[at].operation,
            Pick::Open(at) => self.open[at].operation,
        }
    }

    fn explain(&self, best: &Best<M::State>) -> Explanation {
        let last = best.picks.len().saturating_sub(SHOWN_MAX);
        let (ready, _) = self.ready(&best.placed);
        let stuck = ready.into_iter().map(Pick::Answered).take(SHOWN_MAX);
        Explanation {
            answered: self.answered.len(),
            placed: best.answered,
            last: best.picks[last..].iter().map(|pick| self.operation(*pick).to_string()).collect(),
            state: format!("{:?}", best.state),
            stuck: stuck.map(|pick| self.operation(pick).to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_form_whatever_the_order() {
        let numbers: Vec<usize> = (0..200).collect();
        let forward = numbers.iter().fold(Bits::default(), |set, at| set.with(*at));
        let backward = numbers.iter().rev().fold(Bits::default(), |set, at| set.with(*at));
        assert_eq!(forward, backward);
        assert_eq!((forward.full, forward.first_missing()), (3, 200));
        assert!(forward.has(0) && forward.has(199) && !forward.has(200));
        let gap = Bits::default().with(70).with(0);
        assert!(gap.has(70) && !gap.has(69) && gap.first_missing() == 1);
    }
}
