//! The state as a stream of pieces, and back; and its hash, which is over the same bytes.
//!
//! A piece holds whole records, a record is `[section, value]` in CBOR. Sections stand in a fixed
//! order and values in key order, so that equal states have equal bytes. The last record is the
//! SHA-256 of all before it: a snapshot that lacks a piece, or has one twice, is refused. Rows of
//! the event log are not here: the host streams them beside it.

use core::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use lorawan::{DevAddr, DevEui, GatewayEui};
use mac::{NodeId, RequestId};
use minicbor::{Decode, Decoder, Encode, Encoder};
use sabotage::Bug;
use sha2::{Digest as _, Sha256};

use crate::client_session::{ClientSession, Retained, SessionRecord, StoredMessage};
use crate::event_log::EventLog;
use crate::index::{DeviceTraits, Index};
use crate::limits::ENTRY_BYTES_MAX;
use crate::member::Member;
use crate::model::{
    ApiKey, Application, Device, DeviceProfile, Gateway, MqttAccount, Tenant, TenantUser, User,
};
use crate::state::{Core, RetiredNumbers};
use crate::{Id, Reply, State, codec};

/// A piece is closed when it has at least so many bytes.
pub const PIECE_BYTES: usize = 256 << 10;

/// Version of the stream, in its first record.
const VERSION: u8 = 1;

/// Where the reader stands: the next section, and the last key written of it.
#[derive(Clone, Debug)]
enum Place {
    Header,
    Members(Option<NodeId>),
    Tenants(Option<Id>),
    TenantUsers(Option<(Id, Id)>),
    Users(Option<Id>),
    ApiKeys(Option<Id>),
    MqttAccounts(Option<String>),
    Applications(Option<Id>),
    DeviceProfiles(Option<Id>),
    Devices(Option<DevEui>),
    Gateways(Option<GatewayEui>),
    ClientSessions(Option<String>),
    Messages(Option<u64>),
    Retained(Option<String>),
    Replies(Option<u64>),
    Retired(Option<(DevEui, DevAddr)>),
    End,
    Done,
}

/// Numbers of the sections in the stream; never reused.
mod section {
    pub(super) const HEADER: u8 = 0;
    pub(super) const MEMBER: u8 = 1;
    pub(super) const TENANT: u8 = 2;
    pub(super) const TENANT_USER: u8 = 3;
    pub(super) const USER: u8 = 4;
    pub(super) const API_KEY: u8 = 5;
    pub(super) const MQTT_ACCOUNT: u8 = 6;
    pub(super) const APPLICATION: u8 = 7;
    pub(super) const DEVICE_PROFILE: u8 = 8;
    pub(super) const DEVICE: u8 = 9;
    pub(super) const GATEWAY: u8 = 10;
    pub(super) const CLIENT_SESSION: u8 = 11;
    pub(super) const MESSAGE: u8 = 12;
    pub(super) const RETAINED: u8 = 13;
    pub(super) const REPLY: u8 = 14;
    pub(super) const RETIRED_NUMBERS: u8 = 15;
    pub(super) const END: u8 = 255;
}

/// Yields the pieces of one state. Holds a clone that shares structure: the log may go on.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    state: State,
    place: Place,
    hasher: Sha256,
    piece_bytes: usize,
}

fn record<T: Encode<()>>(section: u8, value: &T, out: &mut Vec<u8>) {
    let head = Encoder::new(&mut *out).array(2).and_then(|encoder| encoder.u8(section)).is_ok();
    assert!(head, "a vector takes any bytes");
    codec::write(value, out);
}

/// A piece being written, and how many bytes fill it.
struct Piece {
    bytes: Vec<u8>,
    full: usize,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.bytes.len() >= self.full
    }
}

/// Writes what follows `after` until the piece is full.
///
/// * Returns the last key written, `None` if the section is done.
fn fill<K: Ord + Clone, V>(
    map: &OrdMap<K, V>,
    after: Option<K>,
    piece: &mut Piece,
    mut write: impl FnMut(&K, &V, &mut Vec<u8>),
) -> Option<K> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    for (key, value) in map.range((from, Bound::Unbounded)) {
        write(key, value, &mut piece.bytes);
        if piece.is_full() {
            return Some(key.clone());
        }
    }
    None
}

