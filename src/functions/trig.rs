//! Trigonometric and hyperbolic functions; angles in radians.

use std::f64::consts::PI;

use super::families::MAP;
use super::*;

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
        "sin",
        f64::sin,
        "Sine of every value, taken as radians. Histograms are dropped.",
        "sin(rotor_angle_radians)",
    ),
    map(
        "cos",
        f64::cos,
        "Cosine of every value, taken as radians. Histograms are dropped.",
        "cos(rotor_angle_radians)",
    ),
    map(
        "tan",
        f64::tan,
        "Tangent of every value, taken as radians. Histograms are dropped.",
        "tan(slope_angle_radians)",
    ),
    map(
        "asin",
        f64::asin,
        "Arc sine of every value, in radians; NaN outside -1 to 1. Histograms are dropped.",
        "asin(wave_amplitude_ratio)",
    ),
    map(
        "acos",
        f64::acos,
        "Arc cosine of every value, in radians; NaN outside -1 to 1. Histograms are dropped.",
        "acos(power_factor)",
    ),
    map(
        "atan",
        f64::atan,
        "Arc tangent of every value, in radians. For the angle of two coordinates use the \
         operator `atan2`. Histograms are dropped.",
        "atan(slope_ratio)",
    ),
    map(
        "sinh",
        f64::sinh,
        "Hyperbolic sine of every value. Histograms are dropped.",
        "sinh(scaled_signal)",
    ),
    map(
        "cosh",
        f64::cosh,
        "Hyperbolic cosine of every value. Histograms are dropped.",
        "cosh(scaled_signal)",
    ),
    map(
        "tanh",
        f64::tanh,
        "Hyperbolic tangent of every value: squeezes any range into -1 to 1. Histograms are \
         dropped.",
        "tanh(anomaly_score)",
    ),
    map(
        "asinh",
        f64::asinh,
        "Inverse hyperbolic sine of every value: like a logarithm, but defined for negative \
         values too. Histograms are dropped.",
        "asinh(balance_delta)",
    ),
    map(
        "acosh",
        f64::acosh,
        "Inverse hyperbolic cosine of every value; NaN below 1. Histograms are dropped.",
        "acosh(gain_ratio)",
    ),
    map(
        "atanh",
        f64::atanh,
        "Inverse hyperbolic tangent of every value; NaN outside -1 to 1. Histograms are dropped.",
        "atanh(correlation_ratio)",
    ),
    map(
        "deg",
        |v| v * 180.0 / PI,
        "Every value converted from radians to degrees. Histograms are dropped.",
        "deg(rotor_angle_radians)",
    ),
    map(
        "rad",
        |v| v * PI / 180.0,
        "Every value converted from degrees to radians. Histograms are dropped.",
        "sin(rad(wind_direction_degrees))",
    ),
];
