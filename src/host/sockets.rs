//! The sockets of a node: bound at its start, closed with it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cluster::identity::PeerAddress;
use node::Input;

use crate::net::Datagrams;
use crate::runtime::{AsyncRuntime, MpscSender, Tx};
use crate::service::{Event, StartError};
use crate::world::World;

/// The largest UDP datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Where others reach it, with the port it listens on if none was given.
pub(crate) fn advertised(text: &str, bound: Option<SocketAddr>) -> Result<PeerAddress, StartError> {
    let error = |why: String| StartError::Address { text: text.to_owned(), why };
    let port = bound.map_or(0, |bound| bound.port());
    let text = match text.strip_suffix(":0") {
        Some(host) => format!("{host}:{port}"),
        None => text.to_owned(),
    };
    text.parse().map_err(|why: cluster::identity::PeerAddressError| error(why.to_string()))
}

/// Binds the first port for other nodes that is free.
pub(crate) async fn bind_peers<W: World>(
    world: &W,
    candidates: &[SocketAddr],
) -> Result<Option<W::Listener>, StartError> {
    for address in candidates {
        match world.bind_listener(*address).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => {
                return Err(StartError::Bind { what: "tcp", address: *address, source });
            }
        }
    }
    match (candidates.first(), candidates.last()) {
        (Some(first), Some(last)) => {
            Err(StartError::PortRange { first: first.port(), last: last.port() })
        }
        _ => Ok(None),
    }
}

pub(crate) async fn bind_gateways<W: World>(
    world: &W,
    addresses: &[SocketAddr],
) -> Result<Vec<Arc<W::Datagrams>>, StartError> {
    let mut sockets = Vec::new();
    for address in addresses {
        let bound = world.bind_datagrams(*address).await;
        let error = |source| StartError::Bind { what: "udp", address: *address, source };
        sockets.push(Arc::new(bound.map_err(error)?));
    }
    Ok(sockets)
}

pub(crate) async fn bind_mqtt<W: World>(
    world: &W,
    addresses: &[SocketAddr],
) -> Result<Vec<W::Listener>, StartError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = world.bind_listener(*address).await;
        let error = |source| StartError::Bind { what: "tcp", address: *address, source };
        listeners.push(bound.map_err(error)?);
    }
    Ok(listeners)
}

pub(crate) async fn receive<W: World>(
    listener: u8,
    socket: Arc<W::Datagrams>,
    events: Tx<W::Runtime, Event<W::Runtime>>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((length, from)) = socket.recv(&mut buffer).await else {
            W::Runtime::sleep(clock::Duration::from_millis(1)).await;
            continue;
        };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let input = Input::Datagram { listener, from, bytes };
        if events.send(Event::Input(input)).await.is_err() {
            return;
        }
    }
}
