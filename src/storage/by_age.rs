//! One source for what is recent, others for what is older: each is asked for its stretch of
//! time alone, and those no stretch of a request lies in are not asked at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};

use super::shards::{PartialResponse, Shards};
use super::{
    ExemplarSeries, LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source,
    StorageError, breathe,
};
use crate::model::{Clock, Labels, TimestampMs};
use crate::vector::RawSamples;

/// Series looked at before others have a turn.
const PER_TURN: usize = 4096;

/// A source and the age of samples up to which it is asked.
#[derive(Clone)]
pub struct AgeRoute {
    pub source: Arc<dyn Source>,
    /// `None`: however old.
    pub max_age_ms: Option<i64>,
}

/// See the module. Routes stand in order of their ages, the youngest first.
pub struct ByAge {
    routes: Vec<AgeRoute>,
    clock: Arc<dyn Clock>,
}

impl ByAge {
    /// A source over routes, at least one.
    pub fn new(routes: Vec<AgeRoute>, clock: Arc<dyn Clock>) -> Self {
        Self { routes, clock }
    }

    /// The sources whose stretch overlaps a closed interval, with what of it is theirs.
    fn stretches(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Vec<(Arc<dyn Source>, TimestampMs, TimestampMs)> {
        let now_ms = self.clock.now_ms();
        let mut stretches = Vec::new();
        let mut last_ms = TimestampMs::MAX;
        for route in &self.routes {
            let first_ms = route.max_age_ms.map_or(TimestampMs::MIN, |age| now_ms - age);
            let (from, to) = (from_ms.max(first_ms), to_ms.min(last_ms));
            if from <= to {
                stretches.push((route.source.clone(), from, to));
            }
            last_ms = last_ms.min(first_ms.saturating_sub(1));
        }
        stretches
    }

    /// The sources of an interval as one that asks each for everything.
    fn any_of(&self, request: &LabelRequest) -> Shards {
        let stretches = self.stretches(request.from_ms, request.to_ms);
        let sources = stretches.into_iter().map(|(source, ..)| source).collect();
        Shards::new(sources, Vec::new(), PartialResponse::Fail)
    }
}

/// What of a series lies in a stretch.
struct Clipped {
    series: Arc<dyn RawSeries>,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
}

/// One series, by stretches that have no time in common, the oldest first.
struct Strung(Vec<Clipped>);

impl RawSeries for Strung {
    fn labels(&self) -> &Labels {
        self.0[0].series.labels()
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        for part in &self.0 {
            let (from, to) = (from_ms.max(part.from_ms), to_ms.min(part.to_ms));
            if from <= to {
                let mut samples = RawSamples::default();
                part.series.read_into(from, to, &mut samples)?;
                out.append(samples);
            }
        }
        Ok(())
    }
}

impl Source for ByAge {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let ask = |(source, from_ms, to_ms): (Arc<dyn Source>, i64, i64)| async move {
                let request = SelectRequest { from_ms, to_ms, ..request.clone() };
                Ok::<_, StorageError>((from_ms, to_ms, source.select(&request).await?))
            };
            let mut stretches = self.stretches(request.from_ms, request.to_ms);
            stretches.reverse();
            let mut found = try_join_all(stretches.into_iter().map(ask)).await?;
            if found.len() == 1 {
                return Ok(found.remove(0).2);
            }
            let mut each: BTreeMap<Labels, Vec<Clipped>> = BTreeMap::new();
            let mut warnings = Vec::new();
            for (from_ms, to_ms, set) in found {
                warnings.extend(set.warnings);
                for (i, series) in set.series.into_iter().enumerate() {
                    if i % PER_TURN == PER_TURN - 1 {
                        breathe().await;
                    }
                    let labels = series.labels().clone();
                    each.entry(labels).or_default().push(Clipped { series, from_ms, to_ms });
                }
            }
            let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
            let strung = |parts| Arc::new(Strung(parts)) as Arc<dyn RawSeries>;
            Ok(SeriesSet { series: each.into_values().map(strung).take(limit).collect(), warnings })
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.any_of(request).label_names(request).await })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.any_of(request).label_values(name, request).await })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move { self.any_of(request).select_exemplars(request).await })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::Matcher;
    use crate::storage::SelectHints;
    use crate::storage::memory::MemoryStorage;
    use crate::telemetry::clock::ManualClock;

    /// Both stores hold every time of 0 to 100, the recent one as 1, the old one as 2.
    #[test]
    fn each_source_is_asked_for_its_time_alone() {
        let store = |value: f64| -> Arc<dyn Source> {
            let storage = MemoryStorage::new();
            let labels = Labels::from_pairs([("__name__", "m")]);
            (0..=100).for_each(|ts| storage.append(&labels, ts, value, None).unwrap());
            Arc::new(storage)
        };
        let routes = vec![
            AgeRoute { source: store(1.0), max_age_ms: Some(40) },
            AgeRoute { source: store(2.0), max_age_ms: None },
        ];
        let source = ByAge::new(routes, Arc::new(ManualClock::new(100)));
        let check = |from_ms, to_ms, expected: (usize, usize)| {
            let matchers = vec![Matcher::equal("__name__", "m")];
            let hints = SelectHints::default();
            let request = SelectRequest { matchers, from_ms, to_ms, hints };
            let set = source.select(&request).now_or_never().unwrap().unwrap();
            assert_eq!(set.series.len(), 1);
            let mut out = RawSamples::default();
            set.series[0].read_into(from_ms, to_ms, &mut out).unwrap();
            assert!(out.ts.iter().copied().eq(from_ms..=to_ms), "{from_ms} {to_ms}");
            let old = out.vs.iter().filter(|v| **v == 2.0).count();
            assert_eq!((old, out.vs.len() - old), expected, "{from_ms} {to_ms}");
        };
        check(0, 100, (60, 41));
        check(60, 90, (0, 31));
        check(59, 60, (1, 1));
        check(10, 59, (50, 0));
    }
}
