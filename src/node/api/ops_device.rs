//! Devices: registration, keys, activation.

use clock::WallTime;
use lorawan::{DevAddr, DevEui, JoinEui, Key, ParseIdError};
use mac::transition::AbpActivation;
use mac::{DeviceSession, MacProfile, MacVersion, Sealed, SessionKeys};
use store::model::{Device, DeviceProfile, DeviceStatus};
use store::{Command, Put};

use super::desk::{
    Answer, Desk, check_text, checked_name, denied, holds, missing, page, parse_eui,
};
use super::dev_addr::dev_addr_from;
use super::error::ApiError;
use super::operation::{Operation, Outcome};
use super::wire::{self, List, ListQuery};
use crate::vault::{aad_root, aad_session};

/// Addresses tried before giving up drawing a free one.
const ADDRESS_TRIES: usize = 64;

impl Desk<'_> {
    /// Operations on one device.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`answer` hands over nothing else")]
    pub(super) fn answer_device(&mut self, operation: Operation) -> Result<Answer, ApiError> {
        use Operation as O;
        match operation {
            O::CreateDevice(device) => self.create_device(device),
            O::GetDevice(id) => self.get_device(&id),
            O::UpdateDevice(device) => self.update_device(device),
            O::DeleteDevice(id) => {
                Answer::one(Command::DeleteDevice(self.device_to_change(&id)?.dev_eui))
            }
            O::ListDevices(query) => self.list_devices(&query),
            O::CreateDeviceKeys(keys) => self.set_device_keys(&keys, false),
            O::GetDeviceKeys(id) => self.get_device_keys(&id),
            O::UpdateDeviceKeys(keys) => self.set_device_keys(&keys, true),
            O::DeleteDeviceKeys(id) => {
                Answer::one(Command::DeleteDeviceKeys(self.device_to_change(&id)?.dev_eui))
            }
            O::FlushDevNonces(id) => {
                Answer::one(Command::FlushDevNonces(self.device_to_change(&id)?.dev_eui))
            }
            O::ActivateDevice(activation) => self.activate_device(&activation),
            O::DeactivateDevice(id) => {
                Answer::one(Command::Deactivate(self.device_to_change(&id)?.dev_eui))
            }
            O::GetActivation(id) => self.get_activation(&id),
            O::GetRandomDevAddr(id) => self.get_random_dev_addr(&id),
            O::GetNextFCntDown(id) => self.get_next_f_cnt_down(&id),
            O::Enqueue { item, flush } => self.enqueue(item, flush),
            O::GetQueue { device, count_only } => self.get_queue(&device, count_only),
            O::FlushQueue(id) => {
                Answer::one(Command::FlushQueue(self.device_to_change(&id)?.dev_eui))
            }
            O::CancelItem { device, item } => self.cancel_item(&device, &item),
            O::ImportDevice(import) => self.import_device(*import),
            other => unreachable!("answered elsewhere: {other:?}"),
        }
    }

    fn create_device(&mut self, device: wire::Device) -> Result<Answer, ApiError> {
        let dev_eui: DevEui = parse_eui("devEui", &device.dev_eui)?;
        if self.view.state.device(dev_eui).is_some() {
            let text = format!("device {dev_eui} is registered already");
            return Err(ApiError::AlreadyExists(text));
        }
        let value = self.device_of_wire(dev_eui, device)?;
        Answer::one(Command::PutDevice(Box::new(Put { must_exist: Some(false), value })))
    }

    fn update_device(&mut self, device: wire::Device) -> Result<Answer, ApiError> {
        let dev_eui = self.device_to_change(&device.dev_eui)?.dev_eui;
        let value = self.device_of_wire(dev_eui, device)?;
        Answer::one(Command::PutDevice(Box::new(Put { must_exist: Some(true), value })))
    }

    /// A registration out of what was given; names become identifiers, rights are checked.
    pub(super) fn device_of_wire(
        &self,
        dev_eui: DevEui,
        one: wire::Device,
    ) -> Result<Device, ApiError> {
        check_text(&one.description, &[("tags", &one.tags), ("variables", &one.variables)])?;
        let application = self.application(&one.application_id)?;
        if !self.rights(application.tenant_id).devices {
            return Err(denied("a device administrator"));
        }
        let profile = self.profile(&one.device_profile_id, Some(application.tenant_id))?;
        let name = if one.name.trim().is_empty() { dev_eui.to_string() } else { one.name };
        let join_eui = match one.join_eui.as_str() {
            "" => None,
            text => Some(parse_eui::<JoinEui>("joinEui", text)?),
        };
        Ok(Device {
            dev_eui,
            application_id: application.id,
            device_profile_id: profile.id,
            name: checked_name("name", &name)?,
            description: one.description,
            join_eui: join_eui.filter(|eui| *eui != JoinEui::default()),
            skip_f_cnt_check: one.skip_fcnt_check,
            is_disabled: one.is_disabled,
            variables: one.variables,
            tags: one.tags,
            keys: None,
            session: None,
            pending_session: None,
            last_epoch: mac::SessionEpoch::default(),
            queue: Vec::new(),
            status: None,
            last_seen_at: None,
            last_reply: None,
            earlier_replies: None,
            last_home: None,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        })
    }

    fn get_device(&self, id: &str) -> Result<Answer, ApiError> {
        let (one, _) = self.device(id)?;
        Ok(Answer::Now(Outcome::Device(Box::new(wire::DeviceDetails {
            device: wire::Device {
                dev_eui: one.dev_eui.to_string(),
                name: one.name.clone(),
                description: one.description.clone(),
                application_id: one.application_id.to_string(),
                device_profile_id: one.device_profile_id.to_string(),
                skip_fcnt_check: one.skip_f_cnt_check,
                is_disabled: one.is_disabled,
                variables: one.variables.clone(),
                tags: one.tags.clone(),
                join_eui: one.join_eui.unwrap_or_default().to_string(),
            },
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            last_seen_at: one.last_seen_at,
            device_status: one.status.map(status_to_wire),
            class_enabled: "CLASS_A".to_owned(),
        }))))
    }

    fn list_devices(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let state = self.view.state;
        let application = match query.application_id.as_str() {
            "" => None,
            text => Some(self.application(text)?),
        };
        let tenant = match query.tenant_id.as_str() {
            "" => application.map(|one| one.tenant_id),
            text => Some(self.tenant(text)?.id),
        };
        let profile = match query.device_profile_id.as_str() {
            "" => None,
            text => Some(self.profile(text, tenant)?.id),
        };
        let tenants = state.tenants().filter(|one| tenant.is_none_or(|of| of == one.id));
        let tenants = tenants.filter(|one| self.rights(one.id).read);
        let applications = tenants.flat_map(|one| state.applications_of(one.id));
        let applications = applications.filter(|one| application.is_none_or(|of| of.id == one.id));
        let wanted = |one: &&Device| {
            profile.is_none_or(|id| id == one.device_profile_id)
                && (query.search.is_empty()
                    || holds(&query.search, &[&one.name, &one.dev_eui.to_string()]))
        };
        let all = applications.flat_map(|one| state.devices_of(one.id)).filter(wanted);
        let mut all: Vec<_> = all.collect();
        let profile_name = |one: &Device| {
            state.device_profile(one.device_profile_id).map_or("", |profile| &profile.name)
        };
        match query.order_by.as_str() {
            "DEV_EUI" => all.sort_unstable_by_key(|one| one.dev_eui),
            "LAST_SEEN_AT" => all.sort_by_key(|one| one.last_seen_at),
            "DEVICE_PROFILE_NAME" => all.sort_by_key(|one| profile_name(one)),
            _ => all.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        if query.order_by_desc {
            all.reverse();
        }
        let (total_count, items) = page(query.limit, query.offset, all.into_iter());
        let item = |one: &Device| wire::DeviceListItem {
            dev_eui: one.dev_eui.to_string(),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            last_seen_at: one.last_seen_at,
            name: one.name.clone(),
            description: one.description.clone(),
            device_profile_id: one.device_profile_id.to_string(),
            device_profile_name: profile_name(one).to_owned(),
            device_status: one.status.map(status_to_wire),
            tags: one.tags.clone(),
            application_id: one.application_id.to_string(),
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::Devices(List { total_count, result })))
    }
}

