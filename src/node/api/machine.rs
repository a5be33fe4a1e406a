//! The API's own state: calls under way, passwords at work, logins, waiting readers.

use std::collections::{BTreeMap, VecDeque};

use clock::Now;
use lorawan::NetId;
use mac::ChannelSet;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sabotage::Bug;
use store::model::PasswordHash;
use store::{Command, EventRow, Proposal, Refusal, Reply, RequestId, State};

use super::desk::{Answer, Desk, LoginCheck, WithHash};
use super::error::{ApiError, Unavailable};
use super::feed::{Feeds, Reader};
use super::login::{LOGIN_LASTS, Login, Logins};
use super::member_feed::MemberFeed;
use super::operation::{Credentials, Operation, Outcome};
use super::view::NodeView;
use super::who::identify;
use super::wire::{Empty, Health, LoginToken, MemberEvent, NodeState};
use crate::effect::{Effect, Secret};
use crate::input::{CallId, ProposalError, Token};
use crate::lacking::Lacking;
use crate::vault::Vault;
use crate::watch::WatchLine;

/// Tokens of the API have this bit set, so that they meet no other part's.
pub const TOKEN_BIT: u64 = 1 << 63;
/// Calls that may wait for the log at a time.
const WORKS_MAX: usize = 4_096;
/// Passwords that may be at work at a time: each costs 19 MiB and tens of milliseconds.
const PASSWORDS_MAX: usize = 8;

/// What the operator's configuration says to the API.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// Region of new device profiles, `EU868`; empty: each must name its own.
    pub region: String,
    /// Uplink channels of new device profiles on a fixed plan.
    pub channels: Option<ChannelSet>,
    /// Network whose addresses are drawn.
    pub net_id: NetId,
    /// The broker's port, for the ready-made client line.
    pub mqtt_port: u16,
}

/// What the API may look at while it answers.
pub struct View<'a> {
    /// The time.
    pub now: Now,
    /// The replicated state.
    pub state: &'a State,
    /// Seals and opens keys.
    pub vault: &'a Vault,
    /// The rest of the node.
    pub node: &'a dyn NodeView,
}

impl core::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "View({:?})", self.now)
    }
}

/// A call whose commands go through the log one after the other.
#[derive(Debug)]
struct Work {
    call: CallId,
    rest: VecDeque<Command>,
    outcome: Outcome,
    done: usize,
}

/// A call that waits for a slow hash.
enum Slow {
    Login { call: CallId, check: LoginCheck, token: LoginToken },
    NoSuchUser { call: CallId, email: String },
    Hash { call: CallId, then: WithHash, outcome: Outcome },
}

/// The API of one node.
pub struct Api {
    settings: ApiSettings,
    rng: ChaCha20Rng,
    logins: Logins,
    works: BTreeMap<RequestId, Work>,
    slow: BTreeMap<Token, Slow>,
    feeds: Feeds,
    members: MemberFeed,
    effects: VecDeque<Effect>,
    next_token: u64,
    drain_asked: bool,
}

impl core::fmt::Debug for Api {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Api({} works, {} slow)", self.works.len(), self.slow.len())
    }
}

impl Api {
    /// An API without calls.
    ///
    /// * `seed`: from the system's randomness; identifiers, salts, tokens and nonces come of it.
    pub fn new(settings: ApiSettings, seed: [u8; 32]) -> Self {
        Self {
            settings,
            rng: ChaCha20Rng::from_seed(seed),
            logins: Logins::default(),
            works: BTreeMap::new(),
            slow: BTreeMap::new(),
            feeds: Feeds::default(),
            members: MemberFeed::default(),
            effects: VecDeque::new(),
            next_token: TOKEN_BIT,
            drain_asked: false,
        }
    }

    /// The next piece of work for the host.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether a call asked the node to drain since this was last asked.
    pub fn take_drain(&mut self) -> bool {
        core::mem::take(&mut self.drain_asked)
    }

