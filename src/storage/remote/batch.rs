//! What is asked of a server at the same time, as by the rules of a tick, as one request: a
//! selector for each of them, less those whose series another one finds as well. What rules
//! ask for again and again is kept in between (`kept.rs`). A request that is refused is
//! divided, so that what is wrong with one selector fails those alone who asked for it.
//!
//! How a server is asked is [`Fetch`]'s business: `export.rs`, `read.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Endpoint, Refused};
use super::kept::{Kept, Now, Outdated, Plan, Window, series_in, widest};
use super::{Limits, failed};
use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::{RawSeries, SelectRequest, SeriesSet, StorageError};
use crate::vector::RawSamples;

/// Answers up to this size are unpacked where they arrive.
const SMALL_BYTES: usize = 256 << 10;
/// How long is waited for others who ask at the same time.
const GATHER: Duration = Duration::from_millis(2);
/// Most bytes of the selectors of one request.
const SELECTOR_BYTES_MAX: usize = 1 << 20;
/// How often a plan is made anew when what was kept went away in the meantime.
const PLANS_MAX: usize = 3;

type Answer = Result<Vec<Arc<dyn RawSeries>>, StorageError>;
/// By request; each is taken once.
type Answers = Arc<Mutex<Vec<Option<Answer>>>>;

/// Requests that wait for others, until they are asked.
type Gathering = Arc<Mutex<Option<Vec<SelectRequest>>>>;

/// What all who joined a batch wait for.
type Batch = Shared<BoxFuture<'static, Answers>>;

/// How the samples of selectors are had of a server.
pub(super) trait Fetch: Send + Sync + 'static {
    /// An answer as it arrived.
    type Body: Send + 'static;

    fn endpoint(&self) -> &Endpoint;
    fn limits(&self) -> Limits;

    /// A selector as a request has it, for its size.
    fn bytes_of(matchers: &[Matcher]) -> usize;

    /// Asks for the samples of selectors in a closed interval, once or again where that may
    /// help. The caller bounds the time.
    fn ask<'a>(
        &'a self,
        selectors: Vec<&'a [Matcher]>,
        interval: (TimestampMs, TimestampMs),
    ) -> BoxFuture<'a, Result<Self::Body, Refused>>;

    /// How large an answer is, for whether its unpacking would hold others up.
    fn size(body: &Self::Body) -> usize;

    /// The samples of each series, which may reach beyond the interval, in time order. The key
    /// of a series is the same in each answer.
    fn unpack(
        body: &Self::Body,
        interval: (TimestampMs, TimestampMs),
    ) -> Result<HashMap<Cow<'_, [u8]>, RawSamples>, String>;

    /// The labels of a series.
    fn labels(key: &[u8]) -> Result<Labels, String>;
}

/// See the module.
pub(super) struct Batches<F> {
    inner: Arc<Inner<F>>,
    /// The batch that may still be joined. It lives as long as somebody waits for it.
    open: Mutex<Option<(Gathering, WeakShared<BoxFuture<'static, Answers>>)>>,
}

impl<F: Fetch> Batches<F> {
    pub(super) fn new(server: F, kept: Kept) -> Self {
        let (kept, windows_max) = (Arc::new(kept), AtomicUsize::new(usize::MAX));
        Self { inner: Arc::new(Inner { server, kept, windows_max }), open: Mutex::default() }
    }

    pub(super) async fn select(&self, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let (place, batch) = self.join(request);
        let answers = batch.await;
        let answer = answers.lock().get_mut(place).and_then(Option::take);
        let series = answer.expect("BUG: every request of a batch has an answer of its own")?;
        Ok(SeriesSet { series, warnings: Vec::new() })
    }

    /// Joins the batch that is open, or opens one.
    fn join(&self, request: &SelectRequest) -> (usize, Batch) {
        let mut open = self.open.lock();
        if let Some((gathering, batch)) = &*open
            && let Some(batch) = batch.upgrade()
            && let Some(requests) = &mut *gathering.lock()
        {
            requests.push(request.clone());
            return (requests.len() - 1, batch);
        }
        let gathering: Gathering = Arc::new(Mutex::new(Some(vec![request.clone()])));
        let (inner, requests) = (self.inner.clone(), gathering.clone());
        // A task of its own wakes those who wait once, not for every piece that arrives; it
        // ends with the last of them.
        let batch = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            let requests = requests.lock().take().unwrap_or_default();
            Arc::new(Mutex::new(inner.answer(&requests).await.into_iter().map(Some).collect()))
        }));
        let batch = async move {
            match batch.await.map_err(JoinError::try_into_panic) {
                Ok(answers) => answers,
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime ends, and with it those who wait.
                Err(Err(_)) => std::future::pending().await,
            }
        };
        let batch = batch.boxed().shared();
        *open = batch.downgrade().map(|weak| (gathering, weak));
        (0, batch)
    }
}

