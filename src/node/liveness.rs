//! Who of the other nodes is alive, and what follows: the detector at work, the status of members
//! that the leader writes into the log, and the events that tell of it.
//!
//! Any word of another node is a sign of life; so is its link coming up. Nothing of correctness
//! rests on a status: the leader writes one when the detector and the log disagree, at most once a
//! second for each member, and never over `Leaving`, `Joining`, `Cleaned` or `Revoked`, which
//! others write. Source: DESIGN 6; dangers C18; requirements M6, M7.

use std::collections::BTreeMap;

use clock::{Duration, Instant, Now};
use cluster::detector::{Detector, Effect, Life};
use mac::NodeId;
use store::{Member, MemberStatus, State};

use crate::api::wire::{MemberEvent, MemberNews};
use crate::machine::{Node, Own, Phase};
use crate::peers::PeerMessage;

/// A member's status changes at most so often.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// How often a member that comes back is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// It has caught up when it lacks fewer entries of the log than this.
const LEVEL_WITHIN: u64 = 100;
/// From this feature level on the log knows of statuses.
const MEMBERS_LEVEL: u32 = 2;
/// Questions of others that wait for a member's sign of life.
const PROBES_MAX: usize = 256;
/// Numbers of events per entry of the log: the lower half for what it has decided.
const EVENTS_PER_ENTRY: u64 = 256;

/// What another node has said of itself last.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    applied: u64,
    boot: u64,
}

/// A member as the events last told of it.
#[derive(Clone, Debug)]
struct Known {
    status: MemberStatus,
    /// Which start of it went down.
    down_boot: Option<u64>,
    /// It was out of touch, not down.
    parted: bool,
}

/// What this node makes of the others' signs of life.
#[derive(Debug)]
pub(crate) struct Liveness {
    detector: Detector,
    /// Who wants to know of whom, and until when.
    probes: Vec<(NodeId, NodeId, Instant)>,
    probe_lasts: Duration,
    pulses: BTreeMap<NodeId, Pulse>,
    changed_at: BTreeMap<NodeId, Instant>,
    look_at: Option<Instant>,
    known: BTreeMap<NodeId, Known>,
    /// Index of the log and how many events have a number of it: decided, and seen here.
    numbers: (u64, u64, u64),
}

impl Liveness {
    pub(crate) fn new(own: NodeId, ticktime: Duration, seed: [u8; 32]) -> Self {
        Self {
            detector: Detector::new(own.0, ticktime, seed),
            probes: Vec::new(),
            probe_lasts: ticktime / 4,
            pulses: BTreeMap::new(),
            changed_at: BTreeMap::new(),
            look_at: None,
            known: BTreeMap::new(),
            numbers: (0, 0, 0),
        }
    }

    /// When to call [`Node::watch_others`] next.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let look = self.look_at.map(|at| (at, "status of members"));
        self.detector.poll_timeout().into_iter().chain(look).min()
    }

    fn look_at(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    /// The number of the next event under an index of the log; `None` if there are too many.
    fn number(&mut self, index: u64, decided: bool) -> Option<u64> {
        if self.numbers.0 != index {
            self.numbers = (index, 0, 0);
        }
        let half = EVENTS_PER_ENTRY / 2;
        let (count, base) =
            if decided { (&mut self.numbers.1, 0) } else { (&mut self.numbers.2, half) };
        let number = (*count < half).then_some(index * EVENTS_PER_ENTRY + base + *count)?;
        *count += 1;
        Some(number)
    }

    /// What a change of a member means, in order.
    fn news(&mut self, id: NodeId, member: &Member) -> Vec<MemberNews> {
        let before =
            self.known.insert(id, Known { status: member.status, down_boot: None, parted: false });
        let old = before.as_ref().map(|known| known.status);
        let Some(known) = self.known.get_mut(&id) else { return Vec::new() };
        if let Some(before) = &before {
            (known.down_boot, known.parted) = (before.down_boot, before.parted);
        }
        if old == Some(member.status) {
            return Vec::new();
        }
        match member.status {
            MemberStatus::Joining => vec![MemberNews::Joining],
            MemberStatus::Leaving => vec![MemberNews::Leaving],
            MemberStatus::Cleaned => vec![MemberNews::Cleaned],
            MemberStatus::Revoked => vec![MemberNews::Left],
            MemberStatus::Down => {
                known.down_boot = Some(member.boot);
                vec![MemberNews::Down]
            }
            MemberStatus::Healing => {
                known.parted = known.down_boot.take() == Some(member.boot);
                let parted = known.parted.then_some(MemberNews::PartitionOccurred);
                parted.into_iter().chain([MemberNews::Healing]).collect()
            }
            MemberStatus::Up => {
                let healed = core::mem::take(&mut known.parted);
                let healed = healed.then_some(MemberNews::PartitionHealed);
                healed.into_iter().chain([MemberNews::Up]).collect()
            }
        }
    }
}

