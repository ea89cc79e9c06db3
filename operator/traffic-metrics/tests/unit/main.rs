//! Pushes of proxies in, traffic of objects out: rules, bounds, and replicas.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod bounds;
mod directory;
mod otlp;
mod prometheus;
mod promql;
mod replicas;
mod rules;
mod samples;
mod stored;
mod windows;
