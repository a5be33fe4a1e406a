//! Who comes and who goes, as the cluster's promises have it.

use mac::NodeId;
use store::limits::{MEMBERS_MAX, REVOKED_MAX};
use store::{Member, MemberStatus, Nameplate, Reply};

use super::{
    DONE, Decision, Model, already_exists, in_use, invalid, limit_reached, need, not_found,
};

impl Model {
    fn live(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter().filter(|(_, member)| member.status != MemberStatus::Revoked)
    }

    /// * `given`: what the log answered; a raft id is the log's choice, but never an old one.
    pub(super) fn admit(
        &mut self,
        plate: &Nameplate,
        feature_level: u32,
        replaces: Option<NodeId>,
        given: &Reply,
    ) -> Decision {
        need(feature_level >= self.level, invalid())?;
        let replaces = replaces.filter(|id| self.live().any(|(live, _)| live == id));
        let room = MEMBERS_MAX + usize::from(replaces.is_some());
        need(self.live().count() < room, limit_reached())?;
        let others = || self.live().filter(|(id, _)| Some(**id) != replaces);
        let taken =
            others().any(|(_, one)| one.plate.name == plate.name && one.plate.key != plate.key);
        need(!taken, already_exists())?;
        need(!self.admitted_now, in_use())?;
        let earlier =
            |one: &Member| one.plate.key == plate.key && one.status == MemberStatus::Joining;
        let unfinished: Vec<NodeId> =
            others().filter(|(_, one)| earlier(one)).map(|(id, _)| *id).collect();
        for id in unfinished {
            self.stand(id, MemberStatus::Leaving);
        }
        let Reply::Admitted(id) = given else { return Ok(Reply::Done) };
        assert!(self.raft_ids.insert(*id), "raft id {} is given twice", id.0);
        let member = Member {
            boot: 0,
            feature_level,
            booted_at: self.now,
            plate: plate.clone(),
            status: MemberStatus::Joining,
            replaces,
        };
        assert!(self.members.insert(*id, member).is_none(), "{} is a member already", id.0);
        self.admitted_now = true;
        Ok(Reply::Admitted(*id))
    }

    pub(super) fn set_status(&mut self, node: NodeId, status: MemberStatus) -> Decision {
        let live = self.live().find(|(id, _)| **id == node).map(|(_, member)| member.status);
        let before = live.ok_or_else(not_found)?;
        let gone = status == MemberStatus::Revoked;
        need(before != MemberStatus::Leaving || gone, invalid())?;
        let out = gone || status == MemberStatus::Leaving;
        need(!out || self.live().count() > 1, in_use())?;
        if gone {
            self.void(node);
        }
        self.stand(node, status);
        let revoked = self.members.iter().filter(|(_, one)| one.status == MemberStatus::Revoked);
        assert!(revoked.count() <= REVOKED_MAX, "histories are shorter");
        DONE
    }

    fn stand(&mut self, node: NodeId, status: MemberStatus) {
        let Some(member) = self.members.get_mut(&node) else { return };
        member.status = status;
        if status != MemberStatus::Joining {
            member.replaces = None;
        }
    }
}