/// What the log should say of a member, if it should say something else.
fn wanted(member: &Member, life: Life, pulse: Option<Pulse>, applied: u64) -> Option<MemberStatus> {
    let (status, alive) = (member.status, life == Life::Alive);
    match status {
        MemberStatus::Up | MemberStatus::Healing if life == Life::Down => Some(MemberStatus::Down),
        // Whoever has started anew says so itself in the log, and is told from one cut off by that.
        MemberStatus::Down if alive && pulse.is_some_and(|pulse| pulse.boot == member.boot) => {
            Some(MemberStatus::Healing)
        }
        MemberStatus::Healing
            if alive && pulse.is_some_and(|pulse| pulse.applied + LEVEL_WITHIN > applied) =>
        {
            Some(MemberStatus::Up)
        }
        MemberStatus::Up
        | MemberStatus::Healing
        | MemberStatus::Down
        | MemberStatus::Joining
        | MemberStatus::Leaving
        | MemberStatus::Cleaned
        | MemberStatus::Revoked => None,
    }
}

impl Node {
    /// Another node has given a sign of life.
    pub(crate) fn handle_heard(&mut self, now: Now, node: NodeId) {
        self.liveness.detector.handle_heard(now.instant, node.0);
        let answered = self.liveness.probes.extract_if(.., |(_, target, _)| *target == node);
        for (asker, target, until) in answered {
            if now.instant <= until {
                self.peers.tell(asker, PeerMessage::Probed { target });
            }
        }
    }

    /// The link to another node is lost.
    pub(crate) fn handle_line_lost(&mut self, now: Now, node: NodeId) {
        self.liveness.detector.handle_lost(now.instant, node.0);
    }

    /// Another node asks for a sign of life.
    pub(crate) fn answer_ping(&mut self, node: NodeId) {
        let (applied, boot) = (self.state.applied_index(), self.boot);
        self.peers.tell(node, PeerMessage::Pong { applied, boot });
    }

    pub(crate) fn handle_pong(&mut self, node: NodeId, applied: u64, boot: u64) {
        self.liveness.pulses.insert(node, Pulse { applied, boot });
    }

    /// Another node asks this one to find out whether a third is alive.
    pub(crate) fn handle_probe(&mut self, now: Now, asker: NodeId, target: NodeId) {
        if self.liveness.probes.len() < PROBES_MAX {
            let until = now.instant + self.liveness.probe_lasts;
            self.liveness.probes.push((asker, target, until));
            self.peers.tell(target, PeerMessage::Ping);
        }
    }

    pub(crate) fn handle_probed(&mut self, now: Now, via: NodeId, target: NodeId) {
        self.liveness.detector.handle_probe_answer(now.instant, target.0, via.0, true);
    }

    /// Members came or went.
    pub(crate) fn watch_members(&mut self, now: Now) {
        let live = self.state.live_members().map(|(id, _)| id.0).collect();
        self.liveness.detector.set_members(now.instant, &live);
        self.liveness.pulses.retain(|id, _| live.contains(&id.0));
        self.liveness.changed_at.retain(|id, _| live.contains(&id.0));
    }

    /// What is due by the clock.
    pub(crate) fn handle_silence(&mut self, now: Now) {
        self.liveness.detector.handle_timeout(now.instant);
        self.liveness.probes.retain(|(_, _, until)| now.instant <= *until);
    }

