//! What the API shows of scraping.

use crate::model::metadata::Metadata;
use crate::model::{Labels, TimestampMs};

/// Health of a target: the result of its last scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHealth {
    Up,
    Down,
    Unknown,
}

impl TargetHealth {
    /// `up`, `down` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// One active target.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// Labels before relabelling, `__address__` and friends included.
    pub discovered_labels: Labels,
    /// Labels its series get.
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    /// `scrape_url` with a loopback host replaced by this host's name.
    pub global_url: String,
    /// "" when the last scrape went well.
    pub last_error: String,
    /// Time of the last scrape; `None` before the first.
    pub last_scrape_ms: Option<TimestampMs>,
    pub last_scrape_duration_seconds: f64,
    pub health: TargetHealth,
    pub scrape_interval_ms: i64,
    pub scrape_timeout_ms: i64,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTargetView {
    pub discovered_labels: Labels,
    pub scrape_pool: String,
}

/// Metadata of one metric family at one target.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    pub target: Labels,
    pub family: String,
    pub metadata: Metadata,
}

/// Read access to the scrape manager.
pub trait ScrapeView: Send + Sync {
    /// Active targets, by pool and then by URL.
    fn active_targets(&self) -> Vec<TargetView>;
    /// Dropped targets that are still remembered (`keep_dropped_targets`).
    fn dropped_targets(&self) -> Vec<DroppedTargetView>;
    /// All dropped targets, counted per pool.
    fn dropped_target_counts(&self) -> Vec<(String, usize)>;
    /// What the targets' last scrapes said about their metrics.
    fn metadata(&self) -> Vec<TargetMetadata>;
}
