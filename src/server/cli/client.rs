//! The command line's way to a server: HTTP over the socket in its data folder, or over TCP.
//!
//! One connection a call, `hyper` beneath: small blocking clients know no Unix sockets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::Common;
use super::login::Saved;

/// The socket's name in a data folder.
pub(crate) const SOCKET: &str = "tern.sock";
/// How long a server may take to accept and to answer.
const CALL_TIME_MAX: Duration = Duration::from_secs(40);
/// Longest line of a stream.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Why a command did not do what was asked; each says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Nobody to ask.
    #[error(
        "no server found (looked for {looked}). Start one: tern serve --region EU868. Or say where \
         it is: --data DIR on its host, tern login http://HOST:8080 elsewhere"
    )]
    NoServer {
        /// Where one was looked for.
        looked: String,
    },
    /// Somebody should be there, and is not.
    #[error("no server answers at {place}: {why}. Is `tern serve` running there?")]
    NoAnswer {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
    /// The server refused.
    #[error("{message}{}", next_step(*status, message))]
    Refused {
        /// HTTP status.
        status: u16,
        /// In the server's words.
        message: String,
    },
    /// The command line does not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file of the user's.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The server does not start, or has ended.
    #[error("{0}")]
    Serve(String),
    /// The other end of a pipe has enough.
    #[error("closed")]
    Closed,
}

fn next_step(status: u16, message: &str) -> &'static str {
    if status == 401 && !message.starts_with("wrong") { " (tern login URL)" } else { "" }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The socket in its data folder.
    Socket(PathBuf),
    /// Over TCP, as `host:port`, with a token.
    Tcp { address: String, token: Option<String> },
}

impl Place {
    /// Looks where the user says, else where a server usually is.
    pub(super) fn find(common: &Common) -> Result<Self, CliError> {
        if let Some(url) = &common.url {
            let address = address_of(url)?;
            let token = std::env::var("TERN_TOKEN").ok();
            let saved = || Saved::load().filter(|saved| saved.url == *url).map(|saved| saved.token);
            return Ok(Self::Tcp { address, token: token.or_else(saved) });
        }
        if let Some(data) = &common.data {
            return Ok(Self::Socket(data.join(SOCKET)));
        }
        let mut looked = Vec::new();
        for folder in usual_folders() {
            let socket = folder.join(SOCKET);
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(Self::Socket(socket));
            }
            looked.push(socket.display().to_string());
        }
        if let Some(saved) = Saved::load() {
            return Ok(Self::Tcp { address: address_of(&saved.url)?, token: Some(saved.token) });
        }
        Err(CliError::NoServer { looked: looked.join(", ") })
    }

    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tcp { address, .. } => format!("http://{address}"),
        }
    }

    /// The host that other programs reach the same server by.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Socket(_) => "localhost".to_owned(),
            Self::Tcp { address, .. } => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                host.trim_matches(['[', ']']).to_owned()
            }
        }
    }
}

fn usual_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(std::env::var_os("STATE_DIRECTORY").map(PathBuf::from));
    folders.push(PathBuf::from("tern-data"));
    folders.push(PathBuf::from("/var/lib/tern"));
    folders
}

