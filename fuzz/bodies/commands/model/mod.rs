//! What the replicated state must say, in plain maps and obvious rules: no index, no shared
//! structure, no floor that is not told in one line. Written from the promises, not from apply.
//!
//! [`Model::decide`] takes proposals one by one and answers as the log must. It leaves to others:
//! texts of refusals, the bytes of MAC requests and what their answers change in a session (`mac`
//! has its own tests), and where exactly the event log cuts its pieces.

mod activation;
mod clients;
mod frames;
mod grants;
mod members;
mod people;
mod things;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::WallTime;
use lorawan::{DevAddr, DevEui, GatewayEui};
use mac::{DownlinkCounter, NodeId, RequestId};
use store::limits::{ELAPSED_MICROS_MAX, REPLIES_MAX};
use store::model::{
    ApiKey, Application, Device, DeviceProfile, Gateway, MqttAccount, Tenant, TenantUser, User,
};
use store::{
    Command, Entry, EventRow, Id, Member, MqttMessage, Nameplate, Proposal, Refusal, Reply,
    Retained,
};

pub(crate) use clients::ClientSession;

/// Everything that the log has decided, as far as anybody can ask for it.
#[derive(Default)]
pub(crate) struct Model {
    /// The latest time any entry bore.
    pub(crate) now: WallTime,
    /// Leader time passed.
    pub(crate) ticks: u64,
    /// Feature level.
    pub(crate) level: u32,
    /// Founded.
    pub(crate) cluster: Option<Id>,
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// Every raft id that was ever given to somebody admitted.
    raft_ids: BTreeSet<NodeId>,
    /// The entry in hand has admitted somebody.
    admitted_now: bool,
    pub(crate) tenants: BTreeMap<Id, Tenant>,
    pub(crate) rights: BTreeMap<(Id, Id), TenantUser>,
    pub(crate) users: BTreeMap<Id, User>,
    pub(crate) api_keys: BTreeMap<Id, ApiKey>,
    pub(crate) accounts: BTreeMap<String, MqttAccount>,
    pub(crate) applications: BTreeMap<Id, Application>,
    pub(crate) profiles: BTreeMap<Id, DeviceProfile>,
    pub(crate) gateways: BTreeMap<GatewayEui, Gateway>,
    pub(crate) devices: BTreeMap<DevEui, Device>,
    pub(crate) sessions: BTreeMap<String, ClientSession>,
    /// Every message that was ever stored for sessions, with the time of its publication.
    pub(crate) messages: BTreeMap<u64, (MqttMessage, WallTime)>,
    pub(crate) retained: BTreeMap<String, Retained>,
    /// Fencing numbers given.
    pub(crate) fences: u64,
    /// Event rows written.
    pub(crate) row_count: u64,
    /// Rows of the entry in hand, their identifiers left blank.
    pub(crate) rows: Vec<EventRow>,
    /// Lowest row that may still be read, as of the last entry.
    pub(crate) first_row: u64,
    /// First answers to what is not about a frame, and the order in which they were given.
    answers: BTreeMap<RequestId, Reply>,
    answered: VecDeque<RequestId>,
    /// Answers about a device's frames before the last, newest first.
    pub(crate) earlier: BTreeMap<DevEui, Vec<(RequestId, Reply)>>,
    /// Downlink counters that an address of a device has reached, of either kind.
    reached: BTreeMap<(DevEui, DevAddr), [DownlinkCounter; 2]>,
    /// No device begins at or below these: the highest epoch and JoinNonce of any that is gone.
    epoch_floor: u32,
    join_nonce_floor: u32,
}

/// A decision that may be refused; refusals carry no text here.
type Decision = Result<Reply, Refusal>;

const DONE: Decision = Ok(Reply::Done);

fn not_found() -> Refusal {
    Refusal::NotFound(String::new())
}

fn already_exists() -> Refusal {
    Refusal::AlreadyExists(String::new())
}

fn invalid() -> Refusal {
    Refusal::Invalid(String::new())
}

fn in_use() -> Refusal {
    Refusal::InUse(String::new())
}

fn limit_reached() -> Refusal {
    Refusal::LimitReached(String::new())
}

