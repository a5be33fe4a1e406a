//! HTTP requests that are too large, too slow, lost, or not allowed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::{Tern, eventually};

use super::{Counters, Picture, SOON, counted, local, resident_kib, seen, server};

const REFUSED: &str = "tern_http_refused_total";
/// Longest body, in bytes.
const BODY_MAX: usize = 1 << 20;
const IDLE: usize = 1_000;
/// `http.connections_max`, as it comes.
const LIMIT: usize = 1_024;
/// How long a head, and a body, may take; a crowded machine is given as much again.
const HEAD_TIME: Duration = Duration::from_secs(30);
const BODY_TIME: Duration = Duration::from_secs(20);

/// Sends bytes as they are; the status (0: closed without a word) and the whole answer.
fn raw(to: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(to).expect("HTTP is served");
    stream.set_read_timeout(Some(SOON)).unwrap();
    // A server that refuses early may close while this is still written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

fn request(line: &str, head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n\
         {body}"
    )
    .into_bytes()
}

#[test]
fn requests_that_are_too_large_too_slow_or_not_allowed() {
    let tern = server();
    let key = tern.json(&["api-key", "add", "tests", "--admin"]);
    let token = key["token"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    let before = Picture::of(&tern);
    // Their time runs while the others are at work.
    let (head, body) = (slow_head(tern.http()), slow_body(tern.http()));
    too_large(&tern);
    lost(&tern);
    not_http(&tern);
    not_allowed(&tern);
    nonsense(&tern, &token);
    idle(&tern);
    let first = resident_kib(&tern);
    idle(&tern);
    let second = resident_kib(&tern);
    assert!(second <= first + 8 * 1_024, "idle ones leave memory behind: {first}, {second} KiB");
    for (case, slow, reason, least) in [
        ("slow body", body, "body_too_slow", BODY_TIME),
        ("slow head", head, "head_too_slow", HEAD_TIME),
    ] {
        let (lasted, answer) = slow.join().expect("the slow one's own thread");
        println!("{case}: {lasted:?} {answer:?}");
        assert!(lasted >= least - Duration::from_secs(1), "{case}: cut off after {lasted:?}");
        eventually(case, SOON, || (Counters::read(&tern).get(REFUSED, reason) >= 1).then_some(()));
        seen(&tern, "http", &reason.replace('_', " "));
    }
    before.compare(&tern, 64 * 1_024);
}

/// Sends it; the server answers with `status`, counts the reason once and shows it.
fn is_refused(tern: &Tern, case: &str, request: &[u8], status: u16, reason: &str) -> String {
    let expected = Counters::read(tern).get(REFUSED, reason) + 1;
    let (told, answer) = raw(tern.http(), request);
    assert_eq!(told, status, "{case}: {answer}");
    assert!(!answer.contains("root:"), "{case}: {answer}");
    counted(tern, REFUSED, reason, expected, case);
    seen(tern, "http", &reason.replace('_', " "));
    answer
}

fn too_large(tern: &Tern) {
    let header = format!("X: {}\r\n", "a".repeat(64 * 1_024));
    let many: String = (0..1_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let uri = format!("GET /{}", "a".repeat(64 * 1_024));
    for (case, request, status) in [
        ("a header of 64 KiB", request("GET /health", &header, ""), 431),
        ("1,000 headers", request("GET /health", &many, ""), 431),
        ("a path of 64 KiB", request(&uri, "", ""), 431),
    ] {
        is_refused(tern, case, &request, status, "head_too_large");
    }
    let login = "POST /api/internal/login";
    let told = format!("{login} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", BODY_MAX + 1);
    is_refused(tern, "a body told to be large", told.as_bytes(), 413, "body_too_large");
    let huge = told.replace(&(BODY_MAX + 1).to_string(), "18446744073709551615");
    is_refused(tern, "a body of 2^64-1 bytes", huge.as_bytes(), 431, "head_too_large");
    let mut chunked =
        format!("{login} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=BODY_MAX / 0x8000 {
        chunked.extend(b"8000\r\n");
        chunked.extend([b' '; 0x8000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let expected = Counters::read(tern).get(REFUSED, "body_too_large") + 1;
    raw(tern.http(), &chunked);
    counted(tern, REFUSED, "body_too_large", expected, "chunks above 1 MiB");
}

fn lost(tern: &Tern) {
    for path in [
        "/../../etc/passwd",
        "/api/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e%5c%2e%2e%5cetc%5cpasswd",
        "//etc/passwd",
        "/etc/passwd%00.html",
        "/",
        "/nothing",
    ] {
        let line = format!("GET {path}");
        is_refused(tern, path, &request(&line, "", ""), 404, "unknown_path");
    }
    for line in ["PATCH /api/tenants", "DELETE /metrics", "POST /health", "BREW /api/tenants"] {
        is_refused(tern, line, &request(line, "", ""), 405, "unknown_method");
    }
}

fn not_http(tern: &Tern) {
    for (case, bytes) in [
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("a header without a colon", b"GET /health HTTP/1.1\r\nHost x\r\n\r\n".to_vec()),
        ("a header with U+0000", b"GET /health HTTP/1.1\r\nHost: \0\r\n\r\n".to_vec()),
        ("version 9", b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n".to_vec()),
        ("a negative length", b"POST /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec()),
        (
            "two lengths",
            b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_vec(),
        ),
    ] {
        is_refused(tern, case, &bytes, 400, "not_http");
    }
}

fn not_allowed(tern: &Tern) {
    for (case, head) in [
        ("no token", ""),
        ("a made-up token", "Authorization: Bearer abc\r\n"),
        ("a made-up key", "Authorization: Bearer tk_00000000-0000-0000-0000-000000000000_x\r\n"),
        ("an empty token", "Authorization: Bearer \r\n"),
        ("a password", "Authorization: Basic YWRtaW46YWRtaW4=\r\n"),
        ("bytes for a token", "Authorization: Bearer \u{FF}\r\n"),
    ] {
        for line in ["GET /api/tenants", "GET /api/v1/watch", "GET /api/v1/events/stream"] {
            let case = format!("{case}, {line}");
            is_refused(tern, &case, &request(line, head, ""), 401, "unauthenticated");
        }
    }
    let long = format!("Authorization: Bearer {}\r\n", "a".repeat(2_000));
    is_refused(
        tern,
        "a long token",
        &request("GET /api/tenants", &long, ""),
        401,
        "unauthenticated",
    );
    let line = "POST /api/internal/login";
    for user in ["admin", "nobody"] {
        let body = format!(r#"{{"email":"{user}","password":"guess"}}"#);
        is_refused(tern, user, &request(line, "", &body), 401, "unauthenticated");
    }
}

/// From somebody who may do everything: what makes no sense is refused all the same.
fn nonsense(tern: &Tern, token: &str) {
    let head = format!("Authorization: Bearer {token}\r\n");
    let deep = format!(r#"{{"tenant":{}}}"#, "[".repeat(100_000));
    for (case, body) in [
        ("nothing", ""),
        ("no JSON", "{"),
        ("text after it", r#"{"tenant":{"name":"a"}} x"#),
        ("a name twice", r#"{"tenant":{"name":"a","name":"b"}}"#),
        ("NaN", r#"{"tenant":{"maxDeviceCount":NaN}}"#),
        ("1e400", r#"{"tenant":{"maxDeviceCount":1e400}}"#),
        ("a number of 40 digits", r#"{"tenant":{"maxDeviceCount":9999999999999999999999999999}}"#),
        ("below zero", r#"{"tenant":{"maxDeviceCount":-1}}"#),
        ("a byte order mark", "\u{FEFF}{\"tenant\":{\"name\":\"a\"}}"),
        ("an array", "[]"),
        ("nested 100,000 deep", &deep),
        ("no name", r#"{"tenant":{"name":""}}"#),
    ] {
        let request = request("POST /api/tenants", &head, body);
        is_refused(tern, case, &request, 400, "invalid_argument");
    }
    let mut not_utf8 = request("POST /api/tenants", &head, r#"{"tenant":{"name":"??"}}"#);
    not_utf8.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xFF);
    is_refused(tern, "not UTF-8", &not_utf8, 400, "invalid_argument");
    for line in ["GET /api/tenants?limit=x", "GET /api/tenants/%FF"] {
        is_refused(tern, line, &request(line, &head, ""), 400, "invalid_argument");
    }
    // Not a sign of trouble, so counted and not shown.
    let line = "GET /api/devices/..%2f..%2fetc%2fpasswd";
    let (status, answer) = raw(tern.http(), &request(line, &head, ""));
    assert!([400, 404].contains(&status) && !answer.contains("root:"), "{status} {answer}");
}

/// Those who connect and say nothing take places, up to the limit, and nobody else's time.
fn idle(tern: &Tern) {
    let mut held: Vec<_> = (0..IDLE).map(|_| TcpStream::connect(tern.http()).unwrap()).collect();
    assert_eq!(tern.get("/health/ready").map(|(status, _)| status), Some(200), "{IDLE} idle ones");
    let over = |tern: &Tern| Counters::read(tern).get(REFUSED, "too_many_connections");
    let before = over(tern);
    eventually("more than the limit are closed", SOON, || {
        held.extend((0..10).map(|_| TcpStream::connect(tern.http()).unwrap()));
        (over(tern) > before).then_some(())
    });
    assert!(held.len() <= LIMIT + 40, "{} were let in", held.len());
    assert!(local(tern, "/health/ready").contains("ready"), "the operator is heard");
    seen(tern, "http", "too many connections");
    drop(held);
    eventually("places are free again", SOON, || {
        tern.get("/health/ready").filter(|(status, _)| *status == 200).map(|_| ())
    });
}

/// One byte of a header each 200 ms.
fn slow_head(to: SocketAddr) -> JoinHandle<(Duration, String)> {
    slow(to, b"GET /health HTTP/1.1\r\nHost: x\r\nX: ".to_vec())
}

/// One byte of a body each 200 ms.
fn slow_body(to: SocketAddr) -> JoinHandle<(Duration, String)> {
    let head = "POST /api/internal/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    slow(to, head.as_bytes().to_vec())
}

/// Sends the beginning, then one byte after the other until the server has had enough.
///
/// * Returns how long that took, and the server's last words.
fn slow(to: SocketAddr, begin: Vec<u8>) -> JoinHandle<(Duration, String)> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(to).expect("HTTP is served");
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let since = Instant::now();
        stream.write_all(&begin).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 1_024]);
        while since.elapsed() < 2 * HEAD_TIME {
            if stream.write_all(b"a").is_err() {
                break;
            }
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        let lasted = since.elapsed();
        assert!(lasted < 2 * HEAD_TIME, "it is never cut off");
        (lasted, String::from_utf8_lossy(&answer).into_owned())
    })
}
