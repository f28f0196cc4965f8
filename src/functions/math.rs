//! Arithmetic on every sample: rounding, roots, logarithms, clamping.

use super::families::MAP;
use super::*;
use crate::model::value::ValueType::{InstantVector, Scalar};

const fn map(
    name: &'static str,
    kernel: fn(f64) -> f64,
    doc: &'static str,
    example: &'static str,
) -> FunctionSpec {
    FunctionSpec { name, kernel: Kernel::Map(kernel), doc, example, ..MAP }
}

pub(super) static ROWS: &[FunctionSpec] = &[
    map(
        "abs",
        f64::abs,
        "Absolute value of every sample. Histograms are dropped.",
        "abs(delta(temperature_celsius[1h])) > 5",
    ),
    map(
        "ceil",
        f64::ceil,
        "Every value rounded up to a whole number. Histograms are dropped.",
        "ceil(sum(increase(jobs_done_total[1h])))",
    ),
    map(
        "floor",
        f64::floor,
        "Every value rounded down to a whole number. Histograms are dropped.",
        "floor(node_time_seconds / 86400)",
    ),
    map(
        "exp",
        f64::exp,
        "The exponential function of every value: e to its power. Histograms are dropped.",
        "exp(log_odds_ratio)",
    ),
    map(
        "sqrt",
        f64::sqrt,
        "Square root of every value; NaN for negative values. Histograms are dropped.",
        "sqrt(stdvar_over_time(request_latency_seconds[1h]))",
    ),
    map(
        "ln",
        f64::ln,
        "Natural logarithm of every value: -Inf for 0, NaN for negative values. Histograms are \
         dropped.",
        "ln(http_requests_in_flight)",
    ),
    map(
        "log2",
        f64::log2,
        "Binary logarithm of every value: -Inf for 0, NaN for negative values. Histograms are \
         dropped.",
        "log2(process_resident_memory_bytes)",
    ),
    map(
        "log10",
        f64::log10,
        "Decimal logarithm of every value: -Inf for 0, NaN for negative values. Histograms are \
         dropped.",
        "log10(http_requests_total)",
    ),
    map(
        "sgn",
        sign,
        "1 for positive values, -1 for negative ones, and the value itself for zero and NaN. \
         Histograms are dropped.",
        "sgn(deriv(disk_free_bytes[1h]))",
    ),
    FunctionSpec {
        name: "round",
        args: &[InstantVector, Scalar],
        arity: Arity::Optional(1),
        kernel: Kernel::MapWith(round),
        doc: "Every value rounded to the nearest multiple of `to_nearest` (1 when left out); \
              halves round up. The multiple may be a fraction, such as 0.1. Histograms are \
              dropped.",
        example: "round(avg_over_time(temperature_celsius[1h]), 0.5)",
        ..MAP
    },
    FunctionSpec {
        name: "clamp",
        args: &[InstantVector, Scalar, Scalar],
        kernel: Kernel::MapWith(clamp),
        doc: "Every value limited to at least `min` and at most `max`. The result is empty when \
              `min` is greater than `max`, and NaN when a limit is. Histograms are dropped.",
        example: "clamp(cpu_usage_ratio, 0, 1)",
        ..MAP
    },
    FunctionSpec {
        name: "clamp_min",
        args: &[InstantVector, Scalar],
        kernel: Kernel::MapWith(|v, limits| Some(go_max(limit(limits, 0), v))),
        doc: "Every value limited to at least `min`; NaN when the limit is. Histograms are \
              dropped.",
        example: "clamp_min(free_slots, 0)",
        ..MAP
    },
    FunctionSpec {
        name: "clamp_max",
        args: &[InstantVector, Scalar],
        kernel: Kernel::MapWith(|v, limits| Some(go_min(limit(limits, 0), v))),
        doc: "Every value limited to at most `max`; NaN when the limit is. Histograms are dropped.",
        example: "clamp_max(cpu_usage_ratio, 1)",
        ..MAP
    },
];

/// Functions of scalars only.
pub(super) static SCALARS: &[FunctionSpec] = &[
    FunctionSpec {
        kernel: Kernel::Scalar(|_| std::f64::consts::PI),
        doc: "The number pi.",
        example: "2 * pi() * wheel_radius_meters",
        ..scalar("pi", &[])
    },
    FunctionSpec {
        stability: Stability::Experimental,
        kernel: Kernel::Scalar(|v| go_max(limit(v, 0), limit(v, 1))),
        doc: "The larger of two scalars; NaN when one of them is.",
        example: "rate(http_requests_total[5m]) > max_of(10, scalar(request_rate_limit))",
        ..scalar("max_of", &[Scalar, Scalar])
    },
    FunctionSpec {
        stability: Stability::Experimental,
        kernel: Kernel::Scalar(|v| go_min(limit(v, 0), limit(v, 1))),
        doc: "The smaller of two scalars; NaN when one of them is.",
        example: "queue_length > min_of(100, scalar(queue_capacity))",
        ..scalar("min_of", &[Scalar, Scalar])
    },
];

const fn scalar(name: &'static str, args: &'static [ValueType]) -> FunctionSpec {
    FunctionSpec { name, args, returns: Scalar, labels: LabelEffect::Own, ..MAP }
}

fn sign(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// A scalar argument; the signature guarantees that it is there.
fn limit(scalars: &[f64], i: usize) -> f64 {
    scalars.get(i).copied().unwrap_or(f64::NAN)
}

/// Multiplying with the inverse is what Prometheus does, and shows in the last digits.
fn round(v: f64, scalars: &[f64]) -> Option<f64> {
    let inverse = 1.0 / scalars.first().copied().unwrap_or(1.0);
    Some((v * inverse + 0.5).floor() / inverse)
}

fn clamp(v: f64, limits: &[f64]) -> Option<f64> {
    let (min, max) = (limit(limits, 0), limit(limits, 1));
    if max < min {
        return None;
    }
    Some(go_max(min, go_min(max, v)))
}

/// Go's `math.Max`: an infinity wins over NaN, NaN over any number, 0 over -0.
fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: the mirror image of `go_max`.
fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_up_and_limits_win_in_order() {
        for (v, to, expected) in [
            (2.5, None, 3.0),
            (-2.5, None, -2.0),
            (2.25, Some(0.5), 2.5),
            (17.0, Some(5.0), 15.0),
            (0.049, Some(0.1), 0.0),
        ] {
            assert_eq!(round(v, to.as_slice()), Some(expected), "{v} to {to:?}");
        }
        assert_eq!(clamp(5.0, &[0.0, 3.0]), Some(3.0));
        assert_eq!(clamp(5.0, &[3.0, 0.0]), None);
        assert!(clamp(5.0, &[f64::NAN, 9.0]).is_some_and(f64::is_nan));
        assert!(go_max(f64::NAN, 1.0).is_nan() && go_min(1.0, f64::NAN).is_nan());
        assert_eq!(go_max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert!(go_max(-0.0, 0.0).is_sign_positive() && go_min(0.0, -0.0).is_sign_negative());
        assert!(sign(-0.0).is_sign_negative() && sign(f64::NAN).is_nan());
    }
}
