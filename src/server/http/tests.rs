//! The web layer over real sockets, in front of a node that tells back what it was asked.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::api::wire::{self, Empty, EventItem, EventPage, Health, NodeState};
use node::api::{ApiError, Credentials, Operation, Outcome, Unavailable};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::serve::{App, BODY_BYTES_MAX};
use super::*;
use crate::handle::{CallResult, NodeHandle};

type Asked = Arc<Mutex<Vec<(String, Operation)>>>;

/// A node that remembers what it was asked and answers with `answer`.
fn node(answer: impl Fn(&Operation) -> CallResult + Send + Sync + 'static) -> (NodeHandle, Asked) {
    let asked = Asked::default();
    let own = Arc::clone(&asked);
    let answer = Arc::new(answer);
    let handle = NodeHandle::new(move |credentials, operation| {
        let who = match &credentials {
            Credentials::Anonymous => "nobody".to_owned(),
            Credentials::Local => "local".to_owned(),
            Credentials::Bearer(token) => token.expose().to_owned(),
        };
        let result = answer(&operation);
        // What the web layer shows to who watches comes on its own time.
        if !matches!(operation, Operation::NoteRefusals { .. }) {
            own.lock().unwrap().push((who, operation));
        }
        async move { result }
    });
    (handle, asked)
}

fn done(_: &Operation) -> CallResult {
    Ok(Outcome::Empty(Empty {}))
}

