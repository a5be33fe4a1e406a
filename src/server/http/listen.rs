//! Listeners: TCP for everybody, a 0600 socket in the data folder for the node's own operator.
//!
//! Bounded by name: connections, bytes and time of a head, bytes and time of a body.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use super::serve::{App, Origin, router};
use crate::handle::NodeHandle;

/// Pause after a failed accept, which mostly means that files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the web layer listens on.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// The operator's socket; made anew, 0600.
    pub socket: Option<PathBuf>,
    /// Connections at a time over TCP; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Longest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// How long a head may take, and how long an idle connection is kept.
    pub head_time_max: Duration,
    /// How long a body may take.
    pub body_time_max: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            socket: None,
            connections_max: 1_024,
            head_bytes_max: 32 * 1024,
            head_time_max: Duration::from_secs(30),
            body_time_max: Duration::from_secs(20),
        }
    }
}

/// Why the web layer does not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A TCP address could not be bound.
    #[error("cannot listen on tcp {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket could not be made.
    #[error("cannot make the socket {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What every connection needs.
#[derive(Clone)]
struct Web {
    app: Arc<App>,
    routes: Router,
    head_bytes_max: usize,
    head_time_max: Duration,
}

/// A web layer at work. Dropping it closes the listeners and the connections.
#[derive(Debug)]
pub struct HttpServer {
    addresses: Vec<SocketAddr>,
    socket: Option<PathBuf>,
    _stop: watch::Sender<()>,
}

impl HttpServer {
    /// Starts listening; requests are answered from then on.
    ///
    /// * Errors: an address that is taken, a socket that cannot be made.
    pub async fn start(node: NodeHandle, settings: HttpSettings) -> Result<Self, HttpError> {
        let data = settings.socket.as_ref().and_then(|socket| socket.parent());
        let app = App::new(node, data.map(Path::to_owned), settings.body_time_max);
        let web = Web {
            routes: router(&app),
            app,
            head_bytes_max: settings.head_bytes_max,
            head_time_max: settings.head_time_max,
        };
        let (stop, stopped) = watch::channel(());
        let mut addresses = Vec::new();
        let places = Arc::new(Semaphore::new(settings.connections_max));
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let error = |source| HttpError::Bind { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(error)?;
            addresses.push(listener.local_addr().map_err(error)?);
            listeners.push(listener);
        }
        if let Some(path) = &settings.socket {
            let error = |source| HttpError::Socket { path: path.clone(), source };
            let (listener, uid) = bind_socket(path).map_err(error)?;
            tokio::spawn(serve_socket(listener, uid, web.clone(), stopped.clone()));
        }
        for listener in listeners {
            let places = Arc::clone(&places);
            tokio::spawn(serve_tcp(listener, places, web.clone(), stopped.clone()));
        }
        Ok(Self { addresses, socket: settings.socket, _stop: stop })
    }

    /// Where it listens, with the ports chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            // One that is left behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the socket under another name and moves it into place, so that it is never seen with other
/// rights than 0600.
///
/// * Returns the listener and the uid it belongs to.
fn bind_socket(path: &Path) -> io::Result<(UnixListener, u32)> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    let uid = std::fs::metadata(&fresh)?.uid();
    std::fs::rename(&fresh, path)?;
    Ok((listener, uid))
}

async fn serve_tcp(
    listener: TcpListener,
    places: Arc<Semaphore>,
    web: Web,
    mut stopped: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            web.app.refuse("too_many_connections");
            continue;
        };
        // A socket that cannot be told is only slower.
        let _ = stream.set_nodelay(true);
        let (web, end) = (web.clone(), stopped.clone());
        tokio::spawn(async move {
            serve_connection(stream, Origin::Network, web, end).await;
            drop(place);
        });
    }
}

async fn serve_socket(
    listener: UnixListener,
    uid: u32,
    web: Web,
    mut stopped: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Root may read any socket; the file's rights do not stop it, and need not.
        let peer = stream.peer_cred().map(|peer| peer.uid());
        if !peer.is_ok_and(|peer| peer == uid || peer == 0) {
            web.app.refuse("other_uid");
            continue;
        }
        tokio::spawn(serve_connection(stream, Origin::Socket, web.clone(), stopped.clone()));
    }
}

async fn serve_connection<S>(stream: S, origin: Origin, web: Web, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Web { app, routes, head_bytes_max, head_time_max } = web;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin);
        routes.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .max_buf_size(head_bytes_max)
        .keep_alive(true);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let served = tokio::select! {
        biased;
        _ = stopped.changed() => return,
        served = connection => served,
    };
    if let Err(error) = served {
        let reason = if error.is_parse_too_large() {
            "head_too_large"
        } else if error.is_parse() {
            "not_http"
        } else if error.is_timeout() {
            "head_too_slow"
        } else {
            "connection_broken"
        };
        app.refuse(reason);
    }
}
