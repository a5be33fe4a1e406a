//! One case on its own node: provision, inject, and what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::WallTime;
use gateway::semtech::{
    Downward, Head, PushData, Rxpk, TxReply, Txpk, Version, encode_pull_data, parse_downward,
};
use host::world::World;
use lorawan::{CodeRate, CrcStatus, GatewayEui, Modulation, NetId, TxStatus};
use mqtt::ClientConfig;
use node::api::wire::{
    self, ActivationDetails, DeviceImport, DeviceKeys, DeviceProfile, ImportedItem,
    ImportedSession, QueueItem,
};
use node::api::{Operation, Outcome};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::super::link::{Link, Message};
use super::super::node::{DemoNode, NodeSettings};
use super::file::{Case, Device, Item, Profile, RxInfo, Session, Step, Trigger, TxInfo};
use super::file::{mac_version, revision, unhex};
use crate::world::RealWorld;

/// What the concentrator's counter shows when the frame ends.
pub(super) const UPLINK_TMST: u32 = 3_000_000;
/// How long nothing must come, to be none.
const SILENCE: Duration = Duration::from_secs(3);
/// How long an acknowledgement of the server may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What came of a trigger.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Events of MQTT.
    pub(super) events: Vec<Message>,
    /// PULL_RESP, with the gateway each came to.
    pub(super) downlinks: Vec<(String, Txpk)>,
    /// Activations after it, by DevEUI.
    pub(super) activations: BTreeMap<String, wire::DeviceActivation>,
    /// Classes after it, by DevEUI.
    pub(super) classes: BTreeMap<String, String>,
}

/// Runs a case.
///
/// * Errors: what kept it from being run, as a text.
pub(super) async fn run(case: &Case, net_id: &str) -> Result<Observed, String> {
    let net_id: NetId = net_id.parse().map_err(|error| format!("net_id: {error}"))?;
    let settings = NodeSettings { net_id, ..NodeSettings::new(&case.region) };
    let node = DemoNode::start(settings).await.map_err(text)?;
    let observed = on_stage(case, &node).await;
    node.stop().await;
    observed
}

