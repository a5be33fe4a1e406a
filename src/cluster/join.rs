//! `cluster join`, `leave` and `remove`: who moves, or why nobody does.
//!
//! Pure tables over facts that both sides know, and the texts an operator reads. Both sides come
//! to the same verdict, seen from their end, so two nodes that ask each other do not both move. A
//! side that joins sets its data aside: so the side with something to lose stays.

use crate::identity::{NodeKey, NodeName};

/// What is said when a join is done.
pub const JOINED: &str = "Join the cluster successfully.";
/// What is said when a node has left.
pub const LEFT: &str = "Leave the cluster successfully.";
/// What is said when a member was taken out.
pub const REMOVED: &str = "Remove the node from cluster successfully.";
/// What is said to a node that is asked to join or remove itself.
pub const IGNORED: &str = "Ignore.";

/// One side of a join, as it knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its identity.
    pub key: NodeKey,
    /// Its name, for the texts.
    pub name: NodeName,
    /// The cluster it is a member of; alone it has one too.
    pub cluster_id: [u8; 16],
    /// Members of that cluster, itself included.
    pub members: u32,
    /// Devices of that cluster.
    pub devices: u64,
    /// It has begun to join somebody and has said so on its disk.
    pub is_joining: bool,
    /// Its operator said that its own devices may be set aside.
    pub discard_local: bool,
}

impl Side {
    /// Others depend on it: it is never the one that joins.
    fn is_settled(&self) -> bool {
        self.members > 1
    }

    /// Nothing is lost when it joins.
    fn is_empty(&self) -> bool {
        !self.is_settled() && self.devices == 0
    }

    /// It may join at the price that its operator has agreed to.
    fn would_move(&self) -> bool {
        !self.is_settled() && (self.devices == 0 || self.discard_local)
    }
}

/// What becomes of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node was asked to join itself: [`IGNORED`].
    Ignore,
    /// Nobody moves.
    Refuse(JoinRefusal),
    /// The other side sets its data aside and joins this one.
    TheyJoinUs,
    /// This side sets its data aside and joins the other.
    WeJoinThem,
}

/// Why nobody moves, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// The other side did not answer.
    #[error("Failed to join the cluster: {{node_down,'{0}'}}")]
    NodeDown(NodeName),
    /// Both are members of one cluster.
    #[error("Failed to join the cluster: {{already_in_cluster,'{0}'}}")]
    AlreadyInCluster(NodeName),
    /// One side is on its way into a cluster.
    #[error(
        "Failed to join the cluster: '{0}' is joining a cluster at this moment; wait until \
         `tern cluster status` on it shows the end of that, then ask again"
    )]
    Busy(NodeName),
    /// The other side is no member of a cluster yet.
    #[error(
        "Failed to join the cluster: '{0}' is starting and has no cluster yet; wait until its \
         /health/ready says 200, then ask again"
    )]
    Starting(NodeName),
    /// A member has that name, and another key.
    #[error(
        "Failed to join the cluster: both nodes are called '{0}'; a name is given once in a \
         cluster: set another node.name on one of them"
    )]
    SameName(NodeName),
    /// Both sides have other members behind them.
    #[error(
        "Failed to join the cluster: '{ours}' and '{theirs}' are in two clusters of several \
         members; take a node out of its cluster with `tern cluster leave` on it, then let it join"
    )]
    TwoClusters {
        /// This side.
        ours: NodeName,
        /// The other side.
        theirs: NodeName,
    },
    /// The only side that could move would lose its devices.
    #[error(
        "Failed to join the cluster: '{joiner}' has {devices} devices, which a join would set \
         aside; if that is meant, run `tern cluster join {host} --discard-local` on '{joiner}'"
    )]
    JoinerHasDevices {
        /// The side that would have to join.
        joiner: NodeName,
        /// Its devices.
        devices: u64,
        /// The side that would admit it.
        host: NodeName,
    },
    /// Both have devices and nobody said whose may be set aside.
    #[error(
        "Failed to join the cluster: both have devices ('{ours}' {our_devices}, '{theirs}' \
         {their_devices}), and a join sets one side's aside; on the side that may lose its own \
         run `tern cluster join` with the other's name and --discard-local"
    )]
    BothHaveDevices {
        /// This side.
        ours: NodeName,
        /// Its devices.
        our_devices: u64,
        /// The other side.
        theirs: NodeName,
        /// Its devices.
        their_devices: u64,
    },
}

