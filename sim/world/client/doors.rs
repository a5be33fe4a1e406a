//! Which node a client connects to: its own, any, or the next one after one that did not let it in.

use std::net::SocketAddr;

use crate::dice::{Dice, Seed};

/// The nodes as one client sees them.
#[derive(Debug)]
pub(in super::super) struct Doors {
    servers: Vec<SocketAddr>,
    /// The one it tries, or has tried last.
    place: usize,
    anywhere: bool,
    /// The last one did not let it in.
    refused: bool,
    dice: Dice,
}

impl Doors {
    /// Those of the client number `place` (from 0): it begins with its own node.
    ///
    /// * `servers`: where nodes take clients; one at least.
    /// * `anywhere`: each connection goes to any of them.
    pub(in super::super) fn new(
        seed: Seed,
        place: u32,
        servers: Vec<SocketAddr>,
        anywhere: bool,
    ) -> Self {
        let dice = seed.stream(&format!("doors app{}", place + 1));
        let place = place as usize % servers.len();
        Self { servers, place, anywhere, refused: false, dice }
    }

    /// Where to connect to now; one draw.
    ///
    /// * `core`: where it must go in the end; anywhere if there is none.
    pub(super) fn next(&mut self, core: &[SocketAddr]) -> SocketAddr {
        let drawn = self.dice.index(self.servers.len());
        if self.refused {
            self.place = (self.place + 1) % self.servers.len();
        } else if self.anywhere {
            self.place = drawn;
        }
        self.refused = true;
        let open = |place: usize| core.is_empty() || core.contains(&self.servers[place]);
        let mut places = (self.place..self.servers.len()).chain(0..self.place);
        self.place = places.find(|place| open(*place)).unwrap_or(self.place);
        self.servers[self.place]
    }

    /// Where it is, in words, if there is a choice.
    pub(super) fn told(&self) -> String {
        let several = self.servers.len() > 1;
        if several { format!(" to n{}", self.place + 1) } else { String::new() }
    }

    /// The node it tries, or has tried last.
    pub(super) fn node(&self) -> String {
        format!("n{}", self.place + 1)
    }

    /// The node has let it in.
    pub(super) fn let_in(&mut self) {
        self.refused = false;
    }

    /// Whether it has gone where it must not stay.
    pub(super) fn is_outside(&self, core: &[SocketAddr]) -> bool {
        !core.is_empty() && !core.contains(&self.servers[self.place])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn servers(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|host| SocketAddr::from(([10, 0, 0, host], 1_883))).collect()
    }

    #[test]
    fn a_client_stays_with_its_node_until_that_does_not_let_it_in() {
        let all = servers(3);
        let mut doors = Doors::new(Seed(1), 4, all.clone(), false);
        assert_eq!(doors.next(&[]), all[1]);
        doors.let_in();
        assert_eq!(doors.next(&[]), all[1]);
        assert_eq!([doors.next(&[]), doors.next(&[]), doors.next(&[])], [all[2], all[0], all[1]]);
        doors.let_in();
        assert!(doors.is_outside(&all[2..]) && !doors.is_outside(&[]));
        assert_eq!(doors.next(&all[2..]), all[2]);
        assert_eq!(doors.next(&all[2..]), all[2], "there is no other");
    }

    #[test]
    fn a_client_goes_anywhere_if_it_may() {
        let all = servers(3);
        let mut doors = Doors::new(Seed(1), 0, all.clone(), true);
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            seen.insert(doors.next(&[]));
            doors.let_in();
        }
        assert_eq!(seen.len(), 3);
        let mut only = Doors::new(Seed(1), 7, servers(1), true);
        assert_eq!([only.next(&[]), only.next(&[])], [all[0]; 2]);
    }
}
