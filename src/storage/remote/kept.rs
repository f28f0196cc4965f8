//! Samples that were fetched before and will be wanted again: rules ask for the same
//! selectors at every tick, each time for a window that has moved on a little.
//!
//! A selector that is asked for again is kept from then on: the first time its whole window
//! is fetched, after that only what is newer than its last look, and a stretch before that
//! for samples that came late ([`Keeping::overlap_ms`]). When one came so late that half of the
//! stretch was needed, others may have come later still, and the window is fetched whole
//! again at once; and so it is anyway once in [`Keeping::whole_ms`] to twice that. Series are kept once,
//! however many selectors find them.
//!
//! Pure: it says what is to be fetched and takes what was; who fetches is not known here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::metrics::ServerMetrics;
use super::series::Sampled;
use crate::model::{FloatHistogram, Labels, Matcher, TimestampMs};
use crate::storage::{RawSeries, SelectRequest};
use crate::vector::RawSamples;

/// What ends longer ago than this is not kept, and no selector that is not asked for as long.
const LAG_MAX_MS: i64 = 10 * 60_000;
/// So soon after a look the same is not looked at again: rules of one tick see one state.
const FRESH_NS: u64 = 1_000_000_000;
/// Selectors that were asked for once, remembered.
const SEEN_MAX: usize = 100_000;
/// Of a native histogram, in floats.
const HISTOGRAM_WEIGHT: usize = 32;
/// How often what nobody asks for any more is looked for.
const SWEEP_MS: i64 = 60_000;

/// A time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub ms: TimestampMs,
    pub ns: u64,
}

/// What is wanted of one selector in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub matchers: Vec<Matcher>,
    pub from_ms: TimestampMs,
    pub to_ms: TimestampMs,
    /// From when on samples have to be fetched; `None`: everything is there.
    pub fetch_from_ms: Option<TimestampMs>,
    /// Samples up to this are looked at anew, no older ones (with `kept`, when not whole).
    pub known_to_ms: Option<TimestampMs>,
    /// What is fetched is for [`Kept::absorb`].
    pub kept: bool,
    /// It is asked for by itself, and all that is answered is of it.
    pub alone: bool,
}

impl Window {
    /// What is to be fetched, closed.
    pub(super) fn interval(&self) -> (TimestampMs, TimestampMs) {
        (self.fetch_from_ms.unwrap_or(self.from_ms), self.to_ms)
    }
}

/// What a batch of requests comes to.
#[derive(Debug)]
pub(super) struct Plan {
    pub generation: u64,
    /// What had been absorbed when it was made.
    pub round: u64,
    pub windows: Vec<Window>,
    /// For each request its window.
    pub of_request: Vec<usize>,
}

/// What was kept has been dropped since the plan was made: it is to be made again.
#[derive(Debug)]
pub(super) struct Outdated;

/// What is kept, and how often it is looked at again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// How late samples may come.
    pub overlap_ms: i64,
    /// Windows are fetched whole again after this, and up to as much again: not all at once.
    pub whole_ms: i64,
    /// Most samples; none are kept with 0.
    pub samples_max: usize,
}

impl Keeping {
    /// Nothing is kept.
    pub const NOTHING: Self = Self { overlap_ms: 0, whole_ms: 0, samples_max: 0 };
}

/// See the module.
pub(super) struct Kept {
    keeping: Keeping,
    metrics: ServerMetrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Changes whenever selectors or series are dropped.
    generation: u64,
    /// Counts what was absorbed.
    round: u64,
    series: Vec<One>,
    /// By their labels as the server writes them.
    texts: HashMap<Box<[u8]>, usize>,
    labels: HashMap<Labels, usize>,
    /// By their metric name, "" without one.
    of_name: HashMap<String, Vec<usize>>,
    selectors: HashMap<Vec<Matcher>, Selector>,
    /// Selectors by the metric name they demand, "" without one.
    names: HashMap<String, Vec<Vec<Matcher>>>,
    /// Asked for once: when.
    seen: HashMap<Vec<Matcher>, TimestampMs>,
    samples: usize,
    swept_ms: TimestampMs,
    /// There was too much to keep: nothing is until then.
    refuses_until_ms: TimestampMs,
}

/// A series.
struct One {
    labels: Labels,
    raw: Arc<RawSamples>,
    /// How long samples may be wanted.
    keep_ms: i64,
    /// The last round that had samples of it.
    round: u64,
    /// The last round in which one of them came late.
    late: u64,
}

