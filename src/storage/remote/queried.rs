//! Raw samples by the query API, for many selectors at once (`joined.rs`, `batch.rs`): what
//! `selector[range]` evaluates to, and which series a server sees at a time.
//!
//! Ranges have no staleness markers, which functions of ranges do not look at; who looks at
//! the newest sample of a series asks as well whether the server sees the series.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join};

use super::api::{Steps, mark_unseen, parse_query, seconds, selector};
use super::batch::{Batches, Fetch, Unpacked};
use super::client::QueryApi;
use super::endpoint::{Endpoint, Refused};
use super::joined::join;
use super::kept::{Keeping, Kept};
use super::series::Sampled;
use super::{DatasourceConfig, Limits};
use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::{RawSeries, SelectHints, SelectRequest, SeriesSet, StorageError};
use crate::vector::RawSamples;

/// Selectors over a query API.
pub(super) struct Queried {
    ranges: Batches<Asking>,
    instants: Batches<Asking>,
}

impl Queried {
    pub(super) fn new(api: &Arc<QueryApi>, config: &DatasourceConfig) -> Self {
        let asking = |range| Asking { api: api.clone(), range };
        let nothing = Kept::new(Keeping::NOTHING, api.endpoint.metrics.clone());
        Self {
            ranges: Batches::new(asking(true), super::kept(config, &api.endpoint)),
            instants: Batches::new(asking(false), nothing),
        }
    }

    /// The raw samples of a selector at one step.
    pub(super) async fn raw(&self, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let hints = &request.hints;
        // A range alone, looked at by a function of ranges, never shows a marker.
        if hints.range_ms > 0 && !hints.function.is_empty() {
            return self.ranges.select(request).await;
        }
        let at = request.to_ms;
        let (raw, seen) =
            try_join(self.ranges.select(request), self.seen(&request.matchers, at)).await?;
        let SeriesSet { series, mut warnings } = raw;
        warnings.extend(seen.warnings);
        let seen: HashMap<&[u8], &Arc<dyn RawSeries>> =
            seen.series.iter().map(|series| (series.labels().as_bytes(), series)).collect();
        let mut marked: Vec<Arc<dyn RawSeries>> = Vec::with_capacity(series.len());
        for one in series {
            let (mut samples, mut there) = (RawSamples::default(), RawSamples::default());
            one.read_into(request.from_ms, at, &mut samples)?;
            if let Some(seen) = seen.get(one.labels().as_bytes()) {
                seen.read_into(at, at, &mut there)?;
            }
            mark_unseen(&mut samples, &there, Steps::at(at));
            let (labels, samples) = (one.labels().clone(), Arc::new(samples));
            marked.push(Arc::new(Sampled { labels, samples }));
        }
        Ok(SeriesSet { series: marked, warnings })
    }

    /// The series the server sees at a time, each with its value as a sample of that time.
    pub(super) async fn seen(
        &self,
        matchers: &[Matcher],
        at_ms: TimestampMs,
    ) -> Result<SeriesSet, StorageError> {
        let request = SelectRequest {
            matchers: matchers.to_vec(),
            from_ms: at_ms,
            to_ms: at_ms,
            hints: SelectHints::default(),
        };
        self.instants.select(&request).await
    }
}

/// How many selectors are one query at most. Servers look up so many values of a label each by
/// itself; and of long windows, as of a day, few are a large answer.
fn most((from_ms, to_ms): (TimestampMs, TimestampMs)) -> usize {
    const SELECTORS_MAX: i64 = 64;
    const HOUR_MS: i64 = 3_600_000;
    let hours = to_ms.saturating_sub(from_ms).div_euclid(HOUR_MS).max(1);
    usize::try_from(SELECTORS_MAX / hours).unwrap_or(1).max(1)
}

/// How they are asked for.
struct Asking {
    api: Arc<QueryApi>,
    /// All samples of the interval; else what is seen at its end.
    range: bool,
}

impl Fetch for Asking {
    /// Of each query.
    type Body = Vec<Vec<u8>>;

    fn endpoint(&self) -> &Endpoint {
        &self.api.endpoint
    }

    fn limits(&self) -> Limits {
        self.api.limits
    }

    fn bytes_of(matchers: &[Matcher]) -> usize {
        selector(matchers).len()
    }

    const TELLS_ALL_LABELS: bool = false;

    fn requests(selectors: &[&[Matcher]], interval: (TimestampMs, TimestampMs)) -> Vec<Vec<usize>> {
        join(selectors, most(interval)).into_iter().map(|joined| joined.of).collect()
    }

    fn ask<'a>(
        &'a self,
        selectors: Vec<&'a [Matcher]>,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
    ) -> BoxFuture<'a, Result<Self::Body, Refused>> {
        // Ranges are open at their start; of older servers closed, and what is too much is cut.
        let range_ms = to_ms.saturating_sub(from_ms).saturating_add(1);
        Box::pin(async move {
            let mut bodies = Vec::new();
            for joined in join(&selectors, most((from_ms, to_ms))) {
                let query = match self.range {
                    true => format!("{}[{range_ms}ms]", joined.text),
                    false => joined.text,
                };
                let form = vec![("query", query), ("time", seconds(to_ms))];
                bodies.push(self.api.post(&["query"], &form).await?);
            }
            Ok(bodies)
        })
    }

    fn size(bodies: &Self::Body) -> usize {
        bodies.iter().map(Vec::len).sum()
    }

    fn unpack(bodies: &Self::Body, _: (TimestampMs, TimestampMs)) -> Result<Unpacked<'_>, String> {
        let mut all = Unpacked::default();
        for body in bodies {
            let answer = parse_query(body)?;
            for (labels, samples) in answer.found {
                match all.found.entry(Cow::Owned(labels.as_bytes().to_vec())) {
                    Entry::Vacant(free) => _ = free.insert(samples),
                    // Another selector found the series too.
                    Entry::Occupied(mut known) => {
                        let merged = merge(known.get(), &samples);
                        known.insert(merged);
                    }
                }
            }
            all.refused.extend(answer.refused);
            all.warnings.extend(answer.warnings);
        }
        Ok(all)
    }

    fn labels(key: &[u8]) -> Result<Labels, String> {
        Labels::from_encoded(key).ok_or_else(|| "BUG: labels are not as they were".to_owned())
    }
}
