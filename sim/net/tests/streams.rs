//! Streams that middleboxes, black holes and dead machines end.

use super::*;

/// Host 2 accepts connections and keeps them, reading nothing.
fn accept_all(host: &NodeHandle) -> Shared<Vec<(IpAddr, TcpStream)>> {
    let accepted: Shared<Vec<_>> = Shared::default();
    let out = Arc::clone(&accepted);
    host.spawn(async move {
        let mut listener = TcpListener::bind(address(2, 1_883)).unwrap();
        while let Ok((stream, peer)) = listener.accept().await {
            held(&out).push((peer.ip(), stream));
        }
    });
    accepted
}

async fn call(host: &NodeHandle) -> io::Result<TcpStream> {
    host.spawn(TcpStream::connect(address(2, 1_883))).await.unwrap()
}

/// How a read ends, and when.
fn reading(host: &NodeHandle, mut reader: TcpReader) -> Shared<Option<(io::ErrorKind, Duration)>> {
    let ended: Shared<Option<_>> = Shared::default();
    let out = Arc::clone(&ended);
    host.spawn(async move {
        let error = reader.read(10).await.unwrap_err();
        *held(&out) = Some((error.kind(), virtual_now()));
    });
    ended
}

#[test]
fn a_middlebox_resets_every_stream_of_a_host_at_both_ends_and_no_other() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let three = host(&net, 3);
        let accepted = accept_all(&two);
        ms(1).await;
        let (from_one, from_three) = (call(&one).await.unwrap(), call(&three).await.unwrap());
        let to_itself = call(&two).await.unwrap();
        ms(10).await;
        // The links are cut: the reset does not come from the peer.
        net.cut(one.id(), two.id());
        net.cut(two.id(), one.id());
        let calling = one.spawn(TcpStream::connect(address(2, 1_883)));
        ms(1).await;
        assert_eq!(net.reset_streams(one.id()), 2, "a call under way is one");
        assert_eq!(calling.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let ends: Vec<_> = std::mem::take(&mut *held(&accepted));
        let mut readers = vec![from_one.split().0];
        let (ours, others): (Vec<_>, Vec<_>) =
            ends.into_iter().partition(|(peer, _)| *peer == address(1, 0).ip());
        readers.extend(ours.into_iter().map(|(_, stream)| stream.split().0));
        assert_eq!(readers.len(), 2);
        for mut reader in readers {
            let error = reader.read(1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        for (_, stream) in others {
            stream.split().1.write_all(b"x").await.unwrap();
        }
        for stream in [from_three, to_itself] {
            assert_eq!(stream.split().0.read(1).await.unwrap(), b"x".as_slice());
        }
        ms(100_000).await;
        assert!(held(&net.inner).connections.is_empty(), "all of it is forgotten");
        net.mend(one.id(), two.id());
        net.mend(two.id(), one.id());
        call(&one).await.unwrap();
    });
}

#[test]
fn a_black_hole_swallows_streams_and_lets_datagrams_pass() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let accepted = accept_all(&two);
        let got = collector(&two);
        ms(1).await;
        let (reader, mut writer) = call(&one).await.unwrap().split();
        writer.write_all(&[7; 10]).await.unwrap();
        ms(10).await;
        net.stall(one.id(), two.id());
        let start = virtual_now();
        let written: Shared<usize> = Shared::default();
        let count = Arc::clone(&written);
        let writing = one.spawn(async move {
            let mut writer = writer;
            loop {
                if let Err(error) = writer.write_all(&[7; 1_024]).await {
                    return (error.kind(), virtual_now());
                }
                *held(&count) += 1_024;
            }
        });
        volley(&one, 5).await;
        ms(1_000).await;
        assert_eq!(held(&got).len(), 5, "datagrams pass");
        assert_eq!(*held(&written), tcp_end::WINDOW - 1_024, "the writer sees a full window");
        net.unstall(one.id(), two.id());
        let (mut theirs, mut back) = held(&accepted).pop().unwrap().1.split();
        assert_eq!(theirs.read(100).await.unwrap().len(), 10, "what came before the hole");
        back.write_all(b"y").await.unwrap();
        let silent = reading(&two, theirs);
        let fresh = call(&one).await.unwrap();
        let (kind, at) = writing.await.unwrap();
        assert_eq!(kind, io::ErrorKind::TimedOut);
        let took = at - start;
        let patience = tcp_end::PATIENCE;
        assert!(patience <= took && took < patience + Duration::from_secs(1), "{took:?}");
        assert_eq!(*held(&silent), None, "nothing of it arrives later either");
        assert_eq!(net.counts().resent, 0);
        drop((reader, fresh));
    });
}

#[test]
fn a_call_into_a_black_hole_times_out_in_either_direction() {
    for there in [true, false] {
        run(1, async move {
            let (net, [one, two]) = hosts();
            accept_all(&two);
            ms(1).await;
            let (from, to) = if there { (&one, &two) } else { (&two, &one) };
            net.stall(from.id(), to.id());
            let start = virtual_now();
            assert_eq!(call(&one).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            let took = virtual_now() - start;
            assert!((72..74).contains(&took.as_secs()), "{took:?}");
            net.unstall(from.id(), to.id());
            call(&one).await.unwrap();
        });
    }
}

#[test]
fn an_end_that_only_listens_never_learns_that_its_peer_lost_power() {
    run(1, async {
        let (net, [one, two]) = hosts();
        accept_all(&two);
        ms(1).await;
        let (reader, mut writer) = call(&one).await.unwrap().split();
        let listening = reading(&one, reader);
        net.announce_death(two.id(), Death::Power);
        Handle::current().kill(two.id());
        ms(600_000).await;
        assert_eq!(*held(&listening), None, "half-open");
        Handle::current().restart(two.id());
        ms(600_000).await;
        accept_all(&Handle::current().get_node(two.id()).unwrap());
        ms(600_000).await;
        assert_eq!(*held(&listening), None, "the next boot knows nothing of it");
        let start = virtual_now();
        writer.write_all(b"still there?").await.unwrap();
        ms(10).await;
        let (kind, at) = held(&listening).unwrap();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        assert!(at - start < Duration::from_millis(5), "at the first word");
    });
}
