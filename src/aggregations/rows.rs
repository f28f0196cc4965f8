//! The rows themselves.

use super::*;

use super::simple::{Count, Extreme};
use super::spread::{Quantile, Variance};
use super::sum::Sum;

const STABLE: AggregatorSpec = AggregatorSpec {
    name: "",
    param: None,
    stability: Stability::Stable,
    kernel: AggregatorKernel::CountValues,
    doc: "",
    example: "",
};

pub(super) static ALL: &[AggregatorSpec] = &[
    AggregatorSpec {
        name: "sum",
        kernel: AggregatorKernel::Fold(Sum::<false>::start),
        doc: "Sum of the values in each group, with compensated summation. Native histograms are \
              added bucket by bucket; a group with floats and histograms gives nothing and a \
              warning.",
        example: "sum by (job) (rate(http_requests_total[5m]))",
        ..STABLE
    },
    AggregatorSpec {
        name: "avg",
        kernel: AggregatorKernel::Fold(Sum::<true>::start),
        doc: "Mean of the values in each group; a running mean where the sum would overflow. \
              Native histograms are averaged bucket by bucket; a group with floats and \
              histograms gives nothing and a warning.",
        example: "avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))",
        ..STABLE
    },
    AggregatorSpec {
        name: "count",
        kernel: AggregatorKernel::Fold(Count::<false>::start),
        doc: "Number of series in each group, whatever their value, floats and histograms alike.",
        example: "count by (job) (up == 0)",
        ..STABLE
    },
    AggregatorSpec {
        name: "min",
        kernel: AggregatorKernel::Fold(Extreme::<false>::start),
        doc: "Smallest value in each group; NaN only when every value is NaN. Histograms are \
              ignored with an info.",
        example: "min by (device) (node_filesystem_avail_bytes)",
        ..STABLE
    },
    AggregatorSpec {
        name: "max",
        kernel: AggregatorKernel::Fold(Extreme::<true>::start),
        doc: "Largest value in each group; NaN only when every value is NaN. Histograms are \
              ignored with an info.",
        example: "max by (job) (process_open_fds)",
        ..STABLE
    },
    AggregatorSpec {
        name: "group",
        kernel: AggregatorKernel::Fold(Count::<true>::start),
        doc: "1 for every group that has a member: the distinct values of the grouping labels.",
        example: "group by (version) (app_build_info)",
        ..STABLE
    },
    AggregatorSpec {
        name: "stddev",
        kernel: AggregatorKernel::Fold(Variance::<true>::start),
        doc: "Population standard deviation of the values in each group. Histograms are ignored \
              with an info.",
        example: "stddev by (job) (process_resident_memory_bytes)",
        ..STABLE
    },
    AggregatorSpec {
        name: "stdvar",
        kernel: AggregatorKernel::Fold(Variance::<false>::start),
        doc: "Population variance of the values in each group. Histograms are ignored with an \
              info.",
        example: "stdvar by (job) (process_resident_memory_bytes)",
        ..STABLE
    },
    AggregatorSpec {
        name: "topk",
        param: Some(ValueType::Scalar),
        kernel: AggregatorKernel::Select(Selection::TopK),
        doc: "The k series with the largest values in each group, with all their labels. An \
              instant query lists them in descending order; in a range query each step has its \
              own k series. Any number beats a NaN; histograms are ignored with an info.",
        example: "topk by (job) (3, rate(http_requests_total[5m]))",
        ..STABLE
    },
    AggregatorSpec {
        name: "bottomk",
        param: Some(ValueType::Scalar),
        kernel: AggregatorKernel::Select(Selection::BottomK),
        doc: "The k series with the smallest values in each group, with all their labels, in \
              ascending order in an instant query. Any number beats a NaN; histograms are \
              ignored with an info.",
        example: "bottomk(5, node_filesystem_avail_bytes / node_filesystem_size_bytes)",
        ..STABLE
    },
    AggregatorSpec {
        name: "count_values",
        param: Some(ValueType::String),
        kernel: AggregatorKernel::CountValues,
        doc: "One series per distinct value in each group: the value becomes the label that the \
              parameter names, the result is how many series have it. A label of that name is \
              overwritten. Histograms count by their text form.",
        example: "count_values(\"version\", app_version_number)",
        ..STABLE
    },
    AggregatorSpec {
        name: "quantile",
        param: Some(ValueType::Scalar),
        kernel: AggregatorKernel::Fold(Quantile::start),
        doc: "The given quantile (0 to 1) of the values in each group, interpolated linearly \
              between neighbours, NaN counting as the smallest value. Below 0 it is -Inf, above 1 \
              +Inf, each with a warning. Histograms are ignored with an info.",
        example: "quantile by (job) (0.9, rate(http_requests_total[5m]))",
        ..STABLE
    },
    AggregatorSpec {
        name: "limitk",
        param: Some(ValueType::Scalar),
        stability: Stability::Experimental,
        kernel: AggregatorKernel::Select(Selection::LimitK),
        doc: "k series of each group, the first ones in storage order, with all their labels: a \
              sample to look at without loading everything. Floats and histograms alike.",
        example: "limitk by (job) (2, up)",
    },
    AggregatorSpec {
        name: "limit_ratio",
        param: Some(ValueType::Scalar),
        stability: Stability::Experimental,
        kernel: AggregatorKernel::Select(Selection::LimitRatio),
        doc: "About the given share of the series of each group, chosen by a hash of their \
              labels, so that the choice is stable. A negative ratio r chooses exactly the \
              series that 1 + r does not. Beyond -1 and 1 the ratio is capped with a warning.",
        example: "limit_ratio(0.1, http_requests_total)",
    },
];
