//! The routes that are ours alone, under `/api/v1`, and those without a version: health, metrics,
//! the description of it all.

use node::api::Operation as O;
use node::api::wire::{
    DeviceImport, Empty, EventItem, EventPage, Health, MemberEventPage, MqttUser, MqttUserCreated,
    NewPassword, NodeInfo, UnknownGateway, WatchItem, WatchPage,
};
use serde_json::json;

use super::route::{Form, Route, Verb, route};
use super::table::{list_of, sample};

const EVENTS: &[&str] = &["after", "limit", "applicationId", "devEui", "wait"];
const EVENT_STREAM: &[&str] = &["after", "applicationId", "devEui"];
const WATCH: &[&str] = &["after", "devEui", "gatewayId", "wait"];
const WATCH_STREAM: &[&str] = &["after", "devEui", "gatewayId"];

/// All of them.
pub(super) fn own_routes() -> Vec<Route> {
    let mut routes = plain();
    routes.extend(events());
    routes.extend(mqtt_users());
    routes.extend(operators());
    routes
}

fn plain() -> Vec<Route> {
    use Verb::Get;
    let health = sample::<Health>;
    vec![
        route(Get, "/health", "Whether the node takes everything.", None, health, |_| {
            Ok(O::GetHealth)
        })
        .form(Form::Health)
        .public(),
        route(Get, "/health/ready", "The same: 200 or 503.", None, health, |_| Ok(O::GetHealth))
            .form(Form::Health)
            .public(),
        // Answering at all is being alive: the state is told, the status is 200.
        route(Get, "/health/live", "Whether the process answers.", None, health, |_| {
            Ok(O::GetHealth)
        })
        .public(),
        route(
            Get,
            "/api/v1/health",
            "The same, always 200: `load` is the percentage of time in which the node is busy.",
            None,
            health,
            |_| Ok(O::GetHealth),
        )
        .public(),
        route(
            Get,
            "/metrics",
            "The node's numbers, for Prometheus.",
            None,
            || json!(""),
            |_| Ok(O::GetMetrics),
        )
        .form(Form::Metrics)
        .public(),
        route(Get, "/openapi.json", "This description.", None, || json!({}), |_| Ok(O::GetHealth))
            .form(Form::OpenApi)
            .public(),
    ]
}

fn events() -> Vec<Route> {
    use Verb::Get;
    let page = || json!(EventPage { events: vec![EventItem::default()], next: 0 });
    let lines = || json!(WatchPage { lines: vec![WatchItem::default()], next: 0, missed: 0 });
    vec![
        route(
            Get,
            "/api/v1/events",
            "The event log above `after`; with `wait` the answer waits for the next event. As a \
             WebSocket: one event a message, as they come.",
            None,
            page,
            |p| Ok(O::ReadEvents(p.events()?)),
        )
        .query(EVENTS)
        .form(Form::Events),
        route(
            Get,
            "/api/v1/events/stream",
            "Events as they come: text/event-stream if accepted, else one JSON a line.",
            None,
            sample::<EventItem>,
            |p| Ok(O::ReadEvents(p.events()?)),
        )
        .query(EVENT_STREAM)
        .form(Form::EventStream),
        route(
            Get,
            "/api/v1/cluster/events",
            "What has happened to members of the cluster; with `wait` the next of it.",
            None,
            sample::<MemberEventPage>,
            |p| Ok(O::WatchMembers(p.members()?)),
        )
        .query(&["after", "wait"]),
        route(
            Get,
            "/api/v1/watch",
            "What happened lately, each frame with its verdict; with `wait` the next line.",
            None,
            lines,
            |p| Ok(O::Watch(p.watch()?)),
        )
        .query(WATCH),
        route(
            Get,
            "/api/v1/watch/stream",
            "The same as it happens: text/event-stream if accepted, else one JSON a line.",
            None,
            sample::<WatchItem>,
            |p| Ok(O::Watch(p.watch()?)),
        )
        .query(WATCH_STREAM)
        .form(Form::WatchStream),
    ]
}

fn mqtt_users() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || json!({"mqttUser": sample::<MqttUser>()});
    let path = "/api/v1/mqtt-users/{name}";
    vec![
        route(
            Post,
            "/api/v1/mqtt-users",
            "Make an account of the broker.",
            Some(body),
            sample::<MqttUserCreated>,
            |p| Ok(O::CreateMqttUser(p.needed("mqttUser")?)),
        ),
        route(
            Get,
            "/api/v1/mqtt-users",
            "List accounts of the broker.",
            None,
            list_of::<MqttUser>,
            |p| Ok(O::ListMqttUsers(p.list()?)),
        )
        .query(&["limit", "offset", "search"]),
        route(Get, path, "One account of the broker.", None, sample::<MqttUser>, |p| {
            Ok(O::GetMqttUser(p.path("name")))
        }),
        route(Put, path, "Change an account.", Some(body), sample::<Empty>, |p| {
            let user = MqttUser { name: p.path("name"), ..p.needed("mqttUser")? };
            Ok(O::UpdateMqttUser(user))
        }),
        route(Delete, path, "Delete an account.", None, sample::<Empty>, |p| {
            Ok(O::DeleteMqttUser(p.path("name")))
        }),
    ]
}

fn operators() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    let import = || json!({"device": {}, "deviceKeys": {}, "session": {}, "queue": []});
    vec![
        route(
            Get,
            "/api/v1/gateways/unknown",
            "Gateways that nobody registered.",
            None,
            list_of::<UnknownGateway>,
            |_| Ok(O::ListUnknownGateways),
        ),
        route(
            Delete,
            "/api/v1/devices/{devEui}/queue/{id}",
            "Take one downlink back; 409 if it was handed out already.",
            None,
            sample::<Empty>,
            |p| Ok(O::CancelItem { device: p.path("devEui"), item: p.path("id") }),
        ),
        route(
            Post,
            "/api/v1/devices/import",
            "Move a device in from another server, activation and all.",
            Some(import),
            sample::<Empty>,
            |p| Ok(O::ImportDevice(Box::new(p.whole::<DeviceImport>()?))),
        ),
        route(
            Post,
            "/api/v1/users/{id}/reset-password",
            "Draw a new password and show it once.",
            Some(sample::<Empty>),
            sample::<NewPassword>,
            |p| Ok(O::SetPassword { user: p.path("id"), password: None }),
        ),
        route(
            Post,
            "/api/v1/logout",
            "End the login of this token.",
            Some(sample::<Empty>),
            sample::<Empty>,
            |_| Ok(O::Logout),
        ),
        route(Get, "/api/v1/node", "The node and how it does.", None, sample::<NodeInfo>, |_| {
            Ok(O::GetNode)
        }),
        route(
            Post,
            "/api/v1/node/drain",
            "Serve no more gateways, so that they turn to another node.",
            Some(sample::<Empty>),
            sample::<Empty>,
            |_| Ok(O::Drain),
        ),
    ]
}
