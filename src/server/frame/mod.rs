//! Frames for people: `tern frame decode` explains one, `tern frame check` holds the codec against
//! a file of frames whose meaning others have worked out. Pure functions; the command line prints.

mod check;
mod decode;
mod explain;
mod keys;
mod mac_json;
mod measure;

#[cfg(test)]
mod decode_tests;

pub use check::{CheckError, Difference, Report, check_file, check_line};
pub use decode::{DecodeContext, decode};
pub use explain::{Row, render};
pub use keys::{FrameKeys, ParseKeysError};
