//! What a machine's node is to its cluster: a member, on its way out, or nobody yet.
//!
//! A node that was told that it is no member any more stops, as its process would, and its data is
//! set aside. That is a violation unless somebody has asked for it.

use std::time::Duration;

use host::service::{self, Ended};
use node::api::{Credentials, Operation};
use openraft_rt::AsyncRuntime;

use super::{CLOSES_FILES, Machine, NodeHandle, STOP_PATIENCE, settings};
use crate::net::{Death, Net};
use crate::oracle::{Fact, RaftStep};
use crate::outside::Store;
use crate::runtime::{MadsimRuntime, held, sleep_virtual};

/// What a machine's node is to its cluster, as the world knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// A member, running or not.
    #[default]
    Member,
    /// Somebody wants it out: it may be a member still, or none any more.
    Going,
    /// Its data is set aside, or lost: whoever comes with its name is another member.
    Outside,
}

/// A node that was removed founds a cluster of its own when it is started again, and stays in it
/// until somebody tells it whom to join. Nobody comes in there: it listens where no gateway and no
/// client looks for it, and the invariants know one cluster alone.
#[derive(Default)]
pub(super) enum Lone {
    /// It does not: whoever starts it has it join.
    #[default]
    Never,
    /// It will when its data is set aside.
    Next,
    /// It does; the way to it, while it runs.
    Now(Option<NodeHandle>),
    /// It did, and joins somebody as soon as the data of its own cluster is set aside.
    Joins,
}

impl Lone {
    /// The process is gone.
    pub(super) fn leave(&mut self) {
        if let Self::Now(handle) = self {
            *handle = None;
        }
    }
}

/// How far from its usual ports a lone node listens.
const OTHER_DOORS: u16 = 10_000;
/// How long a lone node may take to say that it joins somebody.
const JOIN_MAX: Duration = Duration::from_secs(15);

impl Machine {
    /// What it is called as a member.
    pub(in crate::world) fn member_name(&self) -> String {
        format!("{}@{}", self.0.name, self.0.address)
    }

    /// It is a member and nobody wants it out.
    pub(in crate::world) fn is_settled(&self) -> bool {
        held(&self.0.boot).standing == Standing::Member
    }

    /// Somebody wants it out, and it has not set its data aside yet.
    pub(in crate::world) fn is_going(&self) -> bool {
        held(&self.0.boot).standing == Standing::Going
    }

    /// It has no data of the cluster, or has become no full member again yet.
    pub(in crate::world) fn is_outside(&self) -> bool {
        held(&self.0.boot).standing == Standing::Outside
    }

    /// Whether its process is there and has not stood still.
    pub(in crate::world) fn is_at_work(&self) -> bool {
        let boot = held(&self.0.boot);
        boot.up && !boot.paused && boot.handle.is_some()
    }

    /// Somebody wants it out; with `alone` it is left to itself when it is.
    pub(in crate::world) fn dismiss(&self, alone: bool) {
        let mut boot = held(&self.0.boot);
        boot.standing = Standing::Going;
        boot.returns = false;
        boot.lone = if alone { Lone::Next } else { Lone::Never };
    }

    /// It is a cluster of its own, or is about to start as one.
    pub(super) fn is_alone(&self) -> bool {
        matches!(held(&self.0.boot).lone, Lone::Now(_) | Lone::Joins)
    }