/// Decides a join.
///
/// * `asked`: the name that the operator typed.
/// * `us`: the node that was told to join; `them`: the node of that name, unless it is silent.
pub fn decide_join(asked: &NodeName, us: &Side, them: Option<&Side>) -> Verdict {
    if *asked == us.name {
        return Verdict::Ignore;
    }
    let Some(them) = them else { return Verdict::Refuse(JoinRefusal::NodeDown(asked.clone())) };
    if us.key == them.key {
        return Verdict::Ignore;
    }
    if us.cluster_id == them.cluster_id {
        return Verdict::Refuse(JoinRefusal::AlreadyInCluster(them.name.clone()));
    }
    // A joiner has promised its place to somebody: it neither admits nor turns around.
    if let Some(busy) = [them, us].into_iter().find(|side| side.is_joining) {
        return Verdict::Refuse(JoinRefusal::Busy(busy.name.clone()));
    }
    let smaller_admits =
        if us.cluster_id < them.cluster_id { Verdict::TheyJoinUs } else { Verdict::WeJoinThem };
    match (us.is_empty(), them.is_empty()) {
        (true, true) => smaller_admits,
        (true, false) => Verdict::WeJoinThem,
        (false, true) => Verdict::TheyJoinUs,
        (false, false) => match (us.would_move(), them.would_move()) {
            (true, true) => smaller_admits,
            (true, false) => Verdict::WeJoinThem,
            (false, true) => Verdict::TheyJoinUs,
            (false, false) => Verdict::Refuse(refusal(us, them)),
        },
    }
}

/// Why neither of two sides that are not empty moves.
fn refusal(us: &Side, them: &Side) -> JoinRefusal {
    let (ours, theirs) = (us.name.clone(), them.name.clone());
    match (us.is_settled(), them.is_settled()) {
        (true, true) => JoinRefusal::TwoClusters { ours, theirs },
        (true, false) if us.devices == 0 => {
            JoinRefusal::JoinerHasDevices { joiner: theirs, devices: them.devices, host: ours }
        }
        (false, true) if them.devices == 0 => {
            JoinRefusal::JoinerHasDevices { joiner: ours, devices: us.devices, host: theirs }
        }
        (true, false) | (false, true) | (false, false) => JoinRefusal::BothHaveDevices {
            ours,
            our_devices: us.devices,
            theirs,
            their_devices: them.devices,
        },
    }
}

/// Why a node does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveRefusal {
    /// It is alone.
    #[error("Failed to leave the cluster: node_not_in_cluster")]
    NotInCluster,
}

/// Says whether a node of a cluster of so many members may leave it.
pub fn decide_leave(members: u32) -> Result<(), LeaveRefusal> {
    if members > 1 { Ok(()) } else { Err(LeaveRefusal::NotInCluster) }
}

/// What becomes of `cluster remove` and of its other name, `force-leave`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoveVerdict {
    /// The node was asked to remove itself: [`IGNORED`].
    Ignore,
    /// It is removed.
    Remove,
    /// Nobody is removed.
    Refuse(RemoveRefusal),
}

/// Why nobody is removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveRefusal {
    /// No member has that name.
    #[error("Failed to remove the node from cluster: {{node_not_in_cluster,'{0}'}}")]
    NotInCluster(NodeName),
}

