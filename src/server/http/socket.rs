//! Events over a WebSocket: one JSON text a message, as they come, until the client leaves.
//!
//! The filter and the credentials are those of the long poll, `after` included; so whoever comes
//! again with the last `sequence` misses nothing and gets nothing twice. The node is asked for one
//! page at a time, and for the next when the client has taken the last: one that does not read is
//! closed (1013), and so is every one when the node cannot go on (1012).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::http::Response;
use node::api::{ApiError, Credentials, Operation, Outcome, Unavailable};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answer::{error_answer, plain_error};
use super::serve::{App, Asked};

/// How often a quiet client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Without a word from it for so long a client is gone.
const SILENT_MAX: Duration = Duration::from_secs(45);
/// How long a client may leave a message untaken.
const SEND_MAX: Duration = Duration::from_secs(10);
/// How long a client may take for what was sent before and the reason why nothing follows.
const CLOSE_GRACE: Duration = Duration::from_secs(10);
/// Pause after an empty page, so that a row not yet on the disk is not asked for in a hot loop.
const EMPTY_PAUSE: Duration = Duration::from_millis(100);
/// Pause before a node is asked again that does not answer now.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A client says nothing that needs more.
const INCOMING_BYTES_MAX: usize = 4_096;
/// Bytes of messages that may wait in this process for one client.
const WAITING_BYTES_MAX: usize = 1 << 20;

struct Feed {
    app: Arc<App>,
    credentials: Credentials,
    operation: Operation,
}

/// Why a conversation ends.
enum End {
    /// The client has left, or cannot be reached.
    Gone,
    /// It is told, with a code and a reason.
    Close(u16, String),
}

/// Begins a conversation, unless the caller may not read: then the answer is an ordinary refusal.
pub(super) async fn answer(app: &Arc<App>, asked: Asked) -> Response<Body> {
    let Asked { credentials, operation, upgrade, .. } = asked;
    let Some(upgrade) = upgrade else {
        return plain_error(axum::http::StatusCode::BAD_REQUEST, 3, "this is no WebSocket");
    };
    let mut feed = Feed { app: Arc::clone(app), credentials, operation };
    // The first page tells whether this caller may read, and fixes where "now" is.
    let first = match feed.first_page().await {
        Ok(first) => first,
        Err(error) => {
            app.refuse(error.reason());
            return error_answer(&error);
        }
    };
    upgrade
        .max_message_size(INCOMING_BYTES_MAX)
        .max_write_buffer_size(WAITING_BYTES_MAX)
        .on_upgrade(move |mut socket| async move {
            if let End::Close(code, reason) = feed.converse(&mut socket, first).await {
                let reason = reason.chars().take(100).collect::<String>().into();
                let close = Message::Close(Some(CloseFrame { code, reason }));
                let _ = timeout(CLOSE_GRACE, socket.send(close)).await;
            }
        })
}

impl Feed {
    fn wait(&mut self, wait: bool) {
        if let Operation::ReadEvents(filter) = &mut self.operation {
            filter.wait = wait;
        }
    }

    /// What is there already; a node that is catching up has it later.
    async fn first_page(&mut self) -> Result<Vec<String>, ApiError> {
        self.wait(false);
        let first = match self.page().await {
            Err(ApiError::Unavailable(Unavailable::CatchingUp)) => Ok(Vec::new()),
            other => other,
        };
        self.wait(true);
        first
    }

    async fn page(&mut self) -> Result<Vec<String>, ApiError> {
        let outcome = self.app.node.call(self.credentials.clone(), self.operation.clone()).await?;
        let mut messages = Vec::new();
        if let (Outcome::Events(page), Operation::ReadEvents(filter)) =
            (outcome, &mut self.operation)
        {
            filter.after = Some(page.next);
            for event in &page.events {
                messages.push(serde_json::to_string(event).unwrap_or_default());
            }
        }
        Ok(messages)
    }

    async fn converse(&mut self, socket: &mut WebSocket, first: Vec<String>) -> End {
        let mut heard = Instant::now();
        let mut ready = first;
        loop {
            for text in ready.drain(..) {
                match timeout(SEND_MAX, socket.send(Message::Text(text.into()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Gone,
                    Err(_) => {
                        let reason = "events are not read fast enough: come again with after=";
                        self.app.refuse("websocket_slow_reader");
                        return End::Close(close_code::AGAIN, reason.to_owned());
                    }
                }
            }
            ready = match self.next_page(socket, &mut heard).await {
                Ok(ready) => ready,
                Err(end) => return end,
            };
        }
    }

    /// The next page, while the client is listened to.
    async fn next_page(
        &mut self,
        socket: &mut WebSocket,
        heard: &mut Instant,
    ) -> Result<Vec<String>, End> {
        let mut asking = Box::pin(self.ask());
        let mut ping_at = Instant::now() + PING_EVERY;
        loop {
            let word = tokio::select! {
                biased;
                page = asking.as_mut() => return page,
                word = timeout_at(ping_at, socket.recv()) => word,
            };
            match word {
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err(End::Gone),
                // axum answers pings by itself; what clients say besides means nothing.
                Ok(Some(Ok(
                    Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_),
                ))) => *heard = Instant::now(),
                Err(_) if heard.elapsed() >= SILENT_MAX => return Err(End::Gone),
                Err(_) => {
                    let ping = socket.send(Message::Ping(Bytes::new()));
                    if !matches!(timeout(SEND_MAX, ping).await, Ok(Ok(()))) {
                        return Err(End::Gone);
                    }
                    ping_at = Instant::now() + PING_EVERY;
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Vec<String>, End> {
        loop {
            match self.page().await {
                Ok(page) if page.is_empty() => sleep(EMPTY_PAUSE).await,
                Ok(page) => return Ok(page),
                // Without a quorum, or while it catches up, the client keeps its place.
                Err(ApiError::Unavailable(
                    Unavailable::NoQuorum
                    | Unavailable::CatchingUp
                    | Unavailable::DiskFull
                    | Unavailable::Starting,
                )) => sleep(AGAIN_AFTER).await,
                Err(
                    error @ (ApiError::Unavailable(Unavailable::Stopping)
                    | ApiError::UnknownOutcome),
                ) => {
                    return Err(End::Close(close_code::RESTART, error.to_string()));
                }
                Err(error) => {
                    return Err(End::Close(close_code::POLICY, error.to_string()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
