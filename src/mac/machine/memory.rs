//! What the machine remembers between frames, each bounded in number and age. Forgetting any of it
//! costs a downlink number or a look at the log, never correctness.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use clock::{Duration, Instant};
use lorawan::DevEui;
use sabotage::Bug;

use super::error::{LogCode, UplinkError};
use crate::{Digest, Grant, RecordTxAck, RequestId, SessionEpoch};

/// Devices whose grant is remembered. Forgetting one skips a number.
const CURSORS_MAX: usize = 131_072;

/// How far this home has used its grants.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    by_device: BTreeMap<DevEui, Cursor>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    epoch: SessionEpoch,
    grant: Grant,
    next: u32,
    /// The highest that has left.
    left: Option<u32>,
}

impl Cursors {
    /// First number not used of the grant held for this session, if one is held.
    pub(super) fn next(&self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<u32> {
        let cursor = self.by_device.get(&dev_eui)?;
        (cursor.epoch == epoch).then_some(cursor.next)
    }

    /// The epoch of the grant held for this session, if one is held.
    pub(super) fn home_epoch(&self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<u32> {
        let cursor = self.by_device.get(&dev_eui).filter(|cursor| cursor.epoch == epoch)?;
        Some(cursor.grant.home_epoch)
    }

    /// Takes a grant over from the log. What was used of the same grant stays used, and an answer
    /// that comes late brings no older grant back.
    ///
    /// * `asked`: the session's epoch in the question; the log raises it at a counter reset.
    /// * `cursor`: the cursor in the question. If that is forgotten now, so is what was used since:
    ///   the grant may be the same, and is left alone.
    pub(super) fn adopt(
        &mut self,
        dev_eui: DevEui,
        asked: SessionEpoch,
        cursor: Option<u32>,
        epoch: SessionEpoch,
        grant: Grant,
    ) {
        let held = self.by_device.get(&dev_eui).copied();
        let known = held.filter(|held| held.epoch == asked || held.epoch == epoch);
        let is_old = match (held, known) {
            (_, Some(known)) => known.grant.home_epoch > grant.home_epoch,
            (Some(other), None) => other.epoch > epoch,
            (None, None) => false,
        };
        if is_old || known.is_none() && cursor.is_some() {
            return;
        }
        let same = known.filter(|known| known.grant.home_epoch == grant.home_epoch);
        let next = same.map_or(grant.lo, |held| held.next.max(grant.lo));
        let hi = same.map_or(grant.hi, |held| held.grant.hi.max(grant.hi));
        let grant = Grant { hi, ..grant };
        if held.is_none() && self.by_device.len() >= CURSORS_MAX {
            self.by_device.pop_first();
        }
        let left = known.and_then(|held| held.left);
        self.by_device.insert(dev_eui, Cursor { epoch, grant, next, left });
    }

    /// Notes that a number is about to leave.
    ///
    /// * Returns false if a higher one has left before: the device would refuse it.
    pub(super) fn may_leave(&mut self, dev_eui: DevEui, epoch: SessionEpoch, number: u32) -> bool {
        let cursor = self.by_device.get_mut(&dev_eui).filter(|cursor| cursor.epoch == epoch);
        let Some(cursor) = cursor else { return true };
        if cursor.left.is_some_and(|left| left > number) && !disordered() {
            return false;
        }
        cursor.left = cursor.left.max(Some(number));
        true
    }

    /// Takes the next number of the grant held, for ever.
    pub(super) fn draw(&mut self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<(u32, Grant)> {
        let cursor = self.by_device.get_mut(&dev_eui).filter(|cursor| cursor.epoch == epoch)?;
        let number = cursor.next;
        let grant = cursor.grant;
        assert!(number >= grant.lo, "a cursor never lies below its grant");
        if number >= grant.hi {
            return None;
        }
        cursor.next = number + 1;
        if disordered() {
            return Some((number ^ 1, grant));
        }
        Some((number, grant))
    }
}

/// One planted bug has two halves: numbers are drawn in another order, and no guard stops them.
fn disordered() -> bool {
    sabotage::planted(Bug::CounterOutOfOrder)
}

/// Devices whose last answer is remembered.
const ANSWERS_MAX: usize = 16_384;
/// How long: a class A device repeats within seconds, or minutes where its duty cycle is low.
const ANSWER_KEPT: Duration = Duration::from_secs(600);

/// The bytes that answered a device's last uplink: a repetition gets the same (dangers B10).
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) epoch: SessionEpoch,
    pub(super) f_cnt: u32,
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    /// Of the grant that its number is from.
    pub(super) home_epoch: u32,
    pub(super) f_cnt_down: u32,
    pub(super) item_id: Option<[u8; 16]>,
    /// A gateway has reported it as sent.
    pub(super) sent: bool,
    /// Repetitions it may still answer.
    pub(super) repeats_left: u8,
}

/// Repetitions of one frame that are answered: NbTrans ends at 15, and whoever replays a frame
/// more often is no device.
pub(super) const REPEATS_MAX: u8 = 15;

/// What a remembered frame gets when it comes again.
#[derive(Clone, Debug)]
pub(super) enum Repeat {
    /// The same bytes.
    Answer(Answer),
    /// Nothing any more.
    TooOften,
}

impl Repeat {
    /// Its number is from an older grant than the newest, and no gateway has reported it as sent:
    /// the device takes an answer under the newest grant in any case. Of a queue item in this one
    /// the application was told that nobody sent it.
    pub(super) const fn is_overtaken(&self, newest: u32) -> bool {
        let Self::Answer(answer) = self else { return false };
        !answer.sent && answer.home_epoch < newest
    }
}

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct AnswerMemory {
    by_device: BTreeMap<DevEui, (Instant, Answer)>,
    by_age: VecDeque<(Instant, DevEui)>,
}

impl AnswerMemory {
    pub(super) fn insert(&mut self, now: Instant, dev_eui: DevEui, answer: Answer) {
        while let Some((at, oldest)) = self.by_age.front().copied() {
            let old = now.since(at) >= ANSWER_KEPT || self.by_age.len() >= ANSWERS_MAX;
            if !old {
                break;
            }
            self.by_age.pop_front();
            if self.by_device.get(&oldest).is_some_and(|(since, _)| *since == at) {
                self.by_device.remove(&oldest);
            }
        }
        self.by_device.insert(dev_eui, (now, answer));
        self.by_age.push_back((now, dev_eui));
    }