/// Root keys.
impl Desk<'_> {
    fn set_device_keys(
        &mut self,
        keys: &wire::DeviceKeys,
        must_exist: bool,
    ) -> Result<Answer, ApiError> {
        let device = self.device_to_change(&keys.dev_eui)?;
        let (dev_eui, version) = (device.dev_eui, self.version_of(device));
        let command = self.keys_command(dev_eui, version, keys, Some(must_exist))?;
        Answer::one(command)
    }

    /// The version of a device's profile; the lowest if the profile is gone.
    fn version_of(&self, device: &Device) -> MacVersion {
        let profile = self.view.state.device_profile(device.device_profile_id);
        profile.map_or(MacVersion::V1_0_0, |profile| profile.mac.mac_version)
    }

    /// Seals root keys.
    pub(super) fn keys_command(
        &mut self,
        dev_eui: DevEui,
        version: MacVersion,
        keys: &wire::DeviceKeys,
        must_exist: Option<bool>,
    ) -> Result<Command, ApiError> {
        let nwk = match (keys.nwk_key.as_str(), keys.app_key.as_str()) {
            ("", "") => {
                let why = "32 hexadecimal digits are needed (the AppKey up to LoRaWAN 1.0.4)";
                return Err(ApiError::invalid("nwkKey", why));
            }
            ("", _) if !version.is_1_1() => {
                let why = "up to LoRaWAN 1.0.4 the AppKey goes here, not into appKey";
                return Err(ApiError::invalid("nwkKey", why));
            }
            (text, _) => parse_key("nwkKey", text)?,
        };
        let app = match keys.app_key.as_str() {
            "" => None,
            text => Some(parse_key("appKey", text)?),
        };
        // The field's clients fill an unused key with zeros.
        let app = app.filter(|key| version.is_1_1() || key.expose() != &[0; 16]);
        let nwk_key = self.seal_root(dev_eui, &nwk);
        let app_key = app.map(|key| self.seal_root(dev_eui, &key));
        Ok(Command::SetDeviceKeys { dev_eui, must_exist, nwk_key, app_key })
    }

    fn seal_root(&mut self, dev_eui: DevEui, key: &Key) -> Sealed {
        let nonce = self.draw();
        self.view.vault.seal(&aad_root(dev_eui), nonce, key.expose())
    }

    fn get_device_keys(&self, id: &str) -> Result<Answer, ApiError> {
        let device = self.device_to_change(id)?;
        let dev_eui = device.dev_eui;
        let keys = device
            .keys
            .as_ref()
            .ok_or_else(|| ApiError::NotFound(format!("device {dev_eui} has no root keys")))?;
        let open = |sealed: &Sealed| {
            let opened = self.view.vault.open(&aad_root(dev_eui), sealed);
            opened.map_or_else(String::new, |bytes| hex(&bytes))
        };
        Ok(Answer::Now(Outcome::DeviceKeys(wire::DeviceKeysDetails {
            device_keys: wire::DeviceKeys {
                dev_eui: dev_eui.to_string(),
                nwk_key: open(&keys.nwk_key),
                app_key: keys.app_key.as_ref().map_or_else(String::new, open),
            },
            created_at: Some(device.created_at),
            updated_at: Some(device.updated_at),
        })))
    }
}

