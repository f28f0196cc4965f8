//! The series a request found, as selectors read them: one table for all of them, and,
//! where several different selectors read the same request, samples decoded once.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::cx::Result;
use super::operator::{SeriesMeta, SeriesTable};
use super::read::AT_ONCE_MS;
use crate::model::{Labels, TimestampMs};
use crate::storage::{RawSeries, StorageError};
use crate::vector::RawSamples;

/// What a series takes beside its labels and samples: the handle, its row in tables.
pub(crate) const SERIES_BYTES: u64 = 128;

/// Longest interval whose samples are decoded in one go and kept: with a sample each second
/// that takes some milliseconds.
const DECODED_MS_MAX: i64 = 7 * AT_ONCE_MS;

/// With less room left, nothing more is decoded than what is asked for.
const ROOM_MIN: u64 = 64 << 10;

/// See the module. Reads as the list of series.
pub(crate) struct Found {
    series: Vec<Arc<dyn RawSeries>>,
    about: Arc<About>,
    /// The same series, as far as they are decoded once for all their readers.
    decoded: Vec<Arc<Decoded>>,
}

/// What there is to know of series whatever samples they have; worked out when needed.
#[derive(Default)]
pub(crate) struct About {
    table: OnceLock<Arc<SeriesTable>>,
    bytes: OnceLock<u64>,
}

impl About {
    /// Series it is about, as far as that is known.
    pub(crate) fn series(&self) -> usize {
        self.table.get().map_or(0, |table| table.series.len())
    }
}

impl Deref for Found {
    type Target = [Arc<dyn RawSeries>];

    fn deref(&self) -> &Self::Target {
        &self.series
    }
}

impl Found {
    pub(crate) fn new(series: Vec<Arc<dyn RawSeries>>) -> Arc<Self> {
        Arc::new(Self { series, about: Arc::default(), decoded: vec![] })
    }

    /// As `new`, with what was known the last time, should these be the same series: the
    /// very same label sets, in their place in memory, in the same order.
    pub(crate) fn again(series: Vec<Arc<dyn RawSeries>>, known: &Arc<About>) -> Arc<Self> {
        let same = |table: &Arc<SeriesTable>| {
            table.series.len() == series.len()
                && table.series.iter().zip(&series).all(|(a, b)| a.labels.is_same(b.labels()))
        };
        match known.table.get().is_some_and(same) {
            true => Arc::new(Self { series, about: known.clone(), decoded: vec![] }),
            false => Self::new(series),
        }
    }

    /// What is known of the series.
    pub(crate) fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// The same series, each decoded at most once within the closed interval, as long as
    /// `room` bytes last.
    pub(crate) fn decoded_once(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        room: &Arc<AtomicU64>,
    ) -> Arc<Self> {
        let decoded = |series: &Arc<dyn RawSeries>| {
            let (series, room) = (series.clone(), room.clone());
            let (samples, full) = (OnceLock::new(), AtomicBool::new(false));
            Arc::new(Decoded { series, from_ms, to_ms, room, full, samples })
        };
        // What takes long to decode is read piece by piece, by whoever needs it.
        if to_ms.saturating_sub(from_ms) > DECODED_MS_MAX {
            return Arc::new(Self {
                series: self.series.clone(),
                about: self.about.clone(),
                decoded: Vec::new(),
            });
        }
        let decoded: Vec<Arc<Decoded>> = self.series.iter().map(decoded).collect();
        let series = decoded.iter().map(|d| Arc::clone(d) as Arc<dyn RawSeries>).collect();
        Arc::new(Self { series, about: self.about.clone(), decoded })
    }

    /// The same series, read through those of a request of the same matchers over an interval
    /// around this one's, where that has the very same series.
    pub(crate) fn read_through(&self, around: &Self) -> Arc<Self> {
        let mut rest = around.decoded.iter();
        let series = self.series.iter().map(|series| -> Arc<dyn RawSeries> {
            // Both are in the same order. Where one is missing nothing can be told of those
            // that follow: they are read for themselves.
            match rest.find(|d| d.series.labels().is_same(series.labels())) {
                Some(decoded) => decoded.clone(),
                None => series.clone(),
            }
        });
        Arc::new(Self { series: series.collect(), about: self.about.clone(), decoded: vec![] })
    }

    /// The series as an operator's table; `check` tells whether to go on.
    pub(crate) fn table(&self, check: impl Fn() -> Result<()>) -> Result<Arc<SeriesTable>> {
        if let Some(table) = self.about.table.get() {
            return Ok(table.clone());
        }
        let meta = |s: &Arc<dyn RawSeries>| check().map(|()| SeriesMeta::new(s.labels().clone()));
        let series = self.iter().map(meta).collect::<Result<_>>()?;
        let table = Arc::new(SeriesTable { series, unique: true });
        Ok(self.about.table.get_or_init(|| table).clone())
    }

    /// What the series take in memory, their samples aside; `check` tells whether to go on.
    pub(crate) fn bytes(&self, check: impl Fn() -> Result<()>) -> Result<u64> {
        if let Some(bytes) = self.about.bytes.get() {
            return Ok(*bytes);
        }
        let mut bytes = 0;
        for series in self.iter() {
            check()?;
            bytes += SERIES_BYTES + series.labels().encoded_size() as u64;
        }
        Ok(*self.about.bytes.get_or_init(|| bytes))
    }
}

/// A series that keeps its samples once they are decoded.
struct Decoded {
    series: Arc<dyn RawSeries>,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    /// Bytes that may still be kept, over all series that share it.
    room: Arc<AtomicU64>,
    /// There was no room for its samples.
    full: AtomicBool,
    samples: OnceLock<RawSamples>,
}

impl RawSeries for Decoded {
    fn labels(&self) -> &Labels {
        self.series.labels()
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> std::result::Result<(), StorageError> {
        if let Some(samples) = self.samples.get() {
            out.extend_from(samples, from_ms, to_ms);
            return Ok(());
        }
        let whole = (from_ms, to_ms) == (self.from_ms, self.to_ms);
        let scarce = !whole && self.room.load(Ordering::Relaxed) < ROOM_MIN;
        if scarce || self.full.load(Ordering::Relaxed) {
            return self.series.read_into(from_ms, to_ms, out);
        }
        // Into the reader's buffer, so that what is kept is a copy of the right size.
        let mut all = if out.is_empty() { std::mem::take(out) } else { RawSamples::default() };
        self.series.read_into(self.from_ms, self.to_ms, &mut all)?;
        if take(&self.room, bytes_of(&all)) {
            // Another thread may have been as fast: either's samples are the same.
            let _ = self.samples.set(all.clone());
        } else {
            self.full.store(true, Ordering::Relaxed);
        }
        if out.is_empty() && whole {
            *out = all;
        } else {
            out.extend_from(&all, from_ms, to_ms);
        }
        Ok(())
    }

    fn read_newest_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> std::result::Result<(), StorageError> {
        match self.samples.get() {
            Some(_) => self.read_into(from_ms, to_ms, out),
            // The store may have it at hand, without decoding anything.
            None => self.series.read_newest_into(from_ms, to_ms, out),
        }
    }
}

fn bytes_of(samples: &RawSamples) -> u64 {
    let times = samples.ts.len() + samples.start_ts.len() + samples.hist_start_ts.len();
    // Histograms are shared with the store, which usually holds them anyway.
    (8 * (times + samples.vs.len()) + 16 * samples.hist.len()) as u64
}

/// Takes `bytes` of what is left; false when that is less.
pub(crate) fn take(room: &AtomicU64, bytes: u64) -> bool {
    room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
}
