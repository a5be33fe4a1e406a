//! What one key does when it is asked one thing at a time: the trait, and the registers.
//!
//! A model knows no clock and no client. It says which answers a state may give, and what it is
//! afterwards; [`super::linear`] looks for an order in which all the answers come true.
//!
//! What a key does by itself (the network hands out the front of a queue) is lazy: a state stands
//! for every state that such steps may have led to, and an answer tells which of them it was.

use std::collections::BTreeSet;
use std::fmt::Debug;

/// A sequential object.
///
/// The checker relies on this: of two states the one that has taken fewer steps by itself gives
/// every answer that the other gives. So an operation that does nothing is placed where the state
/// stays what it is, and no order is lost.
pub trait Model {
    /// All that is left of what was done so far.
    type State: Clone + Ord + Debug;
    /// What is asked.
    type Input: Clone + Ord + Debug;
    /// What is answered, refusals included.
    type Output: Clone + Debug;

    /// The state after `input` was answered with `output`; `None` if it cannot be answered so.
    fn answered(
        state: &Self::State,
        input: &Self::Input,
        output: &Self::Output,
    ) -> Option<Self::State>;

    /// Whether who is answered so has changed nothing, wherever in the order that was. The answer
    /// may still tell what the object had done by itself.
    fn does_nothing(output: &Self::Output) -> bool;

    /// The state after `input` took effect and its caller was told nothing; `None` if it cannot
    /// have an effect here.
    fn unanswered(state: &Self::State, input: &Self::Input) -> Option<Self::State>;

    /// The names (values, items) that an order may depend on, told by all that was asked and
    /// answered; `None`: without an answer. All other names are as good as one.
    fn met(history: &[(&Self::Input, Option<&Self::Output>)]) -> BTreeSet<String>;

    /// The `input` with what is not met made equal, so that there is less to tell apart.
    fn simplified(input: &Self::Input, met: &BTreeSet<String>) -> Self::Input;

    /// Whether a simplified input may explain something although nobody was told of it.
    fn helps(input: &Self::Input) -> bool;

    /// Pairs of inputs of which the answers tell that the first was taken before the second. They
    /// spare the search the orders that would only be refused later; there need not be any.
    fn sequences(
        history: &[(&Self::Input, Option<&Self::Output>)],
    ) -> Vec<(Self::Input, Self::Input)>;
}

/// A thing that is made, changed, read and deleted as a whole: a device, a gateway, an application.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// What is asked of a register. Each value is written by one operation only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterInput {
    /// Make it.
    Create(String),
    /// Replace its value.
    Update(String),
    /// Remove it.
    Delete,
    /// Read it.
    Get,
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterOutput {
    /// Done.
    Done,
    /// It is there already, so it was not made.
    AlreadyExists,
    /// It is not there.
    NotFound,
    /// What was read.
    Value(String),
    /// Refused for a reason outside of the key, with the promise that nothing was changed.
    NotDone,
    /// An answer that the operation must never get, in its own words.
    Odd(String),
}

/// Stands for all values that nobody has read.
const UNREAD: &str = "(never read)";

impl Model for Register {
    type State = Option<String>;
    type Input = RegisterInput;
    type Output = RegisterOutput;

    fn answered(
        state: &Self::State,
        input: &Self::Input,
        output: &Self::Output,
    ) -> Option<Self::State> {
        use {RegisterInput as I, RegisterOutput as O};
        let fits = match (input, output) {
            (I::Create(_) | I::Update(_) | I::Delete | I::Get, O::NotDone) => true,
            (I::Create(value), O::Done) => {
                return state.is_none().then(|| Some(value.clone()));
            }
            (I::Update(value), O::Done) => {
                return state.is_some().then(|| Some(value.clone()));
            }
            (I::Delete, O::Done) => return state.is_some().then_some(None),
            (I::Create(_), O::AlreadyExists) => state.is_some(),
            (I::Update(_) | I::Delete | I::Get, O::NotFound) => state.is_none(),
            (I::Get, O::Value(read)) => state.as_ref() == Some(read),
            (I::Create(_), O::NotFound | O::Value(_) | O::Odd(_))
            | (I::Update(_) | I::Delete, O::AlreadyExists | O::Value(_) | O::Odd(_))
            | (I::Get, O::Done | O::AlreadyExists | O::Odd(_)) => false,
        };
        fits.then(|| state.clone())
    }

