//! Just after a restart: whether the absence of an alert's sample says anything.
//!
//! While the process was down no samples were taken. A condition that looks at what is
//! missing is false for that reason alone, and an alert that ended by it would have ended
//! falsely. What an alert looks at ([`Need`]) is whole again, series by series, when
//!
//! - a newest sample is newer than the last tick before the end: what it says was said since;
//! - a window lies behind the first sample after the start;
//! - or the samples over the restart are no further apart than they were before: nothing was
//!   missed.
//!
//! An alert that has no sample waits for every series that was there before, or has come
//! since, and matters to it; at most [`HOLD_MS_MAX`], since a series may be gone for good.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::group::panic_text;
use super::reach::{Alike, ENDLESS_MS, Need};
use crate::model::value::is_stale_nan;
use crate::model::{Labels, TimestampMs};
use crate::storage::{SelectHints, SelectRequest, Source, StorageError};
use crate::vector::RawSamples;

/// Longest time after a start for which the end of an alert is not believed.
pub(super) const HOLD_MS_MAX: i64 = 5 * 60_000;

/// When the process was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The last tick that was done with before.
    pub last_tick_ms: TimestampMs,
    pub start_ms: TimestampMs,
    /// How far before the gap series are looked for that were there.
    pub lookback_ms: i64,
    /// The last tick was another process', which has samples that are not here: what is not
    /// there may have yet to come.
    pub elsewhere: bool,
}

impl Gap {
    /// Without a last tick, nothing from before the start is news.
    pub(super) fn new(
        last_tick: Option<TimestampMs>,
        start_ms: TimestampMs,
        lookback_ms: i64,
    ) -> Self {
        let last_tick_ms = last_tick.map_or(start_ms, |tick| tick.min(start_ms));
        Self { last_tick_ms, start_ms, lookback_ms, elsewhere: false }
    }

    /// Between the last tick of another process and the first one here.
    pub(super) fn elsewhere(
        last_tick_ms: TimestampMs,
        start_ms: TimestampMs,
        lookback_ms: i64,
    ) -> Self {
        Self { elsewhere: true, ..Self::new(Some(last_tick_ms), start_ms, lookback_ms) }
    }
}

/// What one rule's alerts look at, and when that was interrupted.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub gap: Gap,
    pub needs: Arc<[Need]>,
}

/// Alerts that wait.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Waiting {
    /// None, and there is no reason to ask again.
    #[default]
    Over,
    All,
    These(FxHashSet<Labels>),
}

impl Waiting {
    pub(super) fn has(&self, alert: &Labels) -> bool {
        match self {
            Self::Over => false,
            Self::All => true,
            Self::These(alerts) => alerts.contains(alert),
        }
    }
}

impl Hold {
    /// Whether it is a thing of the past at a tick.
    pub(super) fn is_over(&self, ts: TimestampMs) -> bool {
        ts >= self.gap.start_ms.saturating_add(HOLD_MS_MAX)
    }

    /// Which of the alerts that have no sample wait in an evaluation whose query ran at `at`.
    pub(super) async fn waiting(
        &self,
        source: &Arc<dyn Source>,
        at: TimestampMs,
        alerts: &[Labels],
    ) -> Result<Waiting, StorageError> {
        let mut found = FxHashSet::default();
        let mut over = true;
        for need in self.needs.iter() {
            let Some((broken, whole)) = self.looked_at(source, need, at).await? else { continue };
            over &= broken.is_empty();
            concerned(&broken, &need.alike, alerts, &mut found);
            if self.gap.elsewhere {
                // Of which nothing has come yet: the next scrape may bring it.
                let mut known = FxHashSet::default();
                concerned(&broken, &need.alike, alerts, &mut known);
                concerned(&whole, &need.alike, alerts, &mut known);
                let unknown = alerts.iter().filter(|alert| !known.contains(*alert));
                let before = found.len();
                found.extend(unknown.cloned());
                over &= found.len() == before;
            }
        }
        Ok(if over { Waiting::Over } else { Waiting::These(found) })
    }

