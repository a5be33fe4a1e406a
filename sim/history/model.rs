//! What one key does when it is asked one thing at a time: the trait, and the registers.
//!
//! A model knows no clock and no client. It says which answers a state may give, and what it is
//! afterwards; [`super::linear`] looks for an order in which all the answers come true.
//!
//! What a key does by itself (the network hands out the front of a queue) is lazy: a state stands
//! for every state that such steps may have led to, and an answer tells which of them it was.

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

    /// What an `input` without an answer comes to, beside all the `answers` that were given.
    ///
    /// `None`: whatever it explains is explained without it. Equal inputs are interchangeable, so
    /// those that no answer tells apart should come out equal: it keeps the search small.
    fn simplified(
        input: &Self::Input,
        answers: &[(&Self::Input, &Self::Output)],
    ) -> Option<Self::Input>;
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

    fn simplified(
        input: &Self::Input,
        answers: &[(&Self::Input, &Self::Output)],
    ) -> Option<Self::Input> {
        let read = |value: &String| {
            answers
                .iter()
                .any(|(_, output)| matches!(output, RegisterOutput::Value(v) if v == value))
        };
        match input {
            RegisterInput::Create(value) if !read(value) => {
                Some(RegisterInput::Create(UNREAD.to_owned()))
            }
            // It would leave something there that was there before, and hide what was read.
            RegisterInput::Update(value) if !read(value) => None,
            RegisterInput::Get => None,
            RegisterInput::Create(_) | RegisterInput::Update(_) | RegisterInput::Delete => {
                Some(input.clone())
            }
        }
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
    fn unanswered_operations_that_cannot_help_are_left_out() {
        let (get, read) = (I::Get, O::Value("a".to_owned()));
        let answers = [(&get, &read)];
        let simple = |input: I| Register::simplified(&input, &answers);
        assert_eq!(simple(I::Get), None);
        assert_eq!(simple(I::Update("b".to_owned())), None);
        assert_eq!(simple(I::Update("a".to_owned())), Some(I::Update("a".to_owned())));
        assert_eq!(simple(I::Create("b".to_owned())), simple(I::Create("c".to_owned())));
        assert_eq!(Register::unanswered(&None, &I::Delete), None);
        assert_eq!(Register::unanswered(&some("a"), &I::Delete), Some(None));
    }
}
