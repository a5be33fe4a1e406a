//! The network as its users see it: times are virtual, and every run is from a literal seed.

mod groups;
mod paused;
mod streams;
mod weather;

use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};

use super::*;
use crate::clocks::virtual_now;
use crate::runtime::{machine_room, sleep_virtual};

type Shared<T> = Arc<Mutex<T>>;

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn host(net: &Net, number: u8) -> NodeHandle {
    let host = Handle::current().create_node().build();
    net.attach(host.id(), address(number, 0).ip());
    host
}

fn hosts() -> (Arc<Net>, [NodeHandle; 2]) {
    let net = Net::start();
    let hosts = [1, 2].map(|number| host(&net, number));
    (net, hosts)
}

fn run<F: Future>(seed: u64, story: F) -> F::Output {
    machine_room(seed).block_on(story)
}

async fn ms(millis: u64) {
    sleep_virtual(Duration::from_millis(millis)).await;
}

/// Host 2 collects the first byte of each datagram, with the virtual time.
fn collector(host: &NodeHandle) -> Shared<Vec<(Duration, u8)>> {
    let got: Shared<Vec<(Duration, u8)>> = Shared::default();
    let out = Arc::clone(&got);
    host.spawn(async move {
        let socket = UdpSocket::bind(address(2, 1_700)).unwrap();
        while let Ok((payload, from)) = socket.recv_from().await {
            assert_eq!(from.ip(), address(1, 0).ip());
            held(&out).push((virtual_now(), payload[0]));
        }
    });
    got
}

/// Host 1 sends `count` numbered datagrams at once.
async fn volley(host: &NodeHandle, count: u8) {
    let task = host.spawn(async move {
        let socket = UdpSocket::bind(address(1, 0)).unwrap();
        for number in 0..count {
            socket.send_to(address(2, 1_700), &[number]).unwrap();
        }
    });
    task.await.unwrap();
}

/// What arrives of 100 datagrams over a link changed by `change`.
fn arrivals(seed: u64, change: impl FnOnce(&mut Quality)) -> (Vec<(Duration, u8)>, Counts) {
    run(seed, async {
        let (net, hosts) = hosts();
        net.change_link(hosts[0].id(), hosts[1].id(), change);
        let got = collector(&hosts[1]);
        ms(10).await;
        volley(&hosts[0], 100).await;
        ms(500).await;
        let got = held(&got).clone();
        (got, net.counts())
    })
}

#[test]
fn a_quiet_link_delivers_everything_within_its_latency() {
    let (got, counts) = arrivals(1, |_| ());
    assert_eq!(got.len(), 100);
    assert!(got.iter().all(|(at, _)| (10_000..11_000).contains(&at.as_micros())), "{got:?}");
    assert!(!got.is_sorted_by_key(|&(_, number)| number), "latency reorders datagrams");
    assert_eq!((counts.sent, counts.delivered, counts.lost), (100, 100, 0));
}

#[test]
fn a_bad_link_loses_doubles_and_corrupts_and_replays_from_its_seed() {
    let bad = |quality: &mut Quality| {
        *quality = Quality { loss: 0.2, duplicate: 0.2, corrupt: 0.2, ..quality.clone() };
    };
    let (got, counts) = arrivals(7, bad);
    assert!((10..30).contains(&counts.lost), "{counts:?}");
    assert!((8..30).contains(&counts.duplicated), "{counts:?}");
    assert!((8..30).contains(&counts.corrupted), "{counts:?}");
    assert_eq!(got.len() as u64, 100 - counts.lost + counts.duplicated);
    assert_eq!(arrivals(7, bad).0, got);
    assert_ne!(arrivals(8, bad).0, got);
}

#[test]
fn a_cut_takes_what_is_under_way_in_one_direction_only() {
    run(1, async {
        let (net, hosts) = hosts();
        let got = collector(&hosts[1]);
        net.change_link(hosts[0].id(), hosts[1].id(), |link| {
            link.latency = Duration::from_millis(50)..Duration::from_millis(51);
        });
        ms(10).await;
        volley(&hosts[0], 3).await;
        net.cut(hosts[0].id(), hosts[1].id());
        net.mend(hosts[0].id(), hosts[1].id());
        ms(100).await;
        assert_eq!(held(&got).len(), 0, "cut in flight, though mended before the arrival");
        net.cut(hosts[1].id(), hosts[0].id());
        volley(&hosts[0], 3).await;
        ms(100).await;
        assert_eq!(held(&got).len(), 3, "the other direction is not touched");
    });
}

#[test]
fn a_full_queue_drops_and_a_received_datagram_survives_a_cancelled_receive() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let socket = two.spawn(async { UdpSocket::bind(address(2, 1_700)).unwrap() });
        let socket = socket.await.unwrap();
        for _ in 0..11 {
            volley(&one, 100).await;
            ms(5).await;
        }
        assert_eq!(net.counts().overflowed, 1_100 - 1_024);
        {
            let cancelled = socket.recv_from();
            drop(cancelled);
        }
        let (payload, _) = socket.recv_from().await.unwrap();
        assert!(payload[0] < 100);
    });
}

