//! Aggregations over time: what a series did within the window.

mod columns;
mod extremes;
mod quantiles;
mod sums;

use super::families::RANGE;
use super::*;
use crate::model::Sample::Float;
use crate::model::value::ValueType::{RangeVector, Scalar};

pub(crate) use quantiles::quantile_of;

/// A row of this family: name, kernel, doc, example.
const fn row(
    name: &'static str,
    kernel: RangeKernel,
    doc: &'static str,
    example: &'static str,
) -> FunctionSpec {
    let kernel = Kernel::Range { kernel, check: None, columns: None };
    FunctionSpec { name, kernel, doc, example, ..RANGE }
}

/// The same with a column kernel.
const fn fast(spec: FunctionSpec, columns: Option<Columns>) -> FunctionSpec {
    let Kernel::Range { kernel, check, .. } = spec.kernel else { return spec };
    FunctionSpec { kernel: Kernel::Range { kernel, check, columns }, ..spec }
}

const fn experimental(spec: FunctionSpec) -> FunctionSpec {
    FunctionSpec { stability: Stability::Experimental, ..spec }
}

pub(super) static ROWS: &[FunctionSpec] = &[
    fast(
        row(
            "sum_over_time",
            sums::sum,
            "Sum of the values in the window, with compensated summation. Native histograms are added \
         bucket by bucket; a window with floats and histograms gives nothing and a warning.",
            "sum_over_time(batch_items_processed[1d])",
        ),
        columns::columns::<columns::Sum<false>>(),
    ),
    fast(
        row(
            "avg_over_time",
            sums::avg,
            "Mean of the values in the window, every sample weighing the same. Where the sum would \
         overflow, a running mean is used. Native histograms are averaged bucket by bucket; a \
         window with floats and histograms gives nothing and a warning.",
            "avg_over_time(node_load1[10m])",
        ),
        columns::columns::<columns::Sum<true>>(),
    ),
    fast(
        row(
            "min_over_time",
            extremes::value::<false>,
            "Smallest value in the window; NaN only when every value is NaN. Histograms are ignored.",
            "min_over_time(up[5m])",
        ),
        columns::columns::<columns::Extreme<false>>(),
    ),
    fast(
        row(
            "max_over_time",
            extremes::value::<true>,
            "Largest value in the window; NaN only when every value is NaN. Histograms are ignored.",
            "max_over_time(queue_length[30m])",
        ),
        columns::columns::<columns::Extreme<true>>(),
    ),
    fast(
        row(
            "count_over_time",
            count,
            "Number of samples in the window, floats and histograms alike. Divided by the expected \
         number it shows how many scrapes were missed.",
            "count_over_time(up[1h])",
        ),
        columns::columns::<columns::Count>(),
    ),
    fast(
        row(
            "present_over_time",
            present,
            "1 for every series with a sample in the window.",
            "present_over_time(http_requests_total[10m])",
        ),
        columns::columns::<columns::Present>(),
    ),
    row(
        "stddev_over_time",
        sums::variance::<true>,
        "Population standard deviation of the values in the window. Histograms are ignored.",
        "stddev_over_time(request_latency_seconds[1h])",
    ),
    row(
        "stdvar_over_time",
        sums::variance::<false>,
        "Population variance of the values in the window. Histograms are ignored.",
        "stdvar_over_time(request_latency_seconds[1h])",
    ),
    FunctionSpec {
        labels: LabelEffect::Keep,
        ..row(
            "first_over_time",
            extremes::first,
            "The oldest sample in the window, float or histogram. The metric name is kept.",
            "first_over_time(disk_free_bytes[1h])",
        )
    },
    FunctionSpec {
        labels: LabelEffect::Keep,
        ..fast(
            row(
                "last_over_time",
                extremes::last,
                "The newest sample in the window, float or histogram, however old it is within it. \
             The metric name is kept. It bridges gaps longer than the lookback.",
                "last_over_time(backup_last_success_timestamp_seconds[1d])",
            ),
            columns::columns::<columns::Last>(),
        )
    },
    FunctionSpec {
        args: &[Scalar, RangeVector],
        ..row(
            "quantile_over_time",
            quantiles::quantile,
            "The given quantile (0 to 1) of the values in the window, interpolated linearly \
             between neighbours. Below 0 it is -Inf, above 1 +Inf, each with a warning. \
             Histograms are ignored.",
            "quantile_over_time(0.95, request_latency_seconds[1h])",
        )
    },
    experimental(row(
        "ts_of_min_over_time",
        extremes::time::<false>,
        "Time, in seconds since the epoch, of the newest sample that has the smallest value of \
         the window. Histograms are ignored.",
        "ts_of_min_over_time(temperature_celsius[1d])",
    )),
    experimental(row(
        "ts_of_max_over_time",
        extremes::time::<true>,
        "Time, in seconds since the epoch, of the newest sample that has the largest value of \
         the window. Histograms are ignored.",
        "ts_of_max_over_time(temperature_celsius[1d])",
    )),
    experimental(row(
        "ts_of_first_over_time",
        extremes::first_time,
        "Time, in seconds since the epoch, of the oldest sample in the window.",
        "ts_of_first_over_time(up[1d])",
    )),
    experimental(row(
        "ts_of_last_over_time",
        extremes::last_time,
        "Time, in seconds since the epoch, of the newest sample in the window.",
        "time() - ts_of_last_over_time(up[1d])",
    )),
    experimental(row(
        "mad_over_time",
        quantiles::median_absolute_deviation,
        "Median absolute deviation of the values in the window: the median of their distances \
         from the median. Unlike the standard deviation it is not moved by a few outliers. \
         NaN when a value is NaN. Histograms are ignored.",
        "mad_over_time(request_latency_seconds[1h])",
    )),
];

fn count(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    let count = w.ts.len() + w.hist.len();
    (count > 0).then_some(Float(count as f64))
}

fn present(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    (!w.ts.is_empty() || !w.hist.is_empty()).then_some(Float(1.0))
}

/// The floats of a window for a function that ignores histograms: `None` without floats,
/// a flag when histograms lie beside them.
fn floats<'a>(w: &Window<'a>, flags: &mut Flags) -> Option<&'a [f64]> {
    if w.vs.is_empty() {
        return None;
    }
    if !w.hist.is_empty() {
        flags.raise(Flags::HISTOGRAMS_IGNORED);
    }
    Some(w.vs)
}