async fn on_stage(case: &Case, node: &DemoNode) -> Result<Observed, String> {
    provision(case, node).await?;
    let account = node.account("cases").await.map_err(text)?;
    let client = ClientConfig::new(mqtt::Version::V5, "cases");
    let client = client.account(&account.name, &account.password);
    let mut link =
        Link::open(node.mqtt(), client, &["application/+/device/+/event/+"]).await.map_err(text)?;
    let mut observed = Observed::default();
    let Trigger::Uplink { phy_payload, tx_info, rx_info, .. } = &case.trigger;
    let radio = Radio::open(node, case).await?;
    radio.push(&unhex(phy_payload)?, tx_info, rx_info).await?;
    let second = case.expect.downlink.iter().flatten().any(|wanted| wanted.alternatives.len() > 1);
    listen(&radio, &mut link, second, &mut observed).await?;
    look(case, node, &mut observed).await?;
    Ok(observed)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn provision(case: &Case, node: &DemoNode) -> Result<(), String> {
    let application = node.application("cases").await.map_err(text)?;
    let [profile] = case.provision.device_profiles.as_slice() else {
        return Err("only one device profile is understood".into());
    };
    let profile_id = node.profile(profile_of(profile)).await.map_err(text)?;
    for gateway in &case.provision.gateways {
        node.gateway(&gateway.gateway_id, &gateway.gateway_id).await.map_err(text)?;
    }
    let mut devices = case.provision.devices.clone();
    let mut queued: Vec<&Item> = Vec::new();
    for step in &case.pre {
        match step {
            Step::DevicePartialUpdate(update) => {
                let mut devices = devices.iter_mut();
                let Some(device) = devices.find(|device| device.dev_eui == update.dev_eui) else {
                    return Err(format!("no device {} to update", update.dev_eui));
                };
                device.device_session =
                    update.device_session.clone().or(device.device_session.take());
                device.enabled_class = update.enabled_class.clone().or(device.enabled_class.take());
                device.f_cnt_up = update.f_cnt_up.unwrap_or(device.f_cnt_up);
            }
            Step::DeviceProfileUpdate(update) => {
                let mut one = profile_of(update);
                one.id.clone_from(&profile_id);
                node.call("profile", Operation::UpdateDeviceProfile(Box::new(one)))
                    .await
                    .map_err(text)?;
            }
            Step::Enqueue(item) => queued.push(item),
        }
    }
    for device in &devices {
        let mut import = import_of(case, device, &application, &profile_id)?;
        let mine = || queued.iter().filter(|item| item.dev_eui == device.dev_eui);
        for item in mine().filter(|item| item.is_pending) {
            import.queue.push(ImportedItem { item: item_of(item)?, sent_at: None });
        }
        node.call("import", Operation::ImportDevice(Box::new(import))).await.map_err(text)?;
        for item in mine().filter(|item| !item.is_pending) {
            let enqueue = Operation::Enqueue { item: item_of(item)?, flush: false };
            node.call("enqueue", enqueue).await.map_err(text)?;
        }
    }
    Ok(())
}

fn profile_of(profile: &Profile) -> DeviceProfile {
    DeviceProfile {
        name: profile.name.clone(),
        region: profile.region.clone(),
        mac_version: mac_version(&profile.mac_version),
        reg_params_revision: revision(&profile.reg_params_revision),
        adr_algorithm_id: profile.adr_algorithm_id.clone(),
        supports_otaa: profile.supports_otaa,
        device_status_req_interval: profile.device_status_req_interval,
        ..DeviceProfile::default()
    }
}

fn import_of(
    case: &Case,
    device: &Device,
    application: &str,
    profile: &str,
) -> Result<DeviceImport, String> {
    if let Some(class) = device.enabled_class.as_deref().filter(|class| *class != "A") {
        return Err(format!("class {class} is not told as a feature"));
    }
    let session = device.device_session.as_ref();
    let keys = case.provision.keys.iter().find(|keys| keys.dev_eui == device.dev_eui);
    let skips = session.is_some_and(|session| session.skip_f_cnt_check);
    Ok(DeviceImport {
        device: wire::Device {
            dev_eui: device.dev_eui.clone(),
            name: device.dev_eui.clone(),
            application_id: application.to_owned(),
            device_profile_id: profile.to_owned(),
            is_disabled: device.is_disabled,
            skip_fcnt_check: device.skip_fcnt_check || skips,
            join_eui: device.join_eui.clone(),
            ..wire::Device::default()
        },
        device_keys: keys.map(|keys| DeviceKeys {
            dev_eui: keys.dev_eui.clone(),
            nwk_key: keys.nwk_key.clone(),
            app_key: keys.app_key.clone(),
        }),
        session: session.map(|session| session_of(device, session)).transpose()?,
        queue: Vec::new(),
    })
}

fn session_of(device: &Device, session: &Session) -> Result<ImportedSession, String> {
    let app_s_key = match &session.app_s_key {
        Some(key) if key.kek_label.is_empty() => key.aes_key.clone(),
        Some(key) => return Err(format!("a key wrapped by {}", key.kek_label)),
        // Another server hands such payloads on as they are.
        None => String::new(),
    };
    let asked = device.last_device_status_request_age_s.map(|age| {
        let now = RealWorld::without_folder().now().wall;
        WallTime::from_unix_micros(now.unix_micros() - age * 1_000_000)
    });
    let channels: Vec<_> =
        session.enabled_uplink_channel_indices.iter().map(ToString::to_string).collect();
    Ok(ImportedSession {
        dev_addr: session.dev_addr.clone(),
        mac_version: mac_version(&session.mac_version),
        app_s_key,
        nwk_s_enc_key: session.nwk_s_enc_key.clone(),
        s_nwk_s_int_key: session.s_nwk_s_int_key.clone(),
        f_nwk_s_int_key: session.f_nwk_s_int_key.clone(),
        f_cnt_up: device.f_cnt_up,
        n_f_cnt_down: session.n_f_cnt_down,
        a_f_cnt_down: session.a_f_cnt_down,
        rx1_delay: session.rx1_delay,
        rx2_frequency: session.rx2_frequency,
        channels: channels.join("+"),
        status_requested_at: asked,
        ..ImportedSession::default()
    })
}

fn item_of(item: &Item) -> Result<QueueItem, String> {
    let expires_at = item.expires_in_s.map(|seconds| {
        let now = RealWorld::without_folder().now().wall;
        WallTime::from_unix_micros(now.unix_micros() + seconds * 1_000_000)
    });
    Ok(QueueItem {
        id: item.id.clone(),
        dev_eui: item.dev_eui.clone(),
        confirmed: item.confirmed,
        f_port: item.f_port,
        data: STANDARD.encode(unhex(&item.data)?),
        is_pending: item.is_pending,
        f_cnt_down: item.f_cnt_down.unwrap_or(0),
        is_encrypted: item.is_encrypted,
        expires_at,
        ..QueueItem::default()
    })
}

/// The gateways of a case, each with its two sockets.
struct Radio {
    gateways: Vec<(String, GatewayEui, UdpSocket, UdpSocket)>,
}

impl Radio {
    async fn open(node: &DemoNode, case: &Case) -> Result<Self, String> {
        let mut gateways = Vec::new();
        for gateway in &case.provision.gateways {
            let id: GatewayEui = gateway.gateway_id.parse().map_err(text)?;
            let mut sockets = Vec::new();
            for _ in 0..2 {
                let socket = UdpSocket::bind(("127.0.0.1", 0)).await.map_err(text)?;
                socket.connect(node.udp()).await.map_err(text)?;
                sockets.push(socket);
            }
            let (Some(down), Some(up)) = (sockets.pop(), sockets.pop()) else {
                return Err("no sockets".into());
            };
            down.send(&encode_pull_data(head(1, id))).await.map_err(text)?;
            acknowledged(&down, &Downward::PullAck { token: 1 }).await?;
            gateways.push((gateway.gateway_id.clone(), id, up, down));
        }
        Ok(Self { gateways })
    }

    async fn push(&self, frame: &[u8], tx: &TxInfo, heard: &[RxInfo]) -> Result<(), String> {
        for rx in heard {
            let known = self.gateways.iter().find(|(name, ..)| *name == rx.gateway_id);
            let (_, id, up, _) = known.ok_or_else(|| format!("no gateway {}", rx.gateway_id))?;
            let rxpk = Rxpk {
                phy_payload: bytes::Bytes::copy_from_slice(frame),
                gateway_time: None,
                gps_time: None,
                frequency_hz: tx.freq_hz,
                modulation: modulation(tx)?,
                rssi_dbm: rx.rssi,
                #[allow(clippy::cast_possible_truncation, reason = "tenths of a decibel")]
                snr_ddb: (rx.snr * 10.0).round() as i16,
                channel: 0,
                rf_chain: 0,
                antenna: 0,
                tmst: UPLINK_TMST,
                crc: CrcStatus::Ok,
            };
            let push = PushData { rxpks: vec![rxpk], ..PushData::default() };
            up.send(&push.encode(head(2, *id))).await.map_err(text)?;
            acknowledged(up, &Downward::PushAck { token: 2 }).await?;
        }
        Ok(())
    }

    /// The next PULL_RESP of any gateway, answered.
    async fn downlink(&self, second: bool) -> Result<(String, Txpk), String> {
        let mut buffers = vec![[0; 4096]; self.gateways.len()];
        let waits = self.gateways.iter().zip(&mut buffers).map(|((name, id, _, down), buffer)| {
            Box::pin(async move {
                let length = down.recv(buffer).await.map_err(text)?;
                let downward = parse_downward(&buffer[..length]).map_err(text)?;
                let Downward::PullResp { token, txpk } = downward else {
                    return Err(format!("unexpected {downward:?}"));
                };
                // The gateway refuses the first, so that the second window shows too.
                if second {
                    let reply = TxReply { status: TxStatus::CollisionPacket, power_used_dbm: None };
                    down.send(&reply.encode(head(token, *id))).await.map_err(text)?;
                }
                Ok((name.clone(), txpk))
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}

const fn head(token: u16, gateway: GatewayEui) -> Head {
    Head { version: Version::V2, token, gateway }
}

async fn acknowledged(socket: &UdpSocket, wanted: &Downward) -> Result<(), String> {
    let mut buffer = [0; 4096];
    let length = timeout(ANSWER, socket.recv(&mut buffer)).await;
    let length = length.map_err(|_| "no answer over UDP".to_owned())?.map_err(text)?;
    let seen = parse_downward(&buffer[..length]).map_err(text)?;
    if seen == *wanted { Ok(()) } else { Err(format!("{seen:?} instead of {wanted:?}")) }
}

/// LoRa as the file has it.
pub(super) fn modulation(tx: &TxInfo) -> Result<Modulation, String> {
    let code_rate = match (tx.modu.as_str(), tx.cr.as_str()) {
        ("LORA", "4/5") => CodeRate::Cr45,
        ("LORA", "4/6") => CodeRate::Cr46,
        ("LORA", "4/7") => CodeRate::Cr47,
        ("LORA", "4/8") => CodeRate::Cr48,
        (modulation, rate) => return Err(format!("modulation {modulation} {rate}")),
    };
    Ok(Modulation::Lora { spreading_factor: tx.sf, bandwidth_hz: tx.bw_hz, code_rate })
}

/// Collects what comes, for as long as nothing must come to be none.
async fn listen(
    radio: &Radio,
    link: &mut Link,
    second: bool,
    observed: &mut Observed,
) -> Result<(), String> {
    let until = Instant::now() + SILENCE;
    loop {
        let first = observed.downlinks.is_empty();
        tokio::select! {
            message = link.message() => match message {
                Some(message) => observed.events.push(message),
                None => return Err("the MQTT connection ended".into()),
            },
            downlink = radio.downlink(second && first) => observed.downlinks.push(downlink?),
            () = tokio::time::sleep_until(until) => return Ok(()),
        }
    }
}

/// Reads the state through the API.
async fn look(case: &Case, node: &DemoNode, observed: &mut Observed) -> Result<(), String> {
    for device in &case.provision.devices {
        let dev_eui = device.dev_eui.clone();
        let activation = Operation::GetActivation(dev_eui.clone());
        let outcome = node.call("activation", activation).await.map_err(text)?;
        if let Outcome::Activation(ActivationDetails { device_activation: Some(activation) }) =
            outcome
        {
            observed.activations.insert(dev_eui.clone(), activation);
        }
        let found = node.call("device", Operation::GetDevice(dev_eui.clone())).await;
        if let Outcome::Device(found) = found.map_err(text)? {
            observed.classes.insert(dev_eui, found.class_enabled);
        }
    }
    Ok(())
}
