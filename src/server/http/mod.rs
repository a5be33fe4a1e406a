//! The web layer: HTTP in, operations of the node's API, JSON out. It decides nothing.
//!
//! Paths and fields are those of the field's REST mapping (google.api.http annotations of its API,
//! 4.20); what is ours alone lies under `/api/v1`. Limits stand in [`HttpSettings`]; every request
//! that is refused is counted by reason.

mod answer;
mod count;
mod json;
mod listen;
mod openapi;
mod params;
mod route;
mod serve;
mod servers;
mod socket;
mod stream;
mod table;
mod table_cluster;
mod table_own;

pub use listen::{HttpError, HttpServer, HttpSettings};

#[cfg(test)]
mod tests;
