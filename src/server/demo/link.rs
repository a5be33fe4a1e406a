//! An MQTT client on a real TCP connection: crate `mqtt`'s [`Client`] driven by tokio.
//!
//! One task owns socket and client. Messages come out of a channel, publications go into one; the
//! task ends with the connection or when both channels are dropped.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use host::world::World;
use mqtt::{Client, ClientConfig, ClientEvent, Publish, Qos, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::world::RealWorld;

/// Messages and publications that wait.
const QUEUE_MAX: usize = 1_024;
/// Bytes read at once.
const READ_MAX: usize = 16 * 1024;

/// A message that was delivered.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
}

/// A connection that has subscribed.
#[derive(Debug)]
pub struct Link {
    publications: mpsc::Sender<Publish>,
    messages: mpsc::Receiver<Message>,
}

impl Link {
    /// Connects, subscribes with QoS 1 and waits until the broker has taken the subscriptions.
    ///
    /// * Errors: no connection; a refusal, as [`io::ErrorKind::PermissionDenied`].
    pub async fn open(
        broker: SocketAddr,
        config: ClientConfig,
        filters: &[&str],
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let world = RealWorld::without_folder();
        let client = Client::new(world.now().instant, config);
        let (publications, to_publish) = mpsc::channel(QUEUE_MAX);
        let (deliver, messages) = mpsc::channel(QUEUE_MAX);
        let mut task = Task { world, stream, client, deliver };
        task.subscribe(filters).await?;
        tokio::spawn(task.run(to_publish));
        Ok(Self { publications, messages })
    }

    /// The next message; `None` when the connection has ended.
    pub async fn message(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Publishes with QoS 1.
    ///
    /// * Errors: no topic, too many wait, the connection has ended.
    pub fn publish(&self, topic: &str, payload: Vec<u8>) -> io::Result<()> {
        let topic = TopicName::parse(topic).map_err(io::Error::other)?;
        self.publications.try_send(Publish::new(topic, payload)).map_err(io::Error::other)
    }
}

struct Task {
    world: RealWorld,
    stream: TcpStream,
    client: Client,
    deliver: mpsc::Sender<Message>,
}

impl Task {
    async fn subscribe(&mut self, filters: &[&str]) -> io::Result<()> {
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, Qos::AtLeastOnce)).collect();
        loop {
            self.flush().await?;
            self.read().await?;
            while let Some(event) = self.client.poll_event() {
                match event {
                    ClientEvent::Connected(_) => {
                        let now = self.world.now().instant;
                        self.client.subscribe(now, &filters).map_err(io::Error::other)?;
                    }
                    ClientEvent::Subscribed(suback) => {
                        let refused = suback.reasons.iter().find(|reason| reason.is_error());
                        return refused.map_or(Ok(()), |reason| Err(denied(format!("{reason:?}"))));
                    }
                    ClientEvent::Closed(why) => return Err(denied(why.to_string())),
                    ClientEvent::Message(publish) => self.hand_over(publish).await,
                    ClientEvent::Published(..) | ClientEvent::Unsubscribed(_) => {}
                }
            }
        }
    }

    async fn run(mut self, mut to_publish: mpsc::Receiver<Publish>) {
        loop {
            while let Some(event) = self.client.poll_event() {
                match event {
                    ClientEvent::Message(publish) => self.hand_over(publish).await,
                    ClientEvent::Closed(_) => return,
                    ClientEvent::Connected(_)
                    | ClientEvent::Published(..)
                    | ClientEvent::Subscribed(_)
                    | ClientEvent::Unsubscribed(_) => {}
                }
            }
            if self.flush().await.is_err() {
                return;
            }
            let now = self.world.now().instant;
            let due = self.client.poll_timeout().map_or(now, |(at, _)| at);
            let clock = self.world.clone();
            tokio::select! {
                read = self.read() => if read.is_err() { return },
                publish = to_publish.recv() => {
                    let Some(publish) = publish else { return self.leave().await };
                    let now = self.world.now().instant;
                    // Full only if the broker does not answer for long; the newest is kept.
                    let _ = self.client.publish(now, publish, Qos::AtLeastOnce);
                }
                () = clock.sleep_until(due) => self.client.handle_timeout(clock.now().instant),
            }
        }
    }

    async fn hand_over(&mut self, publish: Publish) {
        let topic = publish.topic.as_str().to_owned();
        // Nobody listens any more: the other channel ends the task.
        let _ = self.deliver.send(Message { topic, payload: publish.payload }).await;
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.client.poll_transmit() {
            self.stream.write_all(&bytes).await?;
        }
        Ok(())
    }

    /// Cancel-safe: nothing is lost between reading and handing in.
    async fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_MAX];
        let length = self.stream.read(&mut buffer).await?;
        if length == 0 {
            self.client.handle_end();
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.client.handle_bytes(self.world.now().instant, &buffer[..length]);
        Ok(())
    }

    async fn leave(mut self) {
        self.client.disconnect(self.world.now().instant);
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }
}

fn denied(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
