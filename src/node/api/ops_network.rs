//! Applications and gateways.

use clock::WallTime;
use lorawan::GatewayEui;
use store::model::{Application, Gateway, Location};
use store::{Command, Put};

use super::desk::{Answer, Desk, check_text, checked_name, denied, holds, page, parse_eui};
use super::error::ApiError;
use super::operation::Outcome;
use super::ops_people::created;
use super::wire::{self, GatewayState, List, ListQuery};

/// Seconds between the reports of a gateway that says nothing else.
const STATS_INTERVAL_S: u32 = 30;

/// Applications.
impl Desk<'_> {
    pub(super) fn create_application(
        &mut self,
        one: wire::Application,
    ) -> Result<Answer, ApiError> {
        let tenant_id = self.tenant(&one.tenant_id)?.id;
        if !self.rights(tenant_id).devices {
            return Err(denied("a device administrator"));
        }
        check_text(&one.description, &[("tags", &one.tags)])?;
        let id = self.new_id();
        let value = Application {
            id,
            tenant_id,
            name: checked_name("name", &one.name)?,
            description: one.description,
            tags: one.tags,
            ..Application::default()
        };
        let command = Command::PutApplication(Put { must_exist: Some(false), value });
        Answer::done(vec![command], created(id))
    }

    fn application_to_change(&self, id: &str) -> Result<&Application, ApiError> {
        let one = self.application(id)?;
        let may = self.rights(one.tenant_id).devices;
        if may { Ok(one) } else { Err(denied("a device administrator")) }
    }

    pub(super) fn get_application(&self, id: &str) -> Result<Answer, ApiError> {
        let one = self.application(id)?;
        Ok(Answer::Now(Outcome::Application(wire::ApplicationDetails {
            application: wire::Application {
                id: one.id.to_string(),
                name: one.name.clone(),
                description: one.description.clone(),
                tenant_id: one.tenant_id.to_string(),
                tags: one.tags.clone(),
            },
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
        })))
    }

    pub(super) fn update_application(&self, one: wire::Application) -> Result<Answer, ApiError> {
        let old = self.application_to_change(&one.id)?;
        check_text(&one.description, &[("tags", &one.tags)])?;
        let value = Application {
            name: checked_name("name", &one.name)?,
            description: one.description,
            tags: one.tags,
            ..old.clone()
        };
        Answer::one(Command::PutApplication(Put { must_exist: Some(true), value }))
    }

    pub(super) fn delete_application(&self, id: &str) -> Result<Answer, ApiError> {
        Answer::one(Command::DeleteApplication(self.application_to_change(id)?.id))
    }

    pub(super) fn list_applications(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let of = match query.tenant_id.as_str() {
            "" => None,
            tenant => Some(self.tenant(tenant)?.id),
        };
        let state = self.view.state;
        let tenants = state.tenants().filter(|one| of.is_none_or(|of| of == one.id));
        let tenants = tenants.filter(|one| self.rights(one.id).read);
        let all = tenants.flat_map(|tenant| state.applications_of(tenant.id));
        let all = all.filter(|one| holds(&query.search, &[&one.name]));
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |one: &Application| wire::ApplicationListItem {
            id: one.id.to_string(),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            name: one.name.clone(),
            description: one.description.clone(),
            tenant_id: one.tenant_id.to_string(),
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::Applications(List { total_count, result })))
    }
}

