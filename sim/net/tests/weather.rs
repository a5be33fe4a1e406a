//! Noises come and go without a trace; taps see everything and change nothing.

use super::*;

/// The links of three hosts, as they are after `story`.
fn links(story: impl FnOnce(&Net, [NodeId; 3])) -> Vec<Quality> {
    run(1, async move {
        let net = Net::start();
        let ids = [1, 2, 3].map(|number| host(&net, number).id());
        net.change_link(ids[0], ids[1], |link| link.loss = 0.1);
        story(&net, ids);
        let mut inner = held(&net.inner);
        let mut quality = |from: usize, to: usize| inner.link(ids[from], ids[to]).quality.clone();
        [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (0, 0)].map(|(a, b)| quality(a, b)).to_vec()
    })
}

fn lossy(loss: f64) -> Noise {
    Noise { loss: Some(loss), ..Noise::default() }
}

#[test]
fn noises_overlap_nest_and_leave_no_trace_in_any_order() {
    let calm = links(|_, _| ());
    let us = Duration::from_micros;
    let storm = Noise {
        loss: Some(0.3),
        duplicate: Some(0.2),
        corrupt: Some(0.4),
        latency: Some(us(1_000)..us(5_000)),
        bandwidth: Some(1_000),
        mtu: Some(576),
        ..Noise::default()
    };
    let both = links(|net, _| {
        net.lay(lossy(0.05));
        net.lay(storm.clone());
        net.lay(lossy(0.2));
        net.lay(Noise { latency: Some(us(1)..us(2)), bandwidth: Some(5_000), ..Noise::default() });
    });
    assert_eq!(both[0].loss, 0.3, "the worst counts");
    assert_eq!(both[0].latency, us(1_101)..us(5_902), "latencies add up");
    assert_eq!((both[0].bandwidth, both[0].mtu), (Some(1_000), 576));
    assert_eq!((both[0].duplicate, both[0].corrupt), (0.2, 0.4));
    assert_eq!(both[5], calm[5], "a host hears itself as ever");
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let after = links(|net, _| {
            let ids = [lossy(0.05), storm.clone(), lossy(0.2)].map(|noise| net.lay(noise));
            order.into_iter().for_each(|place| net.lift(ids[place]));
            net.lift(ids[0]);
        });
        assert_eq!(after, calm);
    }
    let weak = links(|net, _| {
        let strong = net.lay(storm.clone());
        net.lay(lossy(0.05));
        net.lift(strong);
    });
    assert_eq!((weak[0].loss, weak[1].loss), (0.1, 0.05), "a noise makes nothing better");
}