    /// The answer to exactly this frame; counts the repetition.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        dev_eui: DevEui,
        epoch: SessionEpoch,
        f_cnt: u32,
        digest: Digest,
    ) -> Option<Repeat> {
        let (at, answer) = self.by_device.get_mut(&dev_eui)?;
        let same = (answer.epoch, answer.f_cnt, answer.digest) == (epoch, f_cnt, digest);
        if !same || now.since(*at) >= ANSWER_KEPT {
            return None;
        }
        let Some(left) = answer.repeats_left.checked_sub(1) else { return Some(Repeat::TooOften) };
        answer.repeats_left = left;
        Some(Repeat::Answer(answer.clone()))
    }

    /// A gateway has reported the device's last answer as sent.
    pub(super) fn mark_sent(&mut self, dev_eui: DevEui, f_cnt_down: u32) {
        if let Some(answer) = self.numbered(dev_eui, f_cnt_down) {
            answer.sent = true;
        }
    }

    fn numbered(&mut self, dev_eui: DevEui, f_cnt_down: u32) -> Option<&mut Answer> {
        let (_, answer) = self.by_device.get_mut(&dev_eui)?;
        (answer.f_cnt_down == f_cnt_down).then_some(answer)
    }
}

/// Refused frames remembered, so that copies over other gateways cost no second MIC.
const REFUSED_MAX: usize = 4_096;

/// Frames refused within the last deduplication window.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_frame: BTreeMap<Bytes, UplinkError>,
    by_age: VecDeque<(Instant, Bytes)>,
}

impl Refusals {
    pub(super) fn find(&mut self, now: Instant, frame: &Bytes) -> Option<UplinkError> {
        while let Some((until, _)) = self.by_age.front()
            && (*until <= now || self.by_age.len() > REFUSED_MAX)
        {
            if let Some((_, oldest)) = self.by_age.pop_front() {
                self.by_frame.remove(&oldest);
            }
        }
        self.by_frame.get(frame).cloned()
    }

    pub(super) fn insert(&mut self, until: Instant, frame: Bytes, error: UplinkError) {
        if self.by_frame.insert(frame.clone(), error).is_none() {
            self.by_age.push_back((until, frame));
        }
    }
}

/// Reports not yet in the log; the oldest gives way.
const RECORDS_MAX: usize = 4_096;
/// How long a report is worth retrying.
const RECORD_PATIENCE: Duration = Duration::from_secs(30);

/// TX_ACK reports on their way into the log.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_request: BTreeMap<RequestId, Report>,
    deadlines: BTreeSet<(Instant, RequestId)>,
}

#[derive(Debug)]
struct Report {
    record: RecordTxAck,
    until: Instant,
    again: bool,
    deadline: Instant,
}

impl Records {
    pub(super) fn insert(&mut self, now: Instant, request: RequestId, record: RecordTxAck) {
        if self.by_request.len() >= RECORDS_MAX
            && let Some((_, oldest)) = self.deadlines.first().copied()
        {
            self.remove(oldest);
        }
        let until = now + RECORD_PATIENCE;
        let report = Report { record, until, again: false, deadline: until };
        self.deadlines.insert((until, request));
        self.by_request.insert(request, report);
    }

