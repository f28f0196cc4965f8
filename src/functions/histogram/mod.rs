//! Functions of histograms: quantiles, fractions, averages and moments.

mod classic;
mod native;

use super::families::MAP;
use super::*;
use crate::model::value::ValueType::{InstantVector, Scalar, String};

pub use classic::{
    ClassicBucket, ClassicQuantile, MonotonicRepair, almost_equal, bucket_fraction, bucket_quantile,
};
pub use native::{NanObservations, average, deviation, native_fraction, native_quantile, variance};

const fn from_native(
    name: &'static str,
    kernel: fn(&FloatHistogram) -> f64,
    doc: &'static str,
    example: &'static str,
) -> FunctionSpec {
    FunctionSpec {
        name,
        labels: LabelEffect::DropName,
        histograms: HistogramPolicy::Only,
        kernel: Kernel::FromHistogram(kernel),
        doc,
        example,
        ..MAP
    }
}

const BOTH_KINDS: FunctionSpec = FunctionSpec { histograms: HistogramPolicy::Kernel, ..MAP };

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "histogram_quantile",
        args: &[Scalar, InstantVector],
        kernel: Kernel::Operator(Operator::HistogramQuantile),
        doc: "Estimates the given quantile (0 to 1) of a histogram. Native histograms are single \
              samples; classic ones are grouped from their `_bucket` series by all labels but \
              `le`. Observations are taken to be spread evenly within a bucket, on a logarithmic \
              scale in exponential buckets. A quantile in the highest classic bucket is its lower \
              bound. Aggregate rates with `le` kept: `sum by (le) (rate(...))`.",
        example: "histogram_quantile(0.95, sum by (job, le) \
                  (rate(http_request_duration_seconds_bucket[5m])))",
        ..BOTH_KINDS
    },
    FunctionSpec {
        name: "histogram_quantiles",
        args: &[InstantVector, String, Scalar],
        arity: Arity::Variadic { min: 3, max: Some(12) },
        stability: Stability::Experimental,
        kernel: Kernel::Operator(Operator::HistogramQuantiles),
        doc: "Up to ten quantiles of each histogram at once: `histogram_quantiles(v, label, q1, \
              q2, ...)` gives one series per quantile, which the label names (`0.5`, `0.99`).",
        example: "histogram_quantiles(rate(http_request_duration_seconds[5m]), \"quantile\", \
                  0.5, 0.9, 0.99)",
        ..BOTH_KINDS
    },
    FunctionSpec {
        name: "histogram_fraction",
        args: &[Scalar, Scalar, InstantVector],
        kernel: Kernel::Operator(Operator::HistogramFraction),
        doc: "Estimates which share of a histogram's observations lies between two values: 0.2 s \
              and less, say, as a service level. Classic and native histograms are treated as in \
              `histogram_quantile`. 0 when the lower value is not below the upper one.",
        example: "histogram_fraction(0, 0.2, rate(http_request_duration_seconds[1h]))",
        ..BOTH_KINDS
    },
    from_native(
        "histogram_count",
        |h| h.count,
        "Number of observations in each native histogram. Floats are dropped.",
        "histogram_count(rate(http_request_duration_seconds[5m]))",
    ),
    from_native(
        "histogram_sum",
        |h| h.sum,
        "Sum of the observations in each native histogram. Floats are dropped.",
        "histogram_sum(rate(http_request_duration_seconds[5m]))",
    ),
    from_native(
        "histogram_avg",
        average,
        "Mean of the observations in each native histogram, sum over count: NaN when it is empty. \
         Floats are dropped.",
        "histogram_avg(rate(http_request_duration_seconds[5m]))",
    ),
    from_native(
        "histogram_stddev",
        deviation,
        "Estimated standard deviation of the observations in each native histogram, every \
         observation taken at the middle of its bucket (geometric in exponential buckets). Floats \
         are dropped.",
        "histogram_stddev(rate(http_request_duration_seconds[5m]))",
    ),
    from_native(
        "histogram_stdvar",
        variance,
        "Estimated variance of the observations in each native histogram, every observation taken \
         at the middle of its bucket (geometric in exponential buckets). Floats are dropped.",
        "histogram_stdvar(rate(http_request_duration_seconds[5m]))",
    ),
];
