//! The program's own metrics and logs, and the real clock. Any room may count through it.
//!
//! Each room that counts has a `metrics.rs`: a struct of `prometheus_client` metrics made
//! by `fn new(registry: &mut Registry) -> Self`. Names are Prometheus' own wherever it has
//! the metric. Counters are registered without `_total`: the encoder appends it.

pub mod build;
pub mod clock;
pub mod exposition;
pub mod logging;
pub mod process;
pub mod reload;
pub mod summary;

pub use prometheus_client::registry::Registry;
pub use reload::ReloadMetrics;
pub use summary::Summary;

/// A registry that holds the metrics of the process and its build, and is open for more.
pub fn new_registry() -> Registry {
    let mut registry = Registry::default();
    process::register(&mut registry);
    build::register(&mut registry);
    registry
}
