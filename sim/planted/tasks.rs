//! Tasks of a whole node on the machine room: what is left of a connection that is over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use host::forming::Beginning;
use host::peer::CookieKey;
use host::service::{self, PeerSettings, Settings};
use madsim::runtime::Handle;
use madsim::task::NodeId;

use super::*;
use crate::dice::Seed;
use crate::disk::{Disk, Speed};
use crate::net::{Net, TcpStream};
use crate::outside::{Outside, Store};
use crate::runtime::{machine_room, sleep_virtual};

fn host(name: &str, last: u8) -> (NodeId, IpAddr) {
    let id = Handle::current().create_node().name(name).build().id();
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    Net::current().attach(id, address);
    (id, address)
}

/// Tasks of the server before a client came, and after it had gone.
async fn before_and_after() -> (usize, usize) {
    let net = Net::start();
    let handle = Handle::current();
    let ((server, address), (client, _)) = (host("n1", 1), host("app1", 2));
    let broker = SocketAddr::new(address, 1_883);
    let disk = Disk::new(Seed(1), "n1", Speed::default());
    handle.get_node(server).unwrap().spawn(async move {
        let settings = Settings {
            gateways: vec![SocketAddr::new(address, 1_700)],
            mqtt: vec![broker],
            connections_max: 10,
            peers: PeerSettings {
                listen: Vec::new(),
                name: "n1@here".to_owned(),
                address: "10.0.0.1:6369".to_owned(),
                cookie: CookieKey::new([0; 32]),
                beginning: Beginning::Alone,
            },
            node: Box::new(|_| bench::config()),
            raft: host::raft::Settings::default(),
        };
        let outside = Outside::new(Seed(1), server, "n1");
        let running =
            service::start(outside, Store::open(disk, None).await.unwrap(), settings).await;
        running.unwrap().failed().await;
    });
    let tasks = || Handle::current().metrics().num_tasks_by_node()["n1"];
    sleep_virtual(Duration::from_secs(5)).await;
    let before = tasks();
    handle.get_node(client).unwrap().spawn(async move {
        drop(TcpStream::connect(broker).await.unwrap());
    });
    sleep_virtual(Duration::from_secs(5)).await;
    drop(net);
    (before, tasks())
}

#[test]
fn a_connection_leaves_a_task_behind() {
    let left = || {
        let (before, after) = machine_room(1).block_on(before_and_after());
        assert!(before > 5, "the node runs: {before} tasks");
        after - before
    };
    assert_eq!(both(Bug::ConnectionLeak, left), (0, 1));
}
