//! Applying the log: one entry in, the changed state, answers and event rows out.
//!
//! Sees no clock, no dice and no key: the entry carries the leader's time and the proposer's draws.
//! Each proposal is decided whole or refused whole. Source: DESIGN 3, 4, 5; dangers A2, A13, B4.

mod client_queue;
mod clients;
mod device;
mod downlink;
mod found;
mod join;
mod members;
mod network;
mod people;
mod queue;
mod rows;
mod uplink;

use clients::Opening;
use clock::WallTime;
use found::Founding;
use lorawan::{DevEui, GatewayEui};
use mac::{NodeId, RequestId};
use sabotage::Bug;

use crate::limits::{ELAPSED_MICROS_MAX, FEATURE_LEVEL};
use crate::{Command, Entry, EventRow, Id, Proposal, Refusal, Reply, State};

/// What applying an entry brought about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// One for each proposal, in order.
    pub replies: Vec<(RequestId, Reply)>,
    /// Rows to be written together with the fact that the entry is applied.
    pub rows: Vec<EventRow>,
    /// Rows below this sequence may be deleted.
    pub drop_below: Option<u64>,
    /// What the node may have to act upon, in order.
    pub changes: Vec<Change>,
}

/// Something that whoever runs a node may have to act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The device's registration, keys or sessions changed, or it is gone: forget opened keys.
    Device(DevEui),
    /// Something was queued for the device or taken from its queue.
    DeviceQueue(DevEui),
    /// A gateway was created, changed or deleted.
    Gateway(GatewayEui),
    /// A tenant was created, changed or deleted.
    Tenant(Id),
    /// An application was created, changed or deleted.
    Application(Id),
    /// A device profile was created, changed or deleted.
    DeviceProfile(Id),
    /// A user's rights, password or activity changed, or he is gone: check his sessions.
    User(Id),
    /// An API key was created, or is gone.
    ApiKey(Id),
    /// An MQTT account changed or is gone: its connections are to be checked.
    MqttAccount(String),
    /// Another connection owns the session now: close the one with `fence`.
    ClientTaken {
        /// Client identifier.
        client_id: String,
        /// Where it was connected.
        node: NodeId,
        /// The fencing number it had.
        fence: u64,
    },
    /// A connection owns the session from now on.
    ClientOpened {
        /// Client identifier.
        client_id: String,
        /// Where it is connected.
        node: NodeId,
        /// Whether it is a session that was there before.
        present: bool,
    },
    /// A persistent session has ended.
    ClientEnded {
        /// Client identifier.
        client_id: String,
        /// Where it was connected, if it was.
        node: Option<NodeId>,
        /// Its last fencing number.
        fence: u64,
    },
    /// Something was put into the queue of a session connected to `node`.
    ClientQueued {
        /// Client identifier.
        client_id: String,
        /// Where it is connected.
        node: NodeId,
    },
    /// The retained message of a topic changed or was forgotten.
    Retained(String),
    /// A member came, moved, changed its status, or is gone.
    Member(NodeId),
}

/// Why an entry cannot be applied. The node stops; the state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The entry, or a later one, was applied before: a fault of the caller.
    #[error("entry {index} is not above {applied}, the last one applied")]
    NotAbove {
        /// The entry's index.
        index: u64,
        /// The last one applied.
        applied: u64,
    },
    /// The log has moved on to what this binary does not know.
    #[error(
        "the log needs feature level {wanted}, this binary knows {FEATURE_LEVEL}: upgrade this node"
    )]
    FeatureLevel {
        /// Level in the entry.
        wanted: u32,
    },
}

/// A decision that may be refused; refusing changes nothing.
pub(crate) type Decision = Result<Reply, Refusal>;