struct Selector {
    /// What is known of all its series, closed.
    known: Option<(TimestampMs, TimestampMs)>,
    looked_ns: u64,
    whole_until_ms: TimestampMs,
    asked_ms: TimestampMs,
    keep_ms: i64,
    /// Sorted by labels.
    series: Vec<usize>,
}

/// The handle on a series of an answer, with the samples there are now; `None` when it has nothing in the interval.
pub(super) fn series_in(
    labels: &Labels,
    raw: &Arc<RawSamples>,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
) -> Option<Arc<dyn RawSeries>> {
    let float = raw.ts.get(raw.ts.partition_point(|ts| *ts < from_ms));
    let histogram = raw.hist.get(raw.hist.partition_point(|(ts, _)| *ts < from_ms));
    let inside = |ts: &TimestampMs| *ts <= to_ms;
    let found = float.is_some_and(inside) || histogram.is_some_and(|(ts, _)| inside(ts));
    let series = || Sampled { labels: labels.clone(), samples: raw.clone() };
    found.then(|| Arc::new(series()) as _)
}

/// How much of what may be kept samples take: a histogram as much as a number of floats.
fn weight(raw: &RawSamples) -> usize {
    raw.ts.len() + HISTOGRAM_WEIGHT * raw.hist.len()
}

/// Where the samples of a closed interval stand.
fn range<T>(
    all: &[T],
    ts: impl Fn(&T) -> TimestampMs,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
) -> std::ops::Range<usize> {
    let first = all.partition_point(|one| ts(one) < from_ms);
    first..all.partition_point(|one| ts(one) <= to_ms).max(first)
}

/// The metric name matchers demand, "" for none.
fn name_of(matchers: &[Matcher]) -> &str {
    matchers.iter().find_map(Matcher::metric_name).unwrap_or_default()
}

impl Kept {
    pub(super) fn new(keeping: Keeping, metrics: ServerMetrics) -> Self {
        Self { keeping, metrics, state: Mutex::default() }
    }

    /// What to fetch for these requests.
    pub(super) fn plan(&self, requests: &[SelectRequest], now: Now) -> Plan {
        let mut state = self.state.lock();
        self.sweep(&mut state, now.ms);
        let mut windows: Vec<Window> = Vec::new();
        let mut of_request = vec![0; requests.len()];
        let mut by_matchers: hashbrown::HashMap<&[Matcher], Vec<usize>, FxBuildHasher> =
            hashbrown::HashMap::default();
        for (number, request) in requests.iter().enumerate() {
            by_matchers.entry(&request.matchers).or_default().push(number);
        }
        for (matchers, mut numbers) in by_matchers {
            let instant = numbers.iter().all(|n| requests[*n].hints.step_ms == 0);
            // The newest first: what reaches into it is part of it.
            numbers.sort_by_key(|n| (std::cmp::Reverse(requests[*n].to_ms), *n));
            let first = windows.len();
            for number in numbers {
                let request = &requests[number];
                let open = windows.len() > first;
                match windows.last_mut().filter(|w| open && request.to_ms >= w.from_ms) {
                    Some(window) => window.from_ms = window.from_ms.min(request.from_ms),
                    None => windows.push(Window {
                        matchers: matchers.to_vec(),
                        from_ms: request.from_ms,
                        to_ms: request.to_ms,
                        fetch_from_ms: None,
                        known_to_ms: None,
                        kept: false,
                        alone: false,
                    }),
                }
                of_request[number] = windows.len() - 1;
            }
            windows[first..].iter_mut().for_each(|w| w.fetch_from_ms = Some(w.from_ms));
            // Others of the selector are far back.
            if instant {
                self.look(&mut state, &mut windows[first], now);
            }
        }
        Plan { generation: state.generation, round: state.round, windows, of_request }
    }

