//! Several sources as one: what they hold of the same series is merged in time order. The
//! first source is the primary: its failure is the query's, a failure of another one is a
//! warning beside what the rest found.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};

use super::{
    ExemplarSeries, LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source,
    StorageError, breathe,
};
use crate::model::exemplar::Exemplar;
use crate::model::{Labels, TimestampMs};
use crate::vector::RawSamples;

/// See the module.
pub struct Fanout {
    primary: Arc<dyn Source>,
    secondaries: Vec<Arc<dyn Source>>,
}

impl Fanout {
    /// A source over these, the primary first.
    pub fn new(primary: Arc<dyn Source>, secondaries: Vec<Arc<dyn Source>>) -> Self {
        Self { primary, secondaries }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        std::iter::once(&self.primary).chain(&self.secondaries)
    }
}

/// Series merged before others have a turn: a millisecond or two.
const SERIES_PER_TURN: usize = 4096;

/// The answers that came, and a warning for each secondary that failed.
fn answered<T>(
    results: Vec<Result<T, StorageError>>,
) -> Result<(Vec<T>, Vec<String>), StorageError> {
    let mut answers = vec![];
    let mut warnings = vec![];
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(answer) => answers.push(answer),
            Err(e) if i == 0 => return Err(e),
            Err(e) => warnings.push(e.to_string()),
        }
    }
    Ok((answers, warnings))
}

fn merge_labels(
    results: Vec<Result<LabelAnswer, StorageError>>,
) -> Result<LabelAnswer, StorageError> {
    let (answers, mut warnings) = answered(results)?;
    let mut values = BTreeSet::new();
    for answer in answers {
        values.extend(answer.values);
        warnings.extend(answer.warnings);
    }
    Ok(LabelAnswer { values: values.into_iter().collect(), warnings })
}

impl Source for Fanout {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let results = join_all(self.all().map(|source| source.select(request))).await;
            let (answers, mut warnings) = answered(results)?;
            let mut sets = vec![];
            for answer in answers {
                warnings.extend(answer.warnings);
                sets.push(answer.series);
            }
            let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
            Ok(SeriesSet { series: merge_sets(sets, limit).await, warnings })
        })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move {
            let results = join_all(self.all().map(|source| source.select_exemplars(request))).await;
            let (answers, _) = answered(results)?;
            let mut merged: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
            for ExemplarSeries { labels, exemplars } in answers.into_iter().flatten() {
                merged.entry(labels).or_default().extend(exemplars);
            }
            let sorted = |(labels, mut exemplars): (Labels, Vec<Exemplar>)| {
                exemplars.sort_by_key(|e| e.ts);
                exemplars.dedup_by(|a, b| a.is_same(b));
                ExemplarSeries { labels, exemplars }
            };
            Ok(merged.into_iter().map(sorted).collect())
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            merge_labels(join_all(self.all().map(|source| source.label_names(request))).await)
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            merge_labels(
                join_all(self.all().map(|source| source.label_values(name, request))).await,
            )
        })
    }
}

/// The series of sets that are sorted by labels, each label set once, sorted. There may be
/// millions: it lets others have a turn now and then.
async fn merge_sets(
    mut sets: Vec<Vec<Arc<dyn RawSeries>>>,
    limit: usize,
) -> Vec<Arc<dyn RawSeries>> {
    sets.retain(|set| !set.is_empty());
    if let [set] = &mut sets[..] {
        set.truncate(limit);
        return std::mem::take(set);
    }
    let mut sets: Vec<_> = sets.into_iter().map(|set| set.into_iter().peekable()).collect();
    let mut merged: Vec<Arc<dyn RawSeries>> = vec![];
    while merged.len() < limit {
        if merged.len() % SERIES_PER_TURN == SERIES_PER_TURN - 1 {
            breathe().await;
        }
        let heads = sets.iter_mut().filter_map(|set| set.peek().map(|series| series.labels()));
        let Some(labels) = heads.min().cloned() else { break };
        let next = |set: &mut Peekable<std::vec::IntoIter<Arc<dyn RawSeries>>>| {
            set.next_if(|series| *series.labels() == labels)
        };
        let mut parts: Vec<Arc<dyn RawSeries>> = sets.iter_mut().filter_map(next).collect();
        merged.push(match parts.len() {
            1 => parts.remove(0),
            _ => Arc::new(Merged { labels, parts }),
        });
    }
    merged
}

/// One series as several sources hold it. Of two samples at one time, that of the earlier
/// source stays.
struct Merged {
    labels: Labels,
    parts: Vec<Arc<dyn RawSeries>>,
}

