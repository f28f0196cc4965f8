//! Storing what a rule made, and ending the series it makes no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

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

    /// The label sets, in that order.
    pub(super) fn labels(&self) -> impl ExactSizeIterator<Item = &Labels> {
        self.series.iter().map(|(labels, _)| labels)
    }

    /// The label sets.
    pub(super) fn into_labels(self) -> impl Iterator<Item = Labels> {
        self.series.into_iter().map(|(labels, _)| labels)
    }
}

/// The last reason samples were refused for, and how many were.
pub(super) type Refused = Option<(AppendError, usize)>;

/// What one rule wrote the last time, and what it writes now.
pub(super) type RuleSamples<'r> = (&'r Mutex<Written>, Vec<(Labels, Sample)>);

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
    let written = run(sink, len, move |sink| {
        let mut appender = sink.appender();
        let now = append(&mut *appender, &known, &samples, at, &mut |_| {});
        appender.commit().map(|()| now)
    });
    let written = written.await;
    // The work is over, and its hold on the list with it.
    let before = Arc::into_inner(before).unwrap_or_default();
    let (now, refused) = match written.flatten() {
        Ok((now, refused)) => (now, Ok(refused)),
        Err(e) => (None, Err(e)),
    };
    *previous.lock() = now.unwrap_or(before);
    refused
}

/// Writes the samples of several rules at `at`, each as `write` would and in that order, in
/// one batch where that comes to the same. One that fails fails alone.
pub(super) async fn write_all(
    sink: &Arc<dyn Sink>,
    rules: Vec<RuleSamples<'_>>,
    at: TimestampMs,
) -> Vec<Result<Refused, StorageError>> {
    let len = |(previous, samples): &RuleSamples<'_>| samples.len() + previous.lock().series.len();
    let len: usize = rules.iter().map(len).sum();
    if rules.len() > 1
        && len <= 2 * SMALL_BATCH
        && !sink.commit_waits()
        && let Some(refused) = write_together(&**sink, &rules, at)
    {
        return refused.into_iter().map(Ok).collect();
    }
    let mut results = Vec::with_capacity(rules.len());
    for (previous, samples) in rules {
        results.push(write(sink, previous, samples, at).await);
    }
    results
}

/// As `write_all`, in one batch; `None` when nothing was written because that is not the same
/// as writing them one by one: two write the same series, or something fails.
fn write_together(
    sink: &dyn Sink,
    rules: &[RuleSamples<'_>],
    at: TimestampMs,
) -> Option<Vec<Refused>> {
    let work = || {
        let mut appender = sink.appender();
        let mut taken = FxHashSet::default();
        let mut now = Vec::with_capacity(rules.len());
        for (previous, samples) in rules {
            let mut alone = true;
            let took = &mut |reference| alone &= taken.insert(reference);
            now.push(append(&mut *appender, &previous.lock(), samples, at, took));
            if !alone {
                return None;
            }
        }
        appender.commit().ok().map(|()| now)
    };
    // Whose panic it was shows when they are written one by one.
    let now = catch_unwind(AssertUnwindSafe(work)).ok()??;
    let refused = now.into_iter().zip(rules).map(|((written, refused), (previous, _))| {
        if let Some(written) = written {
            *previous.lock() = written;
        }
        refused
    });
    Some(refused.collect())
}

/// Appends the samples of one rule, and staleness markers for what it wrote last time and does
/// not now. `took` is told of every series that takes one. Gives what is written, unless that
/// is what was.
fn append(
    appender: &mut dyn Appender,
    previous: &Written,
    samples: &[(Labels, Sample)],
    at: TimestampMs,
    took: &mut dyn FnMut(SeriesRef),
) -> (Option<Written>, Refused) {
    // Made when something differs: mostly nothing does.
    let mut series: Option<Vec<(Labels, SeriesRef)>> = None;
    let first = |count: usize| {
        let mut series = Vec::with_capacity(samples.len());
        series.extend_from_slice(&previous.series[..count]);
        series
    };
    let mut places = Places::new(&previous.series);
    let mut refused: Refused = None;
    for (number, (labels, sample)) in samples.iter().enumerate() {
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
                took(reference);
                places.seen(place);
                let as_before = hint == Some(reference);
                if series.is_none() && as_before && place == Some(number) {
                    continue;
                }
                let stored = (!as_before).then(|| appender.stored_labels(reference)).flatten();
                let written = (stored.unwrap_or_else(|| labels.clone()), reference);
                series.get_or_insert_with(|| first(number)).push(written);
            }
            Err(e) => {
                series.get_or_insert_with(|| first(number));
                let count = refused.map_or(0, |(_, n)| n) + 1;
                refused = Some((e, count));
            }
        }
    }
    for (labels, reference) in places.left() {
        append_marker(appender, Some(*reference), labels, at).into_iter().for_each(&mut *took);
    }
    if series.is_none() && samples.len() < previous.series.len() {
        series = Some(first(samples.len()));
    }
    (series.map(|series| Written { series }), refused)
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
            let _ = append_marker(&mut *appender, None, labels, at);
        }
        appender.commit()
    });
    let result = done.await.flatten();
    (Arc::into_inner(series).unwrap_or_default(), result)
}