    /// Whether a window is kept, and what is there of it.
    fn look(&self, state: &mut State, window: &mut Window, now: Now) {
        let recent = (window.to_ms - now.ms).abs() <= LAG_MAX_MS;
        if !recent || self.keeping.samples_max == 0 || now.ms < state.refuses_until_ms {
            return;
        }
        let span_ms = window.to_ms.saturating_sub(window.from_ms);
        if !state.selectors.contains_key(&window.matchers) {
            let seen = state.seen.remove(&window.matchers);
            if seen.is_none_or(|at| at >= window.to_ms) {
                if state.seen.len() < SEEN_MAX {
                    state.seen.insert(window.matchers.clone(), window.to_ms);
                }
                return;
            }
            state.begin(&window.matchers);
        }
        window.kept = true;
        let selector = state.selectors.get_mut(&window.matchers);
        let selector = selector.expect("BUG: it was there or has just been put there");
        selector.asked_ms = now.ms;
        // What is older may have been dropped.
        let kept_from_ms = now.ms.saturating_sub(selector.keep_ms);
        let keep_ms =
            span_ms.saturating_add(2 * LAG_MAX_MS).saturating_add(self.keeping.overlap_ms);
        if keep_ms > selector.keep_ms {
            selector.keep_ms = keep_ms;
            for series in &selector.series {
                let series = &mut state.series[*series];
                series.keep_ms = series.keep_ms.max(keep_ms);
            }
        }
        let Some((from_ms, to_ms)) = selector.known else { return };
        let from_ms = from_ms.max(kept_from_ms);
        let continues = from_ms <= window.from_ms
            && window.to_ms.saturating_sub(to_ms) <= LAG_MAX_MS
            && now.ms < selector.whole_until_ms;
        if !continues {
            // One stretch is known of a selector: the new one is to reach as far.
            window.to_ms = window.to_ms.max(to_ms);
            return;
        }
        if window.to_ms <= to_ms && now.ns.saturating_sub(selector.looked_ns) < FRESH_NS {
            window.fetch_from_ms = None;
            return;
        }
        let again_ms = to_ms.min(window.to_ms).saturating_sub(self.keeping.overlap_ms);
        if again_ms > from_ms {
            window.to_ms = window.to_ms.max(to_ms);
            window.fetch_from_ms = Some(again_ms);
            window.known_to_ms = Some(again_ms + self.keeping.overlap_ms);
        }
    }

