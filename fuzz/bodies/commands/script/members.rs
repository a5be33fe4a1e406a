//! Bytes as what becomes of members.

use mac::NodeId;
use store::{Command, MemberStatus, Nameplate};

use super::super::model::Model;
use super::super::names::{node, text};
use super::{Script, bit, two};

/// Keys and names that nodes have.
const PLATES: u8 = 12;
const STATUSES: [MemberStatus; 7] = [
    MemberStatus::Joining,
    MemberStatus::Up,
    MemberStatus::Healing,
    MemberStatus::Leaving,
    MemberStatus::Down,
    MemberStatus::Cleaned,
    MemberStatus::Revoked,
];

fn plate(key: u8, name: u8) -> Nameplate {
    Nameplate { key: [key; 32], name: text("node", name), address: text("host", name) }
}

impl Script<'_> {
    /// `[node, flags]`: how often, feature level, whether it says who it is.
    pub(super) fn boot(&mut self, model: &Model) -> Command {
        let (node, flags) = (node(self.pick(4)), self.byte());
        let known = model.members.get(&node).map_or(0, |member| member.boot);
        let boot = match flags % 8 {
            0..6 => known + 1,
            6 => known,
            _ => known.saturating_sub(1),
        };
        let plate = bit(flags, 4).then(|| plate(flags % PLATES, two(flags, 3)));
        Command::Boot { node, boot, feature_level: 1 + u32::from(flags < 224), plate }
    }

    /// `[key, flags]`: its name is its own or another's, it knows the log or not, it comes in the
    /// place of the last member, of the first, or of nobody there is.
    pub(super) fn admit(&mut self, model: &Model) -> Command {
        let (key, flags) = (self.pick(PLATES), self.byte());
        let name = if bit(flags, 0) { (key + 1) % PLATES } else { key };
        let replaces = match two(flags, 4) {
            0 => None,
            1 => model.members.keys().next_back().copied(),
            2 => model.members.keys().next().copied(),
            _ => Some(self.member(model, key)),
        };
        let feature_level = if bit(flags, 7) { 1 } else { 2 };
        Command::AdmitMember { plate: plate(key, name), feature_level, replaces }
    }

    /// `[member, status]`
    pub(super) fn status(&mut self, model: &Model) -> Command {
        let number = self.byte();
        let node = self.member(model, number);
        Command::SetMemberStatus { node, status: STATUSES[usize::from(self.pick(7))] }
    }

    /// One of those there are, in their order; beyond, one that is none.
    fn member(&self, model: &Model, number: u8) -> NodeId {
        model.members.keys().nth(number.into()).copied().unwrap_or_else(|| node(100))
    }
}
