//! Every family of rows, and the signatures their rows start from.

use super::*;
use crate::model::value::ValueType::{InstantVector, RangeVector};

/// Every family, in the order of the reference page.
pub(super) static FAMILIES: &[&[FunctionSpec]] = &[
    math::ROWS,
    math::SCALARS,
    trig::ROWS,
    calendar::ROWS,
    counters::ROWS,
    over_time::ROWS,
    regression::ROWS,
    histogram::ROWS,
    labels::ROWS,
    convert::ROWS,
];

/// `f(range vector)`; the kernel decides about histograms.
pub(super) const RANGE: FunctionSpec = FunctionSpec {
    name: "",
    args: &[RangeVector],
    arity: Arity::Exact,
    returns: InstantVector,
    labels: LabelEffect::DropMetadata,
    histograms: HistogramPolicy::Kernel,
    stability: Stability::Stable,
    kernel: Kernel::Map(f64::abs),
    doc: "",
    example: "",
};

/// `f(instant vector)` over floats; histograms are dropped.
pub(super) const MAP: FunctionSpec =
    FunctionSpec { args: &[InstantVector], histograms: HistogramPolicy::Drop, ..RANGE };
