//! The program's own metrics and logs, and the real clock. Any room may count through it.
//!
//! Each room that counts has a `metrics.rs`: a struct of `prometheus_client` metrics made
//! by `fn new(registry: &mut Registry) -> Self`. Names are Prometheus' own wherever it has
//! the metric. Counters are registered without `_total`: the encoder appends it.

pub mod clock;

pub use prometheus_client::registry::Registry;
