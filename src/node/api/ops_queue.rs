//! The downlink queue, and devices moved in from another server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clock::WallTime;
use lorawan::Region;
use mac::transition::AbpActivation;
use mac::{DeviceSession, MacProfile};
use store::model::{Device, ItemState, QueueItem};
use store::{Command, Id, Put};

use super::desk::{Answer, Desk, missing, parse_eui};
use super::error::ApiError;
use super::operation::Outcome;
use super::ops_device::{activated, parse_dev_addr, session_keys};
use super::ops_people::created;
use super::ops_profile::parse_channels;
use super::wire::{self, Empty, ImportedItem, ImportedSession, QueueItems};

/// Longest application payload of a downlink in bytes: N of any data rate of any region.
const DOWNLINK_BYTES_MAX: usize = 242;
/// Most downlinks one import may bring.
const IMPORTED_ITEMS_MAX: usize = 256;

/// The queue.
impl Desk<'_> {
    pub(super) fn enqueue(
        &mut self,
        item: wire::QueueItem,
        flush: bool,
    ) -> Result<Answer, ApiError> {
        let dev_eui = self.device_to_change(&item.dev_eui)?.dev_eui;
        let item = self.item_of_wire(item)?;
        let id = item.id;
        let mut commands = Vec::new();
        if flush {
            commands.push(Command::FlushQueue(dev_eui));
        }
        commands.push(Command::Enqueue { dev_eui, item });
        Answer::done(commands, created(id))
    }

    /// A queue item out of what was given.
    fn item_of_wire(&mut self, item: wire::QueueItem) -> Result<QueueItem, ApiError> {
        let f_port = u8::try_from(item.f_port).ok().filter(|port| (1..=223).contains(port));
        let f_port = f_port
            .ok_or_else(|| ApiError::invalid("fPort", format!("1 to 223, not {}", item.f_port)))?;
        if item.object.is_some_and(|object| !object.is_null()) {
            let why = "this server has no payload codecs yet: give data (base64)";
            return Err(ApiError::invalid("object", why));
        }
        let data = STANDARD.decode(item.data.trim()).map_err(|_| {
            ApiError::invalid("data", "this is not base64; bytes 01 02 are written AQI=")
        })?;
        if data.len() > DOWNLINK_BYTES_MAX {
            let why = format!("{} bytes, a frame carries {DOWNLINK_BYTES_MAX}", data.len());
            return Err(ApiError::invalid("data", why));
        }
        let id = match item.id.as_str() {
            "" => self.new_id(),
            text => text
                .parse()
                .map_err(|error: store::ParseIdError| ApiError::invalid("id", error.to_string()))?,
        };
        Ok(QueueItem {
            id,
            f_port,
            confirmed: item.confirmed,
            data: Bytes::from(data),
            encrypted_f_cnt: item.is_encrypted.then_some(item.f_cnt_down),
            expires_at: item.expires_at,
            state: ItemState::Queued,
            created_at: self.view.now.wall,
        })
    }

    pub(super) fn get_queue(&self, device: &str, count_only: bool) -> Result<Answer, ApiError> {
        let (device, _) = self.device(device)?;
        let total_count = u32::try_from(device.queue.len()).unwrap_or(u32::MAX);
        let item = |item: &QueueItem| wire::QueueItem {
            id: item.id.to_string(),
            dev_eui: device.dev_eui.to_string(),
            confirmed: item.confirmed,
            f_port: item.f_port.into(),
            data: STANDARD.encode(&item.data),
            object: None,
            is_pending: item.state != ItemState::Queued,
            f_cnt_down: match item.state {
                ItemState::AwaitsAck { f_cnt_down, .. } => f_cnt_down,
                ItemState::Queued | ItemState::HandedOut => item.encrypted_f_cnt.unwrap_or(0),
            },
            is_encrypted: item.encrypted_f_cnt.is_some(),
            expires_at: item.expires_at,
        };
        let result = if count_only { Vec::new() } else { device.queue.iter().map(item).collect() };
        Ok(Answer::Now(Outcome::Queue(QueueItems { total_count, result })))
    }

    pub(super) fn cancel_item(&self, device: &str, item: &str) -> Result<Answer, ApiError> {
        let dev_eui = self.device_to_change(device)?.dev_eui;
        let item_id: Id = item.parse().map_err(|_| missing("queue item", item))?;
        Answer::one(Command::CancelItem { dev_eui, item_id })
    }
}

