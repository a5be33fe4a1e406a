//! An MQTT client with a persistent session that comes back whenever the server does, or goes to
//! the next one if there are several.
//!
//! What it has taken it has noted before it acknowledges it, as a careful application would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mqtt::{Client, ClientConfig, ClientEvent, Qos};

/// How long a read waits, and so how late a deadline may be seen.
const TICK: Duration = Duration::from_millis(20);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// What is done with a message before it is acknowledged.
type Sink = Box<dyn FnMut(Delivery) + Send>;

#[derive(Debug, Default)]
struct Shared {
    subscribed: AtomicBool,
    /// When it was taken in, by whom, and whether its session was there.
    visits: Mutex<Vec<(Instant, SocketAddr, bool)>>,
    stop: AtomicBool,
}

/// A subscriber at work; it ends when dropped.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Connects, subscribes with QoS 1 and returns once the broker has taken the subscription.
    pub fn start(broker: SocketAddr, config: ClientConfig, filter: &str) -> Self {
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let kept = Arc::clone(&deliveries);
        let keep = move |one| kept.lock().expect("nobody panics with it").push(one);
        let mut subscriber = Self::roaming(vec![broker], config, filter, keep);
        subscriber.deliveries = deliveries;
        subscriber
    }

    /// The same on several servers, one after the other when one is gone; `sink` takes the
    /// messages, and [`Self::deliveries`] stays empty.
    pub fn roaming(
        brokers: Vec<SocketAddr>,
        config: ClientConfig,
        filter: &str,
        sink: impl FnMut(Delivery) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, filter) = (Arc::clone(&shared), filter.to_owned());
        let thread =
            std::thread::spawn(move || run(&mine, &brokers, config, &filter, Box::new(sink)));
        let subscriber = Self { shared, deliveries: Arc::default(), thread: Some(thread) };
        crate::eventually("the subscription", Duration::from_secs(10), || {
            subscriber.shared.subscribed.load(Ordering::Acquire).then_some(())
        });
        subscriber
    }

    /// When it was taken in, by which server, and whether its session was there.
    pub fn visits(&self) -> Vec<(Instant, SocketAddr, bool)> {
        self.shared.visits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything delivered so far, repetitions included.
    pub fn deliveries(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Shared,
    brokers: &[SocketAddr],
    config: ClientConfig,
    filter: &str,
    mut sink: Sink,
) {
    let origin = Instant::now();
    let now = || clock::Instant::ZERO + origin.elapsed();
    let mut client = Client::new(now(), config);
    let mut first = true;
    for broker in brokers.iter().cycle() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(mut stream) = TcpStream::connect(broker) else {
            std::thread::sleep(TICK);
            continue;
        };
        if !std::mem::take(&mut first) {
            client.reconnect(now());
        }
        serve(shared, &mut stream, &mut client, filter, &now, &mut sink);
        client.handle_end();
        while client.poll_event().is_some() {}
        // Whoever refuses, as a node without a quorum does, is not asked in a circle.
        std::thread::sleep(TICK);
    }
}

/// One connection, until it ends.
fn serve(
    shared: &Shared,
    stream: &mut TcpStream,
    client: &mut Client,
    filter: &str,
    now: &dyn Fn() -> clock::Instant,
    sink: &mut Sink,
) {
    if stream.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let mut buffer = vec![0; 64 * 1024];
    while !shared.stop.load(Ordering::Acquire) {
        while let Some(event) = client.poll_event() {
            if let ClientEvent::Connected(connack) = &event
                && let Ok(server) = stream.peer_addr()
            {
                let visit = (Instant::now(), server, connack.session_present);
                shared.visits.lock().expect("nobody panics with it").push(visit);
            }
            match event {
                ClientEvent::Connected(connack) if !connack.session_present => {
                    client.subscribe(now(), &[(filter, Qos::AtLeastOnce)]).expect("connected");
                }
                ClientEvent::Subscribed(_) => shared.subscribed.store(true, Ordering::Release),
                ClientEvent::Message(message) => {
                    let topic = message.topic.as_str().to_owned();
                    sink(Delivery { topic, payload: message.payload.to_vec() });
                }
                ClientEvent::Closed(_) => return,
                ClientEvent::Connected(_)
                | ClientEvent::Published(..)
                | ClientEvent::Unsubscribed(_) => {}
            }
        }
        while let Some(bytes) = client.poll_transmit() {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => client.handle_bytes(now(), &buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        client.handle_timeout(now());
    }
}