    pub(super) fn remove(&mut self, request: RequestId) {
        if let Some(report) = self.by_request.remove(&request) {
            self.deadlines.remove(&(report.deadline, request));
        }
    }

    /// Puts the question again at `at`, if it is still worth it then.
    pub(super) fn retry(&mut self, at: Instant, request: RequestId) {
        let Some(report) = self.by_request.get_mut(&request) else { return };
        self.deadlines.remove(&(report.deadline, request));
        report.again = at < report.until;
        report.deadline = at.min(report.until);
        self.deadlines.insert((report.deadline, request));
    }

    /// The next report to be put again; those past their time are dropped on the way.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(RequestId, RecordTxAck)> {
        while let Some((deadline, request)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, request));
            let Some(report) = self.by_request.get_mut(&request) else { continue };
            if !report.again {
                self.by_request.remove(&request);
                continue;
            }
            (report.again, report.deadline) = (false, report.until);
            self.deadlines.insert((report.until, request));
            return Some((request, report.record.clone()));
        }
        None
    }

    pub(super) fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.deadlines.first().map(|(at, _)| (*at, "TX_ACK report"))
    }
}

/// One `log` event of a kind per device in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// `log` events of all devices in one second.
const LOGS_PER_SECOND: u32 = 50;
/// Devices and kinds of event remembered.
const LOG_KINDS_MAX: usize = 4_096;

/// Thins `log` events that do not pass through the log.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    last: BTreeMap<(DevEui, LogCode), Instant>,
    second: Option<(Instant, u32)>,
}

