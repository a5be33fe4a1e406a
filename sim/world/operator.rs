//! Who runs the network: registers everything, queues downlinks, reads the event log.
//!
//! Calls are the node's own operations, as the socket on its host would make them, of whichever
//! node takes them. An answer that does not come is *unknown*: nothing that may have been done is
//! asked for twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lorawan::{DevEui, GatewayEui, Key, SessionKeys};
use node::api::wire::{
    self, Application, Device, DeviceActivation, DeviceKeys, DeviceProfile, EventItem, Gateway,
    MqttUser,
};
use node::api::{ApiError, Credentials, EventFilter, Operation, Outcome, Unavailable};
use openraft_rt::AsyncRuntime;
use scenario::DeviceVersion;

use super::client::Part;
use super::machine::Machine;
use super::record::Record;
use super::witness::{Personal, Root};
use crate::clocks::virtual_now;
use crate::dice::Dice;
use crate::oracle::{Answer, Fact};
use crate::runtime::{MadsimRuntime, held, sleep_virtual};

/// The tenant the cluster is founded with.
pub(super) const TENANT: &str = "home";
/// The application of all devices.
const APPLICATION: &str = "meters";
/// Another one, without devices.
const STRANGERS: &str = "strangers";
/// The profile of devices that join.
const PROFILE: &str = "class A";
/// The profile of personalised devices.
const PROFILE_ABP: &str = "class A, personalised";
/// Devices that are registered at a time.
const REGISTERS_AT_ONCE: usize = 128;
/// How long the operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it tries to register something, and how often.
const INSISTS: Duration = Duration::from_secs(60);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);
/// Rows on one page of the event log.
const PAGE: u32 = 500;
/// Share of downlinks that ask for an acknowledgement.
const CONFIRMED: f64 = 0.3;
/// How soon a downlink is taken back.
const REPENTS_AFTER: std::ops::Range<Duration> = Duration::ZERO..Duration::from_secs(8);

/// What an MQTT client needs to come in.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) password: String,
    /// The filter that the server suggests: events.
    pub(super) filter: String,
    /// The filter that covers all it may see.
    pub(super) sees: String,
}

/// The nodes that the operator speaks to, and the one it begins with.
struct Nodes {
    machines: Vec<Machine>,
    first: usize,
}

/// The operator. Clones are the same.
#[derive(Clone)]
pub(super) struct Operator {
    nodes: Arc<Mutex<Nodes>>,
    record: Record,
}

impl Operator {
    /// Speaks to any of these nodes; one at least.
    pub(super) fn new(machines: &[Machine], record: &Record) -> Self {
        let nodes = Nodes { machines: machines.to_vec(), first: 0 };
        Self { nodes: Arc::new(Mutex::new(nodes)), record: record.clone() }
    }

    /// One who speaks to this node alone.
    pub(super) fn of(&self, machine: &Machine) -> Self {
        Self::new(std::slice::from_ref(machine), &self.record)
    }

    /// Speaks to these nodes alone from now on.
    pub(super) fn stay_with(&self, machines: Vec<Machine>) {
        *held(&self.nodes) = Nodes { machines, first: 0 };
    }

    /// The nodes in the order in which they are asked.
    fn order(&self) -> Vec<Machine> {
        let nodes = held(&self.nodes);
        let mut order = nodes.machines.clone();
        order.rotate_left(nodes.first);
        order
    }

    /// The node that is asked first, since it has answered last.
    fn asked_last(&self) -> String {
        let nodes = held(&self.nodes);
        nodes.machines.get(nodes.first).map_or("", Machine::name).to_owned()
    }

    /// Begins with this node from now on, or with the one behind it.
    fn prefer(&self, machine: &Machine, behind: usize) {
        let mut nodes = held(&self.nodes);
        let place = nodes.machines.iter().position(|one| one.id() == machine.id());
        nodes.first = place.map_or(0, |place| (place + behind) % nodes.machines.len());
    }