    /// The series of a selector that are not whole yet, and those that are; `None` when it
    /// looks at what was before.
    async fn looked_at(
        &self,
        source: &Arc<dyn Source>,
        need: &Need,
        at: TimestampMs,
    ) -> Result<Option<(Vec<Labels>, Vec<Labels>)>, StorageError> {
        let Gap { last_tick_ms, start_ms, lookback_ms, .. } = self.gap;
        let end = need.at_ms.unwrap_or(at).saturating_sub(need.offset_ms);
        if end <= last_tick_ms {
            return Ok(None);
        }
        // After a long gap, not all that others may have stored meanwhile.
        let first = last_tick_ms.saturating_sub(lookback_ms);
        let second = start_ms.saturating_sub(lookback_ms);
        let spans = match second <= last_tick_ms {
            true => vec![(first, end)],
            false => vec![(first, last_tick_ms), (second, end)],
        };
        let mut parts = Vec::new();
        for (from_ms, to_ms) in spans {
            let matchers = need.matchers.clone();
            let request = SelectRequest { matchers, from_ms, to_ms, hints: SelectHints::default() };
            parts.push((source.select(&request).await?.series, from_ms, to_ms));
        }
        let (gap, window_ms) = (self.gap, need.window_ms);
        let look = move || {
            let mut times: FxHashMap<Labels, Times> = FxHashMap::default();
            let mut samples = RawSamples::default();
            for (series, from_ms, to_ms) in parts {
                for series in series {
                    samples.clear();
                    series.read_into(from_ms, to_ms, &mut samples)?;
                    times.entry(series.labels().clone()).or_default().add(&samples);
                }
            }
            let (whole, broken): (Vec<_>, Vec<_>) =
                times.into_iter().partition(|(_, times)| times.is_whole(&gap, window_ms, end));
            let labels = |part: Vec<(Labels, Times)>| part.into_iter().map(|(l, _)| l).collect();
            Ok(Some((labels(broken), labels(whole))))
        };
        let done = tokio::task::spawn_blocking(look).await;
        done.unwrap_or_else(|error| {
            let cause = error.try_into_panic().map_or_else(|e| e.to_string(), |p| panic_text(&*p));
            Err(StorageError::Unsupported(format!("BUG: reading samples panicked: {cause}")))
        })
    }
}

/// Adds the alerts that one of the series matters to: those that have the labels alike that
/// both have.
fn concerned(broken: &[Labels], alike: &Alike, alerts: &[Labels], found: &mut FxHashSet<Labels>) {
    let mut schemas: BTreeMap<Vec<String>, Vec<Labels>> = BTreeMap::new();
    for labels in broken {
        let labels = labels.retain(|name| alike.has(name));
        let names = labels.iter().map(|(name, _)| name.to_owned()).collect();
        schemas.entry(names).or_default().push(labels);
    }
    // By the names an alert and the series of a schema have in common.
    let mut looked_up: HashMap<(usize, Vec<&str>), FxHashSet<Labels>> = HashMap::new();
    for alert in alerts {
        let concerns = schemas.iter().enumerate().any(|(number, (names, series))| {
            let common: Vec<&str> =
                names.iter().map(String::as_str).filter(|n| alert.get(n).is_some()).collect();
            let cut = |labels: &Labels| labels.retain(|name| common.contains(&name));
            let wanted = cut(alert);
            let known = looked_up.entry((number, common.clone()));
            known.or_insert_with(|| series.iter().map(cut).collect()).contains(&wanted)
        });
        if concerns {
            found.insert(alert.clone());
        }
    }
}

/// When a series has samples.
#[derive(Debug, Default)]
struct Times {
    /// Ascending.
    at: Vec<TimestampMs>,
    /// The last one says that it has ended.
    ended: bool,
}

impl Times {
    fn add(&mut self, samples: &RawSamples) {
        let float = samples.ts.last().zip(samples.vs.last());
        let histogram = samples.hist.last();
        let last = float.map(|(ts, _)| *ts).max(histogram.map(|(ts, _)| *ts));
        if last.is_none() {
            return;
        }
        self.ended = match histogram {
            Some((ts, histogram)) if Some(*ts) == last => is_stale_nan(histogram.sum),
            _ => float.is_some_and(|(_, value)| is_stale_nan(*value)),
        };
        self.at.extend(&samples.ts);
        self.at.extend(samples.hist.iter().map(|(ts, _)| *ts));
        self.at.sort_unstable();
        self.at.dedup();
    }

    /// Whether a look at the window before `end` finds what it would find had there been no
    /// gap.
    fn is_whole(&self, gap: &Gap, window_ms: i64, end: TimestampMs) -> bool {
        let Some(last) = self.at.last() else { return true };
        if self.ended && *last <= gap.last_tick_ms {
            return true;
        }
        if window_ms == 0 {
            return *last > gap.last_tick_ms;
        }
        let begin = end.saturating_sub(window_ms);
        let fresh = self.at[self.at.partition_point(|at| *at < gap.start_ms)..].first();
        fresh.is_some_and(|fresh| *fresh <= begin && window_ms < ENDLESS_MS)
            || self.is_regular(gap, begin, end)
    }

