//! Between scalars, vectors and nothing.

use super::families::MAP;
use super::*;
use crate::model::value::ValueType::{InstantVector, RangeVector, Scalar};

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "scalar",
        args: &[InstantVector],
        returns: Scalar,
        labels: LabelEffect::Own,
        kernel: Kernel::Operator(Operator::Scalar),
        doc: "The value of the only float sample of the vector as a scalar; NaN when there is \
              none, or more than one. Histograms do not count.",
        example: "queue_length > scalar(queue_limit{queue=\"default\"})",
        ..MAP
    },
    FunctionSpec {
        name: "vector",
        args: &[Scalar],
        labels: LabelEffect::Own,
        kernel: Kernel::Operator(Operator::Vector),
        doc: "The scalar as a vector of one sample without labels. Together with `or` it gives an \
              expression a value where it would be empty.",
        example: "sum(rate(http_requests_total{code=\"500\"}[5m])) or vector(0)",
        ..MAP
    },
    FunctionSpec {
        name: "absent",
        labels: LabelEffect::Own,
        histograms: HistogramPolicy::Accept,
        kernel: Kernel::Operator(Operator::Absent),
        doc: "Empty while the vector has a sample, else one sample of value 1. For a plain \
              selector its labels are those the selector demands by equality, so that an alert on \
              missing series says what is missing.",
        example: "absent(up{job=\"api\"})",
        ..MAP
    },
    FunctionSpec {
        name: "absent_over_time",
        args: &[RangeVector],
        labels: LabelEffect::Own,
        histograms: HistogramPolicy::Accept,
        kernel: Kernel::Operator(Operator::AbsentOverTime),
        doc: "Empty while any series has a sample in the window, else one sample of value 1, with \
              the labels that the selector demands by equality.",
        example: "absent_over_time(up{job=\"api\"}[1h])",
        ..MAP
    },
];