#[test]
fn a_noise_lies_on_the_links_it_names_and_what_changes_beneath_it_stays_changed() {
    let from_one = links(|net, [one, ..]| {
        net.lay(Noise { from: Some(one), ..lossy(0.5) });
    });
    assert_eq!(from_one.iter().map(|q| q.loss).collect::<Vec<_>>(), [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
    let to_one = links(|net, [one, two, _]| {
        net.lay(Noise { from: Some(two), to: Some(one), ..lossy(0.5) });
    });
    assert_eq!(to_one.iter().map(|q| q.loss).collect::<Vec<_>>(), [0.1, 0.5, 0.0, 0.0, 0.0, 0.0]);
    let changed = links(|net, [one, two, _]| {
        let noise = net.lay(lossy(0.5));
        net.change_link(two, one, |link| link.loss = 0.7);
        net.set_quality(Quality { loss: 0.01, ..Quality::default() });
        net.lift(noise);
    });
    assert_eq!(
        changed.iter().map(|q| q.loss).collect::<Vec<_>>(),
        [0.1, 0.7, 0.01, 0.01, 0.01, 0.0]
    );
}

#[test]
fn a_noise_strikes_while_it_lies_and_shifts_nothing_afterwards() {
    let story = |noise: Option<Noise>| {
        run(3, async move {
            let (net, hosts) = hosts();
            let got = collector(&hosts[1]);
            ms(10).await;
            let id = noise.map(|noise| net.lay(noise));
            volley(&hosts[0], 100).await;
            ms(100).await;
            id.into_iter().for_each(|id| net.lift(id));
            let before = held(&got).len();
            let lost = net.counts().lost;
            let start = virtual_now();
            volley(&hosts[0], 100).await;
            ms(100).await;
            let after = held(&got)[before..].to_vec();
            let after: Vec<u8> = after.into_iter().map(|(_, number)| number).collect();
            (before, lost, net.counts().lost - lost, after, start)
        })
    };
    let noisy = story(Some(lossy(0.5)));
    assert!((30..70).contains(&noisy.0) && noisy.1 == 100 - noisy.0 as u64, "{noisy:?}");
    assert_eq!(noisy.2, 0, "nothing is lost when it has passed");
    assert_eq!(noisy, story(Some(lossy(0.5))));
    let calm = story(None);
    assert_eq!((calm.0, calm.1), (100, 0));
    assert_eq!(calm.3, noisy.3, "each packet has the latency it would have had");
}

#[test]
fn bandwidth_that_is_back_is_not_held_up_by_what_waited_for_it() {
    run(1, async {
        let (net, hosts) = hosts();
        net.set_quality(Quality { bandwidth: Some(1_000_000), ..Quality::default() });
        let got = collector(&hosts[1]);
        ms(10).await;
        let id = net.lay(Noise { bandwidth: Some(1), ..Noise::default() });
        volley(&hosts[0], 20).await;
        net.lift(id);
        volley(&hosts[0], 1).await;
        ms(10).await;
        assert_eq!(held(&got).len(), 1);
        ms(30_000).await;
        assert_eq!(held(&got).len(), 21, "what was under way keeps its time");
    });
}

type Line = (u8, SocketAddr, SocketAddr, Vec<u8>);

#[test]
fn taps_see_what_is_sent_and_what_is_delivered() {
    run(5, async {
        let (net, [one, two]) = hosts();
        net.change_link(one.id(), two.id(), |link| {
            *link = Quality { loss: 0.3, duplicate: 0.3, corrupt: 0.3, ..link.clone() };
        });
        let lines: [Shared<Vec<Line>>; 2] = Default::default();
        let [sent, delivered] = lines.clone();
        let first = one.id();
        let number = move |node| if node == first { 1 } else { 2 };
        net.set_tap(Box::new(move |seen| {
            let line = (number(seen.node), seen.from, seen.to, seen.payload.to_vec());
            held(&sent).push(line);
        }));
        net.set_delivery_tap(Box::new(move |seen| {
            let line = (number(seen.node), seen.from, seen.to, seen.payload.to_vec());
            held(&delivered).push(line);
        }));
        let got: Shared<Vec<Vec<u8>>> = Shared::default();
        let out = Arc::clone(&got);
        two.spawn(async move {
            let socket = UdpSocket::bind(address(2, 1_700)).unwrap();
            while let Ok((payload, _)) = socket.recv_from().await {
                held(&out).push(payload.to_vec());
            }
        });
        ms(1).await;
        volley(&one, 100).await;
        ms(100).await;
        let [sent, delivered] = lines.each_ref().map(|lines| held(lines).clone());
        assert!(sent.iter().map(|line| line.3[0]).eq(0..100));
        assert!(sent.iter().all(|line| line.0 == 1 && line.2 == address(2, 1_700)));
        let seen: Vec<Vec<u8>> = delivered.iter().map(|line| line.3.clone()).collect();
        assert_eq!(seen, *held(&got), "after loss, duplication and corruption");
        assert_ne!(seen.len(), 100);
        assert!(delivered.iter().all(|line| (line.0, line.2) == (2, address(2, 1_700))));
        assert_eq!(delivered.len() as u64, net.counts().delivered);
    });
}

#[test]
fn a_stream_tap_sees_each_byte_once_and_in_order_though_segments_are_lost() {
    let seen: Shared<[Vec<u8>; 2]> = Shared::default();
    let out = Arc::clone(&seen);
    echo_takes_over(2, move |net| {
        net.set_quality(Quality { loss: 0.2, ..Quality::default() });
        net.set_stream_tap(Box::new(move |sent| {
            let side = usize::from(sent.from.ip() == address(2, 0).ip());
            assert_eq!(sent.to.ip(), address([2, 1][side], 0).ip());
            held(&out)[side].extend_from_slice(sent.payload);
        }));
    });
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert!(held(&seen).iter().all(|bytes| *bytes == sent), "there and back");
}
