//! Delivery of alerts to Alertmanagers: a queue for each, so that a dead one delays
//! neither the others nor evaluation.

//!
//! Nothing here decides when an alert is sent again: rules hand over what is due, and a
//! batch that an Alertmanager refuses is dropped and counted, as in Prometheus.

pub mod config;
mod manager;
mod metrics;
mod payload;
mod receipt;
mod send_loop;

use std::sync::Arc;

use crate::model::{Labels, TimestampMs};

pub use config::{AlertingConfig, AlertmanagerConfig};
pub use manager::{Manager, NotifierError, NotifierOptions};
pub use receipt::Receipt;

/// An alert as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingAlert {
    pub labels: Labels,
    /// Annotation names and expanded values; names may be any text.
    pub annotations: Labels,
    pub starts_at_ms: TimestampMs,
    /// When it ended, or until when it is valid if no newer notification arrives.
    pub ends_at_ms: TimestampMs,
    pub generator_url: Arc<str>,
    /// Tells who sent it that it arrived.
    pub receipt: Receipt,
}

/// Where rules put alerts. Never blocks and never fails: queues have limits, and what
/// overflows is counted.
pub trait Notifier: Send + Sync {
    /// Hands over alerts; external labels and relabelling are the notifier's business.
    fn send(&self, alerts: Vec<OutgoingAlert>);

    /// Whether anybody is known that takes alerts. As long as nobody is, at a start above
    /// all, what is due stays due instead of being sent to nobody.
    fn has_receivers(&self) -> bool {
        true
    }
}

/// Read access for `/api/v1/alertmanagers`.
pub trait NotifierView: Send + Sync {
    /// URLs alerts are sent to.
    fn active_alertmanagers(&self) -> Vec<String>;
    /// URLs that relabelling dropped.
    fn dropped_alertmanagers(&self) -> Vec<String>;
}
