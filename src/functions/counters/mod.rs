//! Functions of counters: `rate`, `increase`, `delta`, `irate`, `idelta`, `resets`,
//! `changes`.

mod columns;
mod extended;
mod extrapolate;
mod histograms;
mod instant;
mod steps;

use super::families::RANGE;
use super::*;

pub use extended::{edged_floats, smoothed_instant};

use extrapolate::extrapolated;

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "rate",
        kernel: extrapolation::<true, true>(),
        doc: "Per-second average rate at which a counter grew over the window. A value below its \
              predecessor is a counter reset and counts from zero. The growth between the first \
              and the last sample is extrapolated to the edges of the window, unless a sample is \
              missing there: then by half the average distance of samples, and never below zero. \
              Native histograms are rated bucket by bucket. Use it for alerts and for graphs of \
              counters that move slowly; apply `rate` before any `sum`, so that a reset of one \
              series cannot hide in the total.",
        example: "rate(http_requests_total{job=\"api\"}[5m])",
        ..RANGE
    },
    FunctionSpec {
        name: "increase",
        kernel: extrapolation::<true, false>(),
        doc: "Growth of a counter over the window, resets included: `rate` times the length of \
              the window. Because it is extrapolated to the whole window, the result need not be \
              a whole number even when the counter only takes whole steps.",
        example: "increase(http_requests_total{job=\"api\"}[1h])",
        ..RANGE
    },
    FunctionSpec {
        name: "delta",
        kernel: extrapolation::<false, false>(),
        doc: "Difference between the last and the first value of a gauge in the window, \
              extrapolated to the whole window. It knows no counter resets: use `increase` for \
              counters. Native histograms must be gauge histograms.",
        example: "delta(cpu_temp_celsius{host=\"zeus\"}[2h])",
        ..RANGE
    },
    FunctionSpec {
        name: "irate",
        kernel: Kernel::Range { kernel: instant::last_two::<true>, check: None, columns: None },
        doc: "Per-second rate of a counter between the last two samples of the window. It follows \
              fast changes closely; for alerts `rate` is better, because a short dip of `irate` \
              resets the `for` of an alert.",
        example: "irate(http_requests_total{job=\"api\"}[5m])",
        ..RANGE
    },
    FunctionSpec {
        name: "idelta",
        kernel: Kernel::Range { kernel: instant::last_two::<false>, check: None, columns: None },
        doc: "Difference between the last two samples of a gauge in the window.",
        example: "idelta(queue_length[5m])",
        ..RANGE
    },
    FunctionSpec {
        name: "resets",
        kernel: events(steps::resets, || Box::new(steps::Events::new(steps::is_reset))),
        doc: "Number of counter resets in the window: decreases between neighbouring samples, \
              resets of native histograms, changes between float and histogram samples, and \
              start timestamps that say the process began anew.",
        example: "resets(process_cpu_seconds_total[1h])",
        ..RANGE
    },
    FunctionSpec {
        name: "changes",
        kernel: events(steps::changes, || Box::new(steps::Events::new(steps::is_change))),
        doc: "How often the value changed within the window. NaN following NaN is no change; a \
              float following a histogram, or the other way round, is one.",
        example: "changes(process_start_time_seconds[1h]) > 3",
        ..RANGE
    },
];

/// The kernels of `rate`, `increase` and `delta`.
const fn extrapolation<const COUNTER: bool, const RATE: bool>() -> Kernel {
    Kernel::Range {
        kernel: extrapolated::<COUNTER, RATE>,
        check: None,
        columns: Some(Columns {
            new: || Box::new(columns::Extrapolation::<COUNTER, RATE>::default()),
            samples_min: 2,
            flags: if COUNTER { Flags::COUNTER_FLOATS } else { Flags(0) },
        }),
    }
}

/// The kernels of `resets` and `changes`.
const fn events(kernel: RangeKernel, new: fn() -> Box<dyn ColumnKernel>) -> Kernel {
    let columns = Some(Columns { new, samples_min: 1, flags: Flags(0) });
    Kernel::Range { kernel, check: None, columns }
}

/// True when start timestamps say that the counter began anew between two samples.
/// Timestamps of 0 are unknown; one at or after its own sample is invalid.
fn start_time_reset(
    previous: (TimestampMs, TimestampMs),
    current: (TimestampMs, TimestampMs),
) -> bool {
    let ((previous_start, previous_ts), (start, ts)) = (previous, current);
    if start == 0 || start >= ts {
        return false;
    }
    let previous_known = previous_start != 0 && previous_start < previous_ts;
    start > previous_ts || (start == previous_ts && previous_known && previous_start != start)
}

/// True when a start timestamp contradicts the sample before it.
fn start_time_overlaps(
    previous: (TimestampMs, TimestampMs),
    current: (TimestampMs, TimestampMs),
) -> bool {
    current.0 != 0 && current.0 < previous.1 && current.0 != previous.0
}