impl RawSeries for Merged {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let mut merged = RawSamples::default();
        for part in &self.parts {
            let mut next = RawSamples::default();
            part.read_into(from_ms, to_ms, &mut next)?;
            merged = merge(&merged, &next);
        }
        out.append(merged);
        Ok(())
    }
}

/// Both in time order, each time once: a time at which `a` holds anything is `a`'s.
pub(super) fn merge(a: &RawSamples, b: &RawSamples) -> RawSamples {
    let taken: BTreeSet<TimestampMs> =
        a.ts.iter().copied().chain(a.hist.iter().map(|(ts, _)| *ts)).collect();
    let mut out = RawSamples::default();
    let known = !a.start_ts.is_empty() || !b.start_ts.is_empty();
    let mut floats: Vec<(TimestampMs, f64, TimestampMs)> = floats(a).collect();
    floats.extend(self::floats(b).filter(|(ts, ..)| !taken.contains(ts)));
    floats.sort_by_key(|(ts, ..)| *ts);
    for (ts, v, start) in floats {
        out.push(ts, v);
        if known {
            out.start_ts.push(start);
        }
    }
    let known = !a.hist_start_ts.is_empty() || !b.hist_start_ts.is_empty();
    let mut hist: Vec<_> = histograms(a).collect();
    hist.extend(histograms(b).filter(|((ts, _), _)| !taken.contains(ts)));
    hist.sort_by_key(|((ts, _), _)| *ts);
    for (sample, start) in hist {
        out.hist.push(sample);
        if known {
            out.hist_start_ts.push(start);
        }
    }
    out
}

fn floats(raw: &RawSamples) -> impl Iterator<Item = (TimestampMs, f64, TimestampMs)> + '_ {
    let start = |i: usize| raw.start_ts.get(i).copied().unwrap_or(0);
    raw.ts.iter().zip(&raw.vs).enumerate().map(move |(i, (ts, v))| (*ts, *v, start(i)))
}

type TimedHistogram = (TimestampMs, Arc<crate::model::FloatHistogram>);

fn histograms(raw: &RawSamples) -> impl Iterator<Item = (TimedHistogram, TimestampMs)> + '_ {
    let start = |i: usize| raw.hist_start_ts.get(i).copied().unwrap_or(0);
    raw.hist.iter().enumerate().map(move |(i, sample)| (sample.clone(), start(i)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::Matcher;
    use crate::storage::SelectHints;
    use crate::storage::memory::MemoryStorage;

    struct Broken;

    impl Source for Broken {
        fn select<'a>(
            &'a self,
            _: &'a SelectRequest,
        ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
            Box::pin(async { Err(StorageError::Remote("remote is down".into())) })
        }

        fn label_names<'a>(
            &'a self,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Err(StorageError::Remote("remote is down".into())) })
        }

        fn label_values<'a>(
            &'a self,
            _: &'a str,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Err(StorageError::Remote("remote is down".into())) })
        }
    }

    fn store(samples: &[(&str, i64, f64)]) -> Arc<dyn Source> {
        let storage = MemoryStorage::new();
        for (name, ts, v) in samples {
            let labels = Labels::from_pairs([("__name__", *name), ("job", "x")]);
            storage.append(&labels, *ts, *v, None).unwrap();
        }
        Arc::new(storage)
    }

    fn request() -> SelectRequest {
        let matchers = vec![Matcher::equal("job", "x")];
        SelectRequest { matchers, from_ms: 0, to_ms: 100, hints: SelectHints::default() }
    }

    #[test]
    fn the_same_series_of_two_sources_becomes_one() {
        let first = store(&[("a", 1, 1.0), ("a", 3, 3.0)]);
        let second = store(&[("a", 2, 2.0), ("a", 3, 9.0), ("b", 1, 5.0)]);
        let fanout = Fanout::new(first, vec![second, Arc::new(Broken)]);
        let set = fanout.select(&request()).now_or_never().unwrap().unwrap();
        assert_eq!(set.warnings, ["remote is down"]);
        let names: Vec<&str> = set.series.iter().map(|s| s.labels().metric_name()).collect();
        assert_eq!(names, ["a", "b"]);
        let mut out = RawSamples::default();
        set.series[0].read_into(0, 100, &mut out).unwrap();
        assert_eq!((out.ts, out.vs), (vec![1, 2, 3], vec![1.0, 2.0, 3.0]));
    }

    #[test]
    fn a_broken_primary_fails_the_query() {
        let fanout = Fanout::new(Arc::new(Broken), vec![store(&[("a", 1, 1.0)])]);
        assert!(fanout.select(&request()).now_or_never().unwrap().is_err());
    }
}
