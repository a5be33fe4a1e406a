//! The routes of the cluster: ours under `/api/v1`, and the servers as older servers of the field
//! list, add and remove them.

use node::api::wire::{ClusterInfo, MembershipAnswer};
use node::api::{ApiError, Operation as O};
use serde::Deserialize;
use serde_json::json;

use super::route::{Form, Route, Verb, route};
use super::table::sample;

/// What is said before another node's data is set aside.
const WARNING: &str = "Database on the node you enter will be DELETED, then it will be attached to \
    this server! (It is set aside in that node's data folder.) Say that this is meant with \
    \"confirm\": true";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Server {
    sname: String,
    confirm: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Other {
    node: String,
    discard_local: bool,
}

fn named(node: String, field: &str) -> Result<String, ApiError> {
    if node.trim().is_empty() {
        return Err(ApiError::invalid(field, "name the other node: name@host or name@host:port"));
    }
    Ok(node)
}

/// All of them.
pub(super) fn cluster_routes() -> Vec<Route> {
    let mut routes = servers();
    routes.extend(members());
    routes
}

fn members() -> Vec<Route> {
    use Verb::{Get, Post};
    let join = || json!({"node": "", "discardLocal": false});
    let remove = || json!({"node": ""});
    let done = sample::<MembershipAnswer>;
    vec![
        route(
            Get,
            "/api/v1/cluster",
            "The cluster as this node sees it.",
            None,
            sample::<ClusterInfo>,
            |_| Ok(O::GetCluster),
        ),
        route(
            Post,
            "/api/v1/cluster/join",
            "Become one cluster with another node; the empty side sets its data aside.",
            Some(join),
            done,
            |p| {
                let Other { node, discard_local } = p.whole()?;
                Ok(O::JoinCluster { target: named(node, "node")?, discard_local, attach: false })
            },
        ),
        route(
            Post,
            "/api/v1/cluster/leave",
            "Take this node out of its cluster; it goes on alone and empty.",
            Some(|| json!({})),
            done,
            |_| Ok(O::LeaveCluster),
        ),
        route(
            Post,
            "/api/v1/cluster/remove",
            "Take another member out of the cluster, dead or alive, by name or raft id.",
            Some(remove),
            done,
            |p| Ok(O::RemoveMember { member: named(p.whole::<Other>()?.node, "node")? }),
        ),
    ]
}

fn servers() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    vec![
        route(
            Get,
            "/api/servers",
            "The members, with what this node knows of its own memory and disk.",
            None,
            || json!([super::servers::sample()]),
            |_| Ok(O::GetCluster),
        )
        .form(Form::Servers),
        route(
            Post,
            "/api/servers",
            "Attach another node, whose data is set aside.",
            Some(|| json!({"sname": "", "confirm": false})),
            sample::<MembershipAnswer>,
            |p| {
                let Server { sname, confirm } = p.whole()?;
                let target = named(sname, "sname")?;
                if !confirm {
                    return Err(ApiError::Conflict(WARNING.to_owned()));
                }
                Ok(O::JoinCluster { target, discard_local: false, attach: true })
            },
        ),
        route(
            Delete,
            "/api/servers/{sname}",
            "Take a member out; its process ends, its data is set aside.",
            None,
            sample::<MembershipAnswer>,
            |p| Ok(O::RemoveMember { member: p.path("sname") }),
        ),
    ]
}