impl LogLimit {
    pub(super) fn allows(&mut self, now: Instant, dev_eui: DevEui, code: LogCode) -> bool {
        let (since, count) = match self.second {
            Some((since, count)) if now.since(since) < Duration::from_secs(1) => (since, count),
            Some(_) | None => (now, 0),
        };
        self.second = Some((since, count));
        let last = self.last.get(&(dev_eui, code));
        if count >= LOGS_PER_SECOND || last.is_some_and(|at| now.since(*at) < LOG_INTERVAL) {
            return false;
        }
        if self.last.len() >= LOG_KINDS_MAX {
            self.last.retain(|_, at| now.since(*at) < LOG_INTERVAL);
        }
        if self.last.len() >= LOG_KINDS_MAX {
            return false;
        }
        self.last.insert((dev_eui, code), now);
        self.second = Some((since, count + 1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    const DEVICE: DevEui = DevEui::from_be_bytes([1; 8]);
    const EPOCH: SessionEpoch = SessionEpoch(1);

    fn grant(home_epoch: u32, lo: u32, hi: u32) -> Grant {
        Grant { home: NodeId(1), home_epoch, lo, hi }
    }

    #[test]
    fn a_number_is_drawn_once() {
        let mut cursors = Cursors::default();
        assert_eq!(cursors.next(DEVICE, EPOCH), None);
        cursors.adopt(DEVICE, EPOCH, None, EPOCH, grant(1, 5, 7));
        assert_eq!(cursors.draw(DEVICE, EPOCH), Some((5, grant(1, 5, 7))));
        cursors.adopt(DEVICE, EPOCH, Some(5), EPOCH, grant(1, 5, 7));
        assert_eq!(cursors.next(DEVICE, EPOCH), Some(6), "the same grant told again");
        // A counter reset raises the epoch and keeps the grant.
        let after = SessionEpoch(2);
        cursors.adopt(DEVICE, EPOCH, Some(6), after, grant(1, 5, 7));
        assert_eq!(cursors.draw(DEVICE, EPOCH), None);
        assert_eq!(cursors.draw(DEVICE, after).map(|drawn| drawn.0), Some(6));
        assert_eq!(cursors.draw(DEVICE, after), None, "used up");
        assert_eq!(cursors.next(DEVICE, after), Some(7));
        // A new activation counts anew, whatever number the old one had reached.
        cursors.adopt(DEVICE, SessionEpoch(3), None, SessionEpoch(3), grant(1, 0, 1));
        assert_eq!(cursors.draw(DEVICE, SessionEpoch(3)).map(|drawn| drawn.0), Some(0));
    }

    #[test]
    fn a_grant_is_extended_and_an_old_one_never_comes_back() {
        let mut cursors = Cursors::default();
        let numbers = |cursors: &mut Cursors| cursors.draw(DEVICE, EPOCH).map(|drawn| drawn.0);
        cursors.adopt(DEVICE, EPOCH, None, EPOCH, grant(1, 5, 7));
        assert_eq!((numbers(&mut cursors), numbers(&mut cursors)), (Some(5), Some(6)));
        cursors.adopt(DEVICE, EPOCH, Some(7), EPOCH, grant(1, 7, 9));
        assert_eq!(numbers(&mut cursors), Some(7));
        cursors.adopt(DEVICE, EPOCH, Some(5), EPOCH, grant(1, 5, 7));
        assert_eq!(numbers(&mut cursors), Some(8), "a late answer shortens nothing");
        cursors.adopt(DEVICE, EPOCH, Some(9), EPOCH, grant(3, 20, 22));
        cursors.adopt(DEVICE, EPOCH, Some(9), EPOCH, grant(1, 9, 11));
        assert_eq!(numbers(&mut cursors), Some(20));
        // What was used since the question is forgotten with the cursor.
        cursors.by_device.clear();
        cursors.adopt(DEVICE, EPOCH, Some(20), EPOCH, grant(3, 20, 22));
        assert_eq!(numbers(&mut cursors), None);
        // A late answer in a session that has ended.
        cursors.adopt(DEVICE, SessionEpoch(2), None, SessionEpoch(2), grant(1, 0, 2));
        cursors.adopt(DEVICE, EPOCH, None, EPOCH, grant(4, 22, 24));
        assert_eq!(cursors.next(DEVICE, SessionEpoch(2)), Some(0));
    }

    fn answer(f_cnt: u32) -> Answer {
        Answer {
            epoch: EPOCH,
            home_epoch: 1,
            f_cnt,
            digest: Digest([1; 16]),
            bytes: Bytes::new(),
            f_cnt_down: 5,
            item_id: None,
            sent: false,
            repeats_left: REPEATS_MAX,
        }
    }

    #[test]
    fn an_answer_that_perhaps_never_left_gives_way_under_a_newer_grant() {
        let overtaken = |answer| Repeat::Answer(answer).is_overtaken(2);
        assert!(overtaken(answer(10)));
        assert!(!overtaken(Answer { home_epoch: 2, ..answer(10) }));
        assert!(!overtaken(Answer { sent: true, ..answer(10) }), "the device may have it");
        assert!(!Repeat::TooOften.is_overtaken(2));
    }

    #[test]
    fn an_answer_is_found_for_its_frame_alone_and_not_for_ever() {
        let mut memory = AnswerMemory::default();
        let at = Instant::from_secs;
        memory.insert(at(0), DEVICE, answer(10));
        let found = |memory: &mut AnswerMemory, now, f_cnt, digest| {
            memory.repeat(now, DEVICE, EPOCH, f_cnt, Digest([digest; 16])).is_some()
        };
        assert!(found(&mut memory, at(599), 10, 1));
        assert!(!found(&mut memory, at(599), 10, 2) && !found(&mut memory, at(599), 11, 1));
        assert!(!found(&mut memory, at(600), 10, 1));
        memory.insert(at(599), DEVICE, answer(11));
        let other = DevEui::from_be_bytes([2; 8]);
        memory.insert(at(700), other, answer(1));
        assert!(
            found(&mut memory, at(700), 11, 1),
            "the newer answer outlives the older one's age"
        );
        for n in 0..20_000_u64 {
            memory.insert(at(700), DevEui::from_be_bytes(n.to_be_bytes()), answer(1));
        }
        assert!(memory.by_device.len() <= ANSWERS_MAX && memory.by_age.len() <= ANSWERS_MAX);
    }

    #[test]
    fn refusals_are_bounded_and_brief() {
        let mut refusals = Refusals::default();
        let frame = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
        for n in 0..10_000 {
            refusals.find(Instant::ZERO, &frame(n));
            refusals.insert(Instant::from_millis(200), frame(n), UplinkError::Crc);
        }
        assert!(refusals.by_frame.len() <= REFUSED_MAX + 1);
        assert!(refusals.find(Instant::from_millis(199), &frame(9_999)).is_some());
        assert!(refusals.find(Instant::from_millis(200), &frame(9_999)).is_none());
        assert!(refusals.by_frame.is_empty());
    }

    #[test]
    fn log_events_are_thinned() {
        let mut limit = LogLimit::default();
        let at = Instant::from_millis;
        assert!(limit.allows(at(0), DEVICE, LogCode::UplinkMic));
        assert!(!limit.allows(at(9_999), DEVICE, LogCode::UplinkMic));
        assert!(limit.allows(at(9_999), DEVICE, LogCode::Otaa));
        assert!(limit.allows(at(10_000), DEVICE, LogCode::UplinkMic));
        let passed = (0..1_000_u64)
            .filter(|n| {
                let device = DevEui::from_be_bytes((n + 9).to_be_bytes());
                limit.allows(at(20_000), device, LogCode::UplinkMic)
            })
            .count();
        assert_eq!(passed, 50);
    }
}