struct Inner<F> {
    server: F,
    kept: Arc<Kept>,
    /// Most windows of one request: fewer after one that took too long.
    windows_max: AtomicUsize,
}

/// What becomes of the windows of a unit: series of those that are not kept.
enum Fetched {
    Kept { whole: Vec<usize> },
    Outdated,
    Direct(Vec<(usize, Vec<Found>)>),
}

/// A series of an answer.
type Found = (Labels, Arc<RawSamples>);

/// By window: its series when it is not kept.
type Results = HashMap<usize, Result<Vec<Found>, StorageError>>;

impl<F: Fetch> Inner<F> {
    fn now(&self) -> Now {
        let (ms, ns) = self.server.endpoint().now();
        Now { ms, ns }
    }

    fn wrong(&self, why: impl std::fmt::Display) -> StorageError {
        let endpoint = self.server.endpoint();
        failed(&endpoint.name, format_args!("{}: {why}", endpoint.shown_url()))
    }

    async fn answer(&self, requests: &[SelectRequest]) -> Vec<Answer> {
        for _ in 1..PLANS_MAX {
            let plan = self.kept.plan(requests, self.now());
            if let Ok(answers) = self.carry_out(plan, requests).await {
                return answers;
            }
        }
        // What is kept goes away faster than it can be used.
        let mut plan = self.kept.plan(requests, self.now());
        for window in plan.windows.iter_mut().filter(|w| w.kept) {
            let fetch_from_ms = Some(window.from_ms);
            *window = Window { kept: false, fetch_from_ms, known_to_ms: None, ..window.clone() };
        }
        let failed = || self.wrong("BUG: nothing is kept that could go away");
        self.carry_out(plan, requests)
            .await
            .unwrap_or_else(|Outdated| requests.iter().map(|_| Err(failed())).collect())
    }

    async fn carry_out(
        &self,
        mut plan: Plan,
        requests: &[SelectRequest],
    ) -> Result<Vec<Answer>, Outdated> {
        let mut results = Results::new();
        let all: Vec<usize> = (0..plan.windows.len()).collect();
        let late = self.fetch_all(&plan, &all, &mut results).await?;
        for number in &late {
            let window = &mut plan.windows[*number];
            (window.fetch_from_ms, window.known_to_ms) = (Some(window.from_ms), None);
        }
        self.fetch_all(&plan, &late, &mut results).await?;
        let max = self.server.limits().series;
        requests
            .iter()
            .zip(&plan.of_request)
            .map(|(request, number)| {
                let series: Vec<_> = match results.get(number) {
                    Some(Err(error)) => return Ok(Err(error.clone())),
                    Some(Ok(found)) => found
                        .iter()
                        .filter_map(|(l, raw)| series_in(l, raw, request.from_ms, request.to_ms))
                        .collect(),
                    None => self.kept.series(plan.generation, request)?,
                };
                match series.len() > max {
                    true => Ok(Err(self.server.endpoint().too_many_series(max))),
                    false => Ok(Ok(series)),
                }
            })
            .collect()
    }

    /// Fetches what is missing of these windows, in as few requests as can be. Gives those
    /// that have to be fetched whole.
    async fn fetch_all(
        &self,
        plan: &Plan,
        numbers: &[usize],
        results: &mut Results,
    ) -> Result<Vec<usize>, Outdated> {
        let mut units: BTreeMap<(i64, i64, bool, Option<i64>), Vec<usize>> = BTreeMap::new();
        for number in numbers {
            let Window { fetch_from_ms, to_ms, kept, known_to_ms, .. } = plan.windows[*number];
            let Some(from_ms) = fetch_from_ms else { continue };
            units.entry((from_ms, to_ms, kept, known_to_ms)).or_default().push(*number);
        }
        let fetched = units.into_values().map(|unit| self.fetch_unit(plan, unit));
        let mut late = Vec::new();
        for (unit, result) in join_all(fetched).await.into_iter().flatten() {
            match result {
                Ok(Fetched::Kept { whole }) => late.extend(whole),
                Ok(Fetched::Outdated) => return Err(Outdated),
                Ok(Fetched::Direct(found)) => {
                    results.extend(found.into_iter().map(|(number, found)| (number, Ok(found))));
                }
                Err(error) => results.extend(unit.iter().map(|n| (*n, Err(error.clone())))),
            }
        }
        Ok(late)
    }

