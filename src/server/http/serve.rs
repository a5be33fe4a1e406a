//! From a request to an answer: who asks, which route, what body, what came of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::routing::{MethodRouter, delete, get, post, put};
use node::Secret;
use node::api::{ApiError, Credentials, Operation, Outcome};
use serde_json::Value;

use super::answer::{error_answer, json_answer, outcome_answer, plain_error, with_type};
use super::count::Counts;
use super::json::parse_body;
use super::params::Params;
use super::route::{Form, Route, Verb};
use super::{openapi, servers, socket, stream, table, table_cluster, table_own};
use crate::handle::NodeHandle;

/// Longest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// How long the node may take to answer; then the outcome counts as unknown.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a call with `wait` waits before it gets an empty page.
const WAIT_TIME_MAX: Duration = Duration::from_secs(25);

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Over TCP, from anywhere.
    Network,
    /// Over the socket in the data folder, from the server's own uid.
    Socket,
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct App {
    pub(super) node: NodeHandle,
    pub(super) counts: Counts,
    pub(super) routes: Vec<Arc<Route>>,
    /// The folder whose disk is told.
    pub(super) data: Option<PathBuf>,
    body_time_max: Duration,
}

impl App {
    /// The web layer of a node.
    pub(super) fn new(
        node: NodeHandle,
        data: Option<PathBuf>,
        body_time_max: Duration,
    ) -> Arc<Self> {
        let mut routes = table::field_routes();
        routes.extend(table_own::own_routes());
        routes.extend(table_cluster::cluster_routes());
        let routes = routes.into_iter().map(Arc::new).collect();
        Arc::new(Self { node, counts: Counts::default(), routes, data, body_time_max })
    }

    /// Counts a refusal and, now and then, shows it to who watches. What is merely not there is
    /// no sign of trouble and only counted.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.counts.refused(reason);
        if matches!(reason, "not_found" | "already_exists" | "conflict") {
            return;
        }
        if let Some(count) = self.counts.tell(reason) {
            let node = self.node.clone();
            let reason = reason.replace('_', " ");
            // Nobody waits for it: a node that cannot show it has other worries.
            tokio::spawn(async move {
                let note = Operation::NoteRefusals { reason, count };
                let _ = node.call(Credentials::Local, note).await;
            });
        }
    }
}

/// The routes as a service.
pub(super) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &app.routes {
        let (app, own) = (Arc::clone(app), Arc::clone(route));
        let handler = move |request: Request<Body>| answer(app, own, request);
        let method: MethodRouter = match route.verb {
            Verb::Get => get(handler),
            Verb::Post => post(handler),
            Verb::Put => put(handler),
            Verb::Delete => delete(handler),
        };
        router = router.route(route.path, method);
    }
    let (unknown, method) = (Arc::clone(app), Arc::clone(app));
    router
        .fallback(move || async move {
            unknown.refuse("unknown_path");
            plain_error(StatusCode::NOT_FOUND, 5, "there is no such path: see /openapi.json")
        })
        .method_not_allowed_fallback(move || async move {
            method.refuse("unknown_method");
            let text = "this path has other methods: see /openapi.json";
            plain_error(StatusCode::METHOD_NOT_ALLOWED, 12, text)
        })
}

async fn answer(app: Arc<App>, route: Arc<Route>, request: Request<Body>) -> Response<Body> {
    let response = match translate(&app, &route, request).await {
        Ok(asked) => execute(&app, &route, asked).await,
        Err(Refused::Api(error)) => {
            app.refuse(error.reason());
            error_answer(&error)
        }
        Err(Refused::Web(status, reason)) => {
            app.refuse(reason);
            plain_error(status, 8, &reason.replace('_', " "))
        }
    };
    app.counts.answered(route.verb.name(), route.path, response.status().as_u16());
    response
}

/// A request that was understood.
pub(super) struct Asked {
    pub(super) credentials: Credentials,
    pub(super) operation: Operation,
    pub(super) is_sse: bool,
    /// The client asks for a WebSocket in the connection's place.
    pub(super) upgrade: Option<WebSocketUpgrade>,
}

