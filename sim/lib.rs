//! The simulator: whole nodes on a simulated machine room, every failure replayed from a seed.
//!
//! * [`runtime`] is openraft's `AsyncRuntime` on madsim's executor, with channels of our own;
//! * [`net`], [`disk`] and [`clocks`] are the machine room: what a node sees of the world;
//! * [`dice`] gives each of them a random stream of its own out of the run's one seed;
//! * `scenario`, a crate of its own, is the story as a file; [`plan`] what a seed makes of it,
//!   [`partition`] who no longer hears whom;
//! * [`oracle`] is what happened, [`invariants`] what must hold, [`marks`] what must be passed;
//! * [`history`] judges what clients of the API were told: one order must explain all of it;
//! * [`world`] is one run of a story: nodes, gateways, devices, clients, an operator, faults;
//! * [`picture`] is a run as a page to look at;
//! * [`cli`] is `cargo sim`: one seed, many seeds, a run twice, planted bugs.
//!
//! Run it with `cargo sim scenarios/first_light.toml --seed 7`.

#[cfg(not(madsim))]
compile_error!(
    "the simulator was built without `--cfg madsim` and would run in real time. \
     Use `cargo sim <scenario>`; if you did, an exported RUSTFLAGS (or CARGO_ENCODED_RUSTFLAGS) \
     overrides the alias of .cargo/config.toml: unset it and try again"
);

#[cfg(madsim)]
pub mod cli;
#[cfg(madsim)]
pub mod clocks;
#[cfg(madsim)]
pub mod dice;
#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
pub mod history;
#[cfg(madsim)]
pub mod invariants;
#[cfg(madsim)]
pub mod marks;
#[cfg(madsim)]
pub mod net;
#[cfg(madsim)]
pub mod oracle;
#[cfg(madsim)]
pub mod outside;
#[cfg(all(madsim, test))]
mod pace;
#[cfg(madsim)]
pub mod partition;
#[cfg(madsim)]
pub mod picture;
#[cfg(madsim)]
pub mod plan;
#[cfg(madsim)]
#[cfg(test)]
mod planted;
#[cfg(madsim)]
pub mod runtime;
#[cfg(madsim)]
pub mod trace;
#[cfg(madsim)]
pub mod world;
