//! Who takes part: gateways, devices, an application, a broker account; registered through the HTTP
//! API of one node, as anybody would.

use clock::Instant;
use host::world::World;
use lorawan::{DevEui, GatewayEui, JoinEui, Key, Region};
use node::api::wire::{Application, Device, DeviceKeys, DeviceProfile, Gateway, MqttUser};
use radio::{DeviceConfig, Signal};
use serde_json::{Value, json};

use super::DemoError;
use super::nodes::Node;
use crate::field::FieldDevice;
use crate::world::RealWorld;

/// The gateways; of the first nodes one each, of a single node the first two.
pub(super) const GATEWAYS: [(u64, &str); 5] = [
    (0x0016_C001_F153_A14C, "roof"),
    (0x0016_C001_F153_A14D, "cellar"),
    (0x0016_C001_F153_A14E, "garage"),
    (0x0016_C001_F153_A14F, "tower"),
    (0x0016_C001_F153_A150, "barn"),
];
/// The first device's EUI.
const FIRST_DEVICE: u64 = 0x70B3_D57E_D000_0001;
/// The tenant that every cluster is founded with.
const TENANT: &str = "tern";

/// One simulated device and where it stands in the script.
pub(super) struct Actor {
    /// Which.
    pub(super) dev_eui: DevEui,
    /// Its name.
    pub(super) name: String,
    /// What it measures.
    pub(super) quantity: Quantity,
    /// Whether it has a session.
    pub(super) joined: bool,
    /// How many it has sent.
    pub(super) uplinks: u32,
    /// When it does the next thing.
    pub(super) next: Instant,
}

/// What a device measures.
#[derive(Clone, Copy)]
pub(super) enum Quantity {
    Temperature,
    Door,
    Meter,
    Moisture,
}

impl Quantity {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Temperature, "room-temp"),
        (Self::Door, "front-door"),
        (Self::Meter, "water-meter"),
        (Self::Moisture, "soil"),
    ];

    /// A reading that changes a little each time.
    pub(super) fn reading(self, number: u32) -> String {
        match self {
            Self::Temperature => format!("{}.{} C", 20 + number % 3, number * 7 % 10),
            Self::Door if number.is_multiple_of(2) => "closed".to_owned(),
            Self::Door => "open".to_owned(),
            Self::Meter => format!("{:.3} m3", 118.25 + f64::from(number) * 0.012),
            Self::Moisture => format!("{} %", 41 - number % 9),
        }
    }
}

/// Everybody.
pub(super) struct Cast {
    /// The application's id.
    pub(super) application: String,
    /// Password of the broker account `demo`.
    pub(super) password: String,
    /// The devices in the script.
    pub(super) actors: Vec<Actor>,
    /// The devices in the field.
    pub(super) devices: Vec<FieldDevice>,
    /// The gateways.
    pub(super) gateways: Vec<GatewayEui>,
}

/// Registers everything.
///
/// * `nodes`: how many there are.
/// * Errors: a refusal.
pub(super) fn provision(
    node: &Node,
    nodes: usize,
    region: &'static Region,
    count: u8,
) -> Result<Cast, DemoError> {
    let tenant_id = TENANT.to_owned();
    let one = Application { name: "demo".to_owned(), tenant_id, ..Application::default() };
    let application = id(&node.post("/api/applications", &json!({"application": one}))?);
    let channels = region.is_fixed_plan().then(|| (8..16).chain([65]).collect::<Vec<u8>>());
    let profile = DeviceProfile {
        name: "demo sensor".to_owned(),
        tenant_id: TENANT.to_owned(),
        region: region.name.to_owned(),
        supports_otaa: true,
        channels: if channels.is_some() { "8-15+65".to_owned() } else { String::new() },
        ..DeviceProfile::default()
    };
    let profile = id(&node.post("/api/device-profiles", &json!({"deviceProfile": profile}))?);
    let mut gateways = Vec::new();
    for (eui, name) in GATEWAYS.into_iter().take(nodes.max(2)) {
        let one = Gateway {
            gateway_id: format!("{eui:016x}"),
            name: name.to_owned(),
            tenant_id: TENANT.to_owned(),
            ..Gateway::default()
        };
        node.post("/api/gateways", &json!({"gateway": one}))?;
        gateways.push(GatewayEui::from_be_bytes(eui.to_be_bytes()));
    }
    let user =
        MqttUser { name: "demo".into(), all: true, can_publish: true, ..MqttUser::default() };
    let account = node.post("/api/v1/mqtt-users", &json!({"mqttUser": user}))?;
    let password = account["password"].as_str().unwrap_or_default().to_owned();
    let (mut actors, mut devices) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (actor, mut config) = register(node, region, number, &application, &profile)?;
        config.channels.clone_from(&channels);
        actors.push(actor);
        devices.push(FieldDevice { config, signals: signals(number, nodes, gateways.len()) });
    }
    Ok(Cast { application, password, actors, devices, gateways })
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_default().to_owned()
}

fn register(
    node: &Node,
    region: &'static Region,
    number: u8,
    application: &str,
    profile: &str,
) -> Result<(Actor, DeviceConfig), DemoError> {
    let world = RealWorld::without_folder();
    let eui = FIRST_DEVICE + u64::from(number);
    let dev_eui = DevEui::from_be_bytes(eui.to_be_bytes());
    let (quantity, name) = Quantity::ALL[usize::from(number) % Quantity::ALL.len()];
    let name = format!("{name}-{}", usize::from(number) / Quantity::ALL.len() + 1);
    let key = world.seed().first_chunk::<16>().copied().unwrap_or_default();
    let device = Device {
        dev_eui: dev_eui.to_string(),
        name: name.clone(),
        application_id: application.to_owned(),
        device_profile_id: profile.to_owned(),
        ..Device::default()
    };
    node.post("/api/devices", &json!({"device": device}))?;
    let nwk_key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = DeviceKeys { dev_eui: dev_eui.to_string(), nwk_key, ..DeviceKeys::default() };
    node.post(&format!("/api/devices/{dev_eui}/keys"), &json!({"deviceKeys": keys}))?;
    let join_eui = JoinEui::from_be_bytes([0; 8]);
    let seed = world.seed();
    let mut config = DeviceConfig::otaa(region, dev_eui, join_eui, Key::from_bytes(key), seed);
    config.data_rate = if region.is_fixed_plan() { 3 } else { 5 };
    let next = Instant::ZERO;
    Ok((Actor { dev_eui, name, quantity, joined: false, uplinks: 0, next }, config))
}

/// With one node the roof hears everybody, the cellar every second one. With several everybody is
/// heard by gateways of two nodes at least. Each a little differently.
fn signals(number: u8, nodes: usize, gateways: usize) -> Vec<Option<Signal>> {
    let step = i16::from(number % 8);
    let near = Signal { rssi_dbm: -71 - 4 * step, snr_ddb: 95 - 10 * step };
    let far = Signal { rssi_dbm: -98 - 2 * step, snr_ddb: 20 - 5 * step };
    let signal = |gateway: usize| match (gateway + usize::from(number)) % 3 {
        _ if nodes == 1 && gateway == 0 => Some(near),
        _ if nodes == 1 => number.is_multiple_of(2).then_some(far),
        0 => Some(near),
        2 if nodes > 2 => None,
        _ => Some(far),
    };
    (0..gateways).map(signal).collect()
}
