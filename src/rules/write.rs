//! Storing what a rule made, and ending the series it makes no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::group::panic_text;
use crate::model::value::stale_nan;
use crate::model::{Labels, Sample, TimestampMs};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

/// The series a rule wrote last, in that order, with the storage's references to them.
#[derive(Debug, Default)]
pub(super) struct Written {
    series: Vec<(Labels, SeriesRef)>,
}

impl Written {
    /// What another process has written; storage finds the series by their labels.
    pub(super) fn of(labels: impl IntoIterator<Item = Labels>) -> Self {
        let unknown = SeriesRef(u64::MAX);
        Self { series: labels.into_iter().map(|labels| (labels, unknown)).collect() }
    }

    /// The label sets.
    pub(super) fn into_labels(self) -> impl Iterator<Item = Labels> {
        self.series.into_iter().map(|(labels, _)| labels)
    }
}

/// The last reason samples were refused for, and how many were.
pub(super) type Refused = Option<(AppendError, usize)>;

/// Samples up to which a batch is written where it is: a hop to another thread costs more
/// than appending this many.
const SMALL_BATCH: usize = 2_048;

/// Runs what appends and commits `len` samples: here when that is quick, else on a thread
/// that may block, so that other tasks go on meanwhile.
async fn run<T: Send + 'static>(
    sink: &Arc<dyn Sink>,
    len: usize,
    work: impl FnOnce(&dyn Sink) -> T + Send + 'static,
) -> Result<T, StorageError> {
    if len <= SMALL_BATCH && !sink.commit_waits() {
        let done = catch_unwind(AssertUnwindSafe(|| work(&**sink)));
        return done.map_err(|panic| panicked(&panic_text(&*panic)));
    }
    let sink = sink.clone();
    let done = tokio::task::spawn_blocking(move || work(&*sink)).await;
    done.map_err(|e| panicked(&e.to_string()))
}

fn panicked(cause: &str) -> StorageError {
    StorageError::Unsupported(format!("BUG: writing samples panicked: {cause}"))
}

/// Writes the samples of one rule at `at` in one batch, and staleness markers for what it
/// wrote last time and does not now. On an error nothing is stored and `previous` stays.
pub(super) async fn write(
    sink: &Arc<dyn Sink>,
    previous: &Mutex<Written>,
    samples: Vec<(Labels, Sample)>,
    at: TimestampMs,
) -> Result<Refused, StorageError> {
    let before = Arc::new(std::mem::take(&mut *previous.lock()));
    let len = samples.len() + before.series.len();
    let known = before.clone();
    let written = run(sink, len, move |sink| append(sink, &known, &samples, at)).await;
    match written.flatten() {
        Ok((now, refused)) => {
            *previous.lock() = now;
            Ok(refused)
        }
        Err(e) => {
            // The work is over, and its hold on the list with it.
            *previous.lock() = Arc::into_inner(before).unwrap_or_default();
            Err(e)
        }
    }
}

fn append(
    sink: &dyn Sink,
    previous: &Written,
    samples: &[(Labels, Sample)],
    at: TimestampMs,
) -> Result<(Written, Refused), StorageError> {
    let mut appender = sink.appender();
    let mut series = Vec::with_capacity(samples.len());
    let mut places = Places::new(&previous.series);
    let mut refused: Refused = None;
    for (labels, sample) in samples {
        let place = places.find(labels);
        let known = place.map(|place| &previous.series[place]);
        let hint = known.map(|(_, reference)| *reference);
        // The set of the last time is the one that the storage has.
        let labels = known.map_or(labels, |(labels, _)| labels);
        let appended = match sample {
            Sample::Float(value) => appender.append(hint, labels, at, *value),
            Sample::Histogram(value) => appender.append_histogram(hint, labels, at, value),
        };
        match appended {
            Ok(reference) => {
                let stored = match hint {
                    Some(hint) if hint == reference => None,
                    _ => appender.stored_labels(reference),
                };
                series.push((stored.unwrap_or_else(|| labels.clone()), reference));
                places.seen(place);
            }
            Err(e) => {
                let count = refused.map_or(0, |(_, n)| n) + 1;
                refused = Some((e, count));
            }
        }
    }
    for (labels, reference) in places.left() {
        append_marker(&mut *appender, Some(*reference), labels, at);
    }
    appender.commit()?;
    Ok((Written { series }, refused))
}