    /// Takes what was fetched for windows that are kept, all from the same time to the same
    /// time: series by their labels as text, whose reading may fail. Gives the windows that
    /// have to be fetched whole, as numbers in `windows`. First come generation and
    /// round of the plan.
    pub(super) fn absorb(
        &self,
        (generation, began): (u64, u64),
        windows: &[&Window],
        found: Vec<(Cow<'_, [u8]>, RawSamples)>,
        read: impl Fn(&[u8]) -> Result<Labels, String>,
        now: Now,
    ) -> Result<Result<Vec<usize>, Outdated>, String> {
        let Some(first) = windows.first() else { return Ok(Ok(Vec::new())) };
        let from_ms = first.fetch_from_ms.unwrap_or(first.from_ms);
        let interval = (from_ms, first.to_ms);
        let late_until_ms =
            first.known_to_ms.map_or(TimestampMs::MIN, |to_ms| to_ms - self.keeping.overlap_ms / 2);
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.generation != generation {
            return Ok(Err(Outdated));
        }
        state.round += 1;
        for (text, samples) in found {
            let number = match state.texts.get(&*text) {
                Some(number) => *number,
                None => match state.intern(&text, read(&text)?) {
                    Some(number) => number,
                    None => continue,
                },
            };
            state.put(number, interval, samples, late_until_ms, now.ms);
        }
        let mut whole = Vec::new();
        for (place, window) in windows.iter().enumerate() {
            let Some(selector) = state.selectors.get_mut(&window.matchers) else { continue };
            let round = state.round;
            let series = std::mem::take(&mut selector.series);
            for number in &series {
                if state.series[*number].round != round {
                    state.put(*number, interval, RawSamples::default(), late_until_ms, now.ms);
                }
            }
            // Another window may have had them first.
            let late = series.iter().any(|number| state.series[*number].late > began);
            let Some(selector) = state.selectors.get_mut(&window.matchers) else { continue };
            selector.series = series;
            selector.looked_ns = now.ns;
            let known = selector.known.filter(|_| window.known_to_ms.is_some());
            selector.known = match known {
                Some((from_ms, to_ms)) => Some((from_ms, to_ms.max(interval.1))),
                None => Some(interval),
            };
            match window.known_to_ms {
                Some(_) if late => whole.push(place),
                Some(_) => {}
                // Not all of them at once.
                None => {
                    let whole_ms = self.keeping.whole_ms.max(0);
                    let hash = FxBuildHasher.hash_one(&window.matchers);
                    let spread = hash.checked_rem(whole_ms.unsigned_abs()).unwrap_or(0) as i64;
                    selector.whole_until_ms =
                        now.ms.saturating_add(whole_ms).saturating_add(spread);
                }
            }
        }
        if state.samples > self.keeping.samples_max {
            tracing::warn!(
                samples = state.samples,
                "Rules read more samples than are kept between their ticks: for ten minutes \
                 all are fetched each time. Raise keep_bytes of the datasource, or \
                 --prometheus.keep-bytes"
            );
            state.clear();
            state.refuses_until_ms = now.ms + LAG_MAX_MS;
            self.metrics.kept.set(0);
            return Ok(Err(Outdated));
        }
        self.metrics.kept.set(i64::try_from(state.samples).unwrap_or(i64::MAX));
        Ok(Ok(whole))
    }

    /// The series of a selector that is kept, sorted by labels.
    pub(super) fn series(
        &self,
        generation: u64,
        request: &SelectRequest,
    ) -> Result<Vec<Arc<dyn RawSeries>>, Outdated> {
        let state = self.state.lock();
        let selector = state.selectors.get(&request.matchers);
        let selector = selector.filter(|_| state.generation == generation).ok_or(Outdated)?;
        let found = selector.series.iter().filter_map(|number| {
            let One { labels, raw, .. } = &state.series[*number];
            series_in(labels, raw, request.from_ms, request.to_ms)
        });
        Ok(found.collect())
    }

    /// Drops what nobody has asked for in a while, and samples nobody will ask for.
    fn sweep(&self, state: &mut State, now_ms: TimestampMs) {
        if now_ms.saturating_sub(state.swept_ms).abs() < SWEEP_MS {
            return;
        }
        state.swept_ms = now_ms;
        state.seen.retain(|_, at| *at >= now_ms.saturating_sub(LAG_MAX_MS));
        let oldest_ms = now_ms.saturating_sub(LAG_MAX_MS);
        let before = state.selectors.len();
        state.selectors.retain(|_, selector| selector.asked_ms >= oldest_ms);
        let old = |one: &One| {
            let cut_ms = now_ms.saturating_sub(one.keep_ms);
            let histogram = one.raw.hist.last().is_none_or(|(ts, _)| *ts < cut_ms);
            histogram && one.raw.ts.last().is_none_or(|ts| *ts < cut_ms)
        };
        if before == state.selectors.len() && !state.series.iter().any(old) {
            return;
        }
        // What is left is numbered anew.
        let mut wanted = vec![false; state.series.len()];
        let all = state.selectors.values().flat_map(|selector| selector.series.iter());
        all.for_each(|number| wanted[*number] = true);
        let mut numbers: Vec<Option<usize>> = Vec::with_capacity(wanted.len());
        let mut kept = Vec::new();
        for (one, wanted) in std::mem::take(&mut state.series).into_iter().zip(wanted) {
            let stays = wanted && !old(&one);
            numbers.push(stays.then_some(kept.len()));
            if stays {
                kept.push(one);
            }
        }
        state.samples = kept.iter().map(|one| weight(&one.raw)).sum();
        state.series = kept;
        let renumber = |number: &mut usize| match numbers[*number] {
            Some(new) => {
                *number = new;
                true
            }
            None => false,
        };
        state.texts.retain(|_, number| renumber(number));
        state.labels.retain(|_, number| renumber(number));
        let State { selectors, names, of_name, .. } = &mut *state;
        of_name.values_mut().for_each(|series| series.retain_mut(renumber));
        of_name.retain(|_, series| !series.is_empty());
        selectors.values_mut().for_each(|selector| selector.series.retain_mut(renumber));
        names.values_mut().for_each(|of_name| of_name.retain(|m| selectors.contains_key(m)));
        names.retain(|_, of_name| !of_name.is_empty());
        state.generation += 1;
        self.metrics.kept.set(i64::try_from(state.samples).unwrap_or(i64::MAX));
    }
}

impl State {
    /// Keeps a selector from now on.
    fn begin(&mut self, matchers: &[Matcher]) {
        let matches = |number: &usize| {
            let labels = &self.series[*number].labels;
            matchers.iter().all(|m| m.matches_labels(labels))
        };
        let mut series: Vec<usize> = match name_of(matchers) {
            "" => (0..self.series.len()).filter(matches).collect(),
            name => self.of_name.get(name).into_iter().flatten().copied().filter(matches).collect(),
        };
        series.sort_by(|a, b| self.series[*a].labels.cmp(&self.series[*b].labels));
        let selector = Selector {
            known: None,
            looked_ns: 0,
            whole_until_ms: TimestampMs::MIN,
            asked_ms: TimestampMs::MIN,
            keep_ms: 0,
            series,
        };
        self.names.entry(name_of(matchers).to_owned()).or_default().push(matchers.to_vec());
        self.selectors.insert(matchers.to_vec(), selector);
    }

