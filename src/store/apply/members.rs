//! Who comes, who goes: admissions, the status of members, tombstones.
//!
//! A raft id is given once: 1,000 plus the index of the entry that admits, so that it clashes with
//! no founder and with no earlier one. A node whose log is empty is always a new one, whatever its
//! key. Source: DESIGN 6; dangers A4, B12, B13.

use mac::NodeId;

use super::{Applied, Change, Decision};
use crate::limits::{MEMBERS_MAX, REVOKED_MAX};
use crate::{Member, MemberStatus, Nameplate, Refusal, Reply, State};

/// What the raft id of an admitted member is above the index of its admission.
const ADMITTED_ABOVE: u64 = 1_000;
/// From this feature level on members are admitted by the log.
const MEMBERS_LEVEL: u32 = 2;

impl State {
    pub(super) fn admit_member(
        &mut self,
        plate: &Nameplate,
        feature_level: u32,
        replaces: Option<NodeId>,
        applied: &mut Applied,
    ) -> Decision {
        self.need_members_level()?;
        if feature_level < self.core.feature_level {
            return Err(Refusal::Invalid(format!(
                "the cluster uses feature level {}, {} knows {feature_level}: upgrade it",
                self.core.feature_level, plate.name
            )));
        }
        let gone = replaces.filter(|id| self.members.get(id).is_some_and(Member::is_live));
        if self.live_members().count() >= MEMBERS_MAX + usize::from(gone.is_some()) {
            let text = format!("a cluster has {MEMBERS_MAX} members at most");
            return Err(Refusal::LimitReached(text));
        }
        let taken = self.live_members().find(|(id, member)| {
            member.plate.name == plate.name && Some(*id) != gone && member.plate.key != plate.key
        });
        if taken.is_some() {
            return Err(Refusal::AlreadyExists(format!(
                "Cannot add member {0} as a member with the same name exists already: {0}",
                plate.name
            )));
        }
        let id = NodeId(ADMITTED_ABOVE + self.core.applied);
        // Two admissions in one entry: the second asks again.
        if self.members.contains_key(&id) {
            return Err(Refusal::InUse("another node is being admitted: try again".into()));
        }
        // An earlier admission of the same node that came to nothing.
        let unfinished: Vec<NodeId> = self
            .live_members()
            .filter(|(id, member)| {
                member.plate.key == plate.key
                    && member.status == MemberStatus::Joining
                    && Some(*id) != gone
            })
            .map(|(id, _)| id)
            .collect();
        for id in unfinished {
            self.put_status(id, MemberStatus::Leaving, applied);
        }
        let member = Member {
            boot: 0,
            feature_level,
            booted_at: self.time(),
            plate: plate.clone(),
            status: MemberStatus::Joining,
            replaces: gone,
        };
        self.members.insert(id, member);
        applied.changes.push(Change::Member(id));
        Ok(Reply::Admitted(id))
    }

    pub(super) fn set_member_status(
        &mut self,
        node: NodeId,
        status: MemberStatus,
        applied: &mut Applied,
    ) -> Decision {
        self.need_members_level()?;
        let Some(member) = self.members.get(&node).filter(|member| member.is_live()) else {
            return Err(Refusal::NotFound(format!("member {}", node.0)));
        };
        // Who is on the way out does not come back by being heard.
        let leaving = member.status == MemberStatus::Leaving;
        if leaving && status != MemberStatus::Revoked {
            return Err(Refusal::Invalid(format!("member {} is leaving", node.0)));
        }
        let out = matches!(status, MemberStatus::Leaving | MemberStatus::Revoked);
        if out && self.live_members().count() == 1 {
            return Err(Refusal::InUse("the last node cannot leave".into()));
        }
        if status == MemberStatus::Revoked {
            self.forget_node(node, applied);
        }
        self.put_status(node, status, applied);
        self.trim_tombstones();
        Ok(Reply::Done)
    }

    fn put_status(&mut self, node: NodeId, status: MemberStatus, applied: &mut Applied) {
        if let Some(member) = self.members.get(&node) {
            let replaces = member.replaces.filter(|_| status == MemberStatus::Joining);
            let member = Member { status, replaces, ..member.clone() };
            self.members.insert(node, member);
            applied.changes.push(Change::Member(node));
        }
    }

    fn trim_tombstones(&mut self) {
        let revoked = self.members().filter(|(_, member)| !member.is_live());
        let revoked: Vec<NodeId> = revoked.map(|(id, _)| id).collect();
        let excess = revoked.len().saturating_sub(REVOKED_MAX);
        for id in revoked.into_iter().take(excess) {
            self.members.remove(&id);
        }
    }

    fn need_members_level(&self) -> Result<(), Refusal> {
        if self.core.feature_level < MEMBERS_LEVEL {
            let text = format!("members need feature level {MEMBERS_LEVEL} of the log");
            return Err(Refusal::Invalid(text));
        }
        Ok(())
    }
}
