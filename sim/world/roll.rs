//! Members come and go: an operator has a node leave, or has a dead one removed, and each comes
//! back as a new member.
//!
//! Whoever strikes members keeps a majority of all nodes that are members and at work: a cluster
//! that has shrunk cannot lose as many as one that has not, and a node that is to come back needs
//! somebody to admit it.

use std::time::Duration;

use node::api::{ApiError, Operation, Outcome};
use scenario::{Fault, FaultKind};

use super::World;
use super::machine::Machine;
use super::operator::Operator;
use crate::clocks::virtual_now;
use crate::runtime::{held, sleep_virtual};

/// How long such a fault waits for its moment before it is left out.
const MOMENT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether something has come about.
const LOOKS: Duration = Duration::from_millis(200);
/// Pause before the operator says again what nobody has taken.
const SAYS_AGAIN: Duration = Duration::from_millis(500);
/// How long a node may take to be out, or in again, before the fault goes on without it.
const MOVES_MAX: Duration = Duration::from_secs(30);

impl World {
    /// Whether the cluster can bear that a fault takes a member away; one that waits for its moment
    /// waits here.
    pub(super) async fn may_strike(&self, fault: &Fault) -> bool {
        let machine = self.machine(fault);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the rest takes no member away for good"
        )]
        match fault.kind {
            FaultKind::Leave | FaultKind::Remove => {
                let end = virtual_now() + MOMENT_MAX;
                let fits = || {
                    machine.is_settled()
                        && machine.is_at_work()
                        && self.is_majority_without(machine, Machine::is_at_work)
                };
                while !fits() && virtual_now() < end {
                    sleep_virtual(LOOKS).await;
                }
                self.note_unless(fits(), fault)
            }
            // As before, unless somebody is out or on his way: then it could be one too many.
            FaultKind::WipeDisk if self.machines.iter().any(|one| !one.is_settled()) => {
                self.note_unless(self.is_majority_without(machine, |_| true), fault)
            }
            _ => true,
        }
    }

    fn note_unless(&self, fits: bool, fault: &Fault) -> bool {
        if !fits {
            let text = format!("no {} of {}: too few are left", fault.kind, fault.target());
            self.record.note("world", &text);
        }
        fits
    }

    /// Whether a majority of all nodes are members that nobody wants out, without this one.
    fn is_majority_without(&self, machine: &Machine, fit: impl Fn(&Machine) -> bool) -> bool {
        let others = self.machines.iter().filter(|one| one.id() != machine.id());
        let sound = |one: &&Machine| {
            one.is_settled() && fit(one) && !one.is_doubtful() && !one.is_damaged()
        };
        others.filter(sound).count() > self.machines.len() / 2
    }

    /// Whether a fault is still in force: at rest nobody asks for anything any more.
    fn is_in_force(&self, fault: &Fault) -> bool {
        held(&self.active).values().any(|one| one == fault)
    }

    /// `cluster leave`, said to the node itself until it takes it; then it goes.
    pub(super) async fn have_leave(&self, machine: &Machine, fault: &Fault) {
        machine.dismiss(false);
        let operator = self.operator.of(machine);
        self.insist(&operator, &Operation::LeaveCluster, machine, fault).await;
        self.wait_until_out(machine, fault).await;
    }

    /// The power goes, and somebody else is told `cluster remove`.
    pub(super) async fn have_removed(&self, machine: &Machine, fault: &Fault) {
        machine.dismiss(true);
        machine.power_cut();
        let member = machine.member_name();
        let others = self.machines.iter().filter(|one| one.id() != machine.id());
        let others: Vec<Machine> = others.cloned().collect();
        let operator = Operator::new(&others, &self.record);
        self.insist(&operator, &Operation::RemoveMember { member }, machine, fault).await;
    }

    /// Says something until somebody has taken it. Where nobody knows whether it was done it is
    /// said again: a member goes once.
    async fn insist(&self, to: &Operator, what: &Operation, machine: &Machine, fault: &Fault) {
        while self.is_in_force(fault) && machine.is_going() {
            let answer = to.try_call(what.clone()).await;
            let told = match &answer {
                Ok(Outcome::Membership(answer)) => format!("{}: {}", answer.state, answer.message),
                Ok(_) => "something else was answered".to_owned(),
                Err(error) => error.to_string(),
            };
            let name = machine.name();
            self.record.note("oper", &format!("{} of {name}: {told}", fault.kind));
            match answer {
                Ok(_) | Err(ApiError::NotFound(_)) => return,
                Err(_) => sleep_virtual(SAYS_AGAIN).await,
            }
        }
    }

    async fn wait_until_out(&self, machine: &Machine, fault: &Fault) {
        let end = virtual_now() + MOVES_MAX;
        while machine.is_going() && self.is_in_force(fault) && virtual_now() < end {
            sleep_virtual(LOOKS).await;
        }
    }

    /// It starts again, with what data it has, and is a member in the end: one that finds itself
    /// alone is told whom to join.
    pub(super) async fn bring_back(&self, machine: &Machine) {
        machine.come_back();
        let end = virtual_now() + MOVES_MAX;
        while !machine.is_settled() && virtual_now() < end {
            sleep_virtual(LOOKS).await;
            let host = self.machines.iter().find(|one| one.is_settled() && one.is_at_work());
            if let Some(host) = host.filter(|_| machine.is_outside()) {
                machine.have_join(host).await;
            }
        }
        if !machine.is_settled() {
            let text = format!("not a member again within {MOVES_MAX:?}");
            self.record.note(machine.name(), &text);
        }
    }
}

/// Looks for ever whether a node that had no place in the cluster is a full member.
pub(super) async fn watch(machine: Machine, operator: Operator) {
    loop {
        sleep_virtual(LOOKS).await;
        if machine.is_outside() && machine.is_at_work() && is_member(&operator).await {
            machine.settle_again();
        }
    }
}

/// Whether the log says of the operator's node that it is up, as far as that node knows.
async fn is_member(operator: &Operator) -> bool {
    let answer = operator.try_call(Operation::GetCluster).await;
    let Ok(Outcome::Cluster(cluster)) = answer else { return false };
    let own = cluster.members.iter().find(|member| member.node_id == cluster.node_id);
    own.is_some_and(|own| own.status == "up")
}