    /// One call, as the node's own host.
    ///
    /// Errors: in words; also when nobody answers in time, and then nobody knows what was done.
    pub(super) async fn call(&self, operation: Operation) -> Result<Outcome, String> {
        self.try_call(operation).await.map_err(|error| error.to_string())
    }

    /// One call, as the own host of the first node that takes it.
    ///
    /// Errors: the node's; `Starting` when none runs, `UnknownOutcome` when nobody answers.
    pub(super) async fn try_call(&self, operation: Operation) -> Result<Outcome, ApiError> {
        let mut refused = ApiError::Unavailable(Unavailable::Starting);
        for machine in self.order() {
            let Some(node) = machine.node() else { continue };
            let call = node.call(Credentials::Local, operation.clone());
            let answer = MadsimRuntime::timeout(PATIENCE, call).await;
            match answer.unwrap_or(Err(ApiError::UnknownOutcome)) {
                // Nothing was done there.
                Err(why @ ApiError::Unavailable(_)) => refused = why,
                answer => {
                    let silent = matches!(answer, Err(ApiError::UnknownOutcome));
                    self.prefer(&machine, usize::from(silent));
                    return answer;
                }
            }
        }
        Err(refused)
    }

    /// One call that makes something, again and again while the node cannot say whether it has.
    ///
    /// * Returns `None` if it is there, made by an attempt that nobody answered.
    /// * Errors: the node's refusal; also when it does not answer at all.
    async fn make(&self, operation: &Operation) -> Result<Option<Outcome>, String> {
        let (mut tried, end) = (false, virtual_now() + INSISTS);
        loop {
            match self.try_call(operation.clone()).await {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(ApiError::AlreadyExists(_)) if tried => return Ok(None),
                Err(ApiError::UnknownOutcome | ApiError::Unavailable(_)) if virtual_now() < end => {
                    tried = true;
                    sleep_virtual(BETWEEN_ATTEMPTS).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Waits until a node serves; false if none does within `limit`.
    pub(super) async fn ready_within(&self, limit: Duration) -> bool {
        let ready = async {
            while !self.is_served().await {
                sleep_virtual(Duration::from_millis(20)).await;
            }
        };
        MadsimRuntime::timeout(limit, ready).await.is_ok()
    }

    async fn is_served(&self) -> bool {
        for machine in self.order() {
            let Some(node) = machine.node() else { continue };
            let call = node.call(Credentials::Local, Operation::GetHealth);
            let answer = MadsimRuntime::timeout(PATIENCE, call).await;
            if let Ok(Ok(Outcome::Health(wire::Health { ready: true, .. }))) = answer {
                self.prefer(&machine, 0);
                return true;
            }
        }
        false
    }

    /// Who the cluster is.
    ///
    /// Errors: the call that failed.
    pub(super) async fn cluster(&self) -> Result<[u8; 16], String> {
        let Outcome::Node(info) = self.call(Operation::GetNode).await? else {
            return Err("the node was asked for, and something else came".to_owned());
        };
        let id: Result<store::Id, _> = info.cluster_id.parse();
        id.map(|id| id.0).map_err(|error| error.to_string())
    }

    /// Registers all gateways and devices; a name that gateways share is registered once.
    ///
    /// Errors: the first refusal.
    pub(super) async fn provision(
        &self,
        gateways: &[(String, GatewayEui)],
        devices: &[(String, DevEui, Root)],
        version: DeviceVersion,
    ) -> Result<(), String> {
        let tenant_id = TENANT.to_owned();
        let application = Application {
            name: APPLICATION.to_owned(),
            tenant_id: tenant_id.clone(),
            ..Application::default()
        };
        self.make(&Operation::CreateApplication(application)).await?;
        for (name, supports_otaa) in [(PROFILE, true), (PROFILE_ABP, false)] {
            let profile = DeviceProfile {
                name: name.to_owned(),
                tenant_id: tenant_id.clone(),
                mac_version: mac_version(version).to_owned(),
                supports_otaa,
                ..DeviceProfile::default()
            };
            self.make(&Operation::CreateDeviceProfile(Box::new(profile))).await?;
        }
        let mut known = BTreeSet::new();
        for (name, eui) in gateways.iter().filter(|(_, eui)| known.insert(*eui)) {
            let gateway = Gateway {
                gateway_id: eui.to_string(),
                name: name.clone(),
                tenant_id: tenant_id.clone(),
                ..Gateway::default()
            };
            self.make(&Operation::CreateGateway(gateway)).await?;
        }
        for some in devices.chunks(REGISTERS_AT_ONCE) {
            let register = |(name, dev_eui, root): (String, DevEui, Root)| {
                let operator = self.clone();
                async move { operator.register(&name, dev_eui, &root).await }
            };
            let under_way: Vec<_> =
                some.iter().cloned().map(|one| madsim::task::spawn(register(one))).collect();
            for one in under_way {
                one.await.map_err(|error| error.to_string())??;
            }
        }
        Ok(())
    }

    async fn register(&self, name: &str, dev_eui: DevEui, root: &Root) -> Result<(), String> {
        let (personal, dev_eui_text) = (root.personal.as_ref(), dev_eui.to_string());
        let device = Device {
            dev_eui: dev_eui_text.clone(),
            name: name.to_owned(),
            application_id: APPLICATION.to_owned(),
            device_profile_id: personal.map_or(PROFILE, |_| PROFILE_ABP).to_owned(),
            skip_fcnt_check: personal.is_some_and(|personal| personal.may_reset),
            join_eui: root.join_eui.to_string(),
            ..Device::default()
        };
        self.make(&Operation::CreateDevice(device)).await?;
        let made = match personal {
            Some(personal) => Operation::ActivateDevice(self.activation(dev_eui, personal)),
            // Where the field's API keeps the AppKey of a 1.0.x device.
            None => Operation::CreateDeviceKeys(DeviceKeys {
                dev_eui: dev_eui_text,
                nwk_key: hex(&root.app_key),
                ..DeviceKeys::default()
            }),
        };
        self.make(&made).await?;
        self.record.introduce_device(dev_eui, root.clone());
        Ok(())
    }

    /// The activation of a personalised device: its first uplink is the next one, and no downlink
    /// number it was ever sent comes again, also if the server has forgotten them.
    fn activation(&self, dev_eui: DevEui, personal: &Personal) -> DeviceActivation {
        let (network, application) = match &personal.keys {
            SessionKeys::V1_0 { nwk_s_key, app_s_key } => (nwk_s_key, app_s_key),
            SessionKeys::V1_1 { nwk_s_enc_key, app_s_key, .. } => (nwk_s_enc_key, app_s_key),
        };
        DeviceActivation {
            dev_eui: dev_eui.to_string(),
            dev_addr: personal.dev_addr.to_string(),
            app_s_key: hex(application),
            nwk_s_enc_key: hex(network),
            f_cnt_up: personal.first_fcnt,
            n_f_cnt_down: self.record.next_down(dev_eui),
            ..DeviceActivation::default()
        }
    }

    /// Makes an MQTT account with the rights that its part needs.
    ///
    /// Errors: the refusal.
    pub(super) async fn account(&self, name: &str, part: Part) -> Result<Account, String> {
        let (application, all) = match part {
            Part::Listener
            | Part::Onlooker { foreign: false }
            | Part::Publisher { wide: false } => (APPLICATION, false),
            Part::Onlooker { foreign: true } => {
                self.found_strangers().await?;
                (STRANGERS, false)
            }
            Part::Publisher { wide: true } => ("", true),
        };
        let user = MqttUser {
            name: name.to_owned(),
            application_id: application.to_owned(),
            all,
            can_publish: matches!(part, Part::Publisher { .. }),
            ..MqttUser::default()
        };
        let create = Operation::CreateMqttUser(user);
        let made = loop {
            match self.make(&create).await? {
                Some(Outcome::MqttUserCreated(made)) => break made,
                Some(_) => return Err("an account was asked for, something else came".to_owned()),
                // Its password was told to nobody.
                None => {
                    self.call(Operation::DeleteMqttUser(name.to_owned())).await?;
                }
            }
        };
        self.record.guard(&format!("the password of {name}"), made.password.as_bytes());
        let scope = made.topic.split_inclusive('/').take(2).collect::<String>();
        let sees = if all { "#".to_owned() } else { format!("{scope}#") };
        Ok(Account { user: made.name, password: made.password, filter: made.topic, sees })
    }

    /// Makes the application in which nothing happens, unless it is there.
    async fn found_strangers(&self) -> Result<(), String> {
        let application = Application {
            name: STRANGERS.to_owned(),
            tenant_id: TENANT.to_owned(),
            ..Application::default()
        };
        match self.try_call(Operation::CreateApplication(application)).await {
            Ok(_) | Err(ApiError::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Queues a downlink with a payload that nobody else has; with the chance `cancel` tries to
    /// take it out again soon after. Each is asked for once. Always as many draws.
    pub(super) async fn enqueue(&self, dev_eui: DevEui, number: u32, cancel: f64, dice: &mut Dice) {
        let (confirmed, repents) = (dice.chance(CONFIRMED), dice.chance(cancel));
        let pause = dice.between(&REPENTS_AFTER);
        let payload = Bytes::from([&dev_eui.to_be_bytes()[6..], &number.to_be_bytes()].concat());
        self.record.queues(dev_eui, &payload, confirmed);
        let item = wire::QueueItem {
            dev_eui: dev_eui.to_string(),
            confirmed,
            f_port: super::mote::PORT.into(),
            data: STANDARD.encode(&payload),
            ..wire::QueueItem::default()
        };
        let since = virtual_now();
        let result = self.try_call(Operation::Enqueue { item, flush: false }).await;
        let answer = answer_of(&result);
        let told = match &result {
            Ok(_) => "queued".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = format!("downlink {number} for {dev_eui}: {told}");
        let (node, device) = (self.asked_last(), dev_eui);
        let payload_told = payload.clone();
        let fact = Fact::Queued { node, device, payload: payload_told, confirmed, since, answer };
        self.record.fact("oper", &text, fact);
        if let (true, Ok(Outcome::Created(made))) = (repents, result) {
            sleep_virtual(pause).await;
            let cancel = Operation::CancelItem { device: dev_eui.to_string(), item: made.id };
            let answer = answer_of(&self.try_call(cancel).await);
            let text = format!("cancels downlink {number} for {dev_eui}: {answer:?}");
            let fact = Fact::Cancelled { device: dev_eui, payload, answer };
            self.record.fact("oper", &text, fact);
        }
    }

    /// All rows of the event log above `after`, in order.
    ///
    /// Errors: the call that failed.
    pub(super) async fn events(&self, after: u64) -> Result<Vec<EventItem>, String> {
        let mut rows = Vec::new();
        let mut from = after;
        loop {
            let filter = EventFilter { after: Some(from), limit: PAGE, ..EventFilter::default() };
            let Outcome::Events(page) = self.call(Operation::ReadEvents(filter)).await? else {
                return Err("events were asked for, and something else came".to_owned());
            };
            let full = page.events.len() >= PAGE as usize;
            from = page.events.last().map_or(from, |row| row.sequence);
            rows.extend(page.events);
            if !full {
                return Ok(rows);
            }
        }
    }
}

fn hex(key: &Key) -> String {
    key.expose().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The version of devices, as the field's API names it.
const fn mac_version(version: DeviceVersion) -> &'static str {
    match version {
        DeviceVersion::V1_0_3 => "LORAWAN_1_0_3",
        DeviceVersion::V1_0_4 => "LORAWAN_1_0_4",
    }
}

/// What an answer says about whether something was done.
pub(super) fn answer_of(result: &Result<Outcome, ApiError>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(ApiError::UnknownOutcome) => Answer::Unknown,
        Err(_) => Answer::Refused,
    }
}
