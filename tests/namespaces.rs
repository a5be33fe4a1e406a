//! A network for one test: a namespace for each host, and a further one with the bridge between
//! them, where the test itself lives. Needs root and `ip`.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What all namespaces of these tests begin with; the process id follows.
const PREFIX: &str = "tern-test-";

/// The network; its namespaces go when it is dropped.
#[derive(Debug)]
pub struct Network {
    hosts: u8,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|e| format!("ip: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = || format!("ip {}: {}", arguments.join(" "), said.trim());
    if output.status.success() { Ok(()) } else { Err(line()) }
}

fn run(arguments: &[&str]) {
    ip(arguments).unwrap_or_else(|why| panic!("{why}"));
}

/// The namespace of a host; 0: the one between them.
fn name(host: u8) -> String {
    format!("{PREFIX}{}-{host}", std::process::id())
}

/// Namespaces whose test was killed.
fn sweep() {
    let Ok(all) = std::fs::read_dir("/run/netns") else { return };
    for one in all.flatten().filter_map(|one| one.file_name().into_string().ok()) {
        let pid = one.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let gone = |pid: &str| !std::path::Path::new("/proc").join(pid).exists();
        if pid.is_some_and(gone) {
            let _ = ip(&["netns", "del", &one]);
        }
    }
}

impl Network {
    /// Hosts 1 to `hosts`, each with its link to the bridge. At a time one network a process.
    ///
    /// * Errors: why there can be no namespaces here.
    pub fn build(hosts: u8) -> Result<Self, String> {
        sweep();
        let hub = name(0);
        ip(&["netns", "add", &hub])?;
        let network = Self { hosts };
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        // First of its addresses, so that whatever begins here comes from it: a host that reaches
        // one of the fronts no more still answers.
        ip(&["-n", &hub, "address", "add", &format!("{}/24", Self::hub()), "dev", "bridge"])?;
        for host in 1..=hosts {
            let (space, port) = (name(host), format!("port{host}"));
            ip(&["netns", "add", &space])?;
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0"];
            ip(&[&["-n", &hub], &pair[..], &["netns", &space]].concat())?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            let address = format!("{}/24", Self::host(host));
            ip(&["-n", &space, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            // Where others find this host: whoever holds the bridge holds the wire.
            let front = format!("{}/24", Self::front(host));
            ip(&["-n", &hub, "address", "add", &front, "dev", "bridge"])?;
        }
        Ok(network)
    }

    /// A host's own address.
    pub fn host(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, host)
    }

    /// An address of the bridge for what stands before a host.
    pub fn front(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 100 + host)
    }

    /// The bridge's own address.
    pub fn hub() -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 254)
    }

    /// Moves this thread, and what it starts from now on, to the bridge.
    pub fn enter(&self) {
        let space = File::open(format!("/run/netns/{}", name(0))).expect("it was made");
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("whoever made it may enter it");
    }

    /// A script that runs a program at a host, with the arguments it gets.
    pub fn script(&self, host: u8, program: &str) -> String {
        format!("#!/bin/sh\nexec ip netns exec {} '{program}' \"$@\"\n", name(host))
    }

    /// Takes a host's cable out, or puts it in again.
    pub fn cable(&self, host: u8, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        run(&["-n", &name(host), "link", "set", "eth0", state]);
    }

    /// What a host sends to an address disappears, or does so no more.
    pub fn blackhole(&self, host: u8, to: Ipv4Addr, on: bool) {
        let verb = if on { "add" } else { "del" };
        run(&["-n", &name(host), "route", verb, "blackhole", &format!("{to}/32")]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..=self.hosts {
            let _ = ip(&["netns", "del", &name(host)]);
        }
    }
}