/// `host:port` of a URL.
pub(super) fn address_of(url: &str) -> Result<String, CliError> {
    let wrong = |why: &str| CliError::Usage(format!("{url}: {why}, like http://10.0.0.5:8080"));
    if url.starts_with("https://") {
        return Err(wrong("this command speaks plain http (put TLS in front with a tunnel)"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', '?', ' ']) {
        return Err(wrong("this is no address of a server"));
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:8080") })
}

/// Calls one server.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    runtime: Runtime,
}

impl Client {
    /// A client; nothing is sent yet.
    pub(crate) fn new(place: Place) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::Serve(error.to_string()))?;
        Ok(Self { place, runtime })
    }

    /// Where the server is.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Asks for something.
    pub(crate) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.call(Method::GET, path, None)
    }

    /// Makes or does something.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.call(Method::POST, path, Some(body))
    }

    /// Changes something.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// Removes something.
    pub(super) fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.call(Method::DELETE, path, None)
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.runtime.block_on(async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let bytes = response.into_body().collect();
            let bytes = tokio::time::timeout(CALL_TIME_MAX, bytes).await;
            let bytes = bytes.map_err(|_| self.silent("the answer stopped"))?;
            let bytes = bytes.map_err(|error| self.silent(&error.to_string()))?.to_bytes();
            if status.is_success() {
                return Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null));
            }
            Err(refused(status, &bytes))
        })
    }

    /// Reads JSON lines until the server ends or `each` says so by an error.
    pub(super) fn stream(
        &self,
        path: &str,
        mut each: impl FnMut(&Value) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, path, None).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                return Err(refused(status, &bytes));
            }
            let mut buffer = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.silent(&error.to_string()))?;
                buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    if let Ok(value) = serde_json::from_slice::<Value>(&line) {
                        each(&value)?;
                    }
                }
                if buffer.len() > LINE_BYTES_MAX {
                    return Err(self.silent("a line without end"));
                }
            }
            Err(self.silent("it ended the stream"))
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, CliError> {
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = Request::builder().method(method).uri(path).header("host", "tern");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        if let Place::Tcp { token: Some(token), .. } = &self.place {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(bytes));
        let request = request.map_err(|error| CliError::Usage(error.to_string()))?;
        let sent = async {
            match &self.place {
                Place::Socket(path) => {
                    let stream = UnixStream::connect(path).await;
                    exchange(stream.map_err(|error| self.unreachable(path, &error))?, request).await
                }
                Place::Tcp { address, .. } => {
                    let stream = TcpStream::connect(address).await;
                    let stream = stream.map_err(|error| self.silent(&error.to_string()))?;
                    exchange(stream, request).await
                }
            }
            .map_err(|error| self.silent(&error.to_string()))
        };
        let in_time = tokio::time::timeout(CALL_TIME_MAX, sent).await;
        in_time.unwrap_or_else(|_| Err(self.silent("it does not answer")))
    }

    fn silent(&self, why: &str) -> CliError {
        CliError::NoAnswer { place: self.place.name(), why: why.to_owned() }
    }

    fn unreachable(&self, path: &Path, error: &std::io::Error) -> CliError {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            let text = format!("{}: only the user who runs the server may (sudo?)", path.display());
            return CliError::Usage(text);
        }
        self.silent(&error.to_string())
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

fn refused(status: StatusCode, bytes: &[u8]) -> CliError {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_else(|_| json!({}));
    let message = body["message"].as_str().unwrap_or("the server refused").to_owned();
    CliError::Refused { status: status.as_u16(), message }
}

/// One part of a path: what is not a plain character is escaped.
pub(super) fn part(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A query out of the values that are there.
pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)));
    let pairs: Vec<_> = given.map(|(name, value)| format!("{name}={}", part(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_paths_and_queries_are_taken_apart_and_put_together() {
        for (url, address) in [
            ("http://10.0.0.5:8080", "10.0.0.5:8080"),
            ("10.0.0.5", "10.0.0.5:8080"),
            ("http://[::1]:9000/", "[::1]:9000"),
        ] {
            assert_eq!(address_of(url).unwrap(), address);
        }
        for url in ["https://x", "http://", "http://a/b", "http://u@h"] {
            assert!(address_of(url).is_err(), "{url}");
        }
        assert_eq!(part("room 5/ä"), "room%205%2F%C3%A4");
        let pairs = [("a", Some("1".to_owned())), ("b", None), ("c", Some("x y".to_owned()))];
        assert_eq!(query(&pairs), "?a=1&c=x%20y");
        let place = Place::Tcp { address: "[::1]:9000".into(), token: None };
        assert_eq!(place.host(), "::1");
    }
}