/// Activation.
impl<'a> Desk<'a> {
    fn activate_device(&mut self, given: &wire::DeviceActivation) -> Result<Answer, ApiError> {
        let device = self.device_to_change(&given.dev_eui)?;
        let profile = self.profile_of(device)?;
        let keys = session_keys(
            &given.f_nwk_s_int_key,
            &given.s_nwk_s_int_key,
            &given.nwk_s_enc_key,
            &given.app_s_key,
        )?;
        let mac = &profile.mac;
        let abp = !mac.supports_otaa;
        let activation = AbpActivation {
            dev_addr: parse_dev_addr(&given.dev_addr)?,
            mac_version: mac.mac_version,
            keys: self.seal_session(device, &keys),
            f_cnt_up: given.f_cnt_up,
            n_f_cnt_down: given.n_f_cnt_down,
            a_f_cnt_down: given.a_f_cnt_down,
            rx1_delay_s: abp.then_some(mac.rx1_delay_s),
            rx1_dr_offset: abp.then_some(mac.rx1_dr_offset),
            rx2_dr: mac.rx2_dr.filter(|_| abp),
            rx2_frequency_hz: mac.rx2_frequency_hz.filter(|_| abp),
            channels: None,
        };
        let session = activated(activation, mac)?;
        Answer::one(Command::Activate { dev_eui: device.dev_eui, session: Box::new(session) })
    }

