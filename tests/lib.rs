//! What the integration tests share: a `tern` process on ports of its own, its command line, and
//! waiting with a bound.

pub mod audit;
pub mod balancer;
pub mod fleet;
pub mod foreign;
pub mod insider;
pub mod loopback;
pub mod namespaces;
pub mod process;
pub mod relay;
pub mod site;
pub mod subscriber;
pub mod traffic;

pub use process::{Tern, eventually};