async fn server(node: NodeHandle, socket: Option<std::path::PathBuf>) -> HttpServer {
    let settings = HttpSettings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        socket,
        connections_max: 4,
        head_bytes_max: 16 * 1024,
        head_time_max: Duration::from_millis(1_500),
        body_time_max: Duration::from_millis(300),
    };
    HttpServer::start(node, settings).await.unwrap()
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> (u16, Value) {
    let (status, _, body) = raw(stream, request).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn raw(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> (u16, String, Vec<u8>) {
    // A server that refuses early may close while we still write.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
    (status, text, answer[end..].to_vec())
}

async fn call(http: &HttpServer, method: &str, path: &str, head: &str, body: &str) -> (u16, Value) {
    let stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: \
         {length}\r\n\r\n{body}"
    );
    exchange(stream, request.as_bytes()).await
}

#[tokio::test]
async fn a_request_becomes_the_operation_it_means() {
    let (handle, asked) = node(done);
    let http = server(handle, None).await;
    for (method, path, body, expected) in [
        ("GET", "/api/tenants?limit=5&search=a%20b", "", "ListTenants(ListQuery { limit: 5,"),
        ("GET", "/api/devices/70-b3-d5-7e-d0-00-12-34", "", "GetDevice(\"70-b3-d5-7e-d0-00-12-34"),
        ("GET", "/api/applications/my%20app", "", "GetApplication(\"my app\")"),
        (
            "PUT",
            "/api/devices/0102030405060708",
            r#"{"device":{"name":"n"}}"#,
            "UpdateDevice(Device { dev_eui: \"0102030405060708\", name: \"n\"",
        ),
        (
            "POST",
            "/api/devices/0102030405060708/queue",
            r#"{"queue_item":{"f_port":10,"data":"AQI="},"flushQueue":true}"#,
            "Enqueue { item: QueueItem { id: \"\", dev_eui: \"0102030405060708\"",
        ),
        ("DELETE", "/api/devices/0102030405060708/dev-nonces", "", "FlushDevNonces("),
        (
            "POST",
            "/api/devices/0102030405060708/activate",
            r#"{"deviceActivation":{"devAddr":"01020304"}}"#,
            "ActivateDevice(DeviceActivation(0102030405060708, 01020304))",
        ),
        ("POST", "/api/devices/0102030405060708/get-next-f-cnt-down", "{}", "GetNextFCntDown("),
        ("DELETE", "/api/v1/devices/0102030405060708/queue/abc", "", "CancelItem {"),
        ("GET", "/api/v1/gateways/unknown", "", "ListUnknownGateways"),
        (
            "GET",
            "/api/v1/events?after=7&devEui=x&limit=3",
            "",
            "ReadEvents(EventFilter { after: Some(7), limit: 3,",
        ),
        (
            "POST",
            "/api/v1/users/admin/reset-password",
            "",
            "SetPassword { user: \"admin\", password: None }",
        ),
    ] {
        let (status, _) = call(&http, method, path, "", body).await;
        assert_eq!(status, 200, "{method} {path}");
        let (_, operation) = asked.lock().unwrap().pop().unwrap();
        let text = format!("{operation:?}");
        assert!(text.starts_with(expected), "{method} {path}: {text}");
    }
}

#[tokio::test]
async fn who_asks_is_told_by_token_or_socket() {
    let (handle, asked) = node(done);
    let folder = std::env::temp_dir().join(format!("tern-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tern.sock");
    let http = server(handle, Some(path.clone())).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let last = || asked.lock().unwrap().pop().map(|(who, _)| who);
    for (head, who) in [
        ("", "nobody"),
        ("Authorization: Bearer abc\r\n", "abc"),
        ("authorization: bearer abc\r\n", "abc"),
        ("Grpc-Metadata-Authorization: Bearer abc\r\n", "abc"),
    ] {
        assert_eq!(call(&http, "GET", "/api/tenants", head, "").await.0, 200);
        assert_eq!(last().as_deref(), Some(who), "{head}");
    }
    let (status, body) = call(&http, "GET", "/api/tenants", "Authorization: Basic x\r\n", "").await;
    assert_eq!((status, &body["code"]), (401, &json!(16)));
    let own = b"GET /api/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (status, _) = exchange(UnixStream::connect(&path).await.unwrap(), own).await;
    assert_eq!((status, last().as_deref()), (200, Some("local")));
    drop(http);
    assert!(!path.exists(), "a server that stops takes its socket away");
    std::fs::remove_dir(&folder).unwrap();
}

#[tokio::test]
async fn errors_have_the_fields_form() {
    let (handle, _) = node(|operation| {
        let Operation::GetTenant(id) = operation else {
            return Err(ApiError::Unavailable(Unavailable::NoQuorum));
        };
        Err(if id == "x" {
            ApiError::NotFound("there is no x".into())
        } else {
            ApiError::UnknownOutcome
        })
    });
    let http = server(handle, None).await;
    let (status, body) = call(&http, "GET", "/api/tenants/x", "", "").await;
    let expected = json!({"code": 5, "message": "there is no x", "details": []});
    assert_eq!((status, body), (404, expected));
    let (status, body) = call(&http, "GET", "/api/tenants/y", "", "").await;
    assert_eq!((status, &body["code"]), (503, &json!(2)));
    assert_eq!(call(&http, "GET", "/api/tenants", "", "").await.0, 503);
}

#[tokio::test]
async fn hostile_requests_are_refused_and_counted() {
    let (handle, asked) = node(done);
    let http = server(handle, None).await;
    let deep = format!("{{\"tenant\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    for (method, path, body, status) in [
        ("POST", "/api/tenants", "{\"tenant\":{\"name\":\"a\",\"name\":\"b\"}}", 400),
        ("POST", "/api/tenants", "{\"tenant\":{\"maxDeviceCount\":1e400}}", 400),
        ("POST", "/api/tenants", "{\"tenant\":{\"maxDeviceCount\":-1}}", 400),
        ("POST", "/api/tenants", "{\"tenant\":{\"name\":NaN}}", 400),
        ("POST", "/api/tenants", "\u{FEFF}{}", 400),
        ("POST", "/api/tenants", "[]", 400),
        ("POST", "/api/tenants", "{}", 400),
        ("POST", "/api/tenants", &deep, 400),
        ("GET", "/api/tenants?limit=x", "", 400),
        ("GET", "/api/tenants?limit=99999999999", "", 400),
        ("GET", "/api/../../../etc/passwd", "", 404),
        ("GET", "/api/%2e%2e/%2e%2e/etc/passwd", "", 404),
        ("GET", "/api/tenants/%FF", "", 400),
        ("PATCH", "/api/tenants", "", 405),
        ("GET", "/", "", 404),
    ] {
        let (seen, answer) = call(&http, method, path, "", body).await;
        assert_eq!(seen, status, "{method} {path} {}: {answer}", &body[..body.len().min(50)]);
        assert!(answer["message"].is_string(), "{method} {path}");
    }
    assert!(asked.lock().unwrap().is_empty(), "none of them reached the node");
    let address = http.addresses()[0];
    let connect = || async move { TcpStream::connect(address).await.unwrap() };
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 * 1024));
    assert_eq!(exchange(connect().await, head.as_bytes()).await.0, 431);
    let told = format!(
        "POST /api/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        BODY_BYTES_MAX + 1
    );
    assert_eq!(exchange(connect().await, told.as_bytes()).await.0, 413);
    assert_eq!(exchange(connect().await, b"\x16\x03\x01 no http\r\n\r\n").await.0, 400);
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_do_not_hold_a_connection() {
    let (handle, asked) = node(|_| Ok(Outcome::Metrics(Vec::new())));
    let http = server(handle, None).await;
    let begun = b"POST /api/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Length: 10\r\n\r\n{";
    let stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    let slow_body = tokio::time::timeout(Duration::from_secs(5), exchange(stream, begun));
    assert_eq!(slow_body.await.expect("it is cut off").0, 408);
    let mut stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = Vec::new();
    let slow_head = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
    slow_head.await.expect("it is cut off").unwrap_or(0);
    assert!(asked.lock().unwrap().is_empty());
    let stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (_, text, _) = raw(stream, request).await;
    for reason in ["head_too_slow", "body_too_slow"] {
        let line = format!("tern_http_refused_total{{reason=\"{reason}\"}} 1");
        assert!(text.contains(&line), "{reason}: {text}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_told_in_the_metrics() {
    let (handle, _) = node(|_| Ok(Outcome::Metrics(Vec::new())));
    let http = server(handle, None).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(http.addresses()[0]).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut fifth = TcpStream::connect(http.addresses()[0]).await.unwrap();
    assert_eq!(fifth.read(&mut [0; 10]).await.unwrap_or(0), 0, "closed without a word");
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (status, text, _) = raw(stream, request).await;
    assert_eq!(status, 200);
    assert!(text.contains("tern_http_refused_total{reason=\"too_many_connections\"} 1"), "{text}");
}

#[tokio::test]
async fn health_is_503_until_the_node_is_ready_and_alive_is_alive() {
    let (handle, _) =
        node(|_| Ok(Outcome::Health(Health { ready: false, state: NodeState::Starting, load: 0 })));
    let http = server(handle, None).await;
    for (path, status) in [("/health", 503), ("/health/ready", 503), ("/health/live", 200)] {
        let (seen, body) = call(&http, "GET", path, "", "").await;
        assert_eq!((seen, &body["state"]), (status, &json!("starting")), "{path}");
    }
}

#[tokio::test]
async fn every_route_is_described() {
    let (handle, _) = node(done);
    let http = server(handle.clone(), None).await;
    let (status, document) = call(&http, "GET", "/openapi.json", "", "").await;
    assert_eq!(status, 200);
    let app = App::new(handle, None, Duration::from_secs(1));
    assert!(app.routes.len() > 70);
    for route in &app.routes {
        let described = &document["paths"][route.path][route.verb.name()];
        assert_eq!(described["summary"], route.summary, "{} {}", route.verb.name(), route.path);
        let parameters = described["parameters"].as_array().unwrap();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        assert_eq!(in_path.count(), openapi::names_in(route.path).count(), "{}", route.path);
        assert_eq!(described["requestBody"].is_object(), route.verb.has_body(), "{}", route.path);
        assert!(!route.summary.is_empty());
    }
    let mut ids: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

/// Three events, then nothing until the client has gone.
fn three_events(operation: &Operation) -> CallResult {
    let Operation::ReadEvents(filter) = operation else { return done(operation) };
    let after = filter.after.unwrap_or(0);
    let events: Vec<_> = (after + 1..=3)
        .map(|sequence| EventItem { sequence, event: "up".into(), ..EventItem::default() })
        .collect();
    Ok(Outcome::Events(EventPage { next: 3.max(after), events }))
}

#[tokio::test]
async fn events_stream_as_lines_or_as_server_sent_events() {
    let (handle, asked) = node(three_events);
    let http = server(handle, None).await;
    for (head, needles) in [
        ("", ["{\"sequence\":2,", "{\"sequence\":3,"]),
        ("Accept: text/event-stream\r\n", ["id: 2\nevent: up\ndata: {", "id: 3\nevent: up\n"]),
        ("Last-Event-ID: 1\r\nAccept: text/event-stream\r\n", ["id: 2\n", "id: 3\n"]),
    ] {
        let mut stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
        let after = if head.starts_with("Last") { "" } else { "?after=1" };
        let request = format!("GET /api/v1/events/stream{after} HTTP/1.1\r\nHost: x\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let mut buffer = [0; 4_096];
        while !needles.iter().all(|needle| text.contains(needle)) {
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer));
            let length = read.await.expect("the stream goes on").unwrap();
            assert!(length > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        assert!(!text.contains("\"sequence\":1,") && !text.contains("id: 1\n"), "{text}");
    }
    let asked = asked.lock().unwrap();
    assert!(
        asked.iter().any(
            |(_, operation)| matches!(operation, Operation::ReadEvents(filter) if filter.wait)
        )
    );
}

#[tokio::test]
async fn a_refused_stream_is_an_answer_of_its_own() {
    let (handle, _) = node(|_| Err(ApiError::Unauthenticated("log in first".into())));
    let http = server(handle, None).await;
    let (status, body) = call(&http, "GET", "/api/v1/watch/stream", "", "").await;
    assert_eq!((status, &body["message"]), (401, &json!("log in first")));
}

#[tokio::test]
async fn secrets_do_not_show_in_what_is_asked() {
    let (handle, asked) = node(|_| Ok(Outcome::Login(wire::LoginToken::default())));
    let http = server(handle, None).await;
    let body = r#"{"email":"admin","password":"very secret"}"#;
    assert_eq!(call(&http, "POST", "/api/internal/login", "", body).await.0, 200);
    let (_, operation) = asked.lock().unwrap().pop().unwrap();
    assert!(!format!("{operation:?}").contains("very secret"));
}