    /// Asks whom the detector wants asked, tells what it has found, and lets the log know.
    pub(crate) fn watch_others(&mut self, now: Now) {
        while let Some(effect) = self.liveness.detector.poll_effect() {
            match effect {
                Effect::Ping { to } => self.peers.tell(NodeId(to), PeerMessage::Ping),
                Effect::ProbeVia { via, target } => {
                    let target = NodeId(target);
                    self.peers.tell(NodeId(via), PeerMessage::Probe { target });
                }
                Effect::Suspected { node } => self.seen(now, NodeId(node), MemberNews::Suspected),
                Effect::Down { node } => {
                    self.liveness.pulses.remove(&NodeId(node));
                    self.seen(now, NodeId(node), MemberNews::Unheard);
                }
                Effect::Up { node } => self.seen(now, NodeId(node), MemberNews::Heard),
            }
        }
        if self.liveness.look_at.is_some_and(|at| at <= now.instant) {
            self.liveness.look_at = None;
        }
        self.write_statuses(now);
    }

    /// What this node alone has seen.
    fn seen(&mut self, now: Now, node: NodeId, event: MemberNews) {
        self.metrics.count(
            "tern_members_total",
            match event {
                MemberNews::Suspected => "suspected",
                MemberNews::Unheard => "unheard",
                MemberNews::Heard => "heard",
                MemberNews::Joining
                | MemberNews::Up
                | MemberNews::Down
                | MemberNews::Healing
                | MemberNews::Leaving
                | MemberNews::Cleaned
                | MemberNews::Left
                | MemberNews::PartitionOccurred
                | MemberNews::PartitionHealed => return,
            },
        );
        let index = self.state.applied_index();
        let name = name_of(&self.state, node);
        if let Some(sequence) = self.liveness.number(index, false) {
            let (node_id, time) = (node.0, now.wall);
            self.api.handle_member_event(MemberEvent { sequence, event, name, node_id, time });
        }
    }

    /// The log has changed a member.
    pub(crate) fn member_changed(&mut self, id: NodeId) {
        let Some(member) = self.state.member(id) else { return };
        for event in self.liveness.news(id, member) {
            let Some(sequence) = self.liveness.number(self.state.applied_index(), true) else {
                return;
            };
            let (name, time) = (member.plate.name.clone(), self.state.now());
            let event = MemberEvent { sequence, event, name, node_id: id.0, time };
            self.api.handle_member_event(event);
        }
    }

    /// The whole state was replaced: what it says of members is news unless nothing was known.
    pub(crate) fn members_restored(&mut self) {
        let first = self.liveness.known.is_empty();
        let ids: Vec<NodeId> = self.state.members().map(|(id, _)| id).collect();
        for id in ids {
            if first {
                let Some(member) = self.state.member(id) else { continue };
                let down_boot = (member.status == MemberStatus::Down).then_some(member.boot);
                let known = Known { status: member.status, down_boot, parted: false };
                self.liveness.known.insert(id, known);
            } else {
                self.member_changed(id);
            }
        }
    }

    /// Where this node leads: what the detector knows better than the log goes into it.
    fn write_statuses(&mut self, now: Now) {
        let leads = self.leader == Some(self.node) && self.quorum;
        if !leads || self.phase != Phase::Serving || self.state.feature_level() < MEMBERS_LEVEL {
            return;
        }
        let applied = self.state.applied_index();
        let mut changes = Vec::new();
        let mut asked = false;
        for (id, member) in self.state.live_members() {
            let own = id == self.node;
            let life = if own { Some(Life::Alive) } else { self.liveness.detector.life(id.0) };
            let pulse = match own {
                true => Some(Pulse { applied, boot: member.boot }),
                false => self.liveness.pulses.get(&id).copied(),
            };
            let Some(life) = life else { continue };
            let returns = matches!(member.status, MemberStatus::Down | MemberStatus::Healing);
            match wanted(member, life, pulse, applied) {
                Some(status) => changes.push((id, status)),
                None if returns && life == Life::Alive && self.liveness.look_at.is_none() => {
                    self.peers.tell(id, PeerMessage::Ping);
                    asked = true;
                }
                None => {}
            }
        }
        if asked {
            self.liveness.look_at(now.instant + ASK_EVERY);
        }
        for (id, status) in changes {
            self.write_status(now.instant, id, status);
        }
    }

