//! What is asked of a server at the same time, as by the rules of a tick, as one request: a
//! selector for each of them, less those whose series another one finds as well. What rules
//! ask for again and again is kept in between (`kept.rs`). A request that is refused is
//! divided, so that what is wrong with one selector fails those alone who asked for it.
//!
//! How a server is asked is [`Fetch`]'s business: `export.rs`, `queried.rs`, `read_wire.rs`.

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
use crate::storage::{SelectRequest, SeriesSet, StorageError};
use crate::vector::RawSamples;

/// Answers up to this size are unpacked where they arrive.
const SMALL_BYTES: usize = 256 << 10;
/// How long is waited for others who ask at the same time.
const GATHER: Duration = Duration::from_millis(2);
/// Most bytes of the selectors of one request.
const SELECTOR_BYTES_MAX: usize = 1 << 20;
/// How often a plan is made anew when what was kept went away in the meantime.
const PLANS_MAX: usize = 3;

type Answer = Result<SeriesSet, StorageError>;
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

    /// Whether what a selector finds is what its matchers say of the labels of series. Servers
    /// that leave out labels of replicas answer `up{replica="a"}` with series that have none.
    const TELLS_ALL_LABELS: bool = true;

    /// Which selectors are asked for by one request, as numbers of theirs; each stands in one.
    /// All are, of servers that take any number of selectors.
    fn requests(
        selectors: &[&[Matcher]],
        _interval: (TimestampMs, TimestampMs),
    ) -> Vec<Vec<usize>> {
        vec![(0..selectors.len()).collect()]
    }

    /// Asks for the samples of selectors in a closed interval, once or again where that may
    /// help: in as few requests as can be, one after the other. The caller bounds the time.
    fn ask<'a>(
        &'a self,
        selectors: Vec<&'a [Matcher]>,
        interval: (TimestampMs, TimestampMs),
    ) -> BoxFuture<'a, Result<Self::Body, Refused>>;

    /// How large an answer is, for whether its unpacking would hold others up.
    fn size(body: &Self::Body) -> usize;

    /// What an answer holds. Samples may reach beyond the interval.
    fn unpack(
        body: &Self::Body,
        interval: (TimestampMs, TimestampMs),
    ) -> Result<Unpacked<'_>, String>;

    /// The labels of a series.
    fn labels(key: &[u8]) -> Result<Labels, String>;
}

/// What an answer holds.
#[derive(Default)]
pub(super) struct Unpacked<'a> {
    /// The samples of each series, in time order. The key of a series is the same in each
    /// answer.
    pub found: HashMap<Cow<'a, [u8]>, RawSamples>,
    /// Series that cannot be read, and why: who asked for them has no answer.
    pub refused: Vec<(Labels, String)>,
    /// What the server wants the user to know, as that part of it did not answer.
    pub warnings: Vec<String>,
}

impl<'a> From<HashMap<Cow<'a, [u8]>, RawSamples>> for Unpacked<'a> {
    fn from(found: HashMap<Cow<'a, [u8]>, RawSamples>) -> Self {
        Self { found, ..Self::default() }
    }
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
        answer.expect("BUG: every request of a batch has an answer of its own")
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

/// What becomes of the windows of a unit.
#[derive(Default)]
struct Fetched {
    /// Those that have to be fetched whole, and are kept.
    late: Vec<usize>,
    /// Those of which not all was told: they are fetched whole, and not kept.
    partial: Vec<usize>,
    /// Those of which it cannot be told which series are whose: each is asked for alone.
    alone: Vec<usize>,
    /// What was kept has been dropped meanwhile.
    outdated: bool,
    /// The series of those that are not kept, and errors.
    results: Vec<(usize, Result<Got, StorageError>)>,
}

/// A series of an answer.
type Found = (Labels, Arc<RawSamples>);

/// Series, and warnings.
type Got = (Vec<Found>, Vec<String>);

