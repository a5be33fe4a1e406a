//! Placeholder while the house is being raised.
