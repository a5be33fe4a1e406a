//! A client of somebody else's make, over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use node::api::wire::{EventItem, EventPage};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Said};

use super::*;
use crate::handle::NodeHandle;
use crate::http::{HttpServer, HttpSettings};

/// A node whose event log is rows `1..=last`, of so many bytes each.
#[derive(Default)]
struct Log {
    last: AtomicU64,
    bytes: AtomicU64,
    catching_up: AtomicBool,
    stopping: AtomicBool,
}

fn node(log: &Arc<Log>) -> NodeHandle {
    let log = Arc::clone(log);
    NodeHandle::new(move |credentials, operation| {
        let log = Arc::clone(&log);
        async move {
            let Operation::ReadEvents(filter) = operation else {
                return Ok(Outcome::Events(EventPage::default()));
            };
            if !matches!(&credentials, Credentials::Bearer(token) if token.expose() == "good") {
                return Err(ApiError::Unauthenticated("log in first".into()));
            }
            let wait = filter.wait;
            loop {
                if log.stopping.load(Ordering::Relaxed) {
                    return Err(ApiError::Unavailable(Unavailable::Stopping));
                }
                if log.catching_up.load(Ordering::Relaxed) {
                    return Err(ApiError::Unavailable(Unavailable::CatchingUp));
                }
                let last = log.last.load(Ordering::Relaxed);
                let from = filter.after.unwrap_or(last) + 1;
                let to = last.min(from + 99);
                let body = "x".repeat(usize::try_from(log.bytes.load(Ordering::Relaxed)).unwrap());
                let item = |sequence| EventItem {
                    sequence,
                    event: "up".into(),
                    body: body.clone().into(),
                    ..EventItem::default()
                };
                let events: Vec<_> = (from..=to).map(item).collect();
                if !events.is_empty() || !wait {
                    return Ok(Outcome::Events(EventPage { events, next: to.max(from - 1) }));
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    })
}

async fn server(log: &Arc<Log>) -> HttpServer {
    let settings = HttpSettings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        socket: None,
        connections_max: 4,
        head_bytes_max: 16 * 1024,
        head_time_max: Duration::from_secs(2),
        body_time_max: Duration::from_secs(1),
    };
    HttpServer::start(node(log), settings).await.unwrap()
}

type Client =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(http: &HttpServer, query: &str, token: &str) -> Result<Client, Error> {
    let url = format!("ws://{}/api/v1/events{query}", http.addresses()[0]);
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    tokio_tungstenite::connect_async(request).await.map(|(client, _)| client)
}

async fn sequence(client: &mut Client) -> u64 {
    loop {
        let said = timeout(Duration::from_secs(20), client.next()).await.expect("in time");
        match said.unwrap().unwrap() {
            Said::Text(text) => {
                let value: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
                assert_eq!(value["event"], "up");
                return value["sequence"].as_u64().unwrap();
            }
            Said::Ping(_) | Said::Pong(_) => {}
            other @ (Said::Binary(_) | Said::Close(_) | Said::Frame(_)) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test]
async fn events_come_one_by_one_from_where_the_client_was() {
    let log = Arc::new(Log::default());
    log.last.store(250, Ordering::Relaxed);
    let http = server(&log).await;
    let mut client = connect(&http, "?after=3", "good").await.unwrap();
    for wanted in 4..=250 {
        assert_eq!(sequence(&mut client).await, wanted);
    }
    log.last.store(252, Ordering::Relaxed);
    assert_eq!([sequence(&mut client).await, sequence(&mut client).await], [251, 252]);
    // A ping of the client is answered; what it says besides means nothing.
    client.send(Said::Text("hello".into())).await.unwrap();
    client.send(Said::Ping(vec![1, 2].into())).await.unwrap();
    let pong = timeout(Duration::from_secs(5), client.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Said::Pong(vec![1, 2].into()));
    // The node catches up meanwhile: nothing is lost, nothing comes twice.
    log.catching_up.store(true, Ordering::Relaxed);
    sleep(Duration::from_millis(100)).await;
    log.last.store(255, Ordering::Relaxed);
    sleep(Duration::from_millis(700)).await;
    log.catching_up.store(false, Ordering::Relaxed);
    for wanted in 253..=255 {
        assert_eq!(sequence(&mut client).await, wanted);
    }
    log.stopping.store(true, Ordering::Relaxed);
    let end = timeout(Duration::from_secs(5), client.next()).await.unwrap().unwrap().unwrap();
    let Said::Close(Some(close)) = end else { panic!("{end:?}") };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Restart, "the node is stopping"));
}

#[tokio::test]
async fn whoever_may_not_read_gets_an_ordinary_refusal() {
    let log = Arc::new(Log::default());
    let http = server(&log).await;
    match connect(&http, "", "bad").await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("{other:?}"),
    }
    // A node that is catching up says so later, not with a refusal.
    log.catching_up.store(true, Ordering::Relaxed);
    assert!(connect(&http, "?after=0", "good").await.is_ok());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_a_reason() {
    let log = Arc::new(Log::default());
    log.last.store(100_000, Ordering::Relaxed);
    log.bytes.store(20_000, Ordering::Relaxed);
    let http = server(&log).await;
    let mut client = connect(&http, "?after=0", "good").await.unwrap();
    sleep(SEND_MAX + Duration::from_secs(2)).await;
    let mut got = 0;
    let close = loop {
        match timeout(Duration::from_secs(10), client.next()).await.unwrap().unwrap().unwrap() {
            Said::Text(_) => got += 1,
            Said::Close(close) => break close.unwrap(),
            Said::Ping(_) | Said::Pong(_) => {}
            other @ (Said::Binary(_) | Said::Frame(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(close.code, CloseCode::Again);
    assert!(close.reason.as_str().contains("after="), "{close:?}");
    assert!(got < 5_000, "{got} messages of 20 kB waited for one client");
}
