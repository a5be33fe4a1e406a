//! What the integration tests share: a `tern` process on ports of its own, its command line, and
//! waiting with a bound.

pub mod foreign;
pub mod loopback;
pub mod process;
pub mod site;
pub mod subscriber;
pub mod traffic;

pub use process::{Tern, eventually};
