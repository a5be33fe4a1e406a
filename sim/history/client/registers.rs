//! What clients know of devices, gateways and applications.
//!
//! A client's floor under a key is the moment of the latest call among the writes that it has seen
//! or made: whatever certainly took effect before it is older than what the client knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Call, How, Write};
use crate::history::{CallId, RegisterInput, RegisterOutput};

/// The writes of one key.
#[derive(Clone, Debug, Default)]
struct Written {
    values: BTreeMap<String, Write>,
    deletions: BTreeMap<CallId, Write>,
}

#[derive(Clone, Debug)]
struct Floor {
    at: Duration,
    /// When the client learned of it.
    turn: u64,
    how: How,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    keys: BTreeMap<String, Written>,
    /// By client and key.
    floors: BTreeMap<(String, String), Floor>,
}

impl Registers {
    pub(super) fn called(&mut self, call: &Call, input: &RegisterInput) -> Option<String> {
        let written = self.keys.entry(call.key.clone()).or_default();
        let earlier = match input {
            RegisterInput::Create(value) | RegisterInput::Update(value) => {
                written.values.insert(value.clone(), Write::of(call))
            }
            RegisterInput::Delete => written.deletions.insert(call.id, Write::of(call)),
            RegisterInput::Get => None,
        };
        earlier.map(|earlier| {
            let Call { client, key, .. } = call;
            format!("{client} writes to {key} what {} wrote: {input:?}", earlier.client)
        })
    }

    /// * `now`: the time, and the number of the fact.
    pub(super) fn returned(
        &mut self,
        call: &Call,
        input: &RegisterInput,
        now: (Duration, u64),
        output: &RegisterOutput,
    ) -> Vec<String> {
        use {RegisterInput as I, RegisterOutput as O};
        let mut wrong = Vec::new();
        match (input, output) {
            (I::Create(_) | I::Update(_) | I::Delete, O::Done) => self.done(call, input, now),
            (I::Get, O::Value(value)) => wrong.extend(self.saw(call, value, now)),
            (I::Get, O::NotFound) => wrong.extend(self.saw_nothing(call, now)),
            (I::Update(_) | I::Delete, O::NotFound) => {
                wrong.extend(self.refused(call, input));
                wrong.extend(self.saw_nothing(call, now));
            }
            (I::Get, O::Done | O::AlreadyExists | O::NotDone | O::Odd(_)) => {}
            (
                I::Create(_),
                O::AlreadyExists | O::NotFound | O::Value(_) | O::NotDone | O::Odd(_),
            )
            | (I::Update(_) | I::Delete, O::AlreadyExists | O::Value(_) | O::NotDone | O::Odd(_)) =>
            {
                wrong.extend(self.refused(call, input));
            }
        }
        wrong
    }

    fn write(&mut self, call: &Call, input: &RegisterInput) -> Option<&mut Write> {
        let written = self.keys.get_mut(&call.key)?;
        match input {
            RegisterInput::Create(value) | RegisterInput::Update(value) => {
                written.values.get_mut(value)
            }
            RegisterInput::Delete => written.deletions.get_mut(&call.id),
            RegisterInput::Get => None,
        }
    }

    fn done(&mut self, call: &Call, input: &RegisterInput, now: (Duration, u64)) {
        if let Some(write) = self.write(call, input) {
            write.took_effect_by(now.0);
        }
        let what = match input {
            RegisterInput::Create(value) | RegisterInput::Update(value) => format!("wrote {value}"),
            RegisterInput::Delete => "deleted it".to_owned(),
            RegisterInput::Get => return,
        };
        self.raise(call, call.at, now.1, How::Wrote(what));
    }

    fn refused(&mut self, call: &Call, input: &RegisterInput) -> Option<String> {
        let shown_to = self.write(call, input)?.refuse()?.to_owned();
        let key = &call.key;
        Some(format!("phantom: {shown_to} was shown {key} by {input:?}, which is refused now"))
    }

    fn saw(&mut self, call: &Call, value: &str, now: (Duration, u64)) -> Option<String> {
        let Call { client, key, .. } = call;
        let floor = self.floor(call).cloned();
        let write = self.keys.get_mut(key).and_then(|written| written.values.get_mut(value));
        let Some(write) = write else {
            return Some(format!(
                "phantom: {client} is shown {value} of {key}, which nobody wrote"
            ));
        };
        if let Some(why) = write.shown(client) {
            return Some(format!("phantom: {client} is shown {value} of {key}, {why}"));
        }
        let stale = floor.filter(|floor| write.is_before(floor.at));
        write.took_effect_by(now.0);
        let written_at = write.call;
        if let Some(Floor { at, how, .. }) = stale {
            let at = at.as_secs_f64();
            return Some(format!(
                "{client} is shown {value} of {key}, older than what began at {at:.6}s, {how}"
            ));
        }
        self.raise(call, written_at, now.1, How::Saw(value.to_owned()));
        None
    }

    /// Nothing is there: since before the first write, or by a deletion.
    fn saw_nothing(&mut self, call: &Call, now: (Duration, u64)) -> Option<String> {
        let Floor { at, how, .. } = self.floor(call).cloned()?;
        let Call { client, key, .. } = call;
        let deletions = self.keys.get(key).map(|written| &written.deletions)?;
        let perhaps = deletions.values().filter(|one| !one.refused && !one.is_before(at));
        let Some(earliest) = perhaps.map(|deletion| deletion.call).min() else {
            return Some(format!(
                "{client} is shown no {key}, though nobody may have deleted it, {how}"
            ));
        };
        self.raise(call, earliest, now.1, How::Saw("that it was deleted".to_owned()));
        None
    }

    /// What the client knew when it called.
    fn floor(&self, call: &Call) -> Option<&Floor> {
        let floor = self.floors.get(&(call.client.clone(), call.key.clone()))?;
        Some(floor).filter(|floor| floor.turn < call.turn)
    }

    fn raise(&mut self, call: &Call, at: Duration, turn: u64, how: How) {
        let place = (call.client.clone(), call.key.clone());
        if self.floors.get(&place).is_none_or(|floor| floor.at < at) {
            self.floors.insert(place, Floor { at, turn, how });
        }
    }
}
