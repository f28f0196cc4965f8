//! A sink whose every commit is also sent on.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::feed::Feed;
use super::metrics::{Counts, SenderMetrics, raise};
use super::record::Value;
use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

/// Families whose metadata is known at most.
const METADATA_FAMILIES_MAX: usize = 1 << 17;

/// What is known of metric families.
pub(super) type Families = HashMap<Box<str>, Metadata>;

/// What commits and targets share.
pub(super) struct Taps {
    pub feeds: ArcSwap<Vec<Arc<Feed>>>,
    pub families: RwLock<Families>,
    pub metrics: SenderMetrics,
    /// Commits come into the queues in the order in which the store took them.
    order: Mutex<()>,
}

impl Taps {
    pub fn new(metrics: SenderMetrics) -> Self {
        Self {
            feeds: ArcSwap::default(),
            families: RwLock::default(),
            metrics,
            order: Mutex::default(),
        }
    }

    /// Who is fed from now on. When this returns, nobody else is any more.
    pub fn set_feeds(&self, feeds: Vec<Arc<Feed>>) {
        self.feeds.store(Arc::new(feeds));
        drop(self.order.lock());
    }
}

/// See the module.
pub(super) struct Tee {
    pub inner: Arc<dyn Sink>,
    pub taps: Arc<Taps>,
}

impl Sink for Tee {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(TeeAppender {
            inner: self.inner.appender(),
            taps: self.taps.clone(),
            is_tapped: !self.taps.feeds.load().is_empty(),
            batch: Vec::new(),
            last: None,
        })
    }

    fn commit_waits(&self) -> bool {
        self.inner.commit_waits()
    }

    fn shows_at_once(&self) -> bool {
        self.inner.shows_at_once()
    }
}

struct TeeAppender {
    inner: Box<dyn Appender>,
    taps: Arc<Taps>,
    /// Whether anybody is sent anything; then a batch is kept.
    is_tapped: bool,
    batch: Vec<(Labels, Value)>,
    /// The series of the last sample, for exemplars, which come next.
    last: Option<(SeriesRef, Labels)>,
}

impl TeeAppender {
    fn note(&mut self, series: SeriesRef, labels: &Labels, value: Value) {
        if !self.is_tapped {
            return;
        }
        // The store's copy, where there is one: the queue remembers it for a while.
        let labels = match &self.last {
            Some((last, kept)) if *last == series && kept == labels => kept.clone(),
            _ => self.inner.stored_labels(series).unwrap_or_else(|| labels.clone()),
        };
        self.last = Some((series, labels.clone()));
        self.batch.push((labels, value));
    }
}

impl Appender for TeeAppender {
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.inner.append(hint, labels, ts, value)?;
        self.note(series, labels, Value::Float(ts, value));
        Ok(series)
    }

    fn append_histogram(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.inner.append_histogram(hint, labels, ts, value)?;
        self.note(series, labels, Value::Histogram(ts, value.clone()));
        Ok(series)
    }

    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        exemplar: Exemplar,
    ) -> Result<(), ExemplarError> {
        self.inner.append_exemplar(series, exemplar.clone())?;
        if let Some((last, labels)) = &self.last
            && *last == series
        {
            self.batch.push((labels.clone(), Value::Exemplar(exemplar)));
        }
        Ok(())
    }

    fn stored_labels(&self, series: SeriesRef) -> Option<Labels> {
        self.inner.stored_labels(series)
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        self.inner.append_metadata(family, metadata);
        let known = self.taps.families.read();
        if known.get(family) == Some(metadata) || known.len() >= METADATA_FAMILIES_MAX {
            return;
        }
        drop(known);
        self.taps.families.write().insert(family.into(), metadata.clone());
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        let Self { inner, taps, batch, .. } = *self;
        if batch.is_empty() {
            return inner.commit();
        }
        let _in_order = taps.order.lock();
        let feeds = taps.feeds.load_full();
        // The queues first: a death of the process between the two sends what nobody was told
        // was taken, in the other order it would not send what the store shows.
        let prepared: Vec<_> = feeds.iter().map(|feed| feed.prepare(&batch)).collect();
        if let Err(error) = inner.commit() {
            feeds.iter().for_each(|feed| feed.take_back());
            return Err(error);
        }
        let mut counts = Counts::default();
        batch.iter().for_each(|(_, value)| counts.add(value));
        taps.metrics.taken_in.inc_by(&counts);
        if let Some(highest) = batch.iter().map(|(_, value)| value.ts()).max() {
            raise(&taps.metrics.highest_timestamp, highest);
        }
        for (feed, prepared) in feeds.iter().zip(prepared) {
            feed.reveal(prepared);
        }
        Ok(())
    }
}

/// A sink that keeps nothing itself: for those who only send on.
pub struct Nowhere;

impl Sink for Nowhere {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(ToNowhere)
    }

    fn shows_at_once(&self) -> bool {
        false
    }
}

struct ToNowhere;

impl Appender for ToNowhere {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        _: TimestampMs,
        _: f64,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        _: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        value.validate().map_err(|e| AppendError::Invalid(e.to_string()))?;
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }
}
