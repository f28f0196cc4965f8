//! What a target says about a metric beside its samples: type, unit and help text.

use std::sync::Arc;

/// The metric types of the exposition formats, as `/api/v1/metadata` names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

impl MetricType {
    /// The lower-case name used by the exposition formats and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

/// The types by the number Prometheus gives them on the wire and in its log.
const BY_CODE: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

impl MetricType {
    /// The type of that number, as remote write and the write-ahead log count them; a
    /// number nobody knows is `Unknown`.
    pub fn from_code(code: u64) -> Self {
        let index = usize::try_from(code).unwrap_or(usize::MAX);
        BY_CODE.get(index).copied().unwrap_or_default()
    }

    /// The number of this type.
    pub fn code(self) -> u8 {
        BY_CODE.iter().position(|kind| *kind == self).unwrap_or(0) as u8
    }
}

impl MetricType {
    /// The family that a series of this name belongs to: histograms and summaries have
    /// several series each.
    pub fn family(self, name: &str) -> &str {
        let endings: &[&str] = match self {
            Self::Histogram | Self::GaugeHistogram => &["_bucket", "_count", "_sum"],
            Self::Summary => &["_count", "_sum"],
            _ => &[],
        };
        endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
    }
}

/// Metadata of one metric family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Metadata {
    pub kind: MetricType,
    pub unit: Arc<str>,
    pub help: Arc<str>,
}
