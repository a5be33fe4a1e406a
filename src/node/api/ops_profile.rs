//! Device profiles: the field's settings to the ones this server acts on, and back. What it does
//! not do yet is refused, never ignored.

use clock::WallTime;
use lorawan::Region;
use mac::{ChannelSet, MacProfile, MacVersion};
use store::model::DeviceProfile;
use store::{Command, Id, Put};

use super::desk::{Answer, Desk, check_text, checked_name, denied, holds, page};
use super::error::ApiError;
use super::operation::Outcome;
use super::ops_people::created;
use super::wire::{self, List, ListQuery};

/// Revisions of the regional parameters that the field's API names.
const REVISIONS: [&str; 8] = [
    "A",
    "B",
    "RP002_1_0_0",
    "RP002_1_0_1",
    "RP002_1_0_2",
    "RP002_1_0_3",
    "RP002_1_0_4",
    "RP002_1_0_5",
];

impl Desk<'_> {
    pub(super) fn create_device_profile(
        &mut self,
        profile: wire::DeviceProfile,
    ) -> Result<Answer, ApiError> {
        // Without a tenant a global administrator makes one for all, anybody else one for his own.
        let tenant_id = match profile.tenant_id.as_str() {
            "" if self.who.is_writing_admin() => None,
            text => Some(self.tenant(text)?.id),
        };
        self.need_profile_right(tenant_id)?;
        let id = self.new_id();
        let value = self.profile_of_wire(id, tenant_id, profile)?;
        let command = Command::PutDeviceProfile(Put { must_exist: Some(false), value });
        Answer::done(vec![command], created(id))
    }

    fn need_profile_right(&self, tenant: Option<Id>) -> Result<(), ApiError> {
        match tenant {
            None => self.need_admin(),
            Some(tenant) if self.rights(tenant).devices => Ok(()),
            Some(_) => Err(denied("a device administrator")),
        }
    }

    fn profile_to_change(&self, id: &str) -> Result<&DeviceProfile, ApiError> {
        let old = self.profile(id, None)?;
        self.need_profile_right(old.tenant_id)?;
        Ok(old)
    }

    pub(super) fn get_device_profile(&self, id: &str) -> Result<Answer, ApiError> {
        let one = self.profile(id, None)?;
        Ok(Answer::Now(Outcome::DeviceProfile(Box::new(wire::DeviceProfileDetails {
            device_profile: profile_to_wire(one),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
        }))))
    }

    pub(super) fn update_device_profile(
        &self,
        profile: wire::DeviceProfile,
    ) -> Result<Answer, ApiError> {
        let old = self.profile_to_change(&profile.id)?;
        let value = self.profile_of_wire(old.id, old.tenant_id, profile)?;
        Answer::one(Command::PutDeviceProfile(Put { must_exist: Some(true), value }))
    }

    pub(super) fn delete_device_profile(&self, id: &str) -> Result<Answer, ApiError> {
        Answer::one(Command::DeleteDeviceProfile(self.profile_to_change(id)?.id))
    }

    pub(super) fn list_device_profiles(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let of = match query.tenant_id.as_str() {
            "" => None,
            tenant => Some(self.tenant(tenant)?.id),
        };
        let state = self.view.state;
        let tenants = state.tenants().filter(|one| of.is_none_or(|of| of == one.id));
        let tenants = tenants.filter(|one| self.rights(one.id).read);
        let own = tenants.flat_map(|tenant| state.profiles_of(tenant.id));
        let all = own.chain(state.global_profiles());
        let all = all.filter(|one| holds(&query.search, &[&one.name]));
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |one: &DeviceProfile| wire::DeviceProfileListItem {
            id: one.id.to_string(),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            name: one.name.clone(),
            region: one.mac.region.clone(),
            mac_version: one.mac.mac_version.api_name().to_owned(),
            reg_params_revision: one.reg_params_revision.clone(),
            supports_otaa: one.mac.supports_otaa,
            supports_class_b: false,
            supports_class_c: false,
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::DeviceProfiles(List { total_count, result })))
    }

    fn profile_of_wire(
        &self,
        id: Id,
        tenant_id: Option<Id>,
        one: wire::DeviceProfile,
    ) -> Result<DeviceProfile, ApiError> {
        refuse_what_is_missing(&one)?;
        check_text(&one.description, &[("tags", &one.tags)])?;
        let mac = self.mac_profile_of_wire(&one)?;
        let revision = if one.reg_params_revision.is_empty() {
            if mac.mac_version == MacVersion::V1_0_4 { "RP002_1_0_4" } else { "A" }.to_owned()
        } else {
            one.reg_params_revision
        };
        if !REVISIONS.contains(&revision.as_str()) {
            let why = format!("one of {}", REVISIONS.join(", "));
            return Err(ApiError::invalid("regParamsRevision", why));
        }
        Ok(DeviceProfile {
            id,
            tenant_id,
            name: checked_name("name", &one.name)?,
            description: one.description,
            mac,
            reg_params_revision: revision,
            uplink_interval_s: one.uplink_interval,
            flush_queue_on_activate: one.flush_queue_on_activate,
            tags: one.tags,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        })
    }

    fn mac_profile_of_wire(&self, one: &wire::DeviceProfile) -> Result<MacProfile, ApiError> {
        let region = if one.region.is_empty() { &self.settings.region } else { &one.region };
        if region.is_empty() {
            let why = "which region, like EU868? This server has no default one";
            return Err(ApiError::invalid("region", why));
        }
        let region = Region::from_name(region)
            .map_err(|error| ApiError::invalid("region", error.to_string()))?;
        let mac_version = if one.mac_version.is_empty() {
            MacVersion::V1_0_3
        } else {
            let version = one.mac_version.parse();
            version.map_err(|error: mac::ParseVersionError| {
                ApiError::invalid("macVersion", error.to_string())
            })?
        };
        let delay = match (one.rx1_delay, one.abp_rx1_delay) {
            (0, 0) => 1,
            (0, abp) if !one.supports_otaa => abp,
            (0, _) => 1,
            (wanted, _) => wanted,
        };
        let rx1_delay_s = small("rx1Delay", delay, 15)?;
        let abp = !one.supports_otaa;
        let rx2_frequency_hz = (abp && one.abp_rx2_freq != 0).then_some(one.abp_rx2_freq);
        let rx2_dr = match rx2_frequency_hz {
            _ if abp && one.abp_rx2_dr != 0 => Some(small("abpRx2Dr", one.abp_rx2_dr, 15)?),
            Some(_) => Some(0),
            None => None,
        };
        let offset = if abp { one.abp_rx1_dr_offset } else { 0 };
        Ok(MacProfile {
            region: region.name.to_owned(),
            mac_version,
            supports_otaa: one.supports_otaa,
            rx1_delay_s,
            rx1_dr_offset: small("abpRx1DrOffset", offset, 7)?,
            rx2_dr,
            rx2_frequency_hz,
            channels: self.channels_of_wire(one, region)?,
            extra_channels_hz: extra_channels_of_wire(one, region)?,
            status_requests_per_day: one.device_status_req_interval,
            confirmed_timeout_s: one.confirmed_timeout,
        })
    }

    /// From `channels`, else from a region configuration's name (`us915_1`), else the server's.
    fn channels_of_wire(
        &self,
        one: &wire::DeviceProfile,
        region: &Region,
    ) -> Result<Option<ChannelSet>, ApiError> {
        let text = match one.channels.trim() {
            "" => sub_band_of(&one.region_config_id, region)?,
            text => Some(text.to_owned()),
        };
        if !region.is_fixed_plan() {
            return match text {
                None => Ok(None),
                Some(_) => {
                    let why = format!("{} has no sub-bands: use extraChannels", region.name);
                    Err(ApiError::invalid("channels", why))
                }
            };
        }
        let Some(text) = text else {
            let same_region = self.settings.region.eq_ignore_ascii_case(region.name);
            return Ok(self.settings.channels.filter(|_| same_region));
        };
        parse_channels(&text, region).map(Some)
    }
}

