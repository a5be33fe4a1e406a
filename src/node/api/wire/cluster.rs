//! The cluster as one of its nodes sees it, and what became of a join, a leave, a removal.

use serde::{Deserialize, Serialize};

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberInfo {
    /// `tern@host`
    pub name: String,
    /// Raft id.
    pub node_id: u64,
    /// `joining`, `up`, `healing`, `leaving`, `down`, `cleaned`.
    pub status: String,
    /// Where other nodes reach it.
    pub address: String,
    /// How often it has started.
    pub boot: u64,
    /// Whether the node that answers can reach it now.
    pub running: bool,
    /// It votes.
    pub votes: bool,
    /// It decides the order of the log.
    pub leads: bool,
    /// Entries of the log that it lacks, if anybody knows.
    pub lag: Option<u64>,
}

/// The cluster as the node that answers sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    /// UUID of the cluster.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// The node that answers.
    pub name: String,
    /// Its raft id.
    pub node_id: u64,
    /// Whether a majority of the voters works together with this node now.
    pub quorum: bool,
    /// Raft id of the leader, if one is known.
    pub leader: Option<u64>,
    /// All members, by raft id.
    pub members: Vec<MemberInfo>,
    /// What an operator should know.
    pub advice: Vec<String>,
}

/// What became of a join, a leave or a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MembershipAnswer {
    /// `ignored`, `done`, or `underway`: then the list of members shows the end of it.
    pub state: String,
    /// For people.
    pub message: String,
    /// Who comes or goes.
    pub node: String,
}