    /// Windows of one interval: as one request, or as several when it is too much or is
    /// refused.
    async fn fetch_unit(
        &self,
        plan: &Plan,
        unit: Vec<usize>,
    ) -> Vec<(Vec<usize>, Result<Fetched, StorageError>)> {
        let mut done = Vec::new();
        let mut pending = vec![unit];
        while let Some(mut unit) = pending.pop() {
            let asked: Vec<&[Matcher]> = widest(&plan.windows, &unit)
                .iter()
                .map(|n| plan.windows[*n].matchers.as_slice())
                .collect();
            let max = self.windows_max.load(Ordering::Relaxed);
            let large = asked.iter().map(|m| F::bytes_of(m)).sum::<usize>() > SELECTOR_BYTES_MAX;
            if unit.len() < 2 || !large && unit.len() <= max {
                let (mut divide, mut in_time) = (false, false);
                let exchange = async {
                    let result = self.fetch(plan, &unit, asked, &mut divide).await;
                    in_time = true;
                    result
                };
                let result = self.server.endpoint().within_time(exchange).await;
                // What is asked next is smaller, until that is answered in time again.
                let max = if in_time { max.saturating_mul(2) } else { unit.len().div_ceil(2) };
                self.windows_max.store(max, Ordering::Relaxed);
                if !divide || unit.len() < 2 {
                    done.push((unit, result));
                    continue;
                }
            }
            let half = unit.split_off(unit.len() / 2);
            pending.extend([half, unit]);
        }
        done
    }

    async fn fetch(
        &self,
        plan: &Plan,
        unit: &[usize],
        asked: Vec<&[Matcher]>,
        divide: &mut bool,
    ) -> Result<Fetched, StorageError> {
        let windows: Vec<Window> = unit.iter().map(|n| plan.windows[*n].clone()).collect();
        let Some(first) = windows.first() else { return Ok(Fetched::Direct(Vec::new())) };
        let interval = (first.fetch_from_ms.unwrap_or(first.from_ms), first.to_ms);
        let body = self.server.ask(asked, interval).await.map_err(|refused| {
            *divide = refused.by_request;
            refused.error
        })?;
        let (kept, generation, now) = (self.kept.clone(), plan.generation, self.now());
        let (is_kept, numbers) = (first.kept, unit.to_vec());
        let small = F::size(&body) <= SMALL_BYTES;
        let unpack = move || {
            let mut found = F::unpack(&body, interval)?;
            found.values_mut().for_each(|samples| clip(samples, interval));
            if !is_kept {
                return Ok(Fetched::Direct(sorted_out::<F>(found, &numbers, &windows)?));
            }
            let windows: Vec<&Window> = windows.iter().collect();
            let found = found.into_iter().collect();
            Ok(match kept.absorb(generation, &windows, found, F::labels, now)? {
                Ok(whole) => {
                    Fetched::Kept { whole: whole.into_iter().map(|at| numbers[at]).collect() }
                }
                Err(Outdated) => Fetched::Outdated,
            })
        };
        let unpacked = match small {
            true => unpack(),
            false => tokio::task::spawn_blocking(unpack)
                .await
                .unwrap_or_else(|e| Err(format!("decoding died: {e}"))),
        };
        unpacked.map_err(|why: String| self.wrong(why))
    }
}

/// Leaves what lies in the interval.
fn clip(samples: &mut RawSamples, (from_ms, to_ms): (TimestampMs, TimestampMs)) {
    let inside = |ts: &TimestampMs| (from_ms..=to_ms).contains(ts);
    let hist = samples.hist.iter().map(|(ts, _)| ts);
    if !samples.ts.iter().chain(hist).all(inside) {
        let mut clipped = RawSamples::default();
        clipped.extend_from(samples, from_ms, to_ms);
        *samples = clipped;
    }
}

/// The series of each window, sorted by labels.
fn sorted_out<F: Fetch>(
    found: HashMap<Cow<'_, [u8]>, RawSamples>,
    numbers: &[usize],
    windows: &[Window],
) -> Result<Vec<(usize, Vec<Found>)>, String> {
    let mut all: BTreeMap<Labels, RawSamples> = BTreeMap::new();
    for (text, samples) in found {
        let known = all.entry(F::labels(&text)?).or_default();
        *known = if known.is_empty() { samples } else { merge(known, &samples) };
    }
    let mut names: HashMap<&str, Vec<usize>> = HashMap::new();
    let all: Vec<Found> = all.into_iter().map(|(labels, raw)| (labels, Arc::new(raw))).collect();
    for (i, (labels, _)) in all.iter().enumerate() {
        names.entry(labels.metric_name()).or_default().push(i);
    }
    let every: Vec<usize> = (0..all.len()).collect();
    let none = Vec::new();
    let of_window = |window: &Window| -> Vec<Found> {
        let near = match window.matchers.iter().find_map(Matcher::metric_name) {
            Some(name) => names.get(name).unwrap_or(&none),
            None => &every,
        };
        let series = near.iter().map(|i| &all[*i]);
        let wanted = |found: &&Found| window.matchers.iter().all(|m| m.matches_labels(&found.0));
        series.filter(wanted).cloned().collect()
    };
    Ok(numbers.iter().zip(windows).map(|(number, window)| (*number, of_window(window))).collect())
}