/// Ends a series; the reference of one that takes the marker.
fn append_marker(
    appender: &mut dyn Appender,
    hint: Option<SeriesRef>,
    labels: &Labels,
    at: TimestampMs,
) -> Option<SeriesRef> {
    match appender.append(hint, labels, at, stale_nan()) {
        Ok(reference) => return Some(reference),
        // Another rule may write the same series: then it has not ended, and all is well.
        Err(
            AppendError::OutOfOrder
            | AppendError::TooOld
            | AppendError::DuplicateForTimestamp
            | AppendError::OutOfBounds,
        ) => {}
        Err(error) => tracing::warn!(series = %labels, %error, "ending a series failed"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

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

    /// What rules write tick by tick, separated by commas, and what is stored of the last one:
    /// `!` marks a series' end. Together and one by one come to the same.
    #[tokio::test]
    async fn what_rules_write_together_is_what_they_write_one_by_one() {
        let ticks = ["ab,c", "ab,c", "b,cd", "ba,", "ab,cab", "x,ab,c", ",,"];
        let mut stored = Vec::new();
        for together in [true, false] {
            let sink: Arc<dyn Sink> = Arc::new(MemoryStorage::new());
            let written: [Mutex<Written>; 3] = Default::default();
            let mut told = String::new();
            for (at, tick) in (1..).zip(ticks) {
                let samples = |(rule, made): (usize, &str)| {
                    let sample = |c: char| {
                        let labels = Labels::from_pairs([("__name__", c.to_string())]);
                        (labels, Sample::Float((at * 10 + rule as i64) as f64))
                    };
                    (&written[rule], made.chars().map(sample).collect::<Vec<_>>())
                };
                let rules: Vec<_> = tick.split(',').enumerate().map(samples).collect();
                let refused = match together {
                    true => write_all(&sink, rules, at).await,
                    false => {
                        let mut all = Vec::new();
                        for (previous, samples) in rules {
                            all.push(write(&sink, previous, samples, at).await);
                        }
                        all
                    }
                };
                let lists = written.each_ref().map(|w| {
                    w.lock().labels().map(|l| l.metric_name().to_owned()).collect::<String>()
                });
                told += &format!("{tick}: {refused:?} {lists:?}\n");
            }
            stored.push(told);
        }
        assert_eq!(stored[0], stored[1]);
        let refused = |tick: &str| {
            let line = stored[0].lines().find(|l| l.starts_with(&format!("{tick}: "))).unwrap();
            line.contains("DuplicateForTimestamp")
        };
        // A series that one rule ends in this tick is not another's any more.
        assert_eq!(["ab,c", "ab,cab", "x,ab,c"].map(refused), [false, true, true], "{stored:?}");
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
