//! Criterion benches: `frames` (parse, MIC, decrypt) and `ingest` (the whole node without its disk,
//! apply included). `make bench` runs them; compare ratios, not seconds.
