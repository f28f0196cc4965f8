//! Marks selectors of which only counts and sums of histograms are used.
//!
//! Not for speed: Prometheus reads such series through an iterator that works counter-reset
//! hints out from neighbouring samples, and the hints show in annotations.

use crate::functions::Kernel;
use crate::plan::node::{Node, RangeSource};

/// Marks the selectors below the functions that need no buckets.
pub(in crate::plan) fn mark_stats(root: &mut Node) {
    mark(root, false);
}

fn mark(node: &mut Node, above: bool) {
    let mut stats_only = match node {
        Node::Map { function, .. } => match function.kernel {
            Kernel::FromHistogram(_) => {
                matches!(function.name, "histogram_count" | "histogram_sum" | "histogram_avg")
            }
            _ => above,
        },
        Node::HistogramQuantiles(_) | Node::HistogramFraction { .. } => false,
        Node::VectorScalar(b) if b.op.is_trim() => false,
        Node::Join(b) if b.op.is_trim() => false,
        _ => above,
    };
    for select in node.own_selects_mut() {
        select.stats_only = stats_only;
    }
    if matches!(node.range_source(), Some(RangeSource::Subquery(_))) {
        stats_only = false;
    }
    for child in node.children_mut() {
        mark(child, stats_only);
    }
}