/// By window: its series when it is not kept.
type Results = HashMap<usize, Result<Got, StorageError>>;

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
        let mut numbers: Vec<usize> = (0..plan.windows.len()).collect();
        // What is late is fetched whole, and what is partial, or mixed up, then is not kept.
        while !numbers.is_empty() {
            let again = self.fetch_all(&plan, &numbers, &mut results).await?;
            numbers = [&again.late[..], &again.partial, &again.alone].concat();
            for number in &numbers {
                let window = &mut plan.windows[*number];
                (window.fetch_from_ms, window.known_to_ms) = (Some(window.from_ms), None);
            }
            again.partial.iter().for_each(|number| plan.windows[*number].kept = false);
            for number in &again.alone {
                let window = &mut plan.windows[*number];
                (window.kept, window.alone) = (false, true);
            }
        }
        let max = self.server.limits().series;
        requests
            .iter()
            .zip(&plan.of_request)
            .map(|(request, number)| {
                let (series, warnings): (Vec<_>, _) = match results.get(number) {
                    Some(Err(error)) => return Ok(Err(error.clone())),
                    Some(Ok((found, warnings))) => {
                        let (from_ms, to_ms) = (request.from_ms, request.to_ms);
                        let inside = |(l, raw): &Found| series_in(l, raw, from_ms, to_ms);
                        (found.iter().filter_map(inside).collect(), warnings.clone())
                    }
                    None => (self.kept.series(plan.generation, request)?, Vec::new()),
                };
                match series.len() > max {
                    true => Ok(Err(self.server.endpoint().too_many_series(max))),
                    false => Ok(Ok(SeriesSet { series, warnings })),
                }
            })
            .collect()
    }

    /// Fetches what is missing of these windows, in as few requests as can be. Gives those
    /// that have to be fetched again.
    async fn fetch_all(
        &self,
        plan: &Plan,
        numbers: &[usize],
        results: &mut Results,
    ) -> Result<Fetched, Outdated> {
        let mut units: BTreeMap<(i64, i64, bool, Option<i64>), Vec<usize>> = BTreeMap::new();
        for number in numbers {
            let Window { fetch_from_ms, to_ms, kept, known_to_ms, .. } = plan.windows[*number];
            let Some(from_ms) = fetch_from_ms else { continue };
            units.entry((from_ms, to_ms, kept, known_to_ms)).or_default().push(*number);
        }
        let units = units.into_values().flat_map(|unit| Self::divided(plan, &unit));
        let fetched = units.map(|unit| self.fetch_unit(plan, unit));
        let mut again = Fetched::default();
        for (unit, result) in join_all(fetched).await.into_iter().flatten() {
            match result {
                Ok(fetched) if fetched.outdated => return Err(Outdated),
                Ok(fetched) => {
                    again.late.extend(fetched.late);
                    again.partial.extend(fetched.partial);
                    again.alone.extend(fetched.alone);
                    results.extend(fetched.results);
                }
                Err(error) => results.extend(unit.iter().map(|n| (*n, Err(error.clone())))),
            }
        }
        Ok(again)
    }

    /// Windows by the request that finds their series.
    fn divided(plan: &Plan, unit: &[usize]) -> Vec<Vec<usize>> {
        let (alone, unit): (Vec<usize>, Vec<usize>) =
            unit.iter().partition(|number| plan.windows[**number].alone);
        let found_by = Self::found_by(plan, &unit);
        let mut asked: Vec<usize> = found_by.iter().map(|(_, by)| *by).collect();
        asked.sort_unstable();
        asked.dedup();
        let matchers: Vec<&[Matcher]> =
            asked.iter().map(|n| plan.windows[*n].matchers.as_slice()).collect();
        let mut of = HashMap::new();
        let first = unit.first().map(|number| &plan.windows[*number]);
        let interval = first.map_or((0, 0), Window::interval);
        let requests = F::requests(&matchers, interval);
        for (request, selectors) in requests.iter().enumerate() {
            of.extend(selectors.iter().map(|place| (asked[*place], request)));
        }
        let mut units = vec![Vec::new(); requests.len()];
        for (number, by) in found_by {
            units[of[&by]].push(number);
        }
        units.extend(alone.into_iter().map(|number| vec![number]));
        units.retain(|unit| !unit.is_empty());
        units
    }

    /// For each window the one whose selector finds its series.
    fn found_by(plan: &Plan, unit: &[usize]) -> Vec<(usize, usize)> {
        match F::TELLS_ALL_LABELS {
            true => widest(&plan.windows, unit),
            false => unit.iter().map(|number| (*number, *number)).collect(),
        }
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
            let asked: Vec<&[Matcher]> = Self::found_by(plan, &unit)
                .iter()
                .filter(|(number, by)| number == by)
                .map(|(_, by)| plan.windows[*by].matchers.as_slice())
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
            pending.extend(Self::divided(plan, &half));
            pending.extend(Self::divided(plan, &unit));
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
        let Some(first) = windows.first() else { return Ok(Fetched::default()) };
        let interval = first.interval();
        let body = self.server.ask(asked, interval).await.map_err(|refused| {
            *divide = refused.by_request;
            refused.error
        })?;
        let (kept, made, now) = (self.kept.clone(), (plan.generation, plan.round), self.now());
        let (is_kept, alone, numbers) = (first.kept, first.alone, unit.to_vec());
        let small = F::size(&body) <= SMALL_BYTES;
        let unpack = move || {
            let mut fetched = Fetched::default();
            let unpacked = F::unpack(&body, interval)?;
            if !F::TELLS_ALL_LABELS && !alone && !all_asked_for::<F>(&unpacked, &windows)? {
                fetched.alone = numbers;
                return Ok((fetched, Vec::new()));
            }
            let Unpacked { mut found, refused, warnings } = unpacked;
            found.values_mut().for_each(|samples| clip(samples, interval));
            let of_all = |matchers: &[Matcher], labels: &Labels| {
                alone || matchers.iter().all(|m| m.matches_labels(labels))
            };
            let (refused, numbers, windows) = without(&refused, numbers, windows, of_all);
            if !is_kept {
                let found = sorted_out::<F>(found, &windows, alone)?;
                let got = |found| Ok((found, warnings.clone()));
                fetched.results = numbers.into_iter().zip(found.into_iter().map(got)).collect();
            } else if !warnings.is_empty() {
                fetched.partial = numbers;
            } else {
                let windows: Vec<&Window> = windows.iter().collect();
                let found = found.into_iter().collect();
                match kept.absorb(made, &windows, found, F::labels, now)? {
                    Ok(late) => fetched.late = late.into_iter().map(|at| numbers[at]).collect(),
                    Err(Outdated) => fetched.outdated = true,
                }
            }
            Ok((fetched, refused))
        };
        let unpacked = match small {
            true => unpack(),
            false => tokio::task::spawn_blocking(unpack)
                .await
                .unwrap_or_else(|e| Err(format!("decoding died: {e}"))),
        };
        let (mut fetched, refused) = unpacked.map_err(|why: String| self.wrong(why))?;
        let refused = refused.into_iter().map(|(number, why)| (number, Err(self.wrong(why))));
        fetched.results.extend(refused);
        Ok(fetched)
    }
}

