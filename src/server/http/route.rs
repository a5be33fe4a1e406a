//! One line of the route table: what a request to a path means.

use node::api::{ApiError, Operation};
use serde_json::Value;

use super::params::Params;

/// HTTP methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    /// As in OpenAPI.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    /// Whether requests have a body.
    pub(super) const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put)
    }
}

/// How an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON text.
    Json,
    /// Health: 200 or 503.
    Health,
    /// The members, as the field's older servers list them.
    Servers,
    /// Prometheus text.
    Metrics,
    /// One JSON text, or a WebSocket of events if that is asked for.
    Events,
    /// Events one after the other, until the client leaves.
    EventStream,
    /// Lines of the live view one after the other.
    WatchStream,
    /// This table, as OpenAPI.
    OpenApi,
}

/// An example of a body: the default values of its fields.
pub(super) type Sample = fn() -> Value;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Route {
    /// Method.
    pub(super) verb: Verb,
    /// Path with `{names}`.
    pub(super) path: &'static str,
    /// One sentence for people.
    pub(super) summary: &'static str,
    /// Names in the query.
    pub(super) query: &'static [&'static str],
    /// Body, if it has one.
    pub(super) request: Option<Sample>,
    /// Answer.
    pub(super) response: Sample,
    /// How the answer leaves.
    pub(super) form: Form,
    /// Whether anybody may ask.
    pub(super) is_public: bool,
    /// What the request means.
    pub(super) build: fn(&Params) -> Result<Operation, ApiError>,
}

/// A route with a JSON answer and no query.
pub(super) const fn route(
    verb: Verb,
    path: &'static str,
    summary: &'static str,
    request: Option<Sample>,
    response: Sample,
    build: fn(&Params) -> Result<Operation, ApiError>,
) -> Route {
    Route {
        verb,
        path,
        summary,
        query: &[],
        request,
        response,
        form: Form::Json,
        is_public: false,
        build,
    }
}

impl Route {
    /// With names in the query.
    pub(super) const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// Leaves in another form.
    pub(super) const fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Anybody may ask.
    pub(super) const fn public(mut self) -> Self {
        self.is_public = true;
        self
    }
}