/// As [`fill`] for values that hold their key.
fn fill_values<K: Ord + Clone, V: Encode<()>>(
    map: &OrdMap<K, Arc<V>>,
    after: Option<K>,
    section: u8,
    piece: &mut Piece,
) -> Option<K> {
    fill(map, after, piece, |_, value, out| record(section, value.as_ref(), out))
}

/// As [`fill`] for values that stand beside their key.
fn fill_pairs<K: Ord + Clone + Encode<()>, V: Encode<()>>(
    map: &OrdMap<K, V>,
    after: Option<K>,
    section: u8,
    piece: &mut Piece,
) -> Option<K> {
    fill(map, after, piece, |key, value, out| record(section, &(key, value), out))
}

impl SnapshotReader {
    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = Piece { bytes: Vec::new(), full: self.piece_bytes };
        while !piece.is_full() {
            if matches!(self.place, Place::End) {
                self.hasher.update(&piece.bytes);
                let hash: [u8; 32] = self.hasher.clone().finalize().into();
                record(section::END, &minicbor::bytes::ByteArray::from(hash), &mut piece.bytes);
                self.place = Place::Done;
                return Some(piece.bytes);
            }
            if matches!(self.place, Place::Done) {
                return None;
            }
            self.place = self.write_some(&mut piece);
        }
        self.hasher.update(&piece.bytes);
        Some(piece.bytes)
    }

    /// Closes pieces at another size than [`PIECE_BYTES`].
    ///
    /// * `bytes`: 1 to [`PIECE_BYTES`]; what is outside is taken as the nearest.
    #[must_use]
    pub fn in_pieces_of(self, bytes: usize) -> Self {
        Self { piece_bytes: bytes.clamp(1, PIECE_BYTES), ..self }
    }

    /// Writes records of one section until it or the piece ends.
    #[expect(clippy::too_many_lines, reason = "one arm a section")]
    fn write_some(&self, piece: &mut Piece) -> Place {
        let state = &self.state;
        macro_rules! section {
            ($fill:ident, $map:ident, $number:ident, $after:ident, $here:ident, $next:expr) => {
                match $fill(&state.$map, $after.clone(), section::$number, piece) {
                    Some(key) => Place::$here(Some(key)),
                    None => $next,
                }
            };
        }
        match &self.place {
            Place::Header => {
                record(section::HEADER, &(VERSION, &state.core, &state.events), &mut piece.bytes);
                Place::Members(None)
            }
            Place::Members(after) => {
                section!(fill_pairs, members, MEMBER, after, Members, Place::Tenants(None))
            }
            Place::Tenants(after) => {
                section!(fill_values, tenants, TENANT, after, Tenants, Place::TenantUsers(None))
            }
            Place::TenantUsers(after) => {
                let next = Place::Users(None);
                section!(fill_pairs, tenant_users, TENANT_USER, after, TenantUsers, next)
            }
            Place::Users(after) => {
                section!(fill_values, users, USER, after, Users, Place::ApiKeys(None))
            }
            Place::ApiKeys(after) => {
                section!(fill_values, api_keys, API_KEY, after, ApiKeys, Place::MqttAccounts(None))
            }
            Place::MqttAccounts(after) => {
                let next = Place::Applications(None);
                section!(fill_values, mqtt_accounts, MQTT_ACCOUNT, after, MqttAccounts, next)
            }
            Place::Applications(after) => {
                let next = Place::DeviceProfiles(None);
                section!(fill_values, applications, APPLICATION, after, Applications, next)
            }
            Place::DeviceProfiles(after) => {
                let next = Place::Devices(None);
                section!(fill_values, device_profiles, DEVICE_PROFILE, after, DeviceProfiles, next)
            }
            Place::Devices(after) => {
                section!(fill_values, devices, DEVICE, after, Devices, Place::Gateways(None))
            }
            Place::Gateways(after) => {
                let next = Place::ClientSessions(None);
                section!(fill_values, gateways, GATEWAY, after, Gateways, next)
            }
            Place::ClientSessions(_) if sabotage::planted(Bug::SessionNotInSnapshot) => {
                Place::Messages(None)
            }
            Place::ClientSessions(after) => {
                let key = fill(&state.client_sessions, after.clone(), piece, |_, session, out| {
                    let session = SessionRecord::from(session.as_ref());
                    record(section::CLIENT_SESSION, &session, out);
                });
                key.map_or(Place::Messages(None), |key| Place::ClientSessions(Some(key)))
            }
            Place::Messages(after) => {
                let key = fill(&state.messages, *after, piece, |number, message, out| {
                    record(section::MESSAGE, &(number, message.as_ref()), out);
                });
                key.map_or(Place::Retained(None), |key| Place::Messages(Some(key)))
            }
            Place::Retained(after) => {
                section!(fill_values, retained, RETAINED, after, Retained, Place::Replies(None))
            }
            Place::Replies(after) => {
                let key = fill(&state.replies, *after, piece, |number, (request, reply), out| {
                    record(section::REPLY, &(number, request, reply.as_ref()), out);
                });
                key.map_or(Place::Retired(None), |key| Place::Replies(Some(key)))
            }
            Place::Retired(after) => {
                section!(fill_pairs, retired, RETIRED_NUMBERS, after, Retired, Place::End)
            }
            Place::End => Place::End,
            Place::Done => Place::Done,
        }
    }
}

