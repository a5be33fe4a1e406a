//! What happens to a cluster in front of the user: its leader is killed, the gateways of that node
//! fall silent and go to the next, the node comes back and catches up.

use clock::{Duration, Instant};
use serde_json::{Value, json};

use super::DemoError;
use super::nodes::{Node, Nodes};

/// When, at the earliest: devices have joined by then.
const EARLIEST: Duration = Duration::from_secs(10);
/// A gateway that hears nothing for so long goes to the next node, as behind a balancer.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the node is dead.
const DEAD: Duration = Duration::from_secs(6);
/// After a return, or else it is not shown.
const REST: Duration = Duration::from_secs(4);

/// How far the story is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Calm { until: Instant },
    Silent { since: Instant },
    Dead { since: Instant },
    Returning { since: Instant, started: Instant },
    Over,
}

/// The story, and who is in it.
#[derive(Debug)]
pub(super) struct Outage {
    stage: Stage,
    /// The node's place.
    victim: usize,
}

/// What is to be done, and said.
#[derive(Debug)]
pub(super) struct Turn {
    /// One line.
    pub(super) text: String,
    /// The same for programs.
    pub(super) json: Value,
    /// The gateways of this node send there now.
    pub(super) point: Option<(usize, usize)>,
}

impl Outage {
    /// A story that begins after a third of the time, or never: with one node, or too little time.
    pub(super) fn new(nodes: usize, now: Instant, duration: Option<Duration>) -> Self {
        let wait = duration.map_or(EARLIEST, |duration| (duration / 3).max(EARLIEST));
        let fits = duration.is_none_or(|duration| wait + DEAD + REST <= duration);
        let stage = match nodes > 1 && fits {
            true => Stage::Calm { until: now + wait },
            false => Stage::Over,
        };
        Self { stage, victim: 0 }
    }

    /// Whether a node is dead or has not caught up.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.stage, Stage::Calm { .. } | Stage::Over)
    }

    /// What is due.
    ///
    /// * `silent`: names the gateways whose node is this one.
    /// * Errors: the node does not start again.
    pub(super) fn step(
        &mut self,
        now: Instant,
        nodes: &mut Nodes,
        silent: impl Fn(usize) -> Vec<&'static str>,
    ) -> Result<Option<Turn>, DemoError> {
        let (victim, count) = (self.victim, nodes.all.len());
        let next = (victim + 1) % count;
        match self.stage {
            Stage::Calm { until } if until <= now => {
                let leads = leader(nodes);
                self.victim = leads.unwrap_or(count - 1);
                self.stage = Stage::Silent { since: now };
                let gateways = silent(self.victim);
                Ok(Some(kill(&mut nodes.all[self.victim], leads.is_some(), &gateways)))
            }
            Stage::Silent { since } if since + SILENCE <= now => {
                self.stage = Stage::Dead { since };
                let (to, gateways) = (nodes.all[next].short.clone(), silent(victim));
                let text = format!("nobody answers {}: to {to} from now on", list(&gateways));
                let json = json!({"note": "moved", "node": to, "gateways": gateways});
                Ok(Some(Turn { text, json, point: Some((victim, next)) }))
            }
            Stage::Dead { since } if since + DEAD <= now => {
                nodes.all[victim].spawn()?;
                self.stage = Stage::Returning { since, started: now };
                let name = nodes.all[victim].short.clone();
                let text = format!("{name} is started again, on what its disk holds");
                Ok(Some(Turn { text, json: json!({"note": "started", "node": name}), point: None }))
            }
            Stage::Returning { since, started } => {
                if !is_level(nodes, victim) {
                    return Ok(None);
                }
                self.stage = Stage::Over;
                let (name, took) = (nodes.all[victim].short.clone(), now.since(started));
                let text = format!(
                    "{name} has caught up: lag 0, {:.1} s after its start, {:.1} s after its death",
                    took.as_secs_f64(),
                    now.since(since).as_secs_f64(),
                );
                let json =
                    json!({"note": "caught up", "node": name, "seconds": took.as_secs_f64()});
                Ok(Some(Turn { text, json, point: Some((victim, victim)) }))
            }
            Stage::Calm { .. } | Stage::Silent { .. } | Stage::Dead { .. } | Stage::Over => {
                Ok(None)
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no gateway".to_owned() } else { names.join(", ") }
}

fn kill(node: &mut Node, leads: bool, gateways: &[&str]) -> Turn {
    let pid = node.pid().unwrap_or_default();
    node.kill();
    let role = if leads { ", the leader" } else { "" };
    let text =
        format!("kill -9 {pid}: {}{role}, is dead. Silent with it: {}", node.short, list(gateways));
    let json = json!({"note": "killed", "node": node.short, "leader": leads, "gateways": gateways});
    Turn { text, json, point: None }
}

/// A member of the cluster, as some node that lives sees it.
fn member(nodes: &Nodes, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let info = nodes.any()?.get("/api/v1/cluster")?;
    info["members"].as_array()?.iter().find(|one| wanted(one)).cloned()
}

fn leader(nodes: &Nodes) -> Option<usize> {
    let leads = member(nodes, |one| one["leads"] == true)?["name"].as_str()?.to_owned();
    nodes.all.iter().position(|node| leads.split('@').next() == Some(node.short.as_str()))
}

/// Whether a node says so itself, and lacks nothing.
fn is_level(nodes: &Nodes, place: usize) -> bool {
    let node = &nodes.all[place];
    let own = |one: &Value| one["name"].as_str().unwrap_or_default().starts_with(&node.short);
    let seen = member(nodes, own).is_some_and(|one| one["running"] == true && one["lag"] == 0);
    seen && node.get("/health/ready").is_some()
}
