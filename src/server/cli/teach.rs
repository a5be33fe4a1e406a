//! Texts that teach: what follows `--help`.

use crate::config::NAMES;

pub(super) const TERN: &str = "\
From nothing to a reading:
  tern serve --region EU868                                a node; data in ./tern-data
  tern watch                                               what arrives, and what to do about it
  tern gateway add 0016c001ff10a235 --name roof
  tern application add office
  tern profile add room-sensor
  tern device add 70b3d57ed0001234 --app-key 0011..eeff --name room-5
  tern mqtt-user add dashboard --application office        prints the ready mosquitto_sub line
  tern queue push room-5 --fport 10 --hex 0102

Wherever an id is asked a name does as well. EUIs and keys take dashes, colons, spaces, either case.
On the server's own host no password is needed; elsewhere: tern login http://HOST:8080";

pub(super) const CLUSTER_JOIN: &str = "\
  tern cluster join n1@10.0.0.1            on either side; the empty side joins
  tern cluster join n1@10.0.0.1:6370       where the port of its peer links is another one
Both need the same cookie: see `tern cluster cookie`. Nothing is destroyed: what the joiner had lies
in data.pre-join-.. in its data folder. A node with devices joins only with --discard-local.";

pub(super) const DEMO: &str = "\
  tern demo                        one node, two gateways, until Ctrl-C
  tern demo --nodes 3              three are one server: after 10 s (a third of --for) the leader
                                   is killed with SIGKILL and starts again; the last line counts
                                   what a live gateway accepted, what was delivered, what is lost
  tern demo --nodes 3 --for 60s    ends by itself, with an error if anything was lost
  tern demo --json                 one JSON object a line";

pub(super) const WATCH: &str = "\
Each line says what was seen, the verdict, and what to do. Colours only on a terminal.
  tern watch                       everything, from now on, after the last lines
  tern watch --device room-5       one device
  tern watch --json                one JSON object a line";

pub(super) const LOGIN: &str = "\
  tern login http://10.0.0.5:8080                    asks for the password
  echo $PASSWORD | tern login http://10.0.0.5:8080 --email admin --password-stdin
The first password of `admin` lies in the server's data folder, file admin.password.
Forgotten? On the server's host: tern user reset-password admin";

pub(super) const EVENTS: &str = "\
  tern events                      the last events
  tern events --follow             and those to come
  tern events --after 1200         those above sequence 1200, to catch up without a gap
  tern events --device room-5 --follow --json";

pub(super) const DEVICE_ADD: &str = "\
  tern device add 70b3d57ed0001234 --app-key 00112233445566778899aabbccddeeff
  tern device add 70-B3-D5-7E-D0-00-12-34 --name room-5 --application office --profile room-sensor
LoRaWAN 1.0.x: give the key of the device's label with --app-key; the REST API calls that field
nwkKey, and this command puts it there. LoRaWAN 1.1: give both --nwk-key and --app-key.
With only one application or profile it need not be named.";

pub(super) const DEVICE_IMPORT: &str = "\
Moves devices in from another server, activations and counters included, so that nobody has to walk
to them. FILE is one JSON object, an array of them, or one a line:
  {\"device\": {\"devEui\": \"..\", \"applicationId\": \"office\", \"deviceProfileId\": \"room\"},
   \"deviceKeys\": {\"nwkKey\": \"..\"},
   \"session\": {\"devAddr\": \"01020304\", \"nwkSEncKey\": \"..\", \"appSKey\": \"..\",
               \"fCntUp\": 8, \"nFCntDown\": 5, \"rx1Delay\": 1, \"channels\": \"0-7\"},
   \"queue\": [{\"fPort\": 10, \"data\": \"AQI=\", \"confirmed\": true}]}
Only a global administrator may; everything goes through the log, and no counter is ever lowered
for keys that are in use.";

pub(super) const MQTT_USER_ADD: &str = "\
  tern mqtt-user add dashboard --application office     reads the events of one application
  tern mqtt-user add backend --application office --publish     may also queue downlinks
  tern mqtt-user add ops --all
Prints the password, once, and the line that shows events arriving.";

pub(super) const QUEUE_PUSH: &str = "\
  tern queue push room-5 --fport 10 --hex 0102
  tern queue push 70b3d57ed0001234 --fport 10 --base64 AQI= --confirmed
A class A device gets it after its next uplink.";

/// What `tern serve --help` adds: every name of the configuration.
pub(super) fn serve() -> String {
    let mut text = "\
  tern serve --region EU868
  tern serve --region US915 --set channels=8-15+65 --port-offset 100
  tern serve --config /etc/tern/tern.toml

Configuration: tern.toml here or /etc/tern/tern.toml, or --config; each name also by environment
(TERN_LISTEN__HTTP=127.0.0.1:8080) and by --set NAME=VALUE. The later wins.
"
    .to_owned();
    for (name, default, meaning) in NAMES {
        let default = if default.is_empty() { "-" } else { default };
        text.push_str(&format!("\n  {name:<24} {default:<26} {meaning}"));
    }
    text
}
