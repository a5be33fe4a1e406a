//! Who listens at any node hears what any node has decided, once.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lorawan::EU868;
use mqtt::{ClientConfig, Version};
use radio::AppUplink;
use serde_json::Value;
use tests::site::{Site, otaa};
use tests::subscriber::Subscriber;
use tests::{Tern, eventually};
use tungstenite::Message;

use super::{SOON, add_device, cluster_of, reproduce};

const DEVICE: &str = "70b3d57ed0001234";
const APP_KEY: &str = "00112233445566778899aabbccddeeff";
const GATEWAY: &str = "0016c001ff10a235";

/// The readings of the uplinks that a node tells over its WebSocket, from now on.
fn readings_over_websocket(node: &Tern) -> Arc<Mutex<Vec<String>>> {
    let stream = UnixStream::connect(node.data().join("tern.sock")).unwrap();
    let (mut socket, _) = tungstenite::client("ws://tern/api/v1/events", stream).unwrap();
    let readings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&readings);
    // Ends with the node.
    std::thread::spawn(move || {
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = message {
                let told: Value = serde_json::from_str(text.as_str()).unwrap();
                heard.lock().unwrap().extend(reading(&told["event"], &told["body"]));
            }
        }
    });
    readings
}

fn reading(event: &Value, body: &Value) -> Option<String> {
    (event == "up").then(|| body["data"].as_str().unwrap().to_owned())
}

fn readings_over_mqtt(subscriber: &Subscriber) -> Vec<String> {
    let deliveries = subscriber.deliveries();
    let ups = deliveries.iter().filter(|one| one.topic.ends_with("/event/up"));
    let bodies = ups.map(|one| serde_json::from_slice::<Value>(&one.payload).unwrap());
    bodies.filter_map(|body| reading(&"up".into(), &body)).collect()
}

/// Scenario 103.
#[test]
fn ws_clients_on_other_nodes() {
    reproduce("listen::ws_clients_on_other_nodes");
    let [n1, n2, n3] = cluster_of();
    add_device(&n1, DEVICE);
    n1.ok(&["gateway", "add", GATEWAY]);
    let account = n1.json(&["mqtt-user", "add", "board", "--application", "office"]);
    let text = |name: &str| account[name].as_str().unwrap().to_owned();
    let (password, topic) = (text("password"), text("topic"));
    let sockets = [&n1, &n2, &n3].map(readings_over_websocket);
    let subscribers = [&n1, &n2, &n3].map(|node| {
        let name = format!("board-{}", node.mqtt().port());
        let config = ClientConfig::new(Version::V5, &name).account("board", &password);
        Subscriber::start(node.mqtt(), config, &topic)
    });

    let site = Site::start(n1.udp(), GATEWAY, vec![otaa(&EU868, DEVICE, APP_KEY)]);
    let dev_eui = DEVICE.parse().unwrap();
    site.join(dev_eui);
    for payload in ["one", "two", "three"] {
        site.field.send(dev_eui, AppUplink::confirmed(2, payload)).unwrap();
        site.done();
    }
    let said = ["b25l", "dHdv", "dGhyZWU="];
    for (socket, subscriber) in sockets.iter().zip(&subscribers) {
        eventually("all readings everywhere", SOON, || {
            let all =
                socket.lock().unwrap().len() >= 3 && readings_over_mqtt(subscriber).len() >= 3;
            all.then_some(())
        });
    }
    // Whatever came twice has come by now.
    std::thread::sleep(Duration::from_millis(500));
    for (socket, subscriber) in sockets.iter().zip(&subscribers) {
        assert_eq!(*socket.lock().unwrap(), said);
        assert_eq!(readings_over_mqtt(subscriber), said);
    }
}