/// Import.
impl Desk<'_> {
    pub(super) fn import_device(&mut self, import: wire::DeviceImport) -> Result<Answer, ApiError> {
        self.need_admin()?;
        if import.queue.len() > IMPORTED_ITEMS_MAX {
            let why = format!("at most {IMPORTED_ITEMS_MAX} downlinks");
            return Err(ApiError::invalid("queue", why));
        }
        let dev_eui = parse_eui("device.devEui", &import.device.dev_eui)?;
        let new = self.device_of_wire(dev_eui, import.device)?;
        let profile = self.profile_of(&new)?.mac.clone();
        let old = self.view.state.device(dev_eui).cloned();
        let flush = !import.queue.is_empty() && old.is_some_and(|old| !old.queue.is_empty());
        let mut commands = Vec::new();
        if let Some(keys) = import.device_keys.filter(|keys| !is_blank(keys)) {
            commands.push(self.keys_command(dev_eui, profile.mac_version, &keys, None)?);
        }
        if let Some(given) = import.session {
            let joins = !commands.is_empty();
            let session = self.imported_session(&new, &profile, &given, joins)?;
            commands.push(Command::Activate { dev_eui, session: Box::new(session) });
        }
        if flush {
            commands.push(Command::FlushQueue(dev_eui));
        }
        for item in import.queue {
            let item = self.imported_item(item)?;
            commands.push(Command::Enqueue { dev_eui, item });
        }
        commands.insert(0, Command::PutDevice(Box::new(Put { must_exist: None, value: new })));
        Answer::done(commands, Outcome::Empty(Empty {}))
    }

    fn imported_session(
        &mut self,
        new: &Device,
        profile: &MacProfile,
        given: &ImportedSession,
        joins: bool,
    ) -> Result<DeviceSession, ApiError> {
        let keys = session_keys(
            &given.f_nwk_s_int_key,
            &given.s_nwk_s_int_key,
            &given.nwk_s_enc_key,
            &given.app_s_key,
        )?;
        let mac_version = match given.mac_version.as_str() {
            "" => profile.mac_version,
            text => text.parse().map_err(|error: mac::ParseVersionError| {
                ApiError::invalid("session.macVersion", error.to_string())
            })?,
        };
        let region = Region::from_name(&profile.region)
            .map_err(|error| ApiError::invalid("deviceProfileId", error.to_string()))?;
        let channels = match given.channels.as_str() {
            "" => None,
            text => Some(parse_channels(text, region)?),
        };
        let holder = self.view.state.device(new.dev_eui).unwrap_or(new);
        let activation = AbpActivation {
            dev_addr: parse_dev_addr(&given.dev_addr)?,
            mac_version,
            keys: self.seal_session(holder, &keys),
            f_cnt_up: given.f_cnt_up,
            n_f_cnt_down: given.n_f_cnt_down,
            a_f_cnt_down: given.a_f_cnt_down,
            rx1_delay_s: given.rx1_delay,
            rx1_dr_offset: given.rx1_dr_offset,
            rx2_dr: given.rx2_dr,
            rx2_frequency_hz: given.rx2_frequency,
            channels,
        };
        let mut session = activated(activation, profile)?;
        let has_keys = joins || holder.keys.is_some();
        session.abp = given.abp.unwrap_or(!has_keys);
        session.dr = given.dr;
        session.tx_power = given.tx_power;
        session.nb_trans = given.nb_trans.max(1);
        session.status_requested_at = given.status_requested_at;
        Ok(session)
    }

    fn imported_item(&mut self, given: ImportedItem) -> Result<QueueItem, ApiError> {
        let (is_pending, f_cnt_down) = (given.item.is_pending, given.item.f_cnt_down);
        let since: WallTime = given.sent_at.unwrap_or(self.view.now.wall);
        let mut item = self.item_of_wire(given.item)?;
        // Told to wait for the device's ACK it waits, of whatever kind it is: elsewhere a sent item
        // is kept for no other reason.
        if is_pending {
            item.state = ItemState::AwaitsAck { f_cnt_down, since };
        }
        Ok(item)
    }
}

fn is_blank(keys: &wire::DeviceKeys) -> bool {
    keys.nwk_key.is_empty() && keys.app_key.is_empty()
}