impl Iterator for SnapshotReader {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.next_piece()
    }
}

/// Why a snapshot cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A piece is far longer than any that is written.
    #[error("a piece of {bytes} bytes is too long")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Damaged, or written by a newer binary.
    #[error("the snapshot holds what this binary does not know ({0}): upgrade this node")]
    Unknown(String),
    /// A record stands where it must not.
    #[error("section {section} of the snapshot is out of place")]
    OutOfPlace {
        /// Its section.
        section: u8,
    },
    /// Pieces are missing, doubled, or not as they were written.
    #[error("the snapshot is not whole")]
    NotWhole,
}

fn unknown(error: impl core::fmt::Display) -> SnapshotError {
    SnapshotError::Unknown(error.to_string())
}

/// Takes the pieces of a snapshot in order and becomes a state.
#[derive(Clone, Debug, Default)]
pub struct SnapshotBuilder {
    state: State,
    hasher: Sha256,
    /// The section of the last record; `None` before the header.
    section: Option<u8>,
}

impl SnapshotBuilder {
    /// A builder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    ///
    /// * Errors: [`SnapshotError`]; the builder is of no use then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        if piece.len() > PIECE_BYTES + 2 * ENTRY_BYTES_MAX {
            return Err(SnapshotError::TooLong { bytes: piece.len() });
        }
        let mut decoder = Decoder::new(piece);
        while decoder.position() < piece.len() {
            let start = decoder.position();
            let head = decoder.array().map_err(unknown)?;
            let section = decoder.u8().map_err(unknown)?;
            let header_first = self.section.is_some() || section == section::HEADER;
            let again = section == section::HEADER && self.section.is_some();
            let in_order = self.section.is_none_or(|last| last <= section && last != section::END);
            if head != Some(2) || !header_first || again || !in_order {
                return Err(SnapshotError::OutOfPlace { section });
            }
            self.section = Some(section);
            if section == section::END {
                let hash = decoder.bytes().map_err(unknown)?;
                let whole = hash == self.hasher.clone().finalize().as_slice();
                if !whole || decoder.position() != piece.len() {
                    return Err(SnapshotError::NotWhole);
                }
                return Ok(());
            }
            self.take(section, &mut decoder).map_err(unknown)?;
            let read = piece.get(start..decoder.position()).unwrap_or_default();
            self.hasher.update(read);
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one arm a section")]
    fn take(
        &mut self,
        section: u8,
        decoder: &mut Decoder<'_>,
    ) -> Result<(), minicbor::decode::Error> {
        fn shared<'b, T: Decode<'b, ()>>(
            decoder: &mut Decoder<'b>,
        ) -> Result<Arc<T>, minicbor::decode::Error> {
            decoder.decode().map(Arc::new)
        }
        let state = &mut self.state;
        match section {
            section::HEADER => {
                let (version, core, events): (u8, Core, EventLog) = decoder.decode()?;
                if version != VERSION {
                    return Err(minicbor::decode::Error::message("version of the snapshot"));
                }
                (state.core, state.events) = (core, events);
            }
            section::MEMBER => {
                let (node, member): (NodeId, Member) = decoder.decode()?;
                state.members.insert(node, member);
            }
            section::TENANT => {
                let tenant: Arc<Tenant> = shared(decoder)?;
                state.tenants.insert(tenant.id, tenant);
            }
            section::TENANT_USER => {
                let (key, rights): ((Id, Id), TenantUser) = decoder.decode()?;
                state.tenant_users.insert(key, rights);
            }
            section::USER => {
                let user: Arc<User> = shared(decoder)?;
                state.users.insert(user.id, user);
            }
            section::API_KEY => {
                let key: Arc<ApiKey> = shared(decoder)?;
                state.api_keys.insert(key.id, key);
            }
            section::MQTT_ACCOUNT => {
                let account: Arc<MqttAccount> = shared(decoder)?;
                state.mqtt_accounts.insert(account.name.clone(), account);
            }
            section::APPLICATION => {
                let application: Arc<Application> = shared(decoder)?;
                state.applications.insert(application.id, application);
            }
            section::DEVICE_PROFILE => {
                let profile: Arc<DeviceProfile> = shared(decoder)?;
                state.device_profiles.insert(profile.id, profile);
            }
            section::DEVICE => {
                let device: Arc<Device> = shared(decoder)?;
                state.devices.insert(device.dev_eui, device);
            }
            section::GATEWAY => {
                let gateway: Arc<Gateway> = shared(decoder)?;
                state.gateways.insert(gateway.gateway_id, gateway);
            }
            section::CLIENT_SESSION => {
                let session: SessionRecord = decoder.decode()?;
                let session = ClientSession::from(session);
                state.client_sessions.insert(session.client_id.clone(), Arc::new(session));
            }
            section::MESSAGE => {
                let (number, message): (u64, StoredMessage) = decoder.decode()?;
                state.messages.insert(number, Arc::new(message));
            }
            section::RETAINED => {
                let retained: Arc<Retained> = shared(decoder)?;
                state.retained.insert(retained.message.topic.clone(), retained);
            }
            section::REPLY => {
                let (number, request, reply): (u64, RequestId, Reply) = decoder.decode()?;
                state.replies.insert(number, (request, Arc::new(reply)));
            }
            section::RETIRED_NUMBERS => {
                let (key, numbers): ((DevEui, DevAddr), RetiredNumbers) = decoder.decode()?;
                state.retired.insert(key, numbers);
            }
            _ => return Err(minicbor::decode::Error::message("section of the snapshot")),
        }
        Ok(())
    }

    /// The state, if the last piece was the last. It must have the very bytes of the snapshot: a
    /// field that this binary does not know would be lost.
    ///
    /// * Errors: [`SnapshotError::NotWhole`], [`SnapshotError::Unknown`].
    pub fn finish(mut self) -> Result<State, SnapshotError> {
        if self.section != Some(section::END) {
            return Err(SnapshotError::NotWhole);
        }
        let hash: [u8; 32] = self.hasher.finalize().into();
        if self.state.state_hash() != hash {
            return Err(unknown("a field"));
        }
        self.state.index = Index::of(&self.state);
        Ok(self.state)
    }
}

