//! Several sources that only together hold everything: shards, and pairs of replicas that
//! each scrape the same targets. None is first; what becomes of a query when some fail is
//! the policy's to say.
//!
//! Series of replicas differ in the replica labels alone. These are taken off, and of the
//! series that are then the same one is read for as long as it goes on: where it pauses,
//! another one takes over. Merging the samples of two would count what both saw twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use super::fanout::merge;
use super::{
    ExemplarSeries, LabelAnswer, LabelRequest, PUSHED, PushDown, RawSeries, SHARD, SelectRequest,
    SeriesSet, Source, StorageError, breathe,
};
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::vector::RawSamples;

/// Series looked at before others have a turn.
const PER_TURN: usize = 4096;
/// A pause of so many intervals between samples makes another replica take over.
const PAUSE_INTERVALS: i64 = 3;

/// What a query comes to when a part of the sources failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartialResponse {
    /// An error: no answer rather than half of one.
    #[default]
    Fail,
    /// What the others have, and a warning. When all failed, an error.
    Warn,
}

/// Answers with the numbers of the members that gave them, and the warnings of the others.
type Answered<T> = (Vec<(usize, T)>, Vec<String>);

/// See the module.
pub struct Shards {
    members: Vec<Arc<dyn Source>>,
    replica_labels: Vec<String>,
    partial: PartialResponse,
}

impl Shards {
    /// A source over members, at least one.
    pub fn new(
        members: Vec<Arc<dyn Source>>,
        replica_labels: Vec<String>,
        partial: PartialResponse,
    ) -> Self {
        Self { members, replica_labels, partial }
    }

    /// The answers and the warnings of those that gave none.
    fn answered<T>(
        &self,
        results: Vec<Result<T, StorageError>>,
    ) -> Result<Answered<T>, StorageError> {
        let mut answers = Vec::new();
        let mut warnings = Vec::new();
        let mut failure = None;
        for (member, result) in results.into_iter().enumerate() {
            match result {
                Ok(answer) => answers.push((member, answer)),
                Err(e) if self.partial == PartialResponse::Fail => return Err(e),
                Err(e) => {
                    warnings.push(e.to_string());
                    failure = Some(e);
                }
            }
        }
        match failure {
            Some(error) if answers.is_empty() => Err(error),
            _ => Ok((answers, warnings)),
        }
    }

    fn labels_of(&self, labels: &Labels) -> Labels {
        labels.retain(|name| !self.replica_labels.iter().any(|label| label == name))
    }

    fn joined_texts(
        &self,
        results: Vec<Result<LabelAnswer, StorageError>>,
    ) -> Result<LabelAnswer, StorageError> {
        let (answers, mut warnings) = self.answered(results)?;
        let mut values = BTreeSet::new();
        for (_, answer) in answers {
            values.extend(answer.values);
            warnings.extend(answer.warnings);
        }
        Ok(LabelAnswer { values: values.into_iter().collect(), warnings })
    }
}

impl Source for Shards {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let results = join_all(self.members.iter().map(|m| m.select(request))).await;
            let (answers, mut warnings) = self.answered(results)?;
            // Partial results are combined by what is around them: they must not be the same.
            let pushed = request.matchers.iter().any(|m| &*m.name == PUSHED);
            let mut each: BTreeMap<Labels, Vec<Arc<dyn RawSeries>>> = BTreeMap::new();
            let mut looked_at = 0;
            for (member, answer) in answers {
                warnings.extend(answer.warnings);
                for series in answer.series {
                    looked_at += 1;
                    if looked_at % PER_TURN == 0 {
                        breathe().await;
                    }
                    let labels = match pushed {
                        true => {
                            let number = member.to_string();
                            series.labels().with([(SHARD, number.as_str())].into_iter())
                        }
                        false if self.replica_labels.is_empty() => series.labels().clone(),
                        false => self.labels_of(series.labels()),
                    };
                    each.entry(labels).or_default().push(series);
                }
            }
            let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
            let replicas = !self.replica_labels.is_empty();
            let series = |(labels, parts): (Labels, Vec<Arc<dyn RawSeries>>)| {
                let parts = Parts { labels, parts, replicas };
                Arc::new(parts) as Arc<dyn RawSeries>
            };
            Ok(SeriesSet { series: each.into_iter().map(series).take(limit).collect(), warnings })
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let results = join_all(self.members.iter().map(|m| m.label_names(request))).await;
            let mut answer = self.joined_texts(results)?;
            answer.values.retain(|name| !self.replica_labels.contains(name));
            Ok(answer)
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            if self.replica_labels.iter().any(|label| label == name) {
                return Ok(LabelAnswer::default());
            }
            let asked = self.members.iter().map(|m| m.label_values(name, request));
            self.joined_texts(join_all(asked).await)
        })
    }

    /// Aggregations of what shards hold apart can be made there and combined here; replicas
    /// hold the same. Instant selectors are asked for as they are.
    fn push_down(&self, _: Option<&str>) -> Option<PushDown> {
        if !self.replica_labels.is_empty() {
            return None;
        }
        let each: Option<Vec<PushDown>> = self.members.iter().map(|m| m.push_down(None)).collect();
        let each = each?;
        // No text means the same in two languages.
        let dialect = each.first()?.dialect;
        if each.iter().any(|p| p.dialect != dialect) {
            return None;
        }
        let whole = each.iter().all(|p| p.whole);
        let may_change = each.iter().any(|p| p.may_change);
        whole.then_some(PushDown { dialect, whole, sharded: true, may_change })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move {
            let results = join_all(self.members.iter().map(|m| m.select_exemplars(request))).await;
            let (answers, _) = self.answered(results)?;
            let mut merged: BTreeMap<Labels, Vec<_>> = BTreeMap::new();
            for found in answers.into_iter().flat_map(|(_, found)| found) {
                merged.entry(self.labels_of(&found.labels)).or_default().extend(found.exemplars);
            }
            let sorted =
                |(labels, mut exemplars): (Labels, Vec<crate::model::exemplar::Exemplar>)| {
                    exemplars.sort_by_key(|e| e.ts);
                    exemplars.dedup_by(|a, b| a.is_same(b));
                    ExemplarSeries { labels, exemplars }
                };
            Ok(merged.into_iter().map(sorted).collect())
        })
    }
}

