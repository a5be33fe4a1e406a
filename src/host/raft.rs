//! The replicated log on this node's storage.
