//! API operations: who may do what, as inputs of the node. The web layer only translates.

/// Who calls.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
}

/// What is asked.
#[derive(Debug)]
pub enum Operation {}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {}
