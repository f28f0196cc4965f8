//! The nouns every other room speaks in: label sets, matchers, time, samples,
//! histograms and annotations. Nothing here does I/O, is async, or knows a wire
//! format; everything is cheap to clone and safe to share between threads.

pub mod annotation;
pub mod clock;
pub mod duration;
pub(crate) mod effort;
pub mod exemplar;
pub mod float;
pub mod histogram;
pub mod labels;
pub mod lines;
pub mod matcher;
pub mod metadata;
pub mod regex;
pub mod size;
pub(crate) mod sorted;
pub mod sums;
pub mod time;
pub mod value;

pub use annotation::{Annotation, Annotations};
pub use clock::Clock;
pub use histogram::FloatHistogram;
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use time::{StepGrid, TimestampMs};
pub use value::{Sample, Value};

/// The reserved label that carries a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// Label carrying a metric's type when `type-and-unit-labels` is on.
pub const METRIC_TYPE: &str = "__type__";
/// Label carrying a metric's unit when `type-and-unit-labels` is on.
pub const METRIC_UNIT: &str = "__unit__";

/// True for the labels that describe the metric rather than the series
/// (`__name__`, `__type__`, `__unit__`): operations that drop the metric name drop all three.
pub fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | METRIC_TYPE | METRIC_UNIT)
}
