//! `tern cluster ..`: who is in it, who comes, who goes; in the words of the systems that it
//! replaces (requirements A.3.3).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use cluster::join::{JOINED, LEFT, REMOVED};
use serde_json::{Value, json};

use super::Common;
use super::client::{CliError, Client};
use super::print::{Out, clean, table};
use crate::data::DataFolder;
use crate::world::draw;

/// How long a node may take to start anew, before a command gives up.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// How long a join may take without any progress.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// How often a command looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a node says while it is not there yet.
const STARTING: &str = "the node is starting";
/// What it says that went down with the question in hand.
const UNKNOWN: &str = "the outcome is not known";

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Become one cluster with another node; the empty side sets its data aside and joins.
    #[command(after_help = super::teach::CLUSTER_JOIN)]
    Join {
        /// name@host, name@host:port or host:port of the other node.
        node: String,
        /// This node's own devices may be set aside.
        #[arg(long)]
        discard_local: bool,
    },
    /// Take this node out of its cluster; it goes on alone and empty.
    Leave,
    /// Take another member out of the cluster, dead or alive.
    #[command(visible_alias = "force-leave")]
    Remove {
        /// Its name or raft id.
        node: String,
    },
    /// Who is in the cluster, and how they do.
    Status,
    /// The members, one a line.
    List {
        /// With addresses, starts and how far each is.
        #[arg(long)]
        detailed: bool,
    },
    /// Where the cluster's cookie lies, and how to bring it to the next machine.
    Cookie {
        #[command(subcommand)]
        command: Option<CookieCommand>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CookieCommand {
    /// Draw a new cookie and print it; nothing else changes.
    New,
}

/// Answers a command that asks a server.
pub(super) fn cluster(command: ClusterCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    match command {
        ClusterCommand::Join { node, discard_local } => join(&node, discard_local, client, out),
        ClusterCommand::Leave => leave(client, out),
        ClusterCommand::Remove { node } => remove(&node, client, out),
        ClusterCommand::Status => {
            let info = client.get("/api/v1/cluster")?;
            if out.json {
                return out.line(&with_lists(&info).to_string());
            }
            out.line(&status_line(&info))?;
            for line in members(&info, true) {
                out.line(&line)?;
            }
            let quorum = if info["quorum"] == json!(true) { "yes" } else { "NO" };
            out.line(&format!("quorum: {quorum}"))?;
            advise(&info);
            Ok(())
        }
        ClusterCommand::List { detailed } => {
            let info = client.get("/api/v1/cluster")?;
            if out.json {
                return out.line(&info["members"].to_string());
            }
            members(&info, detailed).iter().try_for_each(|line| out.line(line))
        }
        ClusterCommand::Cookie { .. } => Ok(()),
    }
}

fn join(node: &str, discard_local: bool, client: &Client, out: &Out) -> Result<(), CliError> {
    let body = json!({"node": node, "discardLocal": discard_local});
    let answer = patiently(|| client.post("/api/v1/cluster/join", &body))?;
    if answer["state"] == json!("ignored") {
        return out.done(answer["message"].as_str().unwrap_or_default(), &answer);
    }
    let joiner = answer["node"].as_str().unwrap_or_default().to_owned();
    let info = wait_for(client, &joiner)?;
    finish(JOINED, &info, out)
}

/// Asks again while the node starts anew; what it was asked may be done by then, and says so.
fn patiently(mut ask: impl FnMut() -> Result<Value, CliError>) -> Result<Value, CliError> {
    let since = Instant::now();
    let mut starts = false;
    loop {
        match ask() {
            Err(CliError::Refused { status: 503, message })
                if (starts || message.starts_with(STARTING) || message.starts_with(UNKNOWN))
                    && since.elapsed() < RESTART_MAX =>
            {
                // Whoever has just started has no quorum for a moment.
                starts = true;
                std::thread::sleep(LOOK_EVERY);
            }
            other => return other,
        }
    }
}

/// Waits until the joiner is a full member, and shows how far it is.
fn wait_for(client: &Client, joiner: &str) -> Result<Value, CliError> {
    let mut progress = Progress { shown: String::new(), since: Instant::now() };
    let mut starts = false;
    loop {
        match client.get("/api/v1/cluster") {
            Ok(info) => {
                let all = info["members"].as_array().cloned().unwrap_or_default();
                let found = all.iter().find(|one| one["name"] == json!(joiner));
                let is_up =
                    |one: &&Value| one["status"] == json!("up") && one["votes"] == json!(true);
                if all.len() > 1 && found.filter(is_up).is_some() {
                    return Ok(info);
                }
                match found.filter(|_| all.len() > 1) {
                    Some(one) => progress.show(&match one["lag"].as_u64() {
                        Some(lag) => format!("{joiner} is a member; it lacks {lag} entries"),
                        None => format!("{joiner} is a member; it catches up"),
                    }),
                    None if starts => {}
                    None => progress.show(&format!("{joiner} sets its data aside and joins")),
                }
            }
            Err(CliError::Refused { status: 503, .. }) => {
                starts = true;
                progress.show(&format!("{joiner} starts anew"));
            }
            Err(CliError::Refused { status: 401, .. }) => {
                let text = "this node is in another cluster now, whose users are others: \
                            tern login URL";
                return Err(CliError::Usage(text.to_owned()));
            }
            Err(error) => return Err(error),
        }
        if progress.since.elapsed() > JOIN_MAX {
            return Err(CliError::Serve(format!(
                "the join is not done after {} s, last seen: {}. It goes on by itself: see \
                 `tern cluster status` and the log of {joiner}",
                JOIN_MAX.as_secs(),
                progress.shown
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Progress {
    shown: String,
    /// When something was new.
    since: Instant,
}

impl Progress {
    fn show(&mut self, text: &str) {
        if self.shown != text {
            eprintln!("{}", clean(text));
            text.clone_into(&mut self.shown);
            self.since = Instant::now();
        }
    }
}

fn leave(client: &Client, out: &Out) -> Result<(), CliError> {
    let before = client.get("/api/v1/cluster")?;
    let own = before["name"].as_str().unwrap_or_default().to_owned();
    client.post("/api/v1/cluster/leave", &json!({}))?;
    let mut progress = Progress { shown: String::new(), since: Instant::now() };
    loop {
        match client.get("/api/v1/cluster") {
            Ok(info)
                if info["clusterId"] != before["clusterId"] && info["quorum"] == json!(true) =>
            {
                return finish(LEFT, &info, out);
            }
            Ok(_) => progress.show(&format!("{own} leaves")),
            Err(CliError::Refused { status: 503, .. }) => {
                progress.show(&format!("{own} sets its data aside and starts alone"));
            }
            // Its users went with the data.
            Err(CliError::Refused { status: 401, .. }) => {
                return out.done(LEFT, &json!({"state": "done", "message": LEFT, "node": own}));
            }
            Err(error) => return Err(error),
        }
        if progress.since.elapsed() > JOIN_MAX {
            let text = format!("not done yet, last seen: {}; it goes on by itself", progress.shown);
            return Err(CliError::Serve(text));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn remove(node: &str, client: &Client, out: &Out) -> Result<(), CliError> {
    let answer = client.post("/api/v1/cluster/remove", &json!({"node": node}))?;
    let message = answer["message"].as_str().unwrap_or_default();
    match answer["state"].as_str() {
        Some("ignored") => out.done(message, &answer),
        Some("done") => finish(REMOVED, &client.get("/api/v1/cluster")?, out),
        Some(_) | None => {
            let text = "the removal is decided but not done yet: see `tern cluster status`";
            Err(CliError::Serve(text.to_owned()))
        }
    }
}

fn finish(message: &str, info: &Value, out: &Out) -> Result<(), CliError> {
    if out.json {
        let mut answer = with_lists(info);
        answer["message"] = json!(message);
        return out.line(&answer.to_string());
    }
    out.line(message)?;
    out.line(&status_line(info))?;
    advise(info);
    Ok(())
}

/// What does not belong into a pipe.
fn advise(info: &Value) {
    for text in info["advice"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("note: {}", clean(text));
    }
}

fn names(info: &Value, running: bool) -> Vec<String> {
    let all = info["members"].as_array().into_iter().flatten();
    let wanted = all.filter(|one| one["running"] == json!(running));
    let mut names: Vec<_> = wanted.filter_map(|one| one["name"].as_str()).map(clean).collect();
    names.sort();
    names
}

/// As a list of Erlang tuples, which scripts read.
fn status_line(info: &Value) -> String {
    let atoms = |running| {
        let quoted: Vec<_> = names(info, running).iter().map(|name| format!("'{name}'")).collect();
        quoted.join(",")
    };
    let mut parts = vec![format!("{{running_nodes,[{}]}}", atoms(true))];
    let stopped = atoms(false);
    if !stopped.is_empty() {
        parts.push(format!("{{stopped_nodes,[{stopped}]}}"));
    }
    format!("Cluster status: [{}]", parts.join(",\n                 "))
}

/// For programs: with the lists of the newer form.
fn with_lists(info: &Value) -> Value {
    let mut info = info.clone();
    info["running_nodes"] = json!(names(&info, true));
    info["stopped_nodes"] = json!(names(&info, false));
    info
}

fn members(info: &Value, detailed: bool) -> Vec<String> {
    let mut all = info["members"].as_array().cloned().unwrap_or_default();
    for one in &mut all {
        let role = match (one["leads"] == json!(true), one["votes"] == json!(true)) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        one["role"] = json!(role);
        one["here"] = json!(one["nodeId"] == info["nodeId"]);
    }
    let mut columns =
        vec![("NAME", "/name"), ("STATUS", "/status"), ("RUNNING", "/running"), ("ROLE", "/role")];
    if detailed {
        let more =
            [("ID", "/nodeId"), ("ADDRESS", "/address"), ("STARTS", "/boot"), ("LAG", "/lag")];
        columns.extend(more);
        columns.push(("HERE", "/here"));
    }
    table(&columns, &all)
}

/// Shows the cookie's place, or draws one.
pub(super) fn cookie(
    command: Option<&CookieCommand>,
    common: &Common,
    out: &Out,
) -> Result<(), CliError> {
    if let Some(CookieCommand::New) = command {
        let cookie = cluster::cookie::cookie_from_random(draw());
        if out.json {
            return out.line(&json!({"cookie": cookie}).to_string());
        }
        out.line(&cookie)?;
        eprintln!(
            "Give it to every node before its first start: as TERN_CLUSTER__COOKIE, or as the file \
             cluster.cookie (mode 600) in its data folder. A running cluster keeps the one it has."
        );
        return Ok(());
    }
    let folder = folder_of(common)?;
    let path = folder.cookie_file();
    let text = |why: std::io::Error| CliError::File { path: path.clone(), why: why.to_string() };
    let is_there = path.try_exists().map_err(text)?;
    let shown = path.display();
    if out.json {
        return out.line(&json!({"path": shown.to_string(), "exists": is_there}).to_string());
    }
    if !is_there {
        return out.line(&format!(
            "no cookie lies at {shown} yet: the first start makes one (or takes \
             TERN_CLUSTER__COOKIE); all nodes of a cluster need the same"
        ));
    }
    out.line(&shown.to_string())?;
    out.line(
        "all nodes of the cluster need the same; for the next machine, before its first start:",
    )?;
    out.line(&format!("  ssh HOST install -d -m 700 {}", folder.path().display()))?;
    out.line(&format!("  scp -p {shown} HOST:{shown}"))
}

fn folder_of(common: &Common) -> Result<DataFolder, CliError> {
    let usual = [Path::new("tern-data"), Path::new("/var/lib/tern")];
    let state = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let found = common.data.clone().or(state);
    let found = found.or_else(|| usual.into_iter().find(|path| path.exists()).map(Path::to_owned));
    let Some(path) = found.filter(|path| path.exists()) else {
        let text = "no data folder here: say where it is with --data DIR, on the node's own host";
        return Err(CliError::Usage(text.to_owned()));
    };
    DataFolder::open(&path).map_err(|error| CliError::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(running: &[bool]) -> Value {
        let one = |(number, running): (usize, &bool)| {
            json!({"name": format!("n{}@h", number + 1), "running": running, "votes": true,
                "leads": number == 0, "nodeId": number, "status": "up"})
        };
        let members: Vec<Value> = running.iter().enumerate().map(one).collect();
        json!({"members": members, "nodeId": 0})
    }

    #[test]
    fn the_status_is_a_list_of_tuples() {
        let all = info(&[true, true]);
        assert_eq!(status_line(&all), "Cluster status: [{running_nodes,['n1@h','n2@h']}]");
        assert_eq!(
            status_line(&info(&[true, false])),
            "Cluster status: [{running_nodes,['n1@h']},\n                 {stopped_nodes,['n2@h']}]"
        );
        let lists = with_lists(&info(&[true, false]));
        assert_eq!(lists["running_nodes"], json!(["n1@h"]));
        assert_eq!(lists["stopped_nodes"], json!(["n2@h"]));
        let lines = members(&all, false);
        assert_eq!(lines[1], "n1@h  up      yes      leader");
    }
}