/// Channels as text, all of them in the region's plan.
pub(super) fn parse_channels(text: &str, region: &Region) -> Result<ChannelSet, ApiError> {
    let set: ChannelSet = text.parse().map_err(|error: lorawan::ChannelTextError| {
        ApiError::invalid("channels", error.to_string())
    })?;
    let count = region.uplink_channel_count();
    if set.is_empty() || set.iter().any(|channel| channel >= count) {
        let why = format!("{} has the channels 0 to {}", region.name, count.saturating_sub(1));
        return Err(ApiError::invalid("channels", why));
    }
    Ok(set)
}

/// The channels that a region configuration of the field stands for: `us915_1` is 8-15 and 65.
fn sub_band_of(config: &str, region: &Region) -> Result<Option<String>, ApiError> {
    let config = config.to_lowercase();
    let name = region.name.to_lowercase();
    if config.is_empty() || config == name {
        return Ok(None);
    }
    let number = config.strip_prefix(&format!("{name}_")).and_then(|rest| rest.parse::<u8>().ok());
    match number {
        Some(number) if region.is_fixed_plan() && number < region.first_wide_channel / 8 => {
            let (first, last) = (8 * number, 8 * number + 7);
            Ok(Some(format!("{first}-{last}+{}", region.first_wide_channel + number)))
        }
        Some(_) | None => {
            let why = format!("not a region configuration of {}", region.name);
            Err(ApiError::invalid("regionConfigId", why))
        }
    }
}