    /// Whether samples have come as closely as before the gap ever since.
    fn is_regular(&self, gap: &Gap, begin: TimestampMs, end: TimestampMs) -> bool {
        let before = self.at.partition_point(|at| *at <= gap.last_tick_ms);
        let usual = self.at[..before].windows(2).map(|pair| pair[1] - pair[0]).min();
        // From one distance nobody knows what is usual.
        let Some(usual) = usual.filter(|_| before >= 3) else { return false };
        let begin = begin.max(gap.last_tick_ms.saturating_sub(gap.lookback_ms));
        let first = self.at.partition_point(|at| *at <= begin);
        let inside = self.at[first..].iter().copied().chain([end]);
        let mut previous = first.checked_sub(1).map_or(begin, |i| self.at[i]);
        inside.into_iter().all(|at| {
            let distance = at - std::mem::replace(&mut previous, at);
            distance <= usual + usual / 2
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1000;

    /// Down from second 100 to `start`; samples at these seconds.
    fn whole(at: impl IntoIterator<Item = i64>, start: i64, window: i64, end: i64) -> bool {
        let gap = Gap::new(Some(100 * S), start * S, 95 * S);
        let times = Times { at: at.into_iter().map(|s| s * S).collect(), ended: false };
        times.is_whole(&gap, window * S, end * S)
    }

    #[test]
    fn a_newest_sample_counts_when_it_is_new() {
        let old = || (1..10).map(|i| i * 10);
        assert!(!whole(old(), 200, 0, 205));
        assert!(whole(old().chain([203]), 200, 0, 205));
        // Taken after the last tick, by the process that died.
        assert!(whole(old().chain([101]), 200, 0, 205));
        // Never seen before.
        assert!(whole([203], 200, 0, 205));
    }

    #[test]
    fn a_window_counts_when_it_has_no_hole_of_the_gap() {
        let old = || (1..=10).map(|i| i * 10);
        let new = || (0..20).map(|i| 203 + 10 * i);
        let all = || old().chain(new());
        assert!(!whole(all(), 200, 60, 262));
        assert!(whole(all(), 200, 60, 263));
        // One that came back late, or came for the first time.
        assert!(!whole(new().skip(1), 200, 60, 263));
        assert!(whole(new().skip(1), 200, 60, 273));
        // Nothing was missed.
        let quick = || old().chain((0..20).map(|i| 110 + 10 * i));
        assert!(whole(quick(), 105, 60, 113));
        assert!(whole(quick(), 105, 3600, 113));
        assert!(!whole(old().chain([120, 130]), 105, 60, 133), "one was");
        assert!(!whole(old().chain([110]), 105, 60, 130), "it has stopped");
        // A hole from the restart before.
        let holed = old().filter(|at| !(50..=80).contains(at)).chain([110, 120]);
        assert!(!whole(holed, 105, 60, 120));
        // Two samples show no rhythm.
        assert!(!whole([90, 100, 110], 105, 60, 113));
    }

    #[test]
    fn what_had_ended_before_is_not_waited_for() {
        let gap = Gap::new(Some(100 * S), 200 * S, 300 * S);
        let times = Times { at: vec![80 * S, 90 * S], ended: true };
        assert!(times.is_whole(&gap, 0, 205 * S) && times.is_whole(&gap, 600 * S, 205 * S));
    }

    #[test]
    fn an_alert_waits_for_series_that_do_not_contradict_it() {
        let labels = |text: &str| {
            Labels::from_pairs(text.split(' ').filter_map(|pair| pair.split_once('=')))
        };
        let check = |series: &[&str], alerts: &[&str], expected: &[&str]| {
            let series: Vec<Labels> = series.iter().map(|s| labels(s)).collect();
            let alerts: Vec<Labels> = alerts.iter().map(|s| labels(s)).collect();
            let mut found = FxHashSet::default();
            concerned(&series, &Alike::default(), &alerts, &mut found);
            let expected: FxHashSet<Labels> = expected.iter().map(|s| labels(s)).collect();
            assert_eq!(found, expected, "{series:?}");
        };
        check(&[], &["i=1"], &[]);
        check(&["i=1 j=5"], &["i=1", "i=2"], &["i=1"]);
        check(&["i=1 j=5"], &["i=1 k=3", "", "j=5", "j=6"], &["i=1 k=3", "", "j=5"]);
        check(&["i=1", "i=2 j=5"], &["i=2 j=6", "i=1 j=6"], &["i=1 j=6"]);
    }
}
