//! Exemplars: single observations behind a sample, with labels such as a trace's identity.

use thiserror::Error;

use super::{Labels, TimestampMs};

/// Characters that the names and values of an exemplar's labels have together at most;
/// OpenMetrics says so.
pub const EXEMPLAR_LABEL_CHARS_MAX: usize = 128;

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Without empty values.
    pub labels: Labels,
    pub value: f64,
    pub ts: TimestampMs,
    /// Whether the time is its own; else it is that of the scrape, and the same exemplar
    /// seen again is none that is new.
    pub has_ts: bool,
}

impl Exemplar {
    /// True when this is the one seen before.
    pub fn is_same(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.value.to_bits() == other.value.to_bits()
            && (self.ts == other.ts || !self.has_ts && !other.has_ts)
    }

    /// Refuses labels that are too long.
    pub fn check(&self) -> Result<(), ExemplarError> {
        let chars: usize =
            self.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if chars > EXEMPLAR_LABEL_CHARS_MAX { Err(ExemplarError::LabelLength) } else { Ok(()) }
    }
}

/// Why an exemplar is not kept. Texts are those of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExemplarError {
    #[error("out of order exemplar")]
    OutOfOrder,
    #[error(
        "label length for exemplar exceeds maximum of {EXEMPLAR_LABEL_CHARS_MAX} UTF-8 characters"
    )]
    LabelLength,
    #[error("unknown series of an exemplar")]
    UnknownSeries,
}