#[test]
fn sockets_die_with_their_host_and_leave_the_port_to_the_next_boot() {
    run(1, async {
        let (_net, [_, two]) = hosts();
        let socket = two.spawn(async { UdpSocket::bind(address(2, 1_700)).unwrap() });
        let old = socket.await.unwrap();
        Handle::current().kill(two.id());
        Handle::current().restart(two.id());
        let error = old.send_to(address(1, 1), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        let two = Handle::current().get_node(two.id()).unwrap();
        let task = two.spawn(async move {
            let socket = UdpSocket::bind(address(2, 1_700)).unwrap();
            drop(old);
            let again = UdpSocket::bind(address(2, 1_700)).unwrap_err();
            drop(socket);
            again.kind()
        });
        assert_eq!(task.await.unwrap(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_tap_sees_what_the_link_then_loses() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let seen: Shared<Vec<Vec<u8>>> = Shared::default();
        let out = Arc::clone(&seen);
        net.set_tap(Box::new(move |sent| held(&out).push(sent.payload.to_vec())));
        net.cut(one.id(), two.id());
        volley(&one, 2).await;
        assert_eq!(*held(&seen), [[0], [1]]);
    });
}

/// Host 2 echoes everything of one connection.
fn echo(host: &NodeHandle) {
    host.spawn(async {
        let mut listener = TcpListener::bind(address(2, 1_883)).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        loop {
            let Ok(bytes) = reader.read(4_096).await else { return };
            if bytes.is_empty() {
                return;
            }
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}

/// Sends 200 kB through the echo over links of this quality, and returns the virtual time it took.
fn echo_takes(seed: u64, change: impl Fn(&mut Quality)) -> Duration {
    let mut quality = Quality::default();
    change(&mut quality);
    echo_takes_over(seed, |net| net.set_quality(quality))
}

fn echo_takes_over(seed: u64, prepare: impl FnOnce(&Net)) -> Duration {
    run(seed, async {
        let (net, [one, two]) = hosts();
        prepare(&net);
        echo(&two);
        ms(10).await;
        let task = one.spawn(async {
            let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let stream = TcpStream::connect(address(2, 1_883)).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let copy = sent.clone();
            let send = madsim::task::spawn(async move {
                writer.write_all(&copy).await.unwrap();
                writer.shutdown().unwrap();
                writer
            });
            let mut got = Vec::new();
            loop {
                let bytes = reader.read(1_000).await.unwrap();
                if bytes.is_empty() {
                    break;
                }
                got.extend_from_slice(&bytes);
            }
            send.await.unwrap();
            assert!(got == sent, "a stream neither loses nor reorders");
        });
        task.await.unwrap();
        virtual_now()
    })
}

#[test]
fn a_stream_is_whole_and_in_order_over_any_link() {
    assert!(echo_takes(1, |_| ()) < Duration::from_millis(200));
    let bad = |quality: &mut Quality| {
        quality.loss = 0.2;
        quality.corrupt = 0.1;
        quality.latency = Duration::from_millis(1)..Duration::from_millis(40);
    };
    let slow = echo_takes(2, bad);
    assert!(slow > Duration::from_millis(200), "{slow:?}: what was lost is sent again, later");
    assert_eq!(echo_takes(2, bad), slow);
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    run(1, async {
        let (_net, [one, two]) = hosts();
        let accepted = two.spawn(async {
            let mut listener = TcpListener::bind(address(2, 1_883)).unwrap();
            listener.accept().await.unwrap().0.split()
        });
        ms(10).await;
        let written: Shared<usize> = Shared::default();
        let count = Arc::clone(&written);
        one.spawn(async move {
            let (_reader, mut writer) =
                TcpStream::connect(address(2, 1_883)).await.unwrap().split();
            loop {
                writer.write_all(&[0; 1_024]).await.unwrap();
                *held(&count) += 1_024;
            }
        });
        let (mut reader, _writer) = accepted.await.unwrap();
        ms(1_000).await;
        assert_eq!(*held(&written), tcp_end::WINDOW);
        while held(&written).lt(&100_000) {
            assert!(!reader.read(10_000).await.unwrap().is_empty());
        }
    });
}

/// What the client's read returns after the server died, and when.
fn after_death(death: Death, restart: bool) -> (io::ErrorKind, Duration) {
    run(1, async move {
        let (net, [one, two]) = hosts();
        echo(&two);
        ms(10).await;
        let client = one.spawn(async {
            let stream = TcpStream::connect(address(2, 1_883)).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            ms(90).await;
            writer.write_all(b"still there?").await.ok();
            let error = reader.read(10).await.unwrap_err();
            (error.kind(), virtual_now())
        });
        ms(40).await;
        net.announce_death(two.id(), death);
        Handle::current().kill(two.id());
        if restart {
            ms(1_000).await;
            Handle::current().restart(two.id());
            echo(&Handle::current().get_node(two.id()).unwrap());
        }
        client.await.unwrap()
    })
}

#[test]
fn a_killed_process_resets_and_a_lost_machine_leaves_its_peers_half_open() {
    let (kind, at) = after_death(Death::Process, false);
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    assert!(at < Duration::from_millis(110), "{at:?}");
    let (kind, at) = after_death(Death::Power, true);
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    assert!((1_050..3_000).contains(&at.as_millis()), "learns it from the next boot: {at:?}");
    let (kind, at) = after_death(Death::Power, false);
    assert_eq!(kind, io::ErrorKind::TimedOut);
    assert!((60..120).contains(&at.as_secs()), "gives up: {at:?}");
}

#[test]
fn a_call_is_refused_where_nobody_listens_and_forgotten_afterwards() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let _up = two.spawn(async { UdpSocket::bind(address(2, 1)).unwrap() }).await.unwrap();
        let call = one.spawn(async { TcpStream::connect(address(2, 1_883)).await });
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nobody = one.spawn(async { TcpStream::connect(address(9, 1_883)).await });
        assert_eq!(nobody.await.unwrap().unwrap_err().kind(), io::ErrorKind::HostUnreachable);
        assert!(held(&net.inner).connections.is_empty());
    });
}