/// Gateways.
impl Desk<'_> {
    pub(super) fn create_gateway(&mut self, one: wire::Gateway) -> Result<Answer, ApiError> {
        let tenant = self.tenant(&one.tenant_id)?;
        if !self.rights(tenant.id).gateways {
            return Err(denied("a gateway administrator"));
        }
        let old = Gateway {
            gateway_id: parse_eui::<GatewayEui>("gatewayId", &one.gateway_id)?,
            tenant_id: tenant.id,
            name: String::new(),
            description: String::new(),
            location: Location::default(),
            tags: wire::Tags::new(),
            metadata: wire::Tags::new(),
            stats_interval_s: STATS_INTERVAL_S,
            antenna_gain_ddbi: 0,
            max_eirp_dbm: None,
            downlink_rf_chain: None,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        };
        if let Some(other) = self.view.state.gateway(old.gateway_id) {
            let text = format!("gateway {} is registered already", other.gateway_id);
            return Err(ApiError::AlreadyExists(text));
        }
        let value = gateway_of_wire(one, old)?;
        Answer::one(Command::PutGateway(Box::new(Put { must_exist: Some(false), value })))
    }

    fn gateway_to_change(&self, id: &str) -> Result<&Gateway, ApiError> {
        let one = self.gateway(id)?;
        let may = self.rights(one.tenant_id).gateways;
        if may { Ok(one) } else { Err(denied("a gateway administrator")) }
    }

    pub(super) fn update_gateway(&self, one: wire::Gateway) -> Result<Answer, ApiError> {
        let old = self.gateway_to_change(&one.gateway_id)?.clone();
        let value = gateway_of_wire(one, old)?;
        Answer::one(Command::PutGateway(Box::new(Put { must_exist: Some(true), value })))
    }

    pub(super) fn delete_gateway(&self, id: &str) -> Result<Answer, ApiError> {
        Answer::one(Command::DeleteGateway(self.gateway_to_change(id)?.gateway_id))
    }

    /// When it was last heard, whether it is there, seconds since its last PULL_DATA.
    fn life_of(&self, one: &Gateway) -> (Option<WallTime>, GatewayState, Option<f64>) {
        let Some(path) = self.view.node.gateway_path(one.gateway_id) else {
            return (None, GatewayState::NeverSeen, None);
        };
        let silent_ms = u64::from(one.stats_interval_s.max(10)) * 2 * 1_000;
        let online = path.age_ms <= silent_ms;
        let state = if online { GatewayState::Online } else { GatewayState::Offline };
        let pull = path.pull_age_ms.map(|age| {
            let age = u32::try_from(age).unwrap_or(u32::MAX);
            f64::from(age) / 1_000.0
        });
        (Some(path.last_seen_at), state, pull)
    }

    pub(super) fn get_gateway(&self, id: &str) -> Result<Answer, ApiError> {
        let one = self.gateway(id)?;
        let (last_seen_at, state, pull_age) = self.life_of(one);
        Ok(Answer::Now(Outcome::Gateway(Box::new(wire::GatewayDetails {
            gateway: wire::Gateway {
                gateway_id: one.gateway_id.to_string(),
                name: one.name.clone(),
                description: one.description.clone(),
                location: location_to_wire(one.location),
                tenant_id: one.tenant_id.to_string(),
                tags: one.tags.clone(),
                metadata: one.metadata.clone(),
                stats_interval: one.stats_interval_s,
                antenna_gain: f64::from(one.antenna_gain_ddbi) / 10.0,
                max_eirp: one.max_eirp_dbm,
                downlink_rf_chain: one.downlink_rf_chain,
            },
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            last_seen_at,
            state,
            pull_age,
        }))))
    }

    pub(super) fn list_gateways(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let of = match query.tenant_id.as_str() {
            "" => None,
            tenant => Some(self.tenant(tenant)?.id),
        };
        let visible = |one: &&Gateway| {
            of.is_none_or(|of| of == one.tenant_id)
                && self.rights(one.tenant_id).read
                && holds(&query.search, &[&one.name, &one.gateway_id.to_string()])
        };
        let mut all: Vec<_> = self.view.state.gateways().filter(visible).collect();
        match query.order_by.as_str() {
            "GATEWAY_ID" => {}
            "LAST_SEEN_AT" => all.sort_by_key(|one| self.life_of(one).0),
            _ => all.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        if query.order_by_desc {
            all.reverse();
        }
        let (total_count, items) = page(query.limit, query.offset, all.into_iter());
        let item = |one: &Gateway| {
            let (last_seen_at, state, _) = self.life_of(one);
            wire::GatewayListItem {
                tenant_id: one.tenant_id.to_string(),
                gateway_id: one.gateway_id.to_string(),
                name: one.name.clone(),
                description: one.description.clone(),
                location: location_to_wire(one.location),
                properties: one.metadata.clone(),
                created_at: Some(one.created_at),
                updated_at: Some(one.updated_at),
                last_seen_at,
                state,
            }
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::Gateways(List { total_count, result })))
    }

    pub(super) fn list_unknown_gateways(&self) -> Result<Answer, ApiError> {
        let state = self.view.state;
        let may = self.who.is_admin || state.tenants().any(|one| self.rights(one.id).gateways);
        if !may {
            return Err(denied("a gateway administrator"));
        }
        let result = self.view.node.unknown_gateways();
        let total_count = u32::try_from(result.len()).unwrap_or(u32::MAX);
        Ok(Answer::Now(Outcome::UnknownGateways(List { total_count, result })))
    }
}

fn location_to_wire(location: Location) -> wire::Location {
    let Location { latitude, longitude, altitude } = location;
    wire::Location { latitude, longitude, altitude }
}

/// `old` with the values of `one`.
///
/// * Errors: a value outside its range.
fn gateway_of_wire(one: wire::Gateway, old: Gateway) -> Result<Gateway, ApiError> {
    check_text(&one.description, &[("tags", &one.tags), ("metadata", &one.metadata)])?;
    let wire::Location { latitude, longitude, altitude } = one.location;
    if !(-90.0..=90.0).contains(&latitude) {
        return Err(ApiError::invalid("location.latitude", "-90 to 90 degrees"));
    }
    if !(-180.0..=180.0).contains(&longitude) {
        return Err(ApiError::invalid("location.longitude", "-180 to 180 degrees"));
    }
    if !(-1_000.0..=20_000.0).contains(&altitude) {
        return Err(ApiError::invalid("location.altitude", "-1,000 to 20,000 metres"));
    }
    let gain = (one.antenna_gain * 10.0).round();
    if !(-300.0..=300.0).contains(&gain) {
        return Err(ApiError::invalid("antennaGain", "-30 to 30 dBi"));
    }
    if one.max_eirp.is_some_and(|eirp| !(0..=36).contains(&eirp)) {
        return Err(ApiError::invalid("maxEirp", "0 to 36 dBm"));
    }
    if one.downlink_rf_chain.is_some_and(|chain| chain > 3) {
        return Err(ApiError::invalid("downlinkRfChain", "0 to 3"));
    }
    if one.stats_interval > 86_400 {
        return Err(ApiError::invalid("statsInterval", "at most 86,400 seconds"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded and within -300..=300")]
    let antenna_gain_ddbi = gain as i16;
    Ok(Gateway {
        name: checked_name("name", &one.name)?,
        description: one.description,
        location: Location { latitude, longitude, altitude },
        tags: one.tags,
        metadata: one.metadata,
        stats_interval_s: if one.stats_interval == 0 {
            STATS_INTERVAL_S
        } else {
            one.stats_interval
        },
        antenna_gain_ddbi,
        max_eirp_dbm: one.max_eirp,
        downlink_rf_chain: one.downlink_rf_chain,
        ..old
    })
}
