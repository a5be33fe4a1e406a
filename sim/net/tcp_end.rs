//! Streams from the inside: connections, their two pipes, and what is sent again.
//!
//! A connection has two ends and a pipe in each direction. What a pipe carries is cut into
//! numbered segments that cross the link one by one; a lost one is sent again after a growing
//! delay, and the far end hands bytes over in order. A pipe takes [`WINDOW`] bytes that nobody has
//! read, then the writer waits. An end whose host has died says nothing: its peer learns of it
//! when it sends something to a host that is up again, or by giving up.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use madsim::task::NodeId;

use super::flight::Flight;
use super::{Death, Inner};

/// Bytes a pipe holds that the reader has not taken.
pub(super) const WINDOW: usize = 64 * 1024;
/// Connections that wait to be accepted at most; the next caller tries again.
const BACKLOG_BOUND: usize = 128;
/// First delay before a segment is sent again; it doubles up to [`RESEND_MAX`].
const RESEND_MIN: Duration = Duration::from_millis(200);
const RESEND_MAX: Duration = Duration::from_secs(10);
/// Tries after which the sender gives the connection up.
const TRIES_MAX: u32 = 13;
/// How long that takes, a minute and a quarter.
pub(super) const PATIENCE: Duration = Duration::from_millis(72_600);
/// What a segment costs on the wire beside its payload.
const HEADER_LEN: usize = 60;

/// The delay before a segment is sent for the `tries + 1`-th time.
fn resend_after(tries: u32) -> Duration {
    RESEND_MIN.saturating_mul(1 << (tries - 1)).min(RESEND_MAX)
}

/// One of the two ends: the caller is 0, the callee 1.
pub(super) type Side = usize;

pub(super) fn other(side: Side) -> Side {
    1 - side
}

/// What a segment says.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// The caller asks for a connection to this port.
    Open(u16),
    /// The callee has it.
    Opened,
    /// Payload, in order of its number.
    Data(u64, Bytes),
    /// Nothing comes after this number.
    End(u64),
    /// There is no such connection. Never sent again.
    Reset,
}

/// A segment under way from one end.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) connection: u64,
    /// The end it comes from.
    pub(super) side: Side,
    pub(super) body: Body,
    tries: u32,
    cuts: u64,
}