    /// The profile of a device.
    pub(super) fn profile_of(&self, device: &Device) -> Result<&'a DeviceProfile, ApiError> {
        let profile = self.view.state.device_profile(device.device_profile_id);
        profile.ok_or_else(|| missing("device profile", &device.device_profile_id.to_string()))
    }

    /// Seals the keys of a session; keys the device has already keep their sealed form, by which
    /// the log knows that their downlink counters must not start anew.
    pub(super) fn seal_session(&mut self, device: &Device, keys: &SessionKeys) -> Sealed {
        let aad = aad_session(device.dev_eui);
        let secret = zeroize::Zeroizing::new(keys.to_bytes());
        let known = [&device.session, &device.pending_session].into_iter().flatten();
        for session in known {
            let opened = self.view.vault.open(&aad, &session.keys);
            if opened.is_some_and(|opened| *opened == *secret) {
                return session.keys.clone();
            }
        }
        let nonce = self.draw();
        self.view.vault.seal(&aad, nonce, &secret)
    }

    fn get_activation(&self, id: &str) -> Result<Answer, ApiError> {
        let (device, rights) = self.device(id)?;
        let session = device.session.as_ref();
        let device_activation =
            session.map(|session| self.activation_to_wire(device.dev_eui, session, rights.devices));
        Ok(Answer::Now(Outcome::Activation(wire::ActivationDetails { device_activation })))
    }

    fn activation_to_wire(
        &self,
        dev_eui: DevEui,
        session: &DeviceSession,
        with_keys: bool,
    ) -> wire::DeviceActivation {
        let opened = self.view.vault.open(&aad_session(dev_eui), &session.keys);
        let keys = opened.and_then(|bytes| SessionKeys::from_bytes(&bytes).ok());
        let keys = keys.filter(|_| with_keys);
        let text = |key: Option<&Key>| key.map_or_else(String::new, |key| hex(key.expose()));
        let keys = keys.as_ref();
        wire::DeviceActivation {
            dev_eui: dev_eui.to_string(),
            dev_addr: session.dev_addr.to_string(),
            app_s_key: text(keys.and_then(|keys| keys.app_s.as_ref())),
            nwk_s_enc_key: text(keys.map(|keys| &keys.nwk_s_enc)),
            s_nwk_s_int_key: text(keys.map(|keys| &keys.s_nwk_s_int)),
            f_nwk_s_int_key: text(keys.map(|keys| &keys.f_nwk_s_int)),
            f_cnt_up: session.uplink.last.map_or(0, |last| last.saturating_add(1)),
            n_f_cnt_down: session.n_f_cnt_down.reported,
            a_f_cnt_down: session.a_f_cnt_down.reported,
        }
    }

    fn get_random_dev_addr(&mut self, id: &str) -> Result<Answer, ApiError> {
        self.device_to_change(id)?;
        for _ in 0..ADDRESS_TRIES {
            let dev_addr = dev_addr_from(self.settings.net_id, self.draw());
            if self.view.state.sessions_by_addr(dev_addr).next().is_none() {
                let dev_addr = dev_addr.to_string();
                return Ok(Answer::Now(Outcome::DevAddr(wire::RandomDevAddr { dev_addr })));
            }
        }
        Err(ApiError::ResourceExhausted("no free address was found: try again".to_owned()))
    }

    fn get_next_f_cnt_down(&self, id: &str) -> Result<Answer, ApiError> {
        let (device, _) = self.device(id)?;
        let session = device.session.as_ref().ok_or_else(|| {
            ApiError::NotFound(format!("device {} is not activated", device.dev_eui))
        })?;
        let own =
            if session.mac_version.is_1_1() { session.a_f_cnt_down } else { session.n_f_cnt_down };
        let queued = device.queue.iter().filter_map(|item| item.encrypted_f_cnt);
        let f_cnt_down = queued.map(|counter| counter.saturating_add(1)).fold(own.next, u32::max);
        Ok(Answer::Now(Outcome::NextFCntDown(wire::NextFCntDown { f_cnt_down })))
    }
}

/// The session of an activation.
pub(super) fn activated(
    activation: AbpActivation,
    profile: &MacProfile,
) -> Result<DeviceSession, ApiError> {
    mac::transition::activate_abp(activation, profile)
        .map_err(|error| ApiError::invalid("deviceProfileId", error.to_string()))
}

/// An address as given.
pub(super) fn parse_dev_addr(text: &str) -> Result<DevAddr, ApiError> {
    text.parse().map_err(|error: ParseIdError| ApiError::invalid("devAddr", error.to_string()))
}

/// The keys of a session; up to 1.0.4 one of the network keys is enough.
pub(super) fn session_keys(
    f_nwk_s_int: &str,
    s_nwk_s_int: &str,
    nwk_s_enc: &str,
    app_s: &str,
) -> Result<SessionKeys, ApiError> {
    let given = [f_nwk_s_int, s_nwk_s_int, nwk_s_enc];
    let Some(first) = given.iter().find(|text| !text.is_empty()) else {
        let why = "32 hexadecimal digits are needed (the NwkSKey up to LoRaWAN 1.0.4)";
        return Err(ApiError::invalid("nwkSEncKey", why));
    };
    let key =
        |field: &str, text: &str| parse_key(field, if text.is_empty() { first } else { text });
    Ok(SessionKeys {
        f_nwk_s_int: key("fNwkSIntKey", f_nwk_s_int)?,
        s_nwk_s_int: key("sNwkSIntKey", s_nwk_s_int)?,
        nwk_s_enc: key("nwkSEncKey", nwk_s_enc)?,
        app_s: match app_s {
            "" => None,
            text => Some(parse_key("appSKey", text)?),
        },
    })
}

fn parse_key(field: &str, text: &str) -> Result<Key, ApiError> {
    text.parse().map_err(|error: ParseIdError| ApiError::invalid(field, error.to_string()))
}

fn status_to_wire(status: DeviceStatus) -> wire::DeviceStatus {
    wire::DeviceStatus {
        margin: status.margin_db.into(),
        external_power_source: status.battery == 0,
        battery_level: match status.battery {
            0 => 0.0,
            255 => -1.0,
            battery => f64::from(crate::event_json::battery_percent(battery)),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
