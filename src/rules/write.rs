//! Storing what a rule made, and ending the series it makes no more.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::model::value::stale_nan;
use crate::model::{Labels, Sample, TimestampMs};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

/// The series a rule wrote last, with the storage's references to them.
#[derive(Debug, Default)]
pub(super) struct Written {
    series: FxHashMap<Labels, SeriesRef>,
}

impl Written {
    /// The label sets.
    pub(super) fn into_labels(self) -> impl Iterator<Item = Labels> {
        self.series.into_keys()
    }
}

/// The last reason samples were refused for, and how many were.
pub(super) type Refused = Option<(AppendError, usize)>;

/// Writes the samples of one rule at `at` in one batch, and staleness markers for what it
/// wrote last time and does not now. On an error nothing is stored and `previous` stays.
pub(super) fn write(
    sink: &dyn Sink,
    previous: &Mutex<Written>,
    samples: &[(Labels, Sample)],
    at: TimestampMs,
) -> Result<Refused, StorageError> {
    let mut appender = sink.appender();
    let mut previous = previous.lock();
    let mut series = FxHashMap::with_capacity_and_hasher(samples.len(), Default::default());
    let mut refused: Refused = None;
    for (labels, sample) in samples {
        let hint = previous.series.get(labels).copied();
        let appended = match sample {
            Sample::Float(value) => appender.append(hint, labels, at, *value),
            Sample::Histogram(value) => appender.append_histogram(hint, labels, at, value),
        };
        match appended {
            Ok(reference) => {
                series.insert(labels.clone(), reference);
            }
            Err(e) => {
                let count = refused.map_or(0, |(_, n)| n) + 1;
                refused = Some((e, count));
            }
        }
    }
    let gone = previous.series.iter().filter(|(labels, _)| !series.contains_key(*labels));
    for (labels, reference) in gone {
        append_marker(&mut *appender, Some(*reference), labels, at);
    }
    appender.commit()?;
    previous.series = series;
    Ok(refused)
}

/// Ends series outside of a rule's evaluation.
pub(super) fn mark_stale<'a>(
    sink: &dyn Sink,
    series: impl Iterator<Item = &'a Labels>,
    at: TimestampMs,
) -> Result<(), StorageError> {
    let mut appender = sink.appender();
    for labels in series {
        append_marker(&mut *appender, None, labels, at);
    }
    appender.commit()
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