    fn does_nothing(output: &Self::Output) -> bool {
        *output != RegisterOutput::Done
    }

    fn unanswered(state: &Self::State, input: &Self::Input) -> Option<Self::State> {
        match input {
            RegisterInput::Create(value) => state.is_none().then(|| Some(value.clone())),
            RegisterInput::Update(value) => state.is_some().then(|| Some(value.clone())),
            RegisterInput::Delete => state.is_some().then_some(None),
            RegisterInput::Get => None,
        }
    }

    fn met(history: &[(&Self::Input, Option<&Self::Output>)]) -> BTreeSet<String> {
        let read = history.iter().filter_map(|(_, output)| match output {
            Some(RegisterOutput::Value(value)) => Some(value.clone()),
            Some(_) | None => None,
        });
        read.collect()
    }

    fn simplified(input: &Self::Input, met: &BTreeSet<String>) -> Self::Input {
        match input {
            RegisterInput::Create(value) if !met.contains(value) => {
                RegisterInput::Create(UNREAD.to_owned())
            }
            RegisterInput::Update(value) if !met.contains(value) => {
                RegisterInput::Update(UNREAD.to_owned())
            }
            RegisterInput::Create(_)
            | RegisterInput::Update(_)
            | RegisterInput::Delete
            | RegisterInput::Get => input.clone(),
        }
    }

    fn helps(input: &Self::Input) -> bool {
        match input {
            RegisterInput::Create(_) | RegisterInput::Delete => true,
            // Without it something is there as well, and may be what was read.
            RegisterInput::Update(value) => value != UNREAD,
            RegisterInput::Get => false,
        }
    }

    fn sequences(_: &[(&Self::Input, Option<&Self::Output>)]) -> Vec<(Self::Input, Self::Input)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RegisterInput as I;
    use RegisterOutput as O;

    fn some(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn a_register_answers_by_what_is_there() {
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let cases = [
            (None, I::Create(a.clone()), O::Done, Some(some("a"))),
            (some("a"), I::Create(b.clone()), O::Done, None),
            (some("a"), I::Create(b.clone()), O::AlreadyExists, Some(some("a"))),
            (None, I::Create(a.clone()), O::AlreadyExists, None),
            (some("a"), I::Update(b.clone()), O::Done, Some(some("b"))),
            (None, I::Update(b.clone()), O::Done, None),
            (None, I::Update(b.clone()), O::NotFound, Some(None)),
            (some("a"), I::Update(b.clone()), O::NotFound, None),
            (some("a"), I::Delete, O::Done, Some(None)),
            (None, I::Delete, O::Done, None),
            (None, I::Delete, O::NotFound, Some(None)),
            (some("a"), I::Get, O::Value(a.clone()), Some(some("a"))),
            (some("a"), I::Get, O::Value(b), None),
            (None, I::Get, O::Value(a.clone()), None),
            (None, I::Get, O::NotFound, Some(None)),
            (some("a"), I::Get, O::NotFound, None),
            (some("a"), I::Delete, O::NotDone, Some(some("a"))),
            (None, I::Create(a), O::Odd("not allowed".to_owned()), None),
        ];
        for (state, input, output, after) in cases {
            let text = format!("{state:?} {input:?} {output:?}");
            assert_eq!(Register::answered(&state, &input, &output), after, "{text}");
        }
    }

    #[test]
    fn values_that_nobody_read_are_as_good_as_one() {
        let (get, read) = (I::Get, O::Value("a".to_owned()));
        let met = Register::met(&[(&get, Some(&read)), (&get, None)]);
        let simple = |input: I| Register::simplified(&input, &met);
        assert_eq!(simple(I::Update("a".to_owned())), I::Update("a".to_owned()));
        assert_eq!(simple(I::Create("b".to_owned())), simple(I::Create("c".to_owned())));
        assert!(Register::helps(&simple(I::Create("b".to_owned()))));
        assert!(!Register::helps(&simple(I::Update("b".to_owned()))));
        assert!(Register::helps(&simple(I::Update("a".to_owned()))));
        assert_eq!(Register::unanswered(&None, &I::Delete), None);
        assert_eq!(Register::unanswered(&some("a"), &I::Delete), Some(None));
    }
}
