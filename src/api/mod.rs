//! The HTTP side: Prometheus' API, federation, self-metrics, lifecycle and the web page.

pub mod v1;
