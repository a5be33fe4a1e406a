//! The registry: tenants, users, keys, accounts, applications, profiles, gateways, registrations.

use std::collections::BTreeMap;

use clock::WallTime;
use lorawan::{DevEui, JoinNonce};
use mac::{ChannelSet, MacProfile, MacVersion, SessionEpoch};
use store::model::{
    ApiKey, Application, Device, DeviceKeys, DeviceProfile, Gateway, Location, MqttAccount,
    MqttScope, PasswordHash, Tags, Tenant, TenantUser, User,
};
use store::{Command, Put};

use super::super::names::{
    CLUSTER, account, api_key, application, gateway, join_eui, node, profile, sealed, tenant, text,
    user,
};
use super::{Script, bit, op, two};

/// What a `Put` expects to be there, in the lowest two bits.
pub(super) const fn must_exist(flags: u8) -> Option<bool> {
    match two(flags, 0) {
        1 => Some(false),
        2 => Some(true),
        _ => None,
    }
}

fn put<T>(flags: u8, value: T) -> Put<T> {
    Put { must_exist: must_exist(flags), value }
}

fn tags(number: u8) -> Tags {
    (0..number % 3).map(|tag| (text("tag", tag), text("value", number))).collect()
}

impl Script<'_> {
    /// Each reads `[number]`, a `Put` then `[flags]`.
    pub(super) fn registry_command(&mut self, opcode: u8) -> Command {
        match opcode {
            op::PUT_APPLICATION => self.put_application(),
            op::DELETE_APPLICATION => Command::DeleteApplication(application(self.pick(3))),
            op::PUT_PROFILE => self.put_profile(),
            op::DELETE_PROFILE => Command::DeleteDeviceProfile(profile(self.pick(3))),
            op::PUT_GATEWAY => self.put_gateway(),
            op::DELETE_GATEWAY => Command::DeleteGateway(gateway(self.pick(2))),
            op::PUT_TENANT => self.put_tenant(),
            op::DELETE_TENANT => Command::DeleteTenant(tenant(self.pick(2))),
            op::SET_RIGHTS => self.set_rights(),
            op::PUT_USER => {
                let (number, flags) = (self.pick(2), self.byte());
                Command::PutUser(put(flags, new_user(number, flags)))
            }
            op::SET_PASSWORD => Command::SetPassword {
                user_id: user(self.pick(2)),
                password: PasswordHash::Sha256([self.byte(); 32]),
            },
            op::DELETE_USER => Command::DeleteUser(user(self.pick(2))),
            op::CREATE_API_KEY => self.create_api_key(),
            op::DELETE_API_KEY => Command::DeleteApiKey(api_key(self.pick(2))),
            op::PUT_ACCOUNT => self.put_account(),
            op::DELETE_ACCOUNT => Command::DeleteMqttAccount(account(self.pick(3))),
            _ => found(),
        }
    }

    /// Mostly application n belongs to tenant n / 2.
    fn put_application(&mut self) -> Command {
        let (number, flags) = (self.pick(3), self.byte());
        let owner = if bit(flags, 7) { 1 - number / 2 } else { number / 2 };
        let name = if bit(flags, 2) { 0 } else { number };
        Command::PutApplication(put(
            flags,
            Application {
                id: application(number),
                tenant_id: tenant(owner),
                name: text("application", name),
                tags: tags(two(flags, 3)),
                ..Application::default()
            },
        ))
    }

    /// `[number, flags, kind]`; profiles belong to the first tenant, the second, and everybody.
    fn put_profile(&mut self) -> Command {
        let (number, flags, kind) = (self.pick(3), self.byte(), self.byte());
        let owner = if bit(flags, 7) { 0 } else { number };
        let name = if bit(flags, 2) { 0 } else { number };
        Command::PutDeviceProfile(put(
            flags,
            DeviceProfile {
                id: profile(number),
                tenant_id: (owner < 2).then(|| tenant(owner)),
                name: text("profile", name),
                description: String::new(),
                mac: mac_profile(kind),
                reg_params_revision: "A".into(),
                uplink_interval_s: 3_600,
                flush_queue_on_activate: bit(flags, 3),
                tags: tags(two(flags, 4)),
                created_at: WallTime::UNIX_EPOCH,
                updated_at: WallTime::UNIX_EPOCH,
            },
        ))
    }

    fn put_gateway(&mut self) -> Command {
        let (number, flags) = (self.pick(2), self.byte());
        Command::PutGateway(Box::new(put(
            flags,
            Gateway {
                gateway_id: gateway(number),
                tenant_id: tenant(u8::from(bit(flags, 7))),
                name: text("gateway", flags),
                description: String::new(),
                location: Location { latitude: f64::from(flags), ..Location::default() },
                tags: tags(number),
                metadata: Tags::new(),
                stats_interval_s: 30,
                antenna_gain_ddbi: 0,
                max_eirp_dbm: None,
                downlink_rf_chain: None,
                created_at: WallTime::UNIX_EPOCH,
                updated_at: WallTime::UNIX_EPOCH,
            },
        )))
    }

    fn put_tenant(&mut self) -> Command {
        let (number, flags) = (self.pick(2), self.byte());
        let name = if bit(flags, 2) { 0 } else { number };
        Command::PutTenant(put(
            flags,
            Tenant {
                can_have_gateways: !bit(flags, 3),
                max_device_count: two(flags, 4).into(),
                max_gateway_count: two(flags, 6).into(),
                ..new_tenant(number, name)
            },
        ))
    }

    /// `[tenant, user, flags]`
    fn set_rights(&mut self) -> Command {
        let (tenant_id, user_id) = (tenant(self.pick(2)), user(self.pick(2)));
        let flags = self.byte();
        let rights = TenantUser { is_admin: bit(flags, 1), ..TenantUser::default() };
        Command::SetTenantUser { tenant_id, user_id, rights: (!bit(flags, 0)).then_some(rights) }
    }

    /// `[number, tenant]`
    fn create_api_key(&mut self) -> Command {
        let (number, owner) = (self.pick(2), self.pick(3));
        Command::CreateApiKey(ApiKey {
            id: api_key(number),
            name: text("key", number),
            is_admin: owner == 2,
            tenant_id: (owner < 2).then(|| tenant(owner)),
            is_read_only: false,
            secret: PasswordHash::Sha256([number; 32]),
            created_at: WallTime::UNIX_EPOCH,
        })
    }

    /// `[number, flags, scope]`
    fn put_account(&mut self) -> Command {
        let (number, flags, scope) = (self.pick(3), self.byte(), self.pick(6));
        Command::PutMqttAccount(put(
            flags,
            MqttAccount {
                name: account(number),
                scope: match scope {
                    0 => MqttScope::All,
                    1 | 2 => MqttScope::Tenant(tenant(scope - 1)),
                    other => MqttScope::Application(application(other - 3)),
                },
                can_publish: bit(flags, 2),
                password: PasswordHash::Phc(text("$argon2id$", flags)),
                created_at: WallTime::UNIX_EPOCH,
            },
        ))
    }

    /// `[flags, belongings]`: skip the counter's check, disabled, a join server, keys, name (2
    /// bits); application and profile.
    pub(super) fn put_device(&mut self, dev_eui: DevEui) -> Command {
        let (flags, belongings) = (self.byte(), self.byte());
        let keys = DeviceKeys {
            nwk_key: sealed(flags),
            app_key: None,
            next_join_nonce: JoinNonce([0, 5, 7, 0xFF_FFFF][usize::from(two(flags, 6))]),
            dev_nonces: vec![],
        };
        let value = Device {
            dev_eui,
            application_id: application(belongings % 3),
            device_profile_id: profile(belongings / 3 % 3),
            name: text("device", two(flags, 6)),
            description: String::new(),
            join_eui: bit(flags, 4).then(|| join_eui(0)),
            skip_f_cnt_check: bit(flags, 2),
            is_disabled: bit(flags, 3) && belongings >= 128,
            variables: BTreeMap::new(),
            tags: tags(two(flags, 6)),
            keys: bit(flags, 5).then_some(keys),
            session: None,
            pending_session: None,
            last_epoch: SessionEpoch(77),
            queue: vec![],
            status: None,
            last_seen_at: None,
            last_reply: None,
            last_home: None,
            earlier_replies: None,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        };
        Command::PutDevice(Box::new(put(flags, value)))
    }
}