fn extra_channels_of_wire(
    one: &wire::DeviceProfile,
    region: &Region,
) -> Result<Vec<u32>, ApiError> {
    if one.extra_channels.is_empty() {
        return Ok(Vec::new());
    }
    if region.is_fixed_plan() {
        let why = format!("{} has a fixed plan: use channels", region.name);
        return Err(ApiError::invalid("extraChannels", why));
    }
    if one.extra_channels.len() > lorawan::CF_LIST_FREQUENCIES {
        return Err(ApiError::invalid("extraChannels", "at most five"));
    }
    for frequency_hz in &one.extra_channels {
        let band = region.sub_bands.iter();
        let mut band = band.filter(|band| (band.from_hz..=band.to_hz).contains(frequency_hz));
        if frequency_hz % 100 != 0 || band.next().is_none() {
            let why = format!("{frequency_hz} Hz is no channel of {}", region.name);
            return Err(ApiError::invalid("extraChannels", why));
        }
    }
    Ok(one.extra_channels.clone())
}

fn small(field: &str, value: u32, max: u8) -> Result<u8, ApiError> {
    let small = u8::try_from(value).ok().filter(|value| *value <= max);
    small.ok_or_else(|| ApiError::invalid(field, format!("at most {max}, not {value}")))
}

fn refuse_what_is_missing(one: &wire::DeviceProfile) -> Result<(), ApiError> {
    let codec = one.payload_codec_runtime.as_str();
    let adr = one.adr_algorithm_id.as_str();
    for (field, asked, what) in [
        ("supportsClassB", one.supports_class_b, "class B"),
        ("supportsClassC", one.supports_class_c, "class C"),
        ("isRelay", one.is_relay, "relays"),
        ("isRelayEd", one.is_relay_ed, "devices behind relays"),
        ("payloadCodecRuntime", !matches!(codec, "" | "NONE"), "payload codecs"),
        ("adrAlgorithmId", !matches!(adr, "" | "default"), "ADR plug-ins"),
    ] {
        if asked {
            return Err(ApiError::invalid(field, format!("this server has no {what} yet")));
        }
    }
    Ok(())
}

fn profile_to_wire(one: &DeviceProfile) -> wire::DeviceProfile {
    let mac = &one.mac;
    let abp = !mac.supports_otaa;
    wire::DeviceProfile {
        id: one.id.to_string(),
        tenant_id: one.tenant_id.map_or_else(String::new, |id| id.to_string()),
        name: one.name.clone(),
        description: one.description.clone(),
        region: mac.region.clone(),
        mac_version: mac.mac_version.api_name().to_owned(),
        reg_params_revision: one.reg_params_revision.clone(),
        adr_algorithm_id: "default".to_owned(),
        payload_codec_runtime: "NONE".to_owned(),
        flush_queue_on_activate: one.flush_queue_on_activate,
        uplink_interval: one.uplink_interval_s,
        device_status_req_interval: mac.status_requests_per_day,
        supports_otaa: mac.supports_otaa,
        abp_rx1_delay: if abp { mac.rx1_delay_s.into() } else { 0 },
        abp_rx1_dr_offset: if abp { mac.rx1_dr_offset.into() } else { 0 },
        abp_rx2_dr: if abp { mac.rx2_dr.unwrap_or(0).into() } else { 0 },
        abp_rx2_freq: if abp { mac.rx2_frequency_hz.unwrap_or(0) } else { 0 },
        tags: one.tags.clone(),
        rx1_delay: mac.rx1_delay_s.into(),
        channels: mac.channels.map_or_else(String::new, |set| set.to_string()),
        extra_channels: mac.extra_channels_hz.clone(),
        confirmed_timeout: mac.confirmed_timeout_s,
        ..wire::DeviceProfile::default()
    }
}