impl State {
    /// Applies the entry at `index` of the log.
    ///
    /// * Errors: [`ApplyError`]; nothing is changed and the node must stop.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Result<Applied, ApplyError> {
        if index <= self.core.applied {
            return Err(ApplyError::NotAbove { index, applied: self.core.applied });
        }
        for proposal in &entry.proposals {
            if let Command::RaiseFeatureLevel(wanted) = proposal.command
                && wanted > FEATURE_LEVEL
            {
                return Err(ApplyError::FeatureLevel { wanted });
            }
        }
        let mut applied = Applied::default();
        self.core.applied = index;
        self.core.now = self.core.now.max(entry.wall);
        let elapsed = entry.elapsed_micros.min(ELAPSED_MICROS_MAX);
        self.core.ticks = self.core.ticks.saturating_add(elapsed);
        self.end_expired_sessions(&mut applied);
        for proposal in &entry.proposals {
            let reply = self.decide(proposal, &mut applied);
            applied.replies.push((proposal.request, reply));
        }
        applied.drop_below = self.events.trim(self.core.now);
        if sabotage::planted(Bug::HashOrder) {
            sabotage::as_hashed(&mut applied.changes);
        }
        Ok(applied)
    }

    /// Answers a proposal: as before if it is a retry. Of questions about frames the device keeps
    /// the last answer, of others one ring does.
    fn decide(&mut self, proposal: &Proposal, applied: &mut Applied) -> Reply {
        let (request, command) = (proposal.request, &proposal.command);
        let about_frame = matches!(
            command,
            Command::AcceptUplink(_)
                | Command::AcceptJoin(_)
                | Command::PlanDownlink(_)
                | Command::RecordTxAck(_)
        );
        if !about_frame && let Some(reply) = self.recorded_reply(request) {
            return reply.clone();
        }
        let decision = self.decide_command(request, command, applied);
        let reply = decision.unwrap_or_else(Reply::Refused);
        if !about_frame {
            self.record_reply(request, &reply);
        }
        reply
    }

    fn decide_command(
        &mut self,
        request: RequestId,
        command: &Command,
        applied: &mut Applied,
    ) -> Decision {
        match command {
            Command::Found { cluster_id, cluster_name, node, admin, tenant, founders } => {
                let founding = Founding { cluster_id: *cluster_id, cluster_name, node: *node };
                self.found(&founding, admin, tenant, founders, applied)
            }
            Command::Boot { node, boot, feature_level, plate } => {
                self.boot(*node, *boot, *feature_level, plate.as_ref(), applied)
            }
            Command::AdmitMember { plate, feature_level, replaces } => {
                self.admit_member(plate, *feature_level, *replaces, applied)
            }
            Command::SetMemberStatus { node, status } => {
                self.set_member_status(*node, *status, applied)
            }
            Command::RaiseFeatureLevel(level) => self.raise_feature_level(*level),
            Command::AcceptUplink(uplink) => Ok(self.accept_uplink(request, uplink, applied)),
            Command::AcceptJoin(join) => Ok(self.accept_join(request, join, applied)),
            Command::PlanDownlink(ask) => Ok(self.plan_downlink(request, ask, applied)),
            Command::RecordTxAck(record) => Ok(self.record_tx_ack(request, record, applied)),
            Command::PutTenant(put) => self.put_tenant(put, applied),
            Command::DeleteTenant(id) => self.delete_tenant(*id, applied),
            Command::SetTenantUser { tenant_id, user_id, rights } => {
                self.set_tenant_user(*tenant_id, *user_id, *rights, applied)
            }
            Command::PutUser(put) => self.put_user(put, applied),
            Command::SetPassword { user_id, password } => {
                self.set_password(*user_id, password, applied)
            }
            Command::DeleteUser(id) => self.delete_user(*id, applied),
            Command::CreateApiKey(key) => self.create_api_key(key, applied),
            Command::DeleteApiKey(id) => self.delete_api_key(*id, applied),
            Command::PutMqttAccount(put) => self.put_mqtt_account(put, applied),
            Command::DeleteMqttAccount(name) => self.delete_mqtt_account(name, applied),
            Command::PutApplication(put) => self.put_application(put, applied),
            Command::DeleteApplication(id) => self.delete_application(*id, applied),
            Command::PutDeviceProfile(put) => self.put_device_profile(put, applied),
            Command::DeleteDeviceProfile(id) => self.delete_device_profile(*id, applied),
            Command::PutGateway(put) => self.put_gateway(put, applied),
            Command::DeleteGateway(id) => self.delete_gateway(*id, applied),
            Command::PutDevice(put) => self.put_device(put, applied),
            Command::DeleteDevice(dev_eui) => self.delete_device(*dev_eui, applied),
            Command::SetDeviceKeys { dev_eui, must_exist, nwk_key, app_key } => {
                self.set_device_keys(*dev_eui, *must_exist, nwk_key, app_key.as_ref(), applied)
            }
            Command::DeleteDeviceKeys(dev_eui) => self.delete_device_keys(*dev_eui, applied),
            Command::FlushDevNonces(dev_eui) => self.flush_dev_nonces(*dev_eui),
            Command::Activate { dev_eui, session } => self.activate(*dev_eui, session, applied),
            Command::Deactivate(dev_eui) => self.deactivate(*dev_eui, applied),
            Command::Enqueue { dev_eui, item } => self.enqueue(*dev_eui, item, applied),
            Command::FlushQueue(dev_eui) => self.flush_queue(*dev_eui, applied),
            Command::CancelItem { dev_eui, item_id } => {
                self.cancel_item(*dev_eui, *item_id, applied)
            }
            Command::OpenClientSession { client_id, account, clean_start, expiry_s, node } => {
                let (clean_start, expiry_s, node) = (*clean_start, *expiry_s, *node);
                let opening = Opening { client_id, account, clean_start, expiry_s, node };
                self.open_client_session(&opening, applied)
            }
            Command::CloseClientSession { client_id, fence, end } => {
                self.close_client_session(client_id, *fence, *end, applied)
            }
            Command::Subscribe { client_id, fence, add, remove } => {
                self.subscribe(client_id, *fence, add, remove)
            }
            Command::AckMessages { client_id, fence, taken } => {
                self.ack_messages(client_id, *fence, taken)
            }
            Command::PublishMessage(message) => self.publish_message(message, applied),
        }
    }

    /// State time.
    pub(crate) const fn time(&self) -> WallTime {
        self.core.now
    }
}

/// Whether a `Put` meets what it expects to be there.
pub(crate) fn check_put(
    must_exist: Option<bool>,
    exists: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Refusal> {
    match (must_exist, exists) {
        (Some(true), false) => Err(Refusal::NotFound(what())),
        (Some(false), true) => Err(Refusal::AlreadyExists(what())),
        (Some(true), true) | (Some(false), false) | (None, _) => Ok(()),
    }
}
