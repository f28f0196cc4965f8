//! Annotations that say how often they were raised, or over what: those of one text are
//! put together over all steps and series before they are told.
//!
//! As in Prometheus, the text without these figures tells two annotations apart, and the
//! position of the one raised first stays.

use std::collections::BTreeMap;

use super::text::{format_2g, format_g, format_time};
use crate::model::annotation::{Severity, Span, evaluated_before};
use crate::model::{Annotation, TimestampMs};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tally {
    /// How often.
    Occurrences(u64),
    Repairs(Repairs),
}

/// Classic histograms that had to be made monotonic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Repairs {
    /// Lowest and highest upper bound of a bucket that was raised.
    pub buckets: (f64, f64),
    /// By how much at most.
    pub max_diff: f64,
    pub count: u64,
    /// First and last step.
    pub times: (TimestampMs, TimestampMs),
}

impl Tally {
    /// Adds another of the same text; tallies of different kinds never share one.
    fn merge(&mut self, other: Tally) {
        match (self, other) {
            (Self::Occurrences(count), Self::Occurrences(more)) => *count += more,
            (Self::Repairs(all), Self::Repairs(new)) => {
                all.buckets = (all.buckets.0.min(new.buckets.0), all.buckets.1.max(new.buckets.1));
                all.max_diff = all.max_diff.max(new.max_diff);
                all.count += new.count;
                all.times = (all.times.0.min(new.times.0), all.times.1.max(new.times.1));
            }
            _ => {}
        }
    }

    /// What is appended to the text.
    fn suffix(&self) -> String {
        match self {
            Self::Occurrences(0 | 1) => String::new(),
            Self::Occurrences(count) => format!(" ({count} occurrences)"),
            Self::Repairs(all) => format!(
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                format_g(all.buckets.0),
                format_g(all.buckets.1),
                format_2g(all.max_diff),
                all.count,
                format_time(all.times.0),
                format_time(all.times.1)
            ),
        }
    }
}

/// The tallies of one evaluation.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    entries: BTreeMap<(Severity, String), (Span, Tally)>,
}

impl Tallies {
    /// Notes one; `text` is complete but for the figures.
    pub(crate) fn add(&mut self, severity: Severity, text: String, span: &Span, tally: Tally) {
        let (first, all) = match self.entries.entry((severity, text)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((span.clone(), tally));
                return;
            }
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        };
        all.merge(tally);
        if evaluated_before(span, first) {
            *first = span.clone();
        }
    }

    /// Adds those of another evaluation; `place` gives the positions here.
    pub(crate) fn absorb(&mut self, other: &Self, place: impl Fn(&Span) -> Span) {
        for ((severity, text), (span, tally)) in &other.entries {
            self.add(*severity, text.clone(), &place(span), *tally);
        }
    }

    /// Where tallies were noted.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.entries.values().map(|(span, _)| span.clone())
    }

    /// True when nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The annotations, and an empty store.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Annotation> + use<> {
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().map(|((severity, text), (span, tally))| Annotation {
            severity,
            text: text + &tally.suffix(),
            span: Some(span),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repairs(bucket: f64, at_ms: TimestampMs) -> Tally {
        let (buckets, times) = ((bucket, bucket), (at_ms, at_ms));
        Tally::Repairs(Repairs { buckets, max_diff: bucket, count: 1, times })
    }

    #[test]
    fn one_text_is_one_annotation_at_the_place_evaluated_first() {
        let mut tallies = Tallies::default();
        for (text, span, tally) in [
            ("overlap", 20..30, Tally::Occurrences(1)),
            ("overlap", 5..10, Tally::Occurrences(2)),
            ("once", 5..10, Tally::Occurrences(1)),
            ("repaired", 0..40, repairs(2.0, 5_000)),
            ("repaired", 3..9, repairs(4.0, -1_001)),
        ] {
            tallies.add(Severity::Warning, text.to_owned(), &span, tally);
        }
        let got: Vec<_> = tallies.drain().map(|a| (a.text, a.span.unwrap())).collect();
        let repaired = "repaired, from buckets 2 to 4, with a max diff of 4, over 2 samples from \
                        1969-12-31T23:59:59Z to 1970-01-01T00:00:05Z";
        let expected = [("once", 5..10), ("overlap (3 occurrences)", 5..10), (repaired, 3..9)];
        assert_eq!(got, expected.map(|(text, span)| (text.to_owned(), span)));
        assert_eq!(tallies.drain().count(), 0);
    }
}