    /// Tells a lone node to join a member; nothing comes of it where it is none.
    pub(in crate::world) async fn have_join(&self, member: &Self) {
        let handle = match &held(&self.0.boot).lone {
            Lone::Now(Some(handle)) => handle.clone(),
            Lone::Now(None) | Lone::Next | Lone::Never | Lone::Joins => return,
        };
        let target = format!("{}:{}", member.member_name(), settings::PORT_PEERS);
        let join = Operation::JoinCluster { target, discard_local: false, attach: false };
        let call = handle.call(Credentials::Local, join);
        let answer = MadsimRuntime::timeout(JOIN_MAX, call).await;
        let told = match answer {
            Ok(Ok(_)) => "underway".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        let text = format!("{} joins {}: {told}", self.name(), member.name());
        self.0.record.note("oper", &text);
    }

    /// Runs the node as a cluster of its own until it is to join another.
    pub(super) async fn run_alone(self) {
        let inner = &self.0;
        let (refused_before, deaths_before) = (inner.disk.tally().refused, inner.disk.deaths());
        let begun = async {
            let world = inner.outside.unseen();
            let disk = Store::open(inner.disk.clone(), None).await;
            let disk = disk.map_err(|error| error.to_string())?;
            if service::must_be_set_aside(&world, &disk).map_err(|error| error.to_string())? {
                return Ok(None);
            }
            let mut settings = settings::of(inner);
            let doors = settings.gateways.iter_mut().chain(&mut settings.mqtt);
            doors.for_each(|door| door.set_port(door.port() + OTHER_DOORS));
            let started = service::start(world, disk, settings).await;
            started.map(Some).map_err(|error| error.to_string())
        };
        let begun = begun.await;
        let no_room = begun.is_err() && inner.disk.tally().refused > refused_before;
        let ended = match begun {
            Ok(None) => Ended::Rejoin,
            Ok(Some(handle)) => {
                inner.record.note(&inner.name, "is a cluster of its own");
                held(&inner.boot).lone = Lone::Now(Some(handle.clone()));
                let ended = handle.ended().await;
                self.stop_in_order(&handle).await;
                ended
            }
            Err(text) => Ended::Failed(text),
        };
        let text = format!("{}, alone, has ended: {ended:?}", inner.name);
        if ended != Ended::Rejoin && !no_room && !self.excuses(&text, deaths_before) {
            inner.record.violate("S22", text);
        }
        let mut boot = held(&inner.boot);
        boot.lone = if ended == Ended::Rejoin { Lone::Joins } else { Lone::Now(None) };
        boot.removed = true;
    }

    async fn stop_in_order(&self, handle: &NodeHandle) {
        let in_order = MadsimRuntime::timeout(STOP_PATIENCE, handle.stop()).await.is_ok();
        if !in_order {
            let text = format!("{} does not stop, though nothing holds it", self.0.name);
            self.0.record.violate("S22", text);
        }
    }

    /// It has become a full member again.
    pub(in crate::world) fn settle_again(&self) {
        let mut boot = held(&self.0.boot);
        if boot.standing != Standing::Outside {
            return;
        }
        boot.standing = Standing::Member;
        drop(boot);
        self.0.record.note(&self.0.name, "is a member again");
        self.0.record.count(|counts| counts.readmitted += 1);
    }

    /// What it was as a member it cannot be again.
    pub(super) fn lose_place(&self) {
        if self.0.scenario.nodes.count > 1 {
            let mut boot = held(&self.0.boot);
            (boot.standing, boot.lone) = (Standing::Outside, Lone::Never);
        }
    }

    /// It is started, and once more when its data is set aside.
    pub(in crate::world) fn come_back(&self) {
        held(&self.0.boot).returns = true;
        self.start();
    }

    /// A node that was removed ends in order, and notes that it is alone.
    pub(super) async fn end_as_removed(&self, handle: NodeHandle) {
        let inner = &self.0;
        inner.record.note(&inner.name, "was told that it is no member any more");
        self.stop_in_order(&handle).await;
        if let Err(error) = service::note_removal(&inner.outside) {
            let text = format!("{} cannot note that it was removed: {error}", inner.name);
            inner.record.violate("S22", text);
        }
        let mut boot = held(&inner.boot);
        boot.handle = None;
        boot.removed = true;
    }

    /// The process has ended: its data goes to where nobody looks for it.
    pub(super) async fn set_aside(&self) {
        let inner = &self.0;
        crate::runtime::kill(inner.id);
        sleep_virtual(CLOSES_FILES).await;
        if !held(&inner.boot).removed {
            // Something else has ended it meanwhile, and its data lies where it was.
            return;
        }
        inner.disk.process_died();
        Net::current().announce_death(inner.id, Death::Process);
        self.end("ends, its data is set aside");
        inner.disk.wipe();
        let (node, step) = (inner.name.clone(), RaftStep::Wiped);
        inner.record.tell(Fact::Raft { node, step });
        inner.record.ledgers(|all| all.lose(&inner.name));
        let (returns, departs, keeps_intent) = {
            let mut boot = held(&inner.boot);
            let departs = boot.standing == Standing::Going;
            boot.standing = Standing::Outside;
            let is_left_alone = matches!(boot.lone, Lone::Next);
            match boot.lone {
                Lone::Next => boot.lone = Lone::Now(None),
                Lone::Joins => boot.lone = Lone::Never,
                Lone::Now(_) | Lone::Never => {}
            }
            (boot.returns, departs, is_left_alone || !departs)
        };
        inner.outside.set_aside(keeps_intent);
        inner.record.count(|counts| counts.departed += u32::from(departs));
        if returns {
            self.start();
        }
    }
}