    /// Takes a call; it is answered by [`Effect::Reply`], now or later.
    pub fn handle_call(
        &mut self,
        view: &View<'_>,
        call: CallId,
        credentials: &Credentials,
        operation: Operation,
    ) {
        match self.answer(view, credentials, operation) {
            Err(error) => self.reply(call, Err(error)),
            Ok(Answer::Now(outcome)) => self.reply(call, Ok(outcome)),
            Ok(Answer::Propose { commands, outcome }) => self.begin(call, commands, outcome),
            Ok(Answer::Hash { password, then, outcome }) => {
                let salt = self.draw();
                let slow = Slow::Hash { call, then, outcome };
                self.slow(call, slow, |token| Effect::HashPassword { token, password, salt });
            }
            Ok(Answer::CheckPassword { password, phc, check }) => {
                let token = self.login_token(view, &check);
                let slow = Slow::Login { call, check, token };
                self.slow(call, slow, |token| Effect::CheckPassword { token, password, phc });
            }
            // As slow as a wrong password, so that names cannot be told apart by the clock.
            Ok(Answer::NoSuchUser { password, email }) => {
                let salt = self.draw();
                let slow = Slow::NoSuchUser { call, email };
                self.slow(call, slow, |token| Effect::HashPassword { token, password, salt });
            }
            Ok(Answer::Welcome(check)) => {
                let token = self.login_token(view, &check);
                self.welcome(call, &check, token);
            }
            Ok(Answer::Logout(hash, ends)) => {
                self.logins.end(hash, ends, view.now.wall);
                self.reply(call, Ok(Outcome::Empty(Empty {})));
            }
            Ok(Answer::Line(line)) => {
                self.feeds.line(view, line, &mut self.effects);
                self.reply(call, Ok(Outcome::Empty(Empty {})));
            }
            Ok(Answer::Drain) => {
                self.drain_asked = true;
                self.effects.push_back(Effect::HandOver);
                self.reply(call, Ok(Outcome::Empty(Empty {})));
            }
            Ok(Answer::Host(ask)) => self.effects.push_back(Effect::Cluster { call, ask }),
            Ok(Answer::Read { mut reader, wait }) => {
                reader.call = call;
                self.read(view, reader, wait);
            }
            Ok(Answer::Watch { watcher, wait }) => {
                self.feeds.watch(view, call, watcher, wait, &mut self.effects);
            }
            Ok(Answer::WatchMembers { after, wait }) => {
                self.members.watch(call, after, wait, &mut self.effects);
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest needs somebody who asks")]
    fn answer(
        &mut self,
        view: &View<'_>,
        credentials: &Credentials,
        operation: Operation,
    ) -> Result<Answer, ApiError> {
        let state = view.node.state();
        match operation {
            Operation::GetHealth => {
                let health = Health { ready: state == NodeState::Ready, state, load: 0 };
                return Ok(Answer::Now(Outcome::Health(health)));
            }
            Operation::GetMetrics => {
                return Ok(Answer::Now(Outcome::Metrics(view.node.metrics())));
            }
            // What holds up a start is to be seen during it.
            Operation::GetCluster => {}
            _ if state == NodeState::Starting => {
                return Err(ApiError::Unavailable(Unavailable::Starting));
            }
            _ if state == NodeState::Stopping => {
                return Err(ApiError::Unavailable(Unavailable::Stopping));
            }
            Operation::Login { email, password } => {
                return super::ops_session::login(view, &self.logins, &email, password);
            }
            _ => {}
        }
        let who = identify(credentials, view.state, view.vault, &self.logins, view.now)?;
        let who = who.ok_or_else(|| {
            ApiError::Unauthenticated("log in first, or give a token: Authorization: Bearer".into())
        })?;
        let mut desk = Desk { view, who: &who, rng: &mut self.rng, settings: &self.settings };
        if sabotage::planted(Bug::StaleRead) {
            let asked = format!("{operation:?}");
            let answer = desk.answer(operation)?;
            let Answer::Now(outcome) = answer else { return Ok(answer) };
            return Ok(Answer::Now(sabotage::last_answer(asked, outcome)));
        }
        desk.answer(operation)
    }

    /// Whoever made this call has gone.
    pub fn handle_call_dropped(&mut self, call: CallId) {
        self.feeds.forget(call);
        self.members.forget(call);
    }

    /// A proposal came back from the log.
    ///
    /// * Returns whether it was one of the API's.
    pub fn handle_reply(&mut self, request: RequestId, reply: &Reply) -> bool {
        let Some(mut work) = self.works.remove(&request) else {
            return false;
        };
        if let Reply::Refused(refusal) = reply {
            let error = refused(refusal, work.done);
            self.reply(work.call, Err(error));
            return true;
        }
        work.done += 1;
        self.advance(work);
        true
    }

    /// A proposal failed before the log returned it.
    ///
    /// * Returns whether it was one of the API's.
    pub fn handle_proposal_failed(&mut self, request: RequestId, why: ProposalError) -> bool {
        let Some(work) = self.works.remove(&request) else {
            return false;
        };
        self.reply(
            work.call,
            Err(match why {
                ProposalError::NoQuorum => ApiError::Unavailable(Unavailable::NoQuorum),
                ProposalError::DiskFull => ApiError::Unavailable(Unavailable::DiskFull),
                ProposalError::TooLarge => {
                    ApiError::invalid("request", "this is too large for one entry of the log")
                }
                ProposalError::Stopping => ApiError::Unavailable(Unavailable::Stopping),
                ProposalError::Unknown => ApiError::UnknownOutcome,
            }),
        );
        true
    }

    /// A password was checked.
    ///
    /// * Returns whether it was asked by the API.
    pub fn handle_password_checked(&mut self, now: Now, token: Token, fits: bool) -> bool {
        match self.slow.remove(&token) {
            Some(Slow::Login { call, check, token }) if fits => self.welcome(call, &check, token),
            Some(Slow::Login { call, check, .. }) => self.refuse_login(now, call, &check.email),
            Some(Slow::NoSuchUser { .. } | Slow::Hash { .. }) | None => return false,
        }
        true
    }

    /// A password was hashed.
    ///
    /// * Returns whether it was asked by the API.
    pub fn handle_password_hashed(&mut self, now: Now, token: Token, phc: String) -> bool {
        match self.slow.remove(&token) {
            Some(Slow::Hash { call, then, outcome }) => {
                self.begin(call, then(PasswordHash::Phc(phc)), outcome);
            }
            Some(Slow::NoSuchUser { call, email }) => self.refuse_login(now, call, &email),
            Some(Slow::Login { .. }) | None => return false,
        }
        true
    }

    /// Rows of the event log arrived.
    ///
    /// * Returns whether they were asked by the API.
    pub fn handle_events_read(&mut self, view: &View<'_>, token: Token, rows: &[EventRow]) -> bool {
        let Some((reader, wait)) = self.feeds.take_reading(token) else {
            return false;
        };
        if let Some(reader) = self.feeds.rows_read(view, reader, rows, &mut self.effects) {
            self.read(view, reader, wait);
        }
        true
    }

    /// Which rows of the event log are not on this disk.
    pub(crate) fn handle_lacking(&mut self, view: &View<'_>, lacking: Lacking) {
        for reader in self.feeds.set_lacking(lacking) {
            self.read(view, reader, true);
        }
    }

    /// The whole state was replaced.
    pub fn handle_restored(&mut self, view: &View<'_>) {
        for reader in self.feeds.take_waiting() {
            self.read(view, reader, true);
        }
    }

    /// A row of the event log was decided: whoever waits for one gets it.
    pub fn handle_row(&mut self, row: &EventRow) {
        self.feeds.row(row, &mut self.effects);
    }

    /// Something happened that people may want to see live.
    pub fn handle_watch(&mut self, view: &View<'_>, line: &WatchLine) {
        self.feeds.line(view, line.into(), &mut self.effects);
    }

    /// Something happened to a member.
    pub(crate) fn handle_member_event(&mut self, event: MemberEvent) {
        self.members.add(event, &mut self.effects);
    }

    fn read(&mut self, view: &View<'_>, reader: Reader, wait: bool) {
        let token = self.token();
        self.feeds.read(view, token, reader, wait, &mut self.effects);
    }

    fn begin(&mut self, call: CallId, commands: Vec<Command>, outcome: Outcome) {
        if self.works.len() >= WORKS_MAX {
            let text = format!("{WORKS_MAX} calls wait for the log already: try again later");
            return self.reply(call, Err(ApiError::ResourceExhausted(text)));
        }
        if sabotage::planted(Bug::AnswerBeforeCommit)
            && let Some(Command::Enqueue { .. }) = commands.last()
        {
            self.reply(call, Ok(outcome.clone()));
        }
        self.advance(Work { call, rest: commands.into(), outcome, done: 0 });
    }

    fn advance(&mut self, mut work: Work) {
        let Some(command) = work.rest.pop_front() else {
            return self.reply(work.call, Ok(work.outcome));
        };
        let request = RequestId(self.draw());
        self.works.insert(request, work);
        self.effects.push_back(Effect::Propose(Proposal { request, command }));
    }

    fn slow(&mut self, call: CallId, slow: Slow, effect: impl FnOnce(Token) -> Effect) {
        if self.slow.len() >= PASSWORDS_MAX {
            let text = "too many passwords are being checked: try again in a second";
            return self.reply(call, Err(ApiError::ResourceExhausted(text.into())));
        }
        let token = self.token();
        self.slow.insert(token, slow);
        self.effects.push_back(effect(token));
    }

    /// The token that a caller gets if his password fits.
    fn login_token(&mut self, view: &View<'_>, check: &LoginCheck) -> LoginToken {
        let ends = view.now.wall.saturating_add(LOGIN_LASTS);
        let login = Login { user: check.user, generation: check.generation, ends };
        let jwt = login.token(view.vault, self.draw());
        LoginToken { jwt, expires_at: Some(ends) }
    }

    fn welcome(&mut self, call: CallId, check: &LoginCheck, token: LoginToken) {
        self.logins.succeeded(&check.email);
        self.reply(call, Ok(Outcome::Login(token)));
    }

    fn refuse_login(&mut self, now: Now, call: CallId, email: &str) {
        self.logins.failed(email, now.instant);
        let text = "wrong name or password".to_owned();
        self.reply(call, Err(ApiError::Unauthenticated(text)));
    }

    fn reply(&mut self, call: CallId, result: Result<Outcome, ApiError>) {
        self.effects.push_back(Effect::Reply { call, result });
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

/// The log's refusal in the words of the API.
fn refused(refusal: &Refusal, done: usize) -> ApiError {
    let mut text = refusal.to_string();
    if done > 0 {
        text = format!("{text} (what came before it in this call is done: {done} steps)");
    }
    match refusal {
        Refusal::NotFound(_) => ApiError::NotFound(text),
        Refusal::AlreadyExists(_) => ApiError::AlreadyExists(text),
        Refusal::InUse(_) | Refusal::Fenced => ApiError::Conflict(text),
        Refusal::LimitReached(_) => ApiError::ResourceExhausted(text),
        Refusal::Invalid(_) => ApiError::invalid("request", text),
    }
}

/// A password of the length people may choose.
///
/// * Errors: outside 8..=128 characters.
pub(super) fn checked_password(password: String) -> Result<Secret, ApiError> {
    let length = password.chars().count();
    if !(8..=128).contains(&length) {
        return Err(ApiError::invalid("password", format!("8 to 128 characters, not {length}")));
    }
    Ok(Secret::new(password))
}
