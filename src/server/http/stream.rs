//! Events and lines one after the other until the client leaves. The node is asked for one page at
//! a time and only when the client has taken the last one: a slow client holds nothing up.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use futures_util::stream;
use node::api::{ApiError, Credentials, Operation, Outcome};
use serde::Serialize;

use super::answer::{error_answer, with_type};
use super::serve::{App, Asked};

/// A sign of life when nothing happens, so that proxies keep the connection.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// Pause after an empty page, so that a row not yet on the disk is not asked for in a hot loop.
const EMPTY_PAUSE: Duration = Duration::from_millis(100);

struct Pages {
    app: Arc<App>,
    credentials: Credentials,
    operation: Operation,
    is_sse: bool,
    ready: VecDeque<Bytes>,
    /// Why it ends after what is ready.
    ended: bool,
}

/// Begins a stream; the first page is asked for at once, so that a refusal is an answer of its own.
pub(super) async fn answer(app: &Arc<App>, asked: Asked) -> Response<Body> {
    let mut pages = Pages {
        app: Arc::clone(app),
        credentials: asked.credentials,
        operation: asked.operation,
        is_sse: asked.is_sse,
        ready: VecDeque::new(),
        ended: false,
    };
    // The first page tells at once whether this caller may read; it also fixes where "now" is.
    if let Err(error) = pages.first_page().await {
        app.refuse(error.reason());
        return error_answer(&error);
    }
    let content_type = if pages.is_sse { "text/event-stream" } else { "application/x-ndjson" };
    let body = stream::unfold(pages, |mut pages| async move {
        let bytes = pages.next().await?;
        Some((Ok::<_, Infallible>(bytes), pages))
    });
    with_type(StatusCode::OK, content_type, Body::from_stream(body))
}

impl Pages {
    /// Asks without waiting. A stream that begins now learns where that is.
    async fn first_page(&mut self) -> Result<(), ApiError> {
        self.set_wait(false);
        self.ask().await?;
        self.set_wait(true);
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "no other operation is streamed")]
    fn set_wait(&mut self, wait: bool) {
        match &mut self.operation {
            Operation::ReadEvents(filter) => filter.wait = wait,
            Operation::Watch(filter) => filter.wait = wait,
            _ => {}
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout(QUIET_MAX, self.ask()).await {
                Ok(Ok(())) if self.ready.is_empty() => tokio::time::sleep(EMPTY_PAUSE).await,
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.ended = true;
                    let text = serde_json::json!({"error": error.to_string()}).to_string();
                    let event = if self.is_sse { "event: error\ndata: " } else { "" };
                    let end = if self.is_sse { "\n\n" } else { "\n" };
                    return Some(Bytes::from(format!("{event}{text}{end}")));
                }
                Err(_) => {
                    return Some(Bytes::from_static(if self.is_sse { b":\n\n" } else { b"\n" }));
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), ApiError> {
        let outcome = self.app.node.call(self.credentials.clone(), self.operation.clone()).await?;
        match (outcome, &mut self.operation) {
            (Outcome::Events(page), Operation::ReadEvents(filter)) => {
                filter.after = Some(page.next);
                for event in page.events {
                    self.ready.push_back(framed(self.is_sse, event.sequence, &event.event, &event));
                }
            }
            (Outcome::Watch(page), Operation::Watch(filter)) => {
                filter.after = Some(page.next);
                for item in page.lines {
                    self.ready.push_back(framed(self.is_sse, item.sequence, "line", &item));
                }
            }
            _ => self.ended = true,
        }
        Ok(())
    }
}

fn framed<T: Serialize>(is_sse: bool, id: u64, event: &str, value: &T) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    if is_sse {
        Bytes::from(format!("id: {id}\nevent: {event}\ndata: {json}\n\n"))
    } else {
        Bytes::from(format!("{json}\n"))
    }
}
