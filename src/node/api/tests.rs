//! The API through its own door: calls in, effects out, a real state applied in between.

use std::collections::VecDeque;

use clock::{Instant, Now, WallTime};
use store::model::{PasswordHash, Tenant, User};
use store::{Entry, EventRow, NodeId, Proposal, RequestId, State};

use super::wire::{self, ListQuery};
use super::*;
use crate::effect::{Effect, Secret};
use crate::input::{CallId, ProposalError};
use crate::vault::Vault;

mod devices;
mod feeds;
mod roles;

/// A node around the API: what it knows beside the state is nothing.
struct Quiet {
    state: wire::NodeState,
}

impl NodeView for Quiet {
    fn gateway_path(&self, id: lorawan::GatewayEui) -> Option<GatewayPath> {
        let heard: lorawan::GatewayEui = "0000000000000001".parse().unwrap();
        (id == heard).then_some(GatewayPath {
            last_seen_at: WallTime::from_unix_secs(1_000),
            age_ms: 61_000,
            pull_age_ms: Some(12_500),
        })
    }
    fn unknown_gateways(&self) -> Vec<wire::UnknownGateway> {
        Vec::new()
    }
    fn state(&self) -> wire::NodeState {
        self.state
    }
    fn info(&self) -> wire::NodeInfo {
        wire::NodeInfo { data: "/data".into(), ..wire::NodeInfo::default() }
    }
    fn metrics(&self) -> Vec<wire::Metric> {
        Vec::new()
    }
}

/// One API, one state, no time but what a test says.
struct World {
    api: Api,
    state: State,
    vault: Vault,
    node: Quiet,
    index: u64,
    seconds: u64,
    calls: u64,
    rows: Vec<EventRow>,
    /// What the log answers instead of applying.
    fail: Option<ProposalError>,
    answers: VecDeque<(CallId, Result<Outcome, ApiError>)>,
}

const ADMIN_PASSWORD: &str = "first password";

impl World {
    fn new() -> Self {
        let settings = ApiSettings {
            region: "EU868".into(),
            channels: None,
            net_id: lorawan::NetId::default(),
            mqtt_port: 1883,
        };
        let mut world = Self {
            api: Api::new(settings, [7; 32]),
            state: State::new(),
            vault: Vault::new(1, &[3; 32]),
            node: Quiet { state: wire::NodeState::Ready },
            index: 0,
            seconds: 1_000,
            calls: 0,
            rows: Vec::new(),
            fail: None,
            answers: VecDeque::new(),
        };
        let admin = User {
            id: store::Id([0xAD; 16]),
            email: "admin".into(),
            note: String::new(),
            is_admin: true,
            is_active: true,
            password: PasswordHash::Sha256(who::digest(ADMIN_PASSWORD.as_bytes())),
            generation: 0,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        };
        let tenant = Tenant {
            id: store::Id([0x01; 16]),
            name: "home".into(),
            can_have_gateways: true,
            ..Tenant::default()
        };
        world.apply(Proposal {
            request: RequestId([0; 16]),
            command: store::Command::Found {
                cluster_id: store::Id([9; 16]),
                cluster_name: "test".into(),
                node: NodeId(1),
                admin,
                tenant,
                founders: Vec::new(),
            },
        });
        world
    }

    fn apply(&mut self, proposal: Proposal) {
        self.index += 1;
        let request = proposal.request;
        let wall = WallTime::from_unix_secs(i64::try_from(self.seconds).unwrap());
        let entry = Entry { wall, elapsed_micros: 0, proposals: vec![proposal] };
        let applied = self.state.apply(self.index, &entry).unwrap();
        for (replied, reply) in &applied.replies {
            assert_eq!(*replied, request);
            self.api.handle_reply(request, reply);
        }
        for row in applied.rows {
            self.api.handle_row(&row);
            self.rows.push(row);
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::from_secs(self.seconds),
            wall: WallTime::from_unix_secs(i64::try_from(self.seconds).unwrap()),
        }
    }

