//! Multicast: who has joined gets it, over a link of its own.

use super::*;

const GROUP: Ipv4Addr = Ipv4Addr::new(230, 1, 1, 1);
const PORT: u16 = 45_900;

/// Three hosts, of which those in `joined` have joined; host 1 sends ten datagrams over links that
/// `change` has changed. Returns the numbers each host got.
fn beacons(
    seed: u64,
    joined: &'static [u8],
    change: impl FnOnce(&Net, &[NodeHandle]),
) -> (Vec<Vec<u8>>, Counts) {
    run(seed, async move {
        let net = Net::start();
        let hosts: Vec<NodeHandle> = (1..=3).map(|number| host(&net, number)).collect();
        change(&net, &hosts);
        let mut heard = Vec::new();
        for (number, host) in (1..).zip(&hosts) {
            let got: Shared<Vec<u8>> = Shared::default();
            heard.push(Arc::clone(&got));
            host.spawn(async move {
                let socket = UdpSocket::bind(address(number, PORT)).unwrap();
                if joined.contains(&number) {
                    socket.join_multicast(GROUP).unwrap();
                }
                if number == 1 {
                    ms(10).await;
                    for beacon in 0..10 {
                        socket.send_to(SocketAddr::from((GROUP, PORT)), &[beacon]).unwrap();
                        ms(10).await;
                    }
                }
                while let Ok((payload, from)) = socket.recv_from().await {
                    assert_eq!(from, address(1, PORT));
                    held(&got).push(payload[0]);
                }
            });
        }
        ms(500).await;
        (heard.iter().map(|got| held(got).clone()).collect(), net.counts())
    })
}

#[test]
fn a_group_reaches_its_members_and_the_sender_only_if_it_is_one() {
    let all: Vec<u8> = (0..10).collect();
    let (heard, counts) = beacons(1, &[2, 3], |_, _| ());
    assert_eq!(heard, [vec![], all.clone(), all.clone()]);
    assert_eq!((counts.sent, counts.delivered, counts.unclaimed), (10, 20, 0));
    assert_eq!(beacons(1, &[1, 2], |_, _| ()).0, [all.clone(), all, vec![]]);
    let (heard, counts) = beacons(1, &[], |_, _| ());
    assert_eq!((heard.concat(), counts.unclaimed), (vec![], 10));
}

#[test]
fn each_member_has_a_link_of_its_own() {
    let (heard, _) = beacons(1, &[2, 3], |net, hosts| net.cut(hosts[0].id(), hosts[1].id()));
    assert_eq!(heard, [vec![], vec![], (0..10).collect::<Vec<_>>()]);
    let lossy = |net: &Net, _: &[NodeHandle]| {
        net.set_quality(Quality { loss: 0.5, ..Quality::default() });
    };
    let (heard, counts) = beacons(2, &[2, 3], lossy);
    assert!((4..16).contains(&counts.lost), "{counts:?}");
    assert_ne!(heard[1], heard[2], "what one link loses the other may carry");
    assert_eq!(beacons(2, &[2, 3], lossy).0, heard);
    assert_eq!(beacons(2, &[2], lossy).0[1], heard[1], "other members shift nothing");
}

#[test]
fn a_socket_leaves_its_groups_by_asking_by_closing_and_by_dying() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let members = || held(&net.inner).groups.values().map(BTreeSet::len).sum::<usize>();
        let task = two.spawn(async {
            let socket = UdpSocket::bind(address(2, PORT)).unwrap();
            let kind = |answer: io::Result<()>| answer.unwrap_err().kind();
            let no_group = Ipv4Addr::new(10, 0, 0, 9);
            assert_eq!(kind(socket.join_multicast(no_group)), io::ErrorKind::InvalidInput);
            assert_eq!(kind(socket.leave_multicast(GROUP)), io::ErrorKind::AddrNotAvailable);
            socket.join_multicast(GROUP).unwrap();
            assert_eq!(kind(socket.join_multicast(GROUP)), io::ErrorKind::AddrInUse);
            for last in 2..21 {
                socket.join_multicast(Ipv4Addr::new(230, 1, 1, last)).unwrap();
            }
            let one_more = Ipv4Addr::new(230, 1, 1, 21);
            assert_eq!(kind(socket.join_multicast(one_more)), io::ErrorKind::QuotaExceeded);
            socket
        });
        let socket = task.await.unwrap();
        assert_eq!(members(), 20);
        let send = one.spawn(async {
            let socket = UdpSocket::bind(address(1, 0)).unwrap();
            socket.send_to(SocketAddr::from((GROUP, PORT)), b"late").unwrap();
        });
        send.await.unwrap();
        socket.leave_multicast(GROUP).unwrap();
        ms(10).await;
        assert_eq!((members(), net.counts().unclaimed), (19, 1), "left while it was under way");
        drop(socket);
        assert_eq!(members(), 0);
        let task = two.spawn(async {
            let socket = UdpSocket::bind(address(2, PORT)).unwrap();
            socket.join_multicast(GROUP).unwrap();
            std::future::pending::<()>().await;
        });
        ms(1).await;
        assert_eq!(members(), 1);
        Handle::current().kill(two.id());
        assert_eq!(members(), 0);
        drop(task);
    });
}