/// The first entry of a cluster, or another that comes too late.
pub(crate) fn found() -> Command {
    Command::Found {
        cluster_id: CLUSTER,
        cluster_name: "fuzz".into(),
        node: node(0),
        admin: new_user(0, 0),
        tenant: new_tenant(0, 0),
        founders: Vec::new(),
    }
}

fn new_tenant(number: u8, name: u8) -> Tenant {
    let name = text("tenant", name);
    Tenant { id: tenant(number), name, can_have_gateways: true, ..Tenant::default() }
}

fn new_user(number: u8, flags: u8) -> User {
    User {
        id: user(number),
        email: text("user", if bit(flags, 2) { 0 } else { number }),
        note: text("note", flags),
        is_admin: bit(flags, 3),
        is_active: !bit(flags, 4),
        password: PasswordHash::Phc("$argon2id$".into()),
        generation: flags.into(),
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    }
}

/// Version (2 bits), region (2), join (1), time-out (1), status requests (1), receive delay (1).
pub(super) fn mac_profile(kind: u8) -> MacProfile {
    let versions = [MacVersion::V1_0_4, MacVersion::V1_0_2, MacVersion::V1_1_0, MacVersion::V1_0_4];
    let region = ["EU868", "EU868", "US915", "MOON1"][usize::from(two(kind, 2))];
    MacProfile {
        region: region.into(),
        mac_version: versions[usize::from(two(kind, 0))],
        supports_otaa: !bit(kind, 4),
        rx1_delay_s: if bit(kind, 7) { 5 } else { 1 },
        rx1_dr_offset: 0,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: (region == "US915").then(|| (8..16).collect::<ChannelSet>()),
        extra_channels_hz: vec![],
        status_requests_per_day: if bit(kind, 6) { 24 } else { 0 },
        confirmed_timeout_s: if bit(kind, 5) { 10 } else { 0 },
    }
}