    fn write_status(&mut self, now: Instant, id: NodeId, status: MemberStatus) {
        let asked = |own: &Own| matches!(own, Own::Status(of, _) if *of == id);
        if self.own.values().any(asked) {
            return;
        }
        if let Some(at) = self.liveness.changed_at.get(&id)
            && now < *at + CHANGE_EVERY
        {
            return self.liveness.look_at(*at + CHANGE_EVERY);
        }
        self.liveness.changed_at.insert(id, now);
        self.ask(Own::Status(id, status));
    }
}

fn name_of(state: &State, id: NodeId) -> String {
    state.member(id).map_or_else(String::new, |member| member.plate.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(status: MemberStatus, boot: u64) -> Member {
        Member { status, boot, ..Member::default() }
    }

    fn pulse(applied: u64, boot: u64) -> Option<Pulse> {
        Some(Pulse { applied, boot })
    }

    #[test]
    fn a_status_is_written_where_it_is_wrong_and_never_over_what_others_decide() {
        use MemberStatus as S;
        let up = member(S::Up, 3);
        assert_eq!(wanted(&up, Life::Down, None, 500), Some(S::Down));
        assert_eq!(wanted(&up, Life::Suspected, None, 500), None);
        let down = member(S::Down, 3);
        assert_eq!(wanted(&down, Life::Alive, pulse(0, 3), 500), Some(S::Healing));
        assert_eq!(wanted(&down, Life::Alive, pulse(0, 4), 500), None, "its start is to come");
        assert_eq!(wanted(&down, Life::Alive, None, 500), None);
        let healing = member(S::Healing, 3);
        assert_eq!(wanted(&healing, Life::Alive, pulse(400, 3), 500), None);
        assert_eq!(wanted(&healing, Life::Alive, pulse(401, 3), 500), Some(S::Up));
        assert_eq!(wanted(&healing, Life::Down, pulse(401, 3), 500), Some(S::Down));
        for status in [S::Joining, S::Leaving, S::Cleaned, S::Revoked] {
            for life in [Life::Alive, Life::Suspected, Life::Down] {
                assert_eq!(wanted(&member(status, 3), life, pulse(500, 3), 500), None);
            }
        }
    }

    #[test]
    fn a_partition_is_told_from_a_restart_by_the_number_of_starts() {
        use MemberNews as N;
        use MemberStatus as S;
        let mut live = Liveness::new(NodeId(1), Duration::from_secs(10), [1; 32]);
        let id = NodeId(2);
        let mut told = |status, boot| live.news(id, &member(status, boot));
        assert_eq!(told(S::Joining, 0), [N::Joining]);
        assert_eq!(told(S::Up, 1), [N::Up]);
        assert_eq!(told(S::Up, 2), [], "moved, or started anew in time");
        assert_eq!(told(S::Down, 2), [N::Down]);
        assert_eq!(told(S::Healing, 2), [N::PartitionOccurred, N::Healing]);
        assert_eq!(told(S::Up, 2), [N::PartitionHealed, N::Up]);
        assert_eq!(told(S::Down, 2), [N::Down]);
        assert_eq!(told(S::Down, 3), [], "its start");
        assert_eq!(told(S::Healing, 3), [N::Healing]);
        assert_eq!(told(S::Up, 3), [N::Up]);
        assert_eq!(told(S::Leaving, 3), [N::Leaving]);
        assert_eq!(told(S::Revoked, 3), [N::Left]);
    }

    #[test]
    fn decided_events_have_the_same_number_on_every_node_whatever_each_has_seen() {
        let mut live = Liveness::new(NodeId(1), Duration::from_secs(10), [1; 32]);
        let mut other = Liveness::new(NodeId(2), Duration::from_secs(10), [2; 32]);
        assert_eq!(live.number(7, false), Some(7 * 256 + 128));
        assert_eq!(live.number(8, true), Some(8 * 256));
        assert_eq!(live.number(8, false), Some(8 * 256 + 128));
        assert_eq!(live.number(9, true), other.number(9, true));
        assert_eq!((0..200).filter_map(|_| live.number(10, true)).count(), 128);
    }
}
