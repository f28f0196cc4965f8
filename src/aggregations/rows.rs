//! The rows themselves.

use super::*;

fn pending(_: u32, _: u32, _: &[f64]) -> Box<dyn Accumulator> {
    unimplemented!()
}

pub(super) static ALL: &[AggregatorSpec] = &[
    AggregatorSpec {
        name: "sum",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "avg",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "count",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "min",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "max",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "group",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "stddev",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "stdvar",
        param: None,
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "topk",
        param: Some(ValueType::Scalar),
        stability: Stability::Stable,
        kernel: AggregatorKernel::Select(Selection::TopK),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "bottomk",
        param: Some(ValueType::Scalar),
        stability: Stability::Stable,
        kernel: AggregatorKernel::Select(Selection::BottomK),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "count_values",
        param: Some(ValueType::String),
        stability: Stability::Stable,
        kernel: AggregatorKernel::CountValues,
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "quantile",
        param: Some(ValueType::Scalar),
        stability: Stability::Stable,
        kernel: AggregatorKernel::Fold(pending),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "limitk",
        param: Some(ValueType::Scalar),
        stability: Stability::Experimental,
        kernel: AggregatorKernel::Select(Selection::LimitK),
        doc: "",
        example: "",
    },
    AggregatorSpec {
        name: "limit_ratio",
        param: Some(ValueType::Scalar),
        stability: Stability::Experimental,
        kernel: AggregatorKernel::Select(Selection::LimitRatio),
        doc: "",
        example: "",
    },
];