    /// The number of a series that came for the first time under this text; `None` when it
    /// belongs to no selector.
    fn intern(&mut self, text: &[u8], labels: Labels) -> Option<usize> {
        if let Some(number) = self.labels.get(&labels) {
            self.texts.insert(text.into(), *number);
            return Some(*number);
        }
        let number = self.series.len();
        let mut keep_ms = None;
        for name in [labels.metric_name(), ""] {
            for matchers in self.names.get(name).into_iter().flatten() {
                if !matchers.iter().all(|m| m.matches_labels(&labels)) {
                    continue;
                }
                let Some(selector) = self.selectors.get_mut(matchers) else { continue };
                keep_ms = keep_ms.max(Some(selector.keep_ms));
                let before = |other: &usize| self.series[*other].labels < labels;
                let at = selector.series.partition_point(before);
                selector.series.insert(at, number);
            }
        }
        let keep_ms = keep_ms?;
        self.texts.insert(text.into(), number);
        self.labels.insert(labels.clone(), number);
        self.of_name.entry(labels.metric_name().to_owned()).or_default().push(number);
        let raw = Arc::default();
        self.series.push(One { labels, raw, keep_ms, round: 0, late: 0 });
        Some(number)
    }

    /// Replaces what is there of a series in a closed interval.
    fn put(
        &mut self,
        number: usize,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
        new: RawSamples,
        late_until_ms: TimestampMs,
        now_ms: TimestampMs,
    ) {
        let round = self.round;
        let one = &mut self.series[number];
        let floats = range(&one.raw.ts, |ts| *ts, from_ms, to_ms);
        let hist = range(&one.raw.hist, |(ts, _)| *ts, from_ms, to_ms);
        let on_time = |ts: &[TimestampMs], hist: &[(TimestampMs, Arc<FloatHistogram>)]| {
            let floats = ts.partition_point(|ts| *ts <= late_until_ms);
            (floats, hist.partition_point(|(ts, _)| *ts <= late_until_ms))
        };
        let known = on_time(&one.raw.ts[floats.clone()], &one.raw.hist[hist.clone()]);
        if on_time(&new.ts, &new.hist) != known {
            one.late = round;
        }
        one.round = round;
        if floats.is_empty() && hist.is_empty() && new.is_empty() {
            return;
        }
        let before = weight(&one.raw);
        let raw = Arc::make_mut(&mut one.raw);
        raw.ts.splice(floats.clone(), new.ts);
        raw.vs.splice(floats, new.vs);
        raw.hist.splice(hist, new.hist);
        let cut_ms = now_ms.saturating_sub(one.keep_ms).min(from_ms);
        let old = raw.ts.partition_point(|ts| *ts < cut_ms);
        raw.ts.drain(..old);
        raw.vs.drain(..old);
        let old = raw.hist.partition_point(|(ts, _)| *ts < cut_ms);
        raw.hist.drain(..old);
        self.samples = (self.samples + weight(raw)).saturating_sub(before);
    }

    fn clear(&mut self) {
        let generation = self.generation + 1;
        *self = Self { generation, swept_ms: self.swept_ms, ..Self::default() };
    }
}

/// For each of some windows, given by their numbers, the one that finds its series: a selector
/// with fewer of the same matchers finds all that one with more of them does. Most find their
/// own.
pub(super) fn widest(windows: &[Window], numbers: &[usize]) -> Vec<(usize, usize)> {
    /// Matchers whose parts are looked for: there are as many as two to that power.
    const MATCHERS_MAX: usize = 6;
    let key = |matchers: &[&Matcher]| -> Vec<String> {
        let mut key: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        key.sort_unstable();
        key.dedup();
        key
    };
    let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let keys: Vec<Vec<String>> = numbers
        .iter()
        .map(|number| key(&windows[*number].matchers.iter().collect::<Vec<_>>()))
        .collect();
    for (number, key) in numbers.iter().zip(&keys) {
        known.entry(key.clone()).or_insert(*number);
    }
    let shortest = keys.iter().map(Vec::len).min().unwrap_or(0);
    let wider = |own: &Vec<String>| -> Option<usize> {
        if own.len() > MATCHERS_MAX || own.len() == shortest {
            return None;
        }
        let part = |bits: u32| -> Vec<String> {
            let chosen = own.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
            chosen.map(|(_, matcher)| matcher.clone()).collect()
        };
        // The fewest matchers: what has more may itself be found by it.
        let mut parts: Vec<u32> = (1..(1_u32 << own.len()) - 1).collect();
        parts.sort_by_key(|bits| bits.count_ones());
        parts.into_iter().find_map(|bits| known.get(&part(bits)).copied())
    };
    let by = |key: &Vec<String>| wider(key).unwrap_or(known[key]);
    numbers.iter().zip(&keys).map(|(number, key)| (*number, by(key))).collect()
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