impl Index {
    /// The index of a restored state.
    fn of(state: &State) -> Self {
        let mut index = Self::default();
        state.tenants.values().for_each(|tenant| index.tenant_added(tenant));
        state.users.values().for_each(|user| index.user_added(user));
        state.applications.values().for_each(|application| index.application_added(application));
        state.device_profiles.values().for_each(|profile| index.profile_added(profile));
        state.gateways.values().for_each(|gateway| index.gateway_added(gateway));
        for device in state.devices.values() {
            index.device_changed(device.dev_eui, None, Some(DeviceTraits::of(device)));
        }
        for (number, (request, _)) in &state.replies {
            index.replies.insert(*request, *number);
        }
        for session in state.client_sessions.values() {
            index.session_changed(None, Some(session));
            for (filter, subscription) in &session.subscriptions {
                if let Ok(filter) = filter.parse() {
                    index.subscriptions.add(&session.client_id, &filter, subscription);
                }
            }
        }
        index.queued_bytes = state.messages.values().map(|stored| stored.message.weight()).sum();
        index.retained_bytes = state.retained.values().map(|kept| kept.message.weight()).sum();
        index
    }
}

impl State {
    /// The pieces of this state as it is now; cheap, whatever happens to the state afterwards.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotReader {
        let state = Self { index: Index::default(), ..self.clone() };
        SnapshotReader {
            state,
            place: Place::Header,
            hasher: Sha256::new(),
            piece_bytes: PIECE_BYTES,
        }
    }

    /// SHA-256 over the canonical encoding of the state: equal on nodes that have applied the same
    /// log. Walks the whole state (some 0.1 s for 100,000 devices), so take it from a clone.
    #[must_use]
    pub fn state_hash(&self) -> [u8; 32] {
        let mut reader = self.snapshot();
        while reader.next_piece().is_some() {}
        reader.hasher.finalize().into()
    }
}