/// Decides a removal.
///
/// * `us`: who was told; `asked`: whom it shall remove; `is_member`: the log knows that name.
pub fn decide_remove(us: &NodeName, asked: &NodeName, is_member: bool) -> RemoveVerdict {
    if us == asked {
        return RemoveVerdict::Ignore;
    }
    if is_member {
        RemoveVerdict::Remove
    } else {
        RemoveVerdict::Refuse(RemoveRefusal::NotInCluster(asked.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> NodeName {
        format!("n{number}@host").parse().unwrap()
    }

    fn side(number: u8, members: u32, devices: u64) -> Side {
        Side {
            key: NodeKey([number; 32]),
            name: name(number),
            cluster_id: [number; 16],
            members,
            devices,
            is_joining: false,
            discard_local: false,
        }
    }

    fn decide(us: &Side, them: &Side) -> Verdict {
        decide_join(&them.name, us, Some(them))
    }

    #[test]
    fn the_original_texts_are_said() {
        let (us, them) = (side(1, 1, 0), side(2, 1, 0));
        assert_eq!(decide(&us, &us), Verdict::Ignore);
        let text = |verdict| match verdict {
            Verdict::Refuse(refusal) => refusal.to_string(),
            Verdict::Ignore | Verdict::TheyJoinUs | Verdict::WeJoinThem => panic!("{verdict:?}"),
        };
        let down = decide_join(&name(3), &us, None);
        assert_eq!(text(down), "Failed to join the cluster: {node_down,'n3@host'}");
        let same = Side { cluster_id: us.cluster_id, ..them };
        let already = "Failed to join the cluster: {already_in_cluster,'n2@host'}";
        assert_eq!(text(decide(&us, &same)), already);
        let alone = decide_leave(1).unwrap_err();
        assert_eq!(alone.to_string(), "Failed to leave the cluster: node_not_in_cluster");
        assert_eq!(decide_leave(2), Ok(()));
        assert_eq!(decide_remove(&name(1), &name(1), true), RemoveVerdict::Ignore);
        assert_eq!(decide_remove(&name(1), &name(2), true), RemoveVerdict::Remove);
        assert_eq!(
            decide_remove(&name(1), &name(2), false),
            RemoveVerdict::Refuse(RemoveRefusal::NotInCluster(name(2)))
        );
    }

    #[test]
    fn the_other_key_under_another_name_is_still_this_node() {
        let us = side(1, 1, 0);
        assert_eq!(decide(&us, &Side { name: name(7), ..us.clone() }), Verdict::Ignore);
        assert_eq!(decide_join(&name(1), &us, None), Verdict::Ignore);
    }

    /// Verdicts seen from the first side: members and devices of either, and what follows.
    #[test]
    fn the_side_with_something_to_lose_stays() {
        let cases = [
            ((1, 0), (1, 0), Ok(Verdict::TheyJoinUs)),
            ((1, 0), (1, 5), Ok(Verdict::WeJoinThem)),
            ((1, 5), (1, 0), Ok(Verdict::TheyJoinUs)),
            ((1, 0), (3, 0), Ok(Verdict::WeJoinThem)),
            ((3, 0), (1, 0), Ok(Verdict::TheyJoinUs)),
            ((1, 5), (1, 7), Err("both have devices")),
            ((1, 5), (3, 7), Err("both have devices")),
            ((3, 5), (1, 7), Err("both have devices")),
            ((1, 5), (3, 0), Err("on 'n1@host'")),
            ((3, 0), (1, 5), Err("on 'n2@host'")),
            ((3, 0), (2, 0), Err("`tern cluster leave`")),
            ((3, 5), (2, 7), Err("`tern cluster leave`")),
        ];
        for (ours, theirs, expected) in cases {
            let verdict = decide(&side(1, ours.0, ours.1), &side(2, theirs.0, theirs.1));
            match (expected, &verdict) {
                (Ok(expected), _) => assert_eq!(verdict, expected, "{ours:?} {theirs:?}"),
                (Err(part), Verdict::Refuse(refusal)) => {
                    assert!(refusal.to_string().contains(part), "{ours:?} {theirs:?}: {refusal}");
                }
                (Err(_), _) => panic!("{ours:?} {theirs:?}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn the_operator_may_give_up_the_local_devices() {
        let discarding = |side: Side| Side { discard_local: true, ..side };
        let (us, them) = (discarding(side(1, 1, 5)), side(2, 1, 7));
        assert_eq!(decide(&us, &them), Verdict::WeJoinThem);
        assert_eq!(decide(&us, &side(2, 3, 0)), Verdict::WeJoinThem);
        // Nothing needs to be lost when the other side is empty.
        assert_eq!(decide(&us, &side(2, 1, 0)), Verdict::TheyJoinUs);
        let members = decide(&discarding(side(1, 3, 5)), &them);
        assert!(matches!(members, Verdict::Refuse(JoinRefusal::BothHaveDevices { .. })));
    }

    #[test]
    fn who_is_joining_admits_nobody() {
        let busy = Side { is_joining: true, ..side(2, 1, 0) };
        let refused = Verdict::Refuse(JoinRefusal::Busy(name(2)));
        assert_eq!(decide(&side(1, 1, 0), &busy), refused);
        assert_eq!(decide(&busy, &side(1, 1, 0)), refused);
    }

    fn any_side(number: u8) -> impl Strategy<Value = Side> {
        (1..4_u32, 0..3_u64, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
            move |(members, devices, is_joining, discard_local, cluster)| Side {
                is_joining,
                discard_local,
                cluster_id: [cluster; 16],
                ..side(number, members, devices)
            },
        )
    }

    proptest! {
        #[test]
        fn both_sides_come_to_one_verdict(a in any_side(1), b in any_side(2)) {
            let (seen_by_a, seen_by_b) = (decide(&a, &b), decide(&b, &a));
            match seen_by_a {
                Verdict::Ignore => prop_assert!(false, "two keys"),
                Verdict::Refuse(_) => prop_assert!(matches!(seen_by_b, Verdict::Refuse(_))),
                Verdict::TheyJoinUs => prop_assert_eq!(seen_by_b, Verdict::WeJoinThem),
                Verdict::WeJoinThem => {
                    prop_assert_eq!(seen_by_b, Verdict::TheyJoinUs);
                    prop_assert_eq!(a.members, 1, "a member of several never moves");
                    prop_assert!(a.devices == 0 || a.discard_local);
                }
            }
        }
    }
}
