//! From what kernels report to what the user reads.

use super::cx::Cx;
use super::tally::{Repairs, Tally};
use super::text::format_g;
use crate::functions::Flags;
use crate::model::annotation::{Severity, Span};
use crate::model::labels::quote;
use crate::model::{Labels, METRIC_TYPE};
use crate::plan::node::{Aggregate, RangeCall};

/// The notes of a range function.
#[derive(Clone, Copy)]
pub(crate) struct RangeNotes<'a> {
    pub cx: &'a Cx,
    pub call: &'a RangeCall,
}

impl RangeNotes<'_> {
    /// Notes what the windows of one series raised. `scalars` are those of a step.
    pub(crate) fn note<'s>(
        &self,
        flags: Flags,
        labels: &Labels,
        scalars: impl Fn(u32) -> &'s [f64],
        steps: u32,
    ) {
        let (cx, span) = (self.cx, &self.call.span);
        let name = || quote(labels.metric_name());
        if flags.has(Flags::MIXED) {
            let name = name();
            cx.warn(
                span,
                format!("encountered a mix of histograms and floats for metric name {name}"),
            );
        }
        if flags.has(Flags::NOT_COUNTER) {
            cx.warn(span, format!("this native histogram metric is not a counter: {}", name()));
        }
        if flags.has(Flags::NOT_GAUGE) {
            cx.warn(span, format!("this native histogram metric is not a gauge: {}", name()));
        }
        if flags.has(Flags::MIXED_SCHEMAS) {
            cx.warn(span, mixed_schemas(labels));
        }
        combination_notes(cx, span, flags);
        if flags.has(Flags::HISTOGRAMS_IGNORED) {
            let name = name();
            cx.info(
                span,
                format!(
                    "ignored histograms in a range containing both floats and histograms for \
                     metric name {name}"
                ),
            );
        }
        if flags.has(Flags::QUANTILE_OUT_OF_RANGE) {
            (0..steps).filter_map(|step| scalars(step).first().copied()).for_each(|q| {
                quantile_note(cx, &self.call.param_span, q);
            });
        }
        if flags.has(Flags::COUNTER_FLOATS) {
            self.counter_name(labels);
        }
    }

    /// Notes that at so many steps a start time contradicted the sample before it.
    pub(crate) fn start_time_overlaps(&self, labels: &Labels, steps: u64) {
        if steps == 0 {
            return;
        }
        let name = quote(labels.metric_name());
        let text = format!(
            "PromQL warning: sample has start time that overlaps with previous sample timestamp \
             for metric {name}"
        );
        self.cx.tally(Severity::Warning, text, &self.call.span, Tally::Occurrences(steps));
    }

    /// A counter's name should say so; with type labels, its type should.
    fn counter_name(&self, labels: &Labels) {
        let name = labels.metric_name();
        if name.is_empty() {
            return;
        }
        if self.cx.options.type_and_unit_labels {
            let kind = labels.get_or_empty(METRIC_TYPE);
            if !matches!(kind, "counter" | "histogram") {
                self.cx.info(
                    &self.call.span,
                    format!(
                        "metric might not be a counter, __type__ label is not set to \"counter\" \
                         or \"histogram\", got {}: {}",
                        quote(kind),
                        quote(name)
                    ),
                );
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|s| name.ends_with(s)) {
            self.cx.info(
                &self.call.span,
                format!(
                    "metric might not be a counter, name does not end in \
                     _total/_sum/_count/_bucket: {}",
                    quote(name)
                ),
            );
        }
    }
}

/// Exponential and custom buckets met where they cannot.
pub(crate) fn mixed_schemas(labels: &Labels) -> String {
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for \
         metric name {}",
        quote(labels.metric_name())
    )
}

fn combination_notes(cx: &Cx, span: &Span, flags: Flags) {
    for (reconciled, collision, word) in [
        (Flags::BOUNDS_RECONCILED_ADD, Flags::RESET_COLLISION_ADD, "addition"),
        (Flags::BOUNDS_RECONCILED_SUB, Flags::RESET_COLLISION_SUB, "subtraction"),
        (Flags::BOUNDS_RECONCILED_AGG, Flags::RESET_COLLISION_AGG, "aggregation"),
    ] {
        if flags.has(reconciled) {
            cx.info(span, format!("mismatched custom buckets were reconciled during {word}"));
        }
        if flags.has(collision) {
            cx.warn(span, format!("conflicting counter resets during histogram {word}"));
        }
    }
}

/// Notes a quantile outside of 0..=1.
pub(crate) fn quantile_note(cx: &Cx, span: &Span, q: f64) {
    if !(0.0..=1.0).contains(&q) {
        let q = format_g(q);
        cx.warn(span, format!("quantile value should be between 0 and 1, got {q}"));
    }
}

/// Notes what one group of an aggregation raised; `member` is a series of the group.
pub(crate) fn aggregate_notes(cx: &Cx, node: &Aggregate, flags: Flags, member: &Labels) {
    if flags == Flags::default() {
        return;
    }
    let span = &node.span;
    if flags.has(Flags::HISTOGRAMS_IGNORED_AGG) {
        histogram_ignored(cx, span, node.op.name);
    }
    if flags.has(Flags::MIXED_AGG) {
        cx.warn(span, "encountered a mix of histograms and floats for aggregation".into());
    }
    if flags.has(Flags::MIXED_SCHEMAS) {
        cx.warn(span, mixed_schemas(member));
    }
    combination_notes(cx, span, flags);
}

/// Notes that an aggregation of floats met histograms.
pub(crate) fn histogram_ignored(cx: &Cx, span: &Span, aggregation: &str) {
    cx.info(span, format!("ignored histogram in {aggregation} aggregation"));
}

/// ` for metric name "x"`, where the name is still known.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quote(name)) }
}

/// Notes that a classic histogram was made monotonic; `name` is empty when it is not known.
pub(crate) fn forced_monotonic(cx: &Cx, span: &Span, name: &str, repairs: Repairs) {
    let text = format!(
        "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
         https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
        for_metric(name)
    );
    cx.tally(Severity::Info, text, span, Tally::Repairs(repairs));
}