    /// Hands an input to the API together with its view, then does what it wants done.
    fn with(&mut self, input: impl FnOnce(&mut Api, &View<'_>)) {
        let now = self.now();
        let view = View { now, state: &self.state, vault: &self.vault, node: &self.node };
        input(&mut self.api, &view);
        self.drain();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the API wants nothing else done")]
    fn drain(&mut self) {
        while let Some(effect) = self.api.poll_effect() {
            match effect {
                Effect::Reply { call, result } => self.answers.push_back((call, result)),
                Effect::Propose(proposal) => match self.fail {
                    Some(why) => {
                        assert!(self.api.handle_proposal_failed(proposal.request, why));
                    }
                    None => self.apply(proposal),
                },
                Effect::HashPassword { token, password, .. } => {
                    let phc = format!("phc:{}", password.expose());
                    assert!(self.api.handle_password_hashed(self.now(), token, phc));
                }
                Effect::CheckPassword { token, password, phc } => {
                    let fits = phc == format!("phc:{}", password.expose());
                    assert!(self.api.handle_password_checked(self.now(), token, fits));
                }
                Effect::ReadEvents { token, from, limit } => {
                    let rows = self.rows.iter().filter(|row| row.sequence >= from);
                    let rows: Vec<_> = rows.take(limit).cloned().collect();
                    self.with(|api, view| {
                        assert!(api.handle_events_read(view, token, &rows));
                    });
                }
                Effect::HandOver => {}
                other => panic!("not the API's: {other:?}"),
            }
        }
    }

    /// Begins a call; its answer may come later.
    fn begin(&mut self, credentials: &Credentials, operation: Operation) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.with(|api, view| api.handle_call(view, call, credentials, operation));
        call
    }

    fn answer(&mut self, call: CallId) -> Option<Result<Outcome, ApiError>> {
        let at = self.answers.iter().position(|(other, _)| *other == call)?;
        self.answers.remove(at).map(|(_, result)| result)
    }

    fn call(&mut self, credentials: &Credentials, op: Operation) -> Result<Outcome, ApiError> {
        let call = self.begin(credentials, op);
        self.answer(call).expect("this call is answered at once")
    }

    /// A call of the local operator that succeeds, as JSON.
    fn ok(&mut self, operation: Operation) -> serde_json::Value {
        json(self.call(&Credentials::Local, operation))
    }

    fn error(&mut self, credentials: &Credentials, operation: Operation) -> ApiError {
        self.call(credentials, operation).expect_err("this call is refused")
    }

    fn login(&mut self, email: &str, password: &str) -> Result<Credentials, ApiError> {
        let password = Secret::new(password.into());
        let login = Operation::Login { email: email.into(), password };
        let outcome = self.call(&Credentials::Anonymous, login)?;
        let Outcome::Login(login) = outcome else { panic!("{outcome:?}") };
        Ok(Credentials::Bearer(Secret::new(login.jwt)))
    }

    /// A user of tenant `home` with these rights, logged in.
    fn user(&mut self, email: &str, rights: wire::UserTenant) -> Credentials {
        let user = wire::User { email: email.into(), is_active: true, ..wire::User::default() };
        let tenants = vec![wire::UserTenant { tenant_id: "home".into(), ..rights }];
        let new = wire::NewUser { user, password: "long enough".into(), tenants };
        self.ok(Operation::CreateUser(new));
        self.login(email, "long enough").unwrap()
    }

    /// An application `app`, profiles `otaa` and `abp` in tenant `home`.
    fn network(&mut self) {
        self.ok(Operation::CreateApplication(wire::Application {
            name: "app".into(),
            ..wire::Application::default()
        }));
        for (name, supports_otaa) in [("otaa", true), ("abp", false)] {
            self.ok(Operation::CreateDeviceProfile(Box::new(wire::DeviceProfile {
                name: name.into(),
                tenant_id: "home".into(),
                supports_otaa,
                ..wire::DeviceProfile::default()
            })));
        }
    }

    fn device(&mut self, dev_eui: &str, profile: &str) {
        self.ok(Operation::CreateDevice(wire::Device {
            dev_eui: dev_eui.into(),
            name: format!("device {dev_eui}"),
            application_id: "app".into(),
            device_profile_id: profile.into(),
            ..wire::Device::default()
        }));
    }
}

fn json(result: Result<Outcome, ApiError>) -> serde_json::Value {
    serde_json::to_value(result.expect("this call succeeds")).unwrap()
}

fn all() -> ListQuery {
    ListQuery { limit: 100, ..ListQuery::default() }
}