enum Refused {
    Api(ApiError),
    Web(StatusCode, &'static str),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

async fn translate(app: &App, route: &Route, request: Request<Body>) -> Result<Asked, Refused> {
    let (mut parts, body) = request.into_parts();
    let origin = parts.extensions.get::<Origin>().copied().unwrap_or(Origin::Network);
    let credentials = credentials(&parts.headers, origin)?;
    let mut params = Params::default();
    let path = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = path.map_err(|_| ApiError::invalid("path", "this is not UTF-8"))?;
    for (name, value) in &path {
        params.path.insert(name.to_owned(), value.to_owned());
    }
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let query = query.map_err(|_| ApiError::invalid("query", "this is no query"))?;
    params.set_query(query.0)?;
    if let Some(after) = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()) {
        params.query.entry("after".into()).or_insert_with(|| after.to_owned());
    }
    if route.verb.has_body() {
        params.body = {
            let bytes = read_body(body, &parts.headers, app.body_time_max).await?;
            parse_body(&bytes, BODY_BYTES_MAX)?
        };
    }
    let accepts = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_sse = accepts.is_some_and(|accept| accept.contains("text/event-stream"));
    let operation = (route.build)(&params)?;
    let upgrade = match route.form == Form::Events && parts.headers.contains_key(header::UPGRADE) {
        true => {
            let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
            Some(upgrade.map_err(|_| Refused::Web(StatusCode::BAD_REQUEST, "not_a_websocket"))?)
        }
        false => None,
    };
    Ok(Asked { credentials, operation, is_sse, upgrade })
}

async fn read_body(
    body: Body,
    headers: &HeaderMap,
    time_max: Duration,
) -> Result<bytes::Bytes, Refused> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok());
    let told = told.and_then(|told| told.parse::<usize>().ok());
    if told.is_some_and(|told| told > BODY_BYTES_MAX) {
        return Err(Refused::Web(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    }
    match tokio::time::timeout(time_max, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Refused::Web(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")),
        Err(_) => Err(Refused::Web(StatusCode::REQUEST_TIMEOUT, "body_too_slow")),
    }
}

/// Who asks. A token counts wherever it comes from; without one the socket means its owner.
fn credentials(headers: &HeaderMap, origin: Origin) -> Result<Credentials, ApiError> {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.or_else(|| headers.get("grpc-metadata-authorization"));
    let Some(given) = given else {
        return Ok(match origin {
            Origin::Network => Credentials::Anonymous,
            Origin::Socket => Credentials::Local,
        });
    };
    let text = given.to_str().unwrap_or("").trim();
    let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > 1_024 {
        let why = "give a token: Authorization: Bearer TOKEN".to_owned();
        return Err(ApiError::Unauthenticated(why));
    }
    Ok(Credentials::Bearer(Secret::new(token.to_owned())))
}

async fn execute(app: &Arc<App>, route: &Route, asked: Asked) -> Response<Body> {
    match route.form {
        Form::OpenApi => {
            let routes: Vec<&Route> = app.routes.iter().map(AsRef::as_ref).collect();
            let document = openapi::document(&routes);
            return json_answer(StatusCode::OK, document.to_string().into_bytes());
        }
        Form::EventStream | Form::WatchStream => return stream::answer(app, asked).await,
        Form::Events if asked.upgrade.is_some() => return socket::answer(app, asked).await,
        Form::Events | Form::Json | Form::Health | Form::Servers | Form::Metrics => {}
    }
    let next = waits_from(&asked.operation);
    let limit = if next.is_some() { WAIT_TIME_MAX } else { CALL_TIME_MAX };
    let called = app.node.call(asked.credentials, asked.operation);
    let result = match tokio::time::timeout(limit, called).await {
        Ok(result) => result,
        Err(_) => match next {
            Some(page) => return json_answer(StatusCode::OK, page.to_string().into_bytes()),
            None => Err(ApiError::UnknownOutcome),
        },
    };
    match result {
        Err(error) => {
            app.refuse(error.reason());
            error_answer(&error)
        }
        Ok(Outcome::Metrics(metrics)) => {
            let text = app.counts.text(&metrics);
            with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Body::from(text))
        }
        Ok(Outcome::Health(health)) => {
            let refused = route.form == Form::Health && !health.ready;
            let status = if refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            let mut answer = json_answer(status, serde_json::to_vec(&health).unwrap_or_default());
            answer.headers_mut().insert("x-load", health.load.into());
            answer
        }
        Ok(Outcome::Cluster(cluster)) if route.form == Form::Servers => {
            let list = servers::list(&cluster, app.data.as_deref());
            json_answer(StatusCode::OK, list.to_string().into_bytes())
        }
        Ok(outcome) => outcome_answer(&outcome),
    }
}

/// For a call that waits: the empty page it gets if nothing comes.
#[expect(clippy::wildcard_enum_match_arm, reason = "three operations wait, all others do not")]
fn waits_from(operation: &Operation) -> Option<Value> {
    match operation {
        Operation::ReadEvents(filter) if filter.wait => {
            Some(serde_json::json!({"events": [], "next": filter.after}))
        }
        Operation::WatchMembers(filter) if filter.wait => {
            Some(serde_json::json!({"events": [], "next": filter.after, "missed": false}))
        }
        Operation::Watch(filter) if filter.wait => {
            Some(serde_json::json!({"lines": [], "next": filter.after, "missed": 0}))
        }
        _ => None,
    }
}
