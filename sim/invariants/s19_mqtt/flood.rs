//! The broker as simple as can be: every message goes to everybody who may want it. What is kept
//! here is what was said, by whom, when, and what may be retained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mqtt::{TopicFilter, TopicName};

use crate::oracle::Message;

/// A message as its publisher said it.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Its place among all messages, by first sending.
    pub(super) number: u64,
    /// Who said it.
    pub(super) publisher: String,
    /// Where.
    pub(super) topic: TopicName,
    /// How surely: 0 or 1.
    pub(super) qos: u8,
    /// To be retained.
    pub(super) retain: bool,
    /// When it was first sent.
    pub(super) first: Duration,
    /// When it was last sent.
    pub(super) last: Duration,
    /// How often.
    pub(super) times: u32,
    /// When the node acknowledged it.
    pub(super) acknowledged: Option<Duration>,
}

/// All that was said since everything was last lost.
#[derive(Debug, Default)]
pub(super) struct Flood {
    said: BTreeMap<Bytes, Said>,
    /// The payloads of messages to be retained, by topic.
    retained: BTreeMap<TopicName, Vec<Bytes>>,
    /// What was said before everything was lost, which may be on its way still.
    lost: BTreeSet<Bytes>,
    numbers: u64,
}

impl Flood {
    /// A publisher sends a message.
    ///
    /// Errors: the payload stands for another message already, or the topic is none.
    pub(super) fn send(
        &mut self,
        at: Duration,
        publisher: &str,
        message: &Message,
    ) -> Result<(), String> {
        if let Some(said) = self.said.get_mut(&message.payload) {
            if said.topic.as_str() != message.topic || said.publisher != publisher {
                return Err(format!("{publisher} sends {message:?}, which stands for {said:?}"));
            }
            (said.last, said.times) = (at, said.times + 1);
            return Ok(());
        }
        let topic = TopicName::parse(&message.topic).map_err(|error| error.to_string())?;
        self.numbers += 1;
        if message.retain {
            self.retained.entry(topic.clone()).or_default().push(message.payload.clone());
        }
        let said = Said {
            number: self.numbers,
            publisher: publisher.to_owned(),
            topic,
            qos: message.qos,
            retain: message.retain,
            first: at,
            last: at,
            times: 1,
            acknowledged: None,
        };
        self.said.insert(message.payload.clone(), said);
        Ok(())
    }

    /// The node has acknowledged it.
    pub(super) fn acknowledge(&mut self, at: Duration, payload: &Bytes) {
        if let Some(said) = self.said.get_mut(payload) {
            said.acknowledged.get_or_insert(at);
        }
    }

    /// Every disk that held any of it is gone.
    pub(super) fn lose_all(&mut self) {
        self.lost.extend(std::mem::take(&mut self.said).into_keys());
        self.retained.clear();
    }

    /// What was said with this payload.
    pub(super) fn said(&self, payload: &Bytes) -> Option<&Said> {
        self.said.get(payload)
    }

    /// Whether it was said before everything was lost.
    pub(super) fn is_lost(&self, payload: &Bytes) -> bool {
        self.lost.contains(payload)
    }

    /// All messages, by payload.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Bytes, &Said)> {
        self.said.iter()
    }

    /// Whether a later message of the same topic was surely retained instead of this one at `by`.
    ///
    /// One message is later than another if it was sent after the other's acknowledgement, or by
    /// the same publisher after the other's last sending, whichever sending of it was acknowledged.
    pub(super) fn is_superseded(&self, said: &Said, by: Duration) -> bool {
        let others = self.retained.get(&said.topic).into_iter().flatten();
        others.filter_map(|payload| self.said.get(payload)).any(|other| {
            let kept = other.acknowledged.is_some_and(|at| at <= by);
            let after = said.acknowledged.is_some_and(|at| at <= other.first);
            let answered = other.acknowledged.is_some_and(|at| at >= other.last);
            let sent = if answered { other.last } else { other.first };
            let in_line = other.publisher == said.publisher
                && other.number > said.number
                && said.last <= sent;
            kept && (after || in_line)
        })
    }

    /// For each topic of `filter` on which something surely was retained at `asked`: what a new
    /// subscriber may be given for it until `granted`.
    pub(super) fn retained(
        &self,
        filter: &TopicFilter,
        asked: Duration,
        granted: Duration,
    ) -> Vec<(TopicName, BTreeSet<Bytes>)> {
        let mut owed = Vec::new();
        for (topic, payloads) in self.retained.iter().filter(|(topic, _)| filter.matches(topic)) {
            let of = |payload: &&Bytes| self.said.get(*payload);
            let surely = |said: &Said| said.acknowledged.is_some_and(|at| at <= asked);
            if !payloads.iter().any(|payload| of(&payload).is_some_and(surely)) {
                continue;
            }
            let may = |payload: &&Bytes| {
                of(payload)
                    .is_some_and(|said| said.first <= granted && !self.is_superseded(said, asked))
            };
            owed.push((topic.clone(), payloads.iter().filter(may).cloned().collect()));
        }
        owed
    }
}