impl Segment {
    pub(super) fn new(connection: u64, side: Side, body: Body) -> Self {
        Self { connection, side, body, tries: 0, cuts: 0 }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Data(_, payload) => HEADER_LEN + payload.len(),
            Body::Open(_) | Body::Opened | Body::End(_) | Body::Reset => HEADER_LEN,
        }
    }
}

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndState {
    /// The caller waits for an answer.
    Opening,
    /// In use.
    Open,
    /// Dropped by its owner.
    Closed,
    /// Its host died.
    Dead,
    /// Over, with this error for whoever uses it.
    Failed(io::ErrorKind),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
    pub(super) state: EndState,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl End {
    pub(super) fn new(node: NodeId, address: SocketAddr, state: EndState) -> Self {
        Self { node, address, state, reader: None, writer: None }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn is_gone(&self) -> bool {
        match self.state {
            EndState::Closed | EndState::Dead | EndState::Failed(_) => true,
            EndState::Opening | EndState::Open => false,
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Number of the next segment to be sent.
    sent: u64,
    /// Number of the next segment to be handed over.
    arrived: u64,
    /// Segments that overtook a lost one; `None` ends the pipe.
    early: BTreeMap<u64, Option<Bytes>>,
    /// Bytes sent that the reader has not taken.
    pub(super) outstanding: usize,
    pub(super) ready: VecDeque<Bytes>,
    /// The writer has ended it.
    pub(super) ended: bool,
    /// The reader has everything.
    pub(super) complete: bool,
    /// A segment has vanished for good: the writer will give up.
    doomed: bool,
}

impl Pipe {
    pub(super) fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    fn take_in(&mut self, number: u64, payload: Option<Bytes>) {
        if number >= self.arrived {
            self.early.insert(number, payload);
        }
        while let Some(payload) = self.early.remove(&self.arrived) {
            self.arrived += 1;
            match payload {
                Some(payload) => self.ready.push_back(payload),
                None => self.complete = true,
            }
        }
    }
}

/// A connection: `pipes[side]` carries what `ends[side]` writes.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) pipes: [Pipe; 2],
}

impl Connection {
    fn wake(&mut self) {
        self.ends.iter_mut().for_each(End::wake);
    }
}

/// A listening port.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Which listener owns it.
    pub(super) owner: u64,
    /// Connections to be accepted.
    pub(super) ready: VecDeque<u64>,
    pub(super) waiting: Option<Waker>,
}

impl Inner {
    /// Puts a segment on the link, or schedules another try.
    pub(super) fn transmit(&mut self, now: Duration, mut segment: Segment) {
        let Some(connection) = self.connections.get(&segment.connection) else { return };
        let end = &connection.ends[segment.side];
        let reset = matches!(segment.body, Body::Reset);
        if matches!(end.state, EndState::Dead | EndState::Failed(_)) && !reset {
            return;
        }
        let (from, to) = (end.node, connection.ends[other(segment.side)].node);
        let link = self.link(from, to);
        let fate = link.fate(now, segment.len());
        segment.cuts = link.cuts;
        if link.stalled {
            return self.vanish(now, &segment);
        }
        match fate.arrivals[0] {
            Some(at) if fate.flipped.is_none() => self.schedule(at, Flight::Segment(segment)),
            Some(_) | None => self.retry(now, segment),
        }
    }

    fn retry(&mut self, now: Duration, mut segment: Segment) {
        if matches!(segment.body, Body::Reset) {
            return;
        }
        self.counts.resent += 1;
        segment.tries += 1;
        if segment.tries >= TRIES_MAX {
            self.fail(segment.connection, segment.side, io::ErrorKind::TimedOut);
            return;
        }
        self.schedule(now + resend_after(segment.tries), Flight::Retry(segment));
    }

    /// A black hole has taken a segment. Nobody knows; the sender waits as long as it would try.
    fn vanish(&mut self, now: Duration, segment: &Segment) {
        let (id, side) = (segment.connection, segment.side);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let awaited = !matches!(segment.body, Body::Reset);
        if awaited && !std::mem::replace(&mut connection.pipes[side].doomed, true) {
            self.schedule(now + PATIENCE, Flight::GiveUp { connection: id, side, opening: false });
        }
    }

    /// The patience of an end is over.
    pub(super) fn give_up(&mut self, id: u64, side: Side, opening: bool) {
        let Some(connection) = self.connections.get(&id) else { return };
        if !opening || connection.ends[side].state == EndState::Opening {
            self.fail(id, side, io::ErrorKind::TimedOut);
        }
    }

    /// Ends every connection between a host and others, for both ends.
    pub(super) fn reset_streams(&mut self, node: NodeId) -> usize {
        let concerned = |connection: &Connection| {
            let [caller, callee] = connection.ends.each_ref().map(|end| end.node == node);
            caller != callee && !connection.ends.iter().all(End::is_gone)
        };
        let all = self.connections.iter();
        let ids: Vec<u64> = all.filter(|(_, c)| concerned(c)).map(|(id, _)| *id).collect();
        for &id in &ids {
            for side in [0, 1] {
                self.reset(id, side);
            }
        }
        ids.len()
    }

    /// An end hears that there is no such connection.
    fn reset(&mut self, id: u64, side: Side) {
        let Some(connection) = self.connections.get(&id) else { return };
        let kind = match connection.ends[side].state {
            EndState::Opening => io::ErrorKind::ConnectionRefused,
            EndState::Open | EndState::Closed | EndState::Dead | EndState::Failed(_) => {
                io::ErrorKind::ConnectionReset
            }
        };
        self.fail(id, side, kind);
    }

    /// Ends the connection for one of its ends.
    fn fail(&mut self, id: u64, side: Side, kind: io::ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let end = &mut connection.ends[side];
        if !end.is_gone() {
            end.state = EndState::Failed(kind);
            self.counts.reset += 1;
            connection.wake();
        }
        self.forget_if_over(id);
    }

    /// Forgets a connection that nobody can use any more.
    fn forget_if_over(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let [caller, callee] = connection.ends.each_ref().map(|end| end.state);
        let left = |state| matches!(state, EndState::Closed | EndState::Dead);
        // A callee that never heard the call, or refused it, has no owner.
        let never = matches!(callee, EndState::Opening)
            || callee == EndState::Failed(io::ErrorKind::ConnectionRefused);
        if left(caller) && (left(callee) || never) {
            self.connections.remove(&id);
        }
    }

    fn answer(&mut self, now: Duration, segment: &Segment, body: Body) {
        self.transmit(now, Segment::new(segment.connection, other(segment.side), body));
    }

    /// A segment has crossed the link.
    pub(super) fn arrive(&mut self, now: Duration, segment: Segment) {
        let Some(connection) = self.connections.get(&segment.connection) else { return };
        let side = other(segment.side);
        let (from, to) = (connection.ends[segment.side].node, connection.ends[side].node);
        let state = connection.ends[side].state;
        let link = self.link(from, to);
        if link.stalled {
            return self.vanish(now, &segment);
        }
        if link.is_cut() || link.cuts != segment.cuts {
            return self.retry(now, segment);
        }
        if !self.hosts.get(&to).is_some_and(|host| host.up) {
            return self.retry(now, segment);
        }
        self.counts.segments += 1;
        match (&segment.body, state) {
            (Body::Reset, _) => self.reset(segment.connection, side),
            (Body::Open(port), EndState::Opening) => self.called(now, *port, segment),
            (Body::Open(_), _) => {}
            (Body::Opened, EndState::Opening) => self.opened(segment.connection, side),
            (Body::Opened, EndState::Open) => {}
            // What the callee writes may overtake its answer to the call, and is one itself.
            (Body::Data(number, payload), EndState::Open | EndState::Opening) => {
                self.opened(segment.connection, side);
                self.take_in(&segment, *number, Some(payload.clone()));
            }
            (Body::End(number), EndState::Open | EndState::Opening) => {
                self.opened(segment.connection, side);
                self.take_in(&segment, *number, None);
            }
            (Body::End(_), EndState::Closed) => {}
            (
                Body::Opened | Body::Data(..) | Body::End(_),
                EndState::Closed | EndState::Dead | EndState::Failed(_),
            ) => self.answer(now, &segment, Body::Reset),
        }
    }

    fn take_in(&mut self, segment: &Segment, number: u64, payload: Option<Bytes>) {
        let Some(connection) = self.connections.get_mut(&segment.connection) else { return };
        connection.pipes[segment.side].take_in(number, payload);
        connection.ends[other(segment.side)].wake();
    }

    /// The callee's host hears a call.
    fn called(&mut self, now: Duration, port: u16, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&segment.connection) else { return };
        let node = connection.ends[1].node;
        let Some(backlog) = self.listeners.get_mut(&(node, port)) else {
            return self.answer(now, &segment, Body::Reset);
        };
        if backlog.ready.len() >= BACKLOG_BOUND {
            return self.retry(now, segment);
        }
        connection.ends[1].state = EndState::Open;
        backlog.ready.push_back(segment.connection);
        if let Some(waiting) = backlog.waiting.take() {
            waiting.wake();
        }
        self.answer(now, &segment, Body::Opened);
    }

    fn opened(&mut self, id: u64, side: Side) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ends[side].state = EndState::Open;
            connection.ends[side].wake();
        }
    }

    /// Ends what an end writes; the peer reads to the end.
    pub(super) fn finish(&mut self, now: Duration, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pipe = &mut connection.pipes[side];
        if !std::mem::replace(&mut pipe.ended, true) {
            let number = pipe.next_number();
            self.transmit(now, Segment::new(id, side, Body::End(number)));
        }
    }

    /// An end's owner has dropped it.
    pub(super) fn close(&mut self, now: Duration, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ends[side].is_gone() {
            if connection.ends[side].state != EndState::Dead {
                connection.ends[side].state = EndState::Closed;
            }
            return self.forget_if_over(id);
        }
        let unread = !connection.pipes[other(side)].ready.is_empty();
        if unread || connection.ends[side].state == EndState::Opening {
            // As kernels do: what was not read tells the peer that it was not.
            connection.ends[side].state = EndState::Closed;
            self.transmit(now, Segment::new(id, side, Body::Reset));
        } else {
            self.finish(now, id, side);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.ends[side].state = EndState::Closed;
            }
        }
        self.forget_if_over(id);
    }

    /// A host has died, with everything on it.
    pub(super) fn bury(&mut self, now: Duration, node: NodeId) {
        self.listeners.retain(|&(owner, _), _| owner != node);
        let death = self.hosts.get(&node).map_or(Death::default(), |host| host.death);
        let left = |end: &End| matches!(end.state, EndState::Closed | EndState::Dead);
        let ends: Vec<(u64, Side)> = self
            .connections
            .iter()
            .flat_map(|(&id, connection)| [0, 1].map(|side| (id, side, &connection.ends[side])))
            .filter(|(_, _, end)| end.node == node && !left(end))
            .map(|(id, side, _)| (id, side))
            .collect();
        for (id, side) in ends {
            let in_use = |c: &Connection| !c.ends[side].is_gone();
            if death == Death::Process && self.connections.get(&id).is_some_and(in_use) {
                self.transmit(now, Segment::new(id, side, Body::Reset));
            }
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.ends[side].state = EndState::Dead;
            }
            self.forget_if_over(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_as_long_as_all_tries() {
        assert_eq!((1..TRIES_MAX).map(resend_after).sum::<Duration>(), PATIENCE);
    }
}
