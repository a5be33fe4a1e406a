//! What the machine room costs in processor time, for whoever wants to make it cheaper.
//!
//! Ignored unless asked for, since a busy machine measures badly:
//! `cargo sim-test pace -- --ignored --nocapture`. Each measurement also checks that the work was
//! done.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::runtime::Handle;

use crate::dice::Seed;
use crate::disk::{Disk, Speed};
use crate::net::{Net, UdpSocket};
use crate::runtime::{held, machine_room, sleep_virtual};

/// Processor time of this thread so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("its first number is nanoseconds"))
}

/// Runs `work`, and says how often a second of processor time would have room for one of `count`.
fn measure(what: &str, count: u64, work: impl FnOnce()) {
    let start = cpu_time();
    work();
    let took = cpu_time() - start;
    let rate = count as f64 / took.as_secs_f64();
    eprintln!("{what}: {count} in {took:?} of processor time, {rate:.0} a second");
}

/// One host sends `per_ms` datagrams each millisecond to another, which takes them.
fn flood(seconds: u64, per_ms: u32) -> u64 {
    machine_room(1).block_on(async move {
        let net = Net::start();
        let hosts = [1, 2].map(|number| {
            let host = Handle::current().create_node().build();
            net.attach(host.id(), SocketAddr::from(([10, 0, 0, number], 0)).ip());
            host
        });
        let got = Arc::new(Mutex::new(0));
        let count = Arc::clone(&got);
        hosts[1].spawn(async move {
            let socket = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 2], 1_700))).unwrap();
            while socket.recv_from().await.is_ok() {
                *held(&count) += 1;
            }
        });
        let sending = hosts[0].spawn(async move {
            let socket = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 1], 0))).unwrap();
            let to = SocketAddr::from(([10, 0, 0, 2], 1_700));
            for _ in 0..seconds * 1_000 {
                sleep_virtual(Duration::from_millis(1)).await;
                for _ in 0..per_ms {
                    socket.send_to(to, &[7; 120]).unwrap();
                }
            }
            sleep_virtual(Duration::from_secs(1)).await;
        });
        sending.await.unwrap();
        let got: u64 = *held(&got);
        got
    })
}

#[test]
#[ignore = "measures the machine"]
fn a_flood_of_datagrams() {
    measure("datagrams, sent to received", 16_000 * 60, || assert_eq!(flood(60, 16), 16_000 * 60));
}

const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("t");

/// Commits of `rows` rows each, an fsync after each, and a power cut after each five hundred.
fn commits(hundreds: u64, rows: u64, payload: usize) -> u64 {
    machine_room(1).block_on(async move {
        let disk = Disk::new(Seed(1), "n1", Speed::default());
        let mut dice = Seed(1).stream("rows");
        for number in 0..hundreds {
            if number % 5 == 0 {
                disk.power_cut();
            }
            let file = disk.open("db").unwrap_or_else(|_| disk.create("db"));
            let database = redb::Builder::new().create_with_backend(file).unwrap();
            for _ in 0..100 {
                let transaction = database.begin_write().unwrap();
                {
                    let mut table = transaction.open_table(TABLE).unwrap();
                    for _ in 0..rows {
                        let bytes = vec![7; payload];
                        table.insert(dice.below(100_000), bytes.as_slice()).unwrap();
                    }
                }
                transaction.commit().unwrap();
                disk.flush().await.unwrap();
            }
            disk.rename("db", "db");
            disk.flush().await.unwrap();
        }
        disk.used()
    })
}

#[test]
#[ignore = "measures the machine"]
fn commits_and_power_cuts() {
    measure("commits of 20 rows", 5_000, || assert!(commits(50, 20, 300) > 10_000_000));
}
