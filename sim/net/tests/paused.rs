//! A host whose process is stopped (SIGSTOP): its kernel goes on, and so do its clocks.

use openraft_rt::AsyncRuntime as _;

use super::*;
use crate::clocks::Clocks;
use crate::dice::Seed as RunSeed;
use crate::disk::{Disk, Speed};
use crate::runtime::{LocalInstant, MadsimRuntime, kill};

#[test]
fn datagrams_wait_up_to_the_bound_of_the_queue() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let got = collector(&two);
        ms(1).await;
        Handle::current().pause(two.id());
        for _ in 0..12 {
            volley(&one, 100).await;
            ms(10).await;
        }
        assert_eq!(held(&got).len(), 0);
        assert_eq!(net.counts().overflowed, 1_200 - 1_024);
        ms(60_000).await;
        let resumed = virtual_now();
        Handle::current().resume(two.id());
        ms(1).await;
        assert_eq!(held(&got).len(), 1_024);
        assert!(held(&got).iter().all(|(at, _)| *at >= resumed));
        volley(&one, 1).await;
        ms(10).await;
        assert_eq!(held(&got).len(), 1_025, "and goes on as before");
    });
}

#[test]
fn a_stream_stalls_without_an_error_and_goes_on() {
    run(1, async {
        let (net, [one, two]) = hosts();
        echo(&two);
        ms(1).await;
        let (mut reader, mut writer) =
            one.spawn(TcpStream::connect(address(2, 1_883))).await.unwrap().unwrap().split();
        Handle::current().pause(two.id());
        let written: Shared<usize> = Shared::default();
        let count = Arc::clone(&written);
        one.spawn(async move {
            for _ in 0..100 {
                writer.write_all(&[7; 1_024]).await.unwrap();
                *held(&count) += 1_024;
            }
            writer
        });
        ms(600_000).await;
        assert_eq!(*held(&written), tcp_end::WINDOW, "its kernel takes in a window");
        Handle::current().resume(two.id());
        let mut back = 0;
        while back < 102_400 {
            back += reader.read(10_000).await.unwrap().len();
        }
        assert_eq!(net.counts().reset, 0);
    });
}

#[test]
fn its_timers_fire_late_and_its_clocks_have_gone_on() {
    run(1, async {
        let (_net, [_, two]) = hosts();
        let sleeping = two.spawn(async {
            let start = LocalInstant::current();
            MadsimRuntime::sleep(Duration::from_secs(5)).await;
            LocalInstant::current() - start
        });
        ms(1_000).await;
        Handle::current().pause(two.id());
        ms(59_000).await;
        Handle::current().resume(two.id());
        let slept = sleeping.await.unwrap();
        assert_eq!(slept.as_secs(), 60);
        assert_eq!(Clocks::current().monotonic(two.id()).as_secs(), 61);
    });
}

#[test]
fn an_fsync_under_way_is_done_though_its_task_hears_of_it_later() {
    run(1, async {
        let (_net, [_, two]) = hosts();
        let disk = Disk::new(RunSeed(1), "n2", Speed::default());
        let theirs = disk.clone();
        let flushing = two.spawn(async move {
            theirs.write_file("f", b"abc").unwrap();
            theirs.flush().await.unwrap();
            virtual_now()
        });
        sleep_virtual(Duration::from_micros(10)).await;
        Handle::current().pause(two.id());
        ms(10_000).await;
        let copy = Disk::new(RunSeed(1), "copy", Speed::default());
        copy.restore(&disk.image());
        assert_eq!(copy.read_file("f").unwrap(), b"abc");
        Handle::current().resume(two.id());
        assert_eq!(flushing.await.unwrap().as_secs(), 10);
    });
}

#[test]
fn a_paused_host_that_is_killed_is_gone_and_its_next_boot_runs() {
    run(1, async {
        let (net, [one, two]) = hosts();
        let first = collector(&two);
        ms(1).await;
        Handle::current().pause(two.id());
        volley(&one, 3).await;
        ms(10).await;
        kill(two.id());
        ms(10).await;
        assert!(held(&net.inner).ports.is_empty());
        Handle::current().restart(two.id());
        let second = collector(&Handle::current().get_node(two.id()).unwrap());
        ms(1).await;
        volley(&one, 3).await;
        ms(10).await;
        assert_eq!((held(&first).len(), held(&second).len()), (0, 3));
    });
}

#[test]
fn a_suspended_machine_finds_its_timers_where_it_left_them() {
    run(1, async {
        let (_net, [_, two]) = hosts();
        let sleeping = two.spawn(async {
            let start = LocalInstant::current();
            MadsimRuntime::sleep(Duration::from_secs(5)).await;
            (LocalInstant::current() - start, virtual_now())
        });
        ms(1_000).await;
        Clocks::current().freeze(two.id());
        Handle::current().pause(two.id());
        ms(59_000).await;
        Handle::current().resume(two.id());
        Clocks::current().thaw(two.id());
        let (slept, woken) = sleeping.await.unwrap();
        assert_eq!((slept.as_secs(), woken.as_secs()), (5, 64));
    });
}

#[test]
fn a_paused_host_that_loses_power_takes_no_leave_of_its_peers() {
    run(1, async {
        let (net, [one, two]) = hosts();
        echo(&two);
        ms(1).await;
        let stream = one.spawn(TcpStream::connect(address(2, 1_883))).await.unwrap().unwrap();
        let (mut reader, mut writer) = stream.split();
        Handle::current().pause(two.id());
        // Its task is woken, and waits to be resumed.
        writer.write_all(b"hello").await.unwrap();
        ms(10).await;
        net.announce_death(two.id(), Death::Power);
        kill(two.id());
        let end = MadsimRuntime::timeout(Duration::from_secs(600), reader.read(10)).await;
        assert!(end.is_err(), "half-open: {end:?}");
    });
}