/// Finds what is written among what was written the last time: mostly the same series in
/// the same order, so the next one is looked at first.
struct Places<'w> {
    written: &'w [(Labels, SeriesRef)],
    next: usize,
    seen: Vec<bool>,
    /// Made when the order is another one.
    by_labels: Option<FxHashMap<&'w Labels, usize>>,
}

impl<'w> Places<'w> {
    fn new(written: &'w [(Labels, SeriesRef)]) -> Self {
        Self { written, next: 0, seen: vec![false; written.len()], by_labels: None }
    }

    fn find(&mut self, labels: &Labels) -> Option<usize> {
        let is = |(known, _): &(Labels, SeriesRef)| known.is_same(labels) || known == labels;
        if self.written.get(self.next).is_some_and(is) {
            self.next += 1;
            return Some(self.next - 1);
        }
        let written = self.written;
        let by_labels = self.by_labels.get_or_insert_with(|| {
            written.iter().enumerate().map(|(place, (labels, _))| (labels, place)).collect()
        });
        let found = by_labels.get(labels).copied();
        self.next = found.map_or(self.next, |place| place + 1);
        found
    }

    fn seen(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            self.seen[place] = true;
        }
    }

    /// What was written and is not any more.
    fn left(&self) -> impl Iterator<Item = &'w (Labels, SeriesRef)> {
        self.written.iter().zip(&self.seen).filter(|(_, seen)| !**seen).map(|(left, _)| left)
    }
}

/// Ends series outside of a rule's evaluation; gives them back, for another try.
pub(super) async fn mark_stale(
    sink: &Arc<dyn Sink>,
    series: Vec<Labels>,
    at: TimestampMs,
) -> (Vec<Labels>, Result<(), StorageError>) {
    let series = Arc::new(series);
    let ending = series.clone();
    let done = run(sink, series.len(), move |sink| {
        let mut appender = sink.appender();
        for labels in ending.iter() {
            append_marker(&mut *appender, None, labels, at);
        }
        appender.commit()
    });
    let result = done.await.flatten();
    (Arc::into_inner(series).unwrap_or_default(), result)
}

fn append_marker(
    appender: &mut dyn Appender,
    hint: Option<SeriesRef>,
    labels: &Labels,
    at: TimestampMs,
) {
    match appender.append(hint, labels, at, stale_nan()) {
        // Another rule may write the same series: then it has not ended, and all is well.
        Ok(_)
        | Err(
            AppendError::OutOfOrder
            | AppendError::TooOld
            | AppendError::DuplicateForTimestamp
            | AppendError::OutOfBounds,
        ) => {}
        Err(error) => tracing::warn!(series = %labels, %error, "ending a series failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, what is, and what is left; `!` marks what is refused.
    fn check(before: &str, now: &str, left: &str) {
        let labels = |c: char| Labels::from_pairs([("i", c.to_string())]);
        let series = before.chars().enumerate();
        let written: Vec<_> = series.map(|(i, c)| (labels(c), SeriesRef(i as u64))).collect();
        let mut places = Places::new(&written);
        let mut now = now.chars().peekable();
        while let Some(c) = now.next() {
            let place = places.find(&labels(c));
            assert_eq!(place, before.chars().position(|b| b == c), "{c} in {before}");
            if now.next_if_eq(&'!').is_none() {
                places.seen(place);
            }
        }
        let found: String = places.left().map(|(l, _)| l.get_or_empty("i").to_owned()).collect();
        assert_eq!(found, left, "{before} then {now:?}");
    }

    #[test]
    fn what_is_no_longer_written_is_found_whatever_the_order() {
        for (before, now, left) in [
            ("", "", ""),
            ("abc", "abc", ""),
            ("abc", "", "abc"),
            ("", "abc", ""),
            ("abc", "ac", "b"),
            ("abc", "xabcy", ""),
            ("abc", "cba", ""),
            ("abcd", "bxd", "ac"),
            ("abc", "ab!c", "b"),
            ("abc", "aab", "c"),
        ] {
            check(before, now, left);
        }
    }
}
