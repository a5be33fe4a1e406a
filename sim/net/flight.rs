//! What is under way, in the order of (virtual time, order of sending).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use madsim::task::NodeId;

use super::tcp_end::{Segment, Side};

/// A datagram on a link.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    /// How often the link had been cut when it was sent.
    pub(super) cuts: u64,
    pub(super) source: SocketAddr,
    /// The group it was sent to, if not to this host alone.
    pub(super) group: Option<Ipv4Addr>,
    pub(super) port: u16,
    pub(super) payload: Bytes,
}

/// Something under way, due at a moment.
#[derive(Debug)]
pub(super) enum Flight {
    Datagram(Datagram),
    Segment(Segment),
    Retry(Segment),
    /// An end's patience with a connection is over; if `opening`, only while it has no answer.
    GiveUp {
        connection: u64,
        side: Side,
        opening: bool,
    },
}

/// Everything under way. The heap holds places, so that sorting moves no packets.
#[derive(Debug, Default)]
pub(super) struct Flights {
    due: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    places: Vec<Option<Flight>>,
    free: Vec<usize>,
    numbers: u64,
}

impl Flights {
    /// When the next is due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn push(&mut self, at: Duration, flight: Flight) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(flight);
        self.numbers += 1;
        self.due.push(Reverse((at, self.numbers, place)));
    }

    /// The next that is due at `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Flight> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        let Reverse((_, _, place)) = self.due.pop()?;
        self.free.push(place);
        self.places[place].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_leaves_first_and_of_two_at_once_the_one_sent_first() {
        let mut flights = Flights::default();
        let ms = Duration::from_millis;
        for (connection, at) in [(0, 5), (1, 3), (2, 5), (3, 1)] {
            flights.push(ms(at), Flight::GiveUp { connection, side: 0, opening: false });
        }
        let mut seen = Vec::new();
        let mut take = |flights: &mut Flights, now| {
            while let Some(flight) = flights.pop(ms(now)) {
                let Flight::GiveUp { connection, .. } = flight else { unreachable!() };
                seen.push(connection);
            }
        };
        take(&mut flights, 0);
        take(&mut flights, 3);
        flights.push(ms(4), Flight::GiveUp { connection: 4, side: 0, opening: false });
        assert_eq!(flights.next_at(), Some(ms(4)));
        take(&mut flights, 9);
        assert_eq!(seen, [3, 1, 4, 0, 2]);
        assert_eq!(flights.next_at(), None);
        assert!(flights.places.len() <= 4, "places are used again");
    }
}
