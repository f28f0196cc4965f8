//! Functions of histograms: quantiles, fractions, averages and moments.

mod classic;
mod native;

pub use classic::{
    ClassicBucket, ClassicQuantile, MonotonicRepair, almost_equal, bucket_fraction, bucket_quantile,
};
pub use native::{NanObservations, average, deviation, native_fraction, native_quantile, variance};