/// The windows without those that asked for a series that cannot be read, which are given
/// with the reason.
#[allow(clippy::type_complexity, reason = "three lists that belong together")]
fn without(
    refused: &[(Labels, String)],
    numbers: Vec<usize>,
    windows: Vec<Window>,
    finds: impl Fn(&[Matcher], &Labels) -> bool,
) -> (Vec<(usize, String)>, Vec<usize>, Vec<Window>) {
    let asked_for = |window: &Window| {
        let found = |(labels, _): &&(Labels, String)| finds(&window.matchers, labels);
        refused.iter().find(found).map(|(_, why)| why.clone())
    };
    let (mut bad, mut left) = (Vec::new(), (Vec::new(), Vec::new()));
    for (number, window) in numbers.into_iter().zip(windows) {
        match asked_for(&window) {
            Some(why) => bad.push((number, why)),
            None => {
                left.0.push(number);
                left.1.push(window);
            }
        }
    }
    (bad, left.0, left.1)
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

/// Whether each series is one that a window asked for, as far as its labels tell.
fn all_asked_for<F: Fetch>(unpacked: &Unpacked<'_>, windows: &[Window]) -> Result<bool, String> {
    let mut named: HashMap<&str, Vec<&Window>> = HashMap::new();
    for window in windows {
        let name = window.matchers.iter().find_map(Matcher::metric_name).unwrap_or_default();
        named.entry(name).or_default().push(window);
    }
    let asked_for = |labels: &Labels| {
        let near = [labels.metric_name(), ""].into_iter().filter_map(|name| named.get(name));
        near.flatten().any(|window| window.matchers.iter().all(|m| m.matches_labels(labels)))
    };
    for key in unpacked.found.keys() {
        if !asked_for(&F::labels(key)?) {
            return Ok(false);
        }
    }
    Ok(unpacked.refused.iter().all(|(labels, _)| asked_for(labels)))
}

/// The series of each window, sorted by labels; all of them are those of one that is alone.
fn sorted_out<F: Fetch>(
    found: HashMap<Cow<'_, [u8]>, RawSamples>,
    windows: &[Window],
    alone: bool,
) -> Result<Vec<Vec<Found>>, String> {
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
    if alone {
        return Ok(windows.iter().map(|_| all.clone()).collect());
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
    Ok(windows.iter().map(of_window).collect())
}
