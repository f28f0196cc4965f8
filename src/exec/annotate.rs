//! From what kernels report to what the user reads.

use std::collections::BTreeMap;

use super::cx::Cx;
use super::text::{format_2g, format_g, format_time};
use crate::functions::Flags;
use crate::model::annotation::{Severity, Span};
use crate::model::labels::quote;
use crate::model::{Annotation, Labels, METRIC_TYPE, TimestampMs};
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
        if flags.has(Flags::START_TIME_OVERLAP) {
            let name = name();
            cx.warn(
                span,
                format!(
                    "sample has start time that overlaps with previous sample timestamp for \
                     metric {name}"
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

/// Repairs of classic histograms, put together over all steps before they are told.
#[derive(Debug, Default)]
pub(crate) struct Monotonicity {
    /// By metric name and position.
    repairs: BTreeMap<(String, u32, u32), Repairs>,
}

#[derive(Clone, Debug)]
struct Repairs {
    buckets: (f64, f64),
    max_diff: f64,
    count: u64,
    times: (TimestampMs, TimestampMs),
}

impl Monotonicity {
    /// Notes one repaired histogram.
    pub(crate) fn add(
        &mut self,
        name: &str,
        span: &Span,
        at_ms: TimestampMs,
        buckets: (f64, f64),
        max_diff: f64,
    ) {
        let key = (name.to_owned(), span.start, span.end);
        self.join(key, &Repairs { buckets, max_diff, count: 1, times: (at_ms, at_ms) });
    }

    fn join(&mut self, key: (String, u32, u32), new: &Repairs) {
        let Some(all) = self.repairs.get_mut(&key) else {
            self.repairs.insert(key, new.clone());
            return;
        };
        all.buckets = (all.buckets.0.min(new.buckets.0), all.buckets.1.max(new.buckets.1));
        all.max_diff = all.max_diff.max(new.max_diff);
        all.count += new.count;
        all.times = (all.times.0.min(new.times.0), all.times.1.max(new.times.1));
    }

    /// Adds what another evaluation noted; `place` gives the positions here.
    pub(crate) fn absorb(&mut self, other: &Self, place: impl Fn(&Span) -> Span) {
        for ((name, start, end), repairs) in &other.repairs {
            let span = place(&(*start..*end));
            self.join((name.clone(), span.start, span.end), repairs);
        }
    }

    /// Where repairs were noted.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.repairs.keys().map(|(_, start, end)| *start..*end)
    }

    /// True when nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.repairs.is_empty()
    }

    /// The notes, and an empty store.
    pub(crate) fn drain(&mut self) -> Vec<Annotation> {
        std::mem::take(&mut self.repairs)
            .into_iter()
            .map(|((name, start, end), all)| Annotation {
                severity: Severity::Info,
                text: format!(
                    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                     (see https://prometheus.io/docs/prometheus/latest/querying/functions/\
                     #histogram_quantile){}, from buckets {} to {}, with a max diff of {}, over \
                     {} samples from {} to {}",
                    for_metric(&name),
                    format_g(all.buckets.0),
                    format_g(all.buckets.1),
                    format_2g(all.max_diff),
                    all.count,
                    format_time(all.times.0),
                    format_time(all.times.1)
                ),
                span: Some(start..end),
            })
            .collect()
    }
}