/// What several members hold of one series.
struct Parts {
    labels: Labels,
    parts: Vec<Arc<dyn RawSeries>>,
    /// The parts saw the same, each at times of its own.
    replicas: bool,
}

impl RawSeries for Parts {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if let [part] = &self.parts[..] {
            return part.read_into(from_ms, to_ms, out);
        }
        let mut read = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut samples = RawSamples::default();
            part.read_into(from_ms, to_ms, &mut samples)?;
            read.push(samples);
        }
        let merged = match self.replicas {
            true => one_of(&read),
            false => read.iter().fold(RawSamples::default(), |all, next| merge(&all, next)),
        };
        out.append(merged);
        Ok(())
    }
}

/// A sample of either kind.
#[derive(Clone)]
enum Either {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

fn in_order(raw: &RawSamples) -> Vec<(TimestampMs, Either)> {
    let floats = raw.ts.iter().zip(&raw.vs).map(|(ts, v)| (*ts, Either::Float(*v)));
    let hists = raw.hist.iter().map(|(ts, h)| (*ts, Either::Histogram(h.clone())));
    let mut all: Vec<_> = floats.chain(hists).collect();
    all.sort_by_key(|(ts, _)| *ts);
    all
}

/// The usual distance between samples: the middle one of those there are.
fn interval(samples: &[(TimestampMs, Either)]) -> Option<i64> {
    let mut distances: Vec<i64> = samples.windows(2).map(|w| w[1].0 - w[0].0).collect();
    if distances.is_empty() {
        return None;
    }
    let middle = (distances.len() - 1) / 2;
    Some(*distances.select_nth_unstable(middle).1)
}

/// One of several replicas at a time: the one that begins first (of several the first in
/// order), and when it pauses for [`PAUSE_INTERVALS`] the one whose next sample comes first.
fn one_of(replicas: &[RawSamples]) -> RawSamples {
    let all: Vec<Vec<(TimestampMs, Either)>> = replicas.iter().map(in_order).collect();
    let interval_ms = all.iter().filter_map(|samples| interval(samples)).min().unwrap_or(15_000);
    let pause_ms = interval_ms.saturating_mul(PAUSE_INTERVALS);
    let mut out = RawSamples::default();
    let mut next = vec![0; all.len()];
    let at = |replica: usize, next: &[usize]| all[replica].get(next[replica]);
    let earliest = |next: &[usize]| {
        let times = (0..all.len()).filter_map(|r| at(r, next).map(|(ts, _)| (*ts, r)));
        times.min().map(|(_, replica)| replica)
    };
    let Some(mut current) = earliest(&next) else { return out };
    loop {
        let Some((ts, sample)) = at(current, &next) else {
            match earliest(&next) {
                Some(other) => current = other,
                None => return out,
            }
            continue;
        };
        match sample {
            Either::Float(v) => out.push(*ts, *v),
            Either::Histogram(h) => out.hist.push((*ts, h.clone())),
        }
        let taken = *ts;
        for (replica, samples) in all.iter().enumerate() {
            while samples.get(next[replica]).is_some_and(|(ts, _)| *ts <= taken) {
                next[replica] += 1;
            }
        }
        let resumes = at(current, &next).map(|(ts, _)| *ts);
        if resumes.is_none_or(|ts| ts - taken > pause_ms) {
            // What another replica saw within an interval of the last sample is no news.
            for replica in (0..all.len()).filter(|r| *r != current) {
                let early = |ts: TimestampMs| ts - taken < interval_ms / 2;
                while at(replica, &next).is_some_and(|(ts, _)| early(*ts)) {
                    next[replica] += 1;
                }
            }
            current = earliest(&next).unwrap_or(current);
        }
    }
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
            Box::pin(async { Err(StorageError::Remote("b is down".into())) })
        }