/// Refuses unless `holds`.
fn need(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

/// What a `Put` expects to be there.
fn expect(must_exist: Option<bool>, exists: bool) -> Result<(), Refusal> {
    need(must_exist != Some(true) || exists, not_found())?;
    need(must_exist != Some(false) || !exists, already_exists())
}

impl Model {
    /// An entry begins: time goes on, and never back.
    pub(crate) fn begin(&mut self, entry: &Entry) {
        self.rows.clear();
        self.admitted_now = false;
        self.now = self.now.max(entry.wall);
        let elapsed = entry.elapsed_micros.min(ELAPSED_MICROS_MAX);
        self.ticks = self.ticks.saturating_add(elapsed);
        let ticks = self.ticks;
        self.sessions.retain(|_, session| session.ends_at.is_none_or(|end| end > ticks));
    }

    /// Decides one proposal.
    ///
    /// * `given`: what the log answered; kept as the first answer, and asked what MAC requests
    ///   weigh.
    pub(crate) fn decide(&mut self, proposal: &Proposal, given: &Reply) -> Reply {
        let Proposal { request, command } = proposal;
        match command {
            Command::AcceptUplink(uplink) => return self.accept_uplink(*request, uplink, given),
            Command::AcceptJoin(join) => return self.accept_join(*request, join, given),
            Command::PlanDownlink(ask) => return self.plan_downlink(*request, ask, given),
            Command::RecordTxAck(record) => return self.record_tx_ack(record),
            _ => {}
        }
        if let Some(first) = self.answers.get(request) {
            return first.clone();
        }
        let reply = match command {
            Command::AdmitMember { plate, feature_level, replaces } => {
                self.admit(plate, *feature_level, *replaces, given)
            }
            command => self.decide_order(command),
        };
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.answers.insert(*request, given.clone());
        self.answered.push_back(*request);
        if self.answered.len() > REPLIES_MAX
            && let Some(oldest) = self.answered.pop_front()
        {
            self.answers.remove(&oldest);
        }
        reply
    }

    /// The first answer to a request, while it is remembered.
    pub(crate) fn answer(&self, request: RequestId) -> Option<&Reply> {
        self.answers.get(&request)
    }

    fn decide_order(&mut self, command: &Command) -> Decision {
        match command {
            Command::Found { cluster_id, node, admin, tenant, .. } => {
                self.found(*cluster_id, *node, admin, tenant)
            }
            Command::Boot { node, boot, feature_level, plate } => {
                self.boot(*node, *boot, *feature_level, plate.as_ref())
            }
            Command::SetMemberStatus { node, status } => self.set_status(*node, *status),
            Command::RaiseFeatureLevel(level) => self.raise_level(*level),
            Command::PutTenant(put) => self.put_tenant(put),
            Command::DeleteTenant(id) => self.delete_tenant(*id),
            Command::SetTenantUser { tenant_id, user_id, rights } => {
                self.set_rights(*tenant_id, *user_id, *rights)
            }
            Command::PutUser(put) => self.put_user(put),
            Command::SetPassword { user_id, password } => self.set_password(*user_id, password),
            Command::DeleteUser(id) => self.delete_user(*id),
            Command::CreateApiKey(key) => self.create_api_key(key),
            Command::DeleteApiKey(id) => {
                need(self.api_keys.remove(id).is_some(), not_found()).and(DONE)
            }
            Command::PutMqttAccount(put) => self.put_account(put),
            Command::DeleteMqttAccount(name) => self.delete_account(name),
            Command::PutApplication(put) => self.put_application(put),
            Command::DeleteApplication(id) => self.delete_application(*id),
            Command::PutDeviceProfile(put) => self.put_profile(put),
            Command::DeleteDeviceProfile(id) => self.delete_profile(*id),
            Command::PutGateway(put) => self.put_gateway(put),
            Command::DeleteGateway(id) => {
                need(self.gateways.remove(id).is_some(), not_found()).and(DONE)
            }
            Command::OpenClientSession { client_id, account, clean_start, expiry_s, node } => {
                self.open(client_id, account, *clean_start, *expiry_s, *node)
            }
            Command::CloseClientSession { client_id, fence, end } => {
                self.close(client_id, *fence, *end)
            }
            Command::Subscribe { client_id, fence, add, remove } => {
                self.subscribe(client_id, *fence, add, remove)
            }
            Command::AckMessages { client_id, fence, taken } => self.take(client_id, *fence, taken),
            Command::PublishMessage(message) => self.publish(message),
            about_devices => self.decide_device(about_devices),
        }
    }
}

/// The cluster.
impl Model {
    fn found(&mut self, cluster: Id, node: NodeId, admin: &User, tenant: &Tenant) -> Decision {
        need(self.cluster.is_none(), already_exists())?;
        let now = self.now;
        self.cluster = Some(cluster);
        self.level = store::limits::FEATURE_LEVEL;
        let member = Member { feature_level: self.level, booted_at: now, ..Member::default() };
        self.members.insert(node, member);
        let admin = User { created_at: now, updated_at: now, ..admin.clone() };
        let tenant = Tenant { created_at: now, updated_at: now, ..tenant.clone() };
        self.users.insert(admin.id, admin);
        self.tenants.insert(tenant.id, tenant);
        DONE
    }

    /// What the node held before its start is void.
    fn boot(
        &mut self,
        node: NodeId,
        boot: u64,
        feature_level: u32,
        plate: Option<&Nameplate>,
    ) -> Decision {
        let known = self.members.get(&node).cloned().unwrap_or_default();
        need(boot > known.boot && known.is_live(), invalid())?;
        let booted_at = self.now;
        let plate = plate.unwrap_or(&known.plate).clone();
        self.members.insert(node, Member { boot, feature_level, booted_at, plate, ..known });
        self.void(node);
        DONE
    }

    /// Ends what a node holds: grants, and its clients' connections.
    fn void(&mut self, node: NodeId) {
        for device in self.devices.values_mut() {
            for session in [&mut device.session, &mut device.pending_session].into_iter().flatten()
            {
                for counter in [&mut session.n_f_cnt_down, &mut session.a_f_cnt_down] {
                    if counter.grant.is_some_and(|grant| grant.home == node) {
                        grants::end_grant(counter);
                    }
                }
            }
        }
        let connected = self.sessions.values().filter(|session| session.node == Some(node));
        let connected = connected.map(|session| session.client_id.clone());
        for client_id in connected.collect::<Vec<_>>() {
            self.disconnect(&client_id);
        }
    }

    fn raise_level(&mut self, level: u32) -> Decision {
        let mut live = self.members.values().filter(|member| member.is_live());
        let all_know = live.all(|member| member.feature_level >= level);
        need(level >= self.level && all_know, invalid())?;
        self.level = level;
        DONE
    }
}