        fn label_names<'a>(
            &'a self,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Err(StorageError::Remote("b is down".into())) })
        }

        fn label_values<'a>(
            &'a self,
            _: &'a str,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Err(StorageError::Remote("b is down".into())) })
        }
    }

    fn store(pairs: &[(&str, &str)], samples: impl Iterator<Item = (i64, f64)>) -> Arc<dyn Source> {
        let storage = MemoryStorage::new();
        let labels = Labels::from_pairs([("__name__", "m")].iter().chain(pairs).copied());
        for (ts, v) in samples {
            storage.append(&labels, ts, v, None).unwrap();
        }
        Arc::new(storage)
    }

    fn read(shards: &Shards) -> Result<(Vec<String>, Vec<String>), StorageError> {
        let request = SelectRequest {
            matchers: vec![Matcher::equal("__name__", "m")],
            from_ms: 0,
            to_ms: 1_000_000,
            hints: SelectHints::default(),
        };
        let set = shards.select(&request).now_or_never().unwrap()?;
        let show = |series: &Arc<dyn RawSeries>| {
            let mut out = RawSamples::default();
            series.read_into(0, 1_000_000, &mut out).unwrap();
            let points = out.ts.iter().zip(&out.vs).map(|(ts, v)| format!(" {ts}={v}"));
            series.labels().to_string() + &points.collect::<String>()
        };
        Ok((set.series.iter().map(show).collect(), set.warnings))
    }

    #[test]
    fn of_replicas_one_is_read_until_it_pauses() {
        // The first sees the counter each 10 s and misses five turns; the other is 4 s behind.
        let a = (0..20).filter(|i| !(8..13).contains(i)).map(|i| (i * 10, i as f64));
        let b = (0..20).map(|i| (i * 10 + 4, i as f64 + 0.4));
        let members = vec![
            store(&[("job", "x"), ("replica", "a")], a),
            store(&[("job", "x"), ("replica", "b")], b),
        ];
        let shards = Shards::new(members, vec!["replica".into()], PartialResponse::Fail);
        let (series, _) = read(&shards).unwrap();
        let [series] = &series[..] else { panic!("{series:?}") };
        let (labels, points) = series.split_once("} ").unwrap();
        assert_eq!(labels, "{__name__=\"m\", job=\"x\"");
        let points: Vec<(i64, f64)> = points
            .split(' ')
            .map(|p| p.split_once('=').map(|(t, v)| (t.parse().unwrap(), v.parse().unwrap())))
            .map(Option::unwrap)
            .collect();
        let expected: Vec<(i64, f64)> = (0..8)
            .map(|i| (i * 10, i as f64))
            .chain((8..20).map(|i| (i * 10 + 4, i as f64 + 0.4)))
            .collect();
        assert_eq!(points, expected);
        assert!(points.windows(2).all(|w| w[0].1 < w[1].1), "no false reset");
    }

    #[test]
    fn what_failed_is_an_error_or_a_warning_as_the_policy_says() {
        let members = |n: usize| -> Vec<Arc<dyn Source>> {
            let whole = store(&[("job", "x")], [(1, 1.0)].into_iter());
            [whole, Arc::new(Broken), Arc::new(Broken)][..n].to_vec()
        };
        let shards = |n, partial| Shards::new(members(n), vec![], partial);
        assert!(read(&shards(2, PartialResponse::Fail)).is_err());
        let (series, warnings) = read(&shards(2, PartialResponse::Warn)).unwrap();
        assert_eq!(
            (series, warnings),
            (vec!["{__name__=\"m\", job=\"x\"} 1=1".to_owned()], vec!["b is down".to_owned()])
        );
        let down = Shards::new(members(3)[1..].to_vec(), vec![], PartialResponse::Warn);
        assert!(read(&down).is_err(), "nobody answered");
    }

    #[test]
    fn shards_hold_everything_together() {
        let members = vec![
            store(&[("shard", "0")], [(1, 1.0)].into_iter()),
            store(&[("shard", "1")], [(2, 2.0)].into_iter()),
            store(&[("shard", "1")], [(1, 7.0), (2, 9.0)].into_iter()),
        ];
        let shards = Shards::new(members, vec![], PartialResponse::Fail);
        let (series, _) = read(&shards).unwrap();
        assert_eq!(
            series,
            ["{__name__=\"m\", shard=\"0\"} 1=1", "{__name__=\"m\", shard=\"1\"} 1=7 2=2"]
        );
    }
}
