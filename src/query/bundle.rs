//! Queries that are evaluated together again and again, as those of a rule group are: what
//! does not depend on the time is worked out once.
//!
//! A [`Frame`] is a batch of plans bound to one time, with what it asks of storage and what
//! its members have in common. At another time everything in it is the same but for the
//! times themselves, which are all as much later; so it is moved instead of made anew. What
//! does not move like that (`@`, subqueries that do not fall on the same steps, durations
//! that cannot be) is bound anew, as a batch that is asked once is.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::run::{self, Shape};
use super::together;
use super::{Engine, PreparedQuery, QueryError, QueryResult, RunOptions};
use crate::exec::{About, Memo};
use crate::model::{Matcher, StepGrid, TimestampMs};
use crate::plan::bind::Request;
use crate::plan::common::{Commons, Member, commons};
use crate::plan::node::Hints;
use crate::plan::{BindOptions, Binding};
use crate::storage::{SelectRequest, Source};

/// Frames a bundle keeps: ticks may alternate between several places in the steps of its
/// subqueries.
const FRAMES_MAX: usize = 4;

/// Series that a frame remembers between two evaluations.
const SERIES_KNOWN_MAX: usize = 500_000;

/// Numbers of hands a bundle remembers what it dealt to.
const DEALT_MAX: usize = 4;

/// See the module. Share it by `Arc`; evaluations at the same time are fine.
pub struct Bundle {
    engine: Arc<Engine>,
    queries: Vec<Arc<PreparedQuery>>,
    frames: Frames,
    /// The places of the queries that can be moved in time and of those that cannot, or not
    /// be bound at all: one of these would have all others bound anew with it.
    places: OnceLock<[Vec<usize>; 2]>,
    dealt: Mutex<Vec<Arc<[Bundle]>>>,
}

impl Bundle {
    /// Of queries of this engine.
    pub fn new(engine: &Arc<Engine>, queries: Vec<Arc<PreparedQuery>>) -> Self {
        Self {
            engine: engine.clone(),
            queries,
            frames: Frames::default(),
            places: OnceLock::new(),
            dealt: Mutex::default(),
        }
    }

    /// The queries dealt out, one by one, to so many hands: the same bundles as the last time.
    pub fn dealt(&self, hands: usize) -> Arc<[Bundle]> {
        let mut dealt = self.dealt.lock();
        if let Some(known) = dealt.iter().find(|known| known.len() == hands) {
            return known.clone();
        }
        let hand = |hand: usize| {
            let own = self.queries.iter().skip(hand).step_by(hands.max(1));
            Self::new(&self.engine, own.cloned().collect())
        };
        let new: Arc<[Bundle]> = (0..hands).map(hand).collect();
        if dealt.len() == DEALT_MAX {
            dealt.remove(0);
        }
        dealt.push(new.clone());
        new
    }

    /// The queries.
    pub fn queries(&self) -> &[Arc<PreparedQuery>] {
        &self.queries
    }

    /// As [`Engine::together`] of the queries.
    pub async fn instant(
        &self,
        source: &Arc<dyn Source>,
        at_ms: TimestampMs,
        options: &RunOptions,
    ) -> Vec<Result<QueryResult, QueryError>> {
        let options = RunOptions { end_ms: None, ..options.clone() };
        let grid = StepGrid::instant(at_ms);
        let [moved, anew] = self.places.get_or_init(|| self.places(grid, &options));
        let mut answers: Vec<_> = self.queries.iter().map(|_| None).collect();
        for (places, frames) in [(moved, Some(&self.frames)), (anew, None)] {
            if places.is_empty() {
                continue;
            }
            let queries: Vec<&PreparedQuery> = places.iter().map(|p| &*self.queries[*p]).collect();
            let (engine, shape) = (&self.engine, Shape::Instant);
            let run = together::run(engine, &queries, source, grid, shape, &options, frames);
            for (place, answer) in places.iter().zip(run.await) {
                answers[*place] = Some(answer);
            }
        }
        answers.into_iter().map(|a| a.expect("BUG: every query has its answer")).collect()
    }

    /// See the field. Where a query belongs can change with the time in theory; that costs
    /// time, never a result.
    fn places(&self, grid: StepGrid, options: &RunOptions) -> [Vec<usize>; 2] {
        let options = run::bind_options(&self.engine, grid, options);
        let moves = |place: &usize| {
            let query = &self.queries[*place];
            // One that needs a deep stack is evaluated for itself anyway.
            let bound = (!query.deep).then(|| query.plan.bind(grid, options));
            bound.is_some_and(|b| b.is_ok_and(|binding| binding.period_ms().is_some()))
        };
        let (moved, anew) = (0..self.queries.len()).partition(moves);
        [moved, anew]
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("queries", &self.queries).finish_non_exhaustive()
    }
}

/// Frames of one list of queries that nobody is using.
#[derive(Default)]
pub(super) struct Frames(Mutex<Vec<Frame>>);

/// A query on its way.
#[derive(Clone)]
pub(super) struct Bound {
    /// Its place among the answers.
    pub place: usize,
    pub binding: Arc<Binding>,
    pub requests: Vec<u32>,
}

/// See the module.
pub(super) struct Frame {
    pub bound: Vec<Bound>,
    pub requests: Vec<SelectRequest>,
    /// For each request one of the same matchers over an interval around its own.
    pub around: Vec<Option<u32>>,
    pub commons: Commons,
    /// What was known of the series of each request the last time.
    pub about: Vec<Arc<About>>,
    /// What its plans worked out the last time.
    pub memo: Arc<Memo>,
    /// The queries that cannot be bound.
    pub failed: Vec<(usize, QueryError)>,
    options: BindOptions,
    /// By what it may be moved; `None`: it is of use this time only.
    period_ms: Option<i64>,
}

impl Frames {
    /// A frame at a time that is the one step of `grid`, made from one that is there.
    pub(super) fn take(&self, grid: StepGrid, options: BindOptions) -> Option<Frame> {
        let mut frames = self.0.lock();
        let fits = |frame: &Frame| {
            frame.lookback_and_step() == (options.lookback_ms, options.default_step_ms)
                && frame.distance(grid.start_ms).is_some()
        };
        let mut frame = frames.iter().position(fits).map(|found| frames.swap_remove(found))?;
        drop(frames);
        frame.move_to(grid.start_ms).then_some(frame)
    }

    /// Keeps a frame for the next time, if it can be of use then.
    pub(super) fn put(&self, mut frame: Frame) {
        if frame.period_ms.is_none() || !frame.failed.is_empty() {
            return;
        }
        let mut known = 0;
        for about in &mut frame.about {
            known += about.series();
            if known > SERIES_KNOWN_MAX {
                *about = Arc::default();
            }
        }
        let mut frames = self.0.lock();
        if frames.len() == FRAMES_MAX {
            frames.remove(0);
        }
        frames.push(frame);
    }
}

impl Frame {
    /// Binds all queries, and numbers the distinct requests.
    pub(super) fn new(
        queries: &[&PreparedQuery],
        grid: StepGrid,
        options: BindOptions,
        shape: Shape,
    ) -> Self {
        let mut numbers: HashMap<(Vec<Matcher>, i64, i64), u32, FxBuildHasher> = HashMap::default();
        let mut requests: Vec<Request> = vec![];
        let (mut all, mut failed) = (Vec::with_capacity(queries.len()), vec![]);
        let mut period_ms = Some(1);
        for (place, query) in queries.iter().enumerate() {
            let bind = || query.plan.bind(grid, options).map_err(QueryError::Invalid);
            let mut binding = match query.check(shape).and_then(|()| bind()) {
                Ok(binding) => binding,
                Err(e) => {
                    failed.push((place, e));
                    continue;
                }
            };
            let number = |request: Request| {
                let key = (request.matchers.clone(), request.from_ms, request.to_ms);
                *numbers
                    .entry(key)
                    .and_modify(|number| also_for(&mut requests[*number as usize], &request))
                    .or_insert_with(|| {
                        requests.push(request.clone());
                        requests.len() as u32 - 1
                    })
            };
            let own = std::mem::take(&mut binding.requests).into_iter().map(number).collect();
            period_ms = period_ms.zip(binding.period_ms()).and_then(|(a, b)| common_multiple(a, b));
            all.push(Bound { place, binding: Arc::new(binding), requests: own });
        }
        let members: Vec<Member<'_>> = all
            .iter()
            .map(|b| Member {
                plan: &queries[b.place].plan,
                binding: &b.binding,
                requests: &b.requests,
            })
            .collect();
        Self {
            commons: commons(&members, requests.len()),
            around: around(&requests),
            about: vec![Arc::default(); requests.len()],
            requests: requests.into_iter().map(run::select_request).collect(),
            bound: all,
            memo: Arc::default(),
            failed,
            options,
            period_ms,
        }
    }

    fn lookback_and_step(&self) -> (i64, i64) {
        (self.options.lookback_ms, self.options.default_step_ms)
    }

    /// How much later a time is, if the frame can be moved there.
    fn distance(&self, at_ms: TimestampMs) -> Option<i64> {
        let distance = at_ms.checked_sub(self.options.end_ms)?;
        (distance % self.period_ms? == 0).then_some(distance)
    }

    /// Makes every time as much later as `at_ms` is. False when that cannot be.
    fn move_to(&mut self, at_ms: TimestampMs) -> bool {
        let Some(ms) = self.distance(at_ms) else { return false };
        self.options.end_ms += ms;
        for request in &mut self.requests {
            request.from_ms += ms;
            request.to_ms += ms;
        }
        self.commons.move_by(ms);
        self.bound.iter_mut().all(|b| Arc::make_mut(&mut b.binding).move_by(ms))
    }
}

fn common_multiple(a: i64, b: i64) -> Option<i64> {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).checked_mul(b).filter(|multiple| *multiple < 1 << 50)
}

/// Two uses of the samples: a source must leave nothing out for the sake of either.
fn also_for(request: &mut Request, other: &Request) {
    if (request.range_ms, &request.hints) != (other.range_ms, &other.hints) {
        request.range_ms = request.range_ms.max(other.range_ms);
        request.hints = Hints::default();
    }
}

/// For each request the longest of the same matchers whose interval holds its own.
fn around(requests: &[Request]) -> Vec<Option<u32>> {
    let mut by_matchers: HashMap<&[Matcher], Vec<u32>, FxBuildHasher> = HashMap::default();
    for (number, request) in requests.iter().enumerate() {
        by_matchers.entry(&request.matchers).or_default().push(number as u32);
    }
    let interval = |number: u32| {
        let request = &requests[number as usize];
        (request.from_ms, request.to_ms)
    };
    let longest = |(number, request): (usize, &Request)| {
        let (from, to) = interval(number as u32);
        let holds = |other: &&u32| {
            let (a, b) = interval(**other);
            (a, b) != (from, to) && a <= from && to <= b
        };
        let others = by_matchers[&*request.matchers].iter().filter(holds).copied();
        // It is held by none itself.
        others.max_by_key(|other| {
            let (from, to) = interval(*other);
            to.saturating_sub(from)
        })
    };
    requests.iter().enumerate().map(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::EngineOptions;

    const LOOKBACK_MS: i64 = 300_000;

    fn options(at_ms: i64) -> BindOptions {
        BindOptions { lookback_ms: LOOKBACK_MS, default_step_ms: 60_000, end_ms: at_ms }
    }

    /// Everything of a frame that depends on the time.
    fn times(frame: &Frame) -> String {
        let bindings: Vec<_> = frame.bound.iter().map(|b| &b.binding).collect();
        let requests: Vec<_> = frame.requests.iter().map(|r| (r.from_ms, r.to_ms)).collect();
        format!("{bindings:?} {requests:?} {:?}", frame.commons.all)
    }

    /// Whether the frame of one time serves another, and is the same then as one that is
    /// made for it.
    fn check(texts: &[&str], moves: &[(i64, bool)]) {
        let engine = Engine::new(EngineOptions::default());
        let queries: Vec<_> = texts.iter().map(|t| engine.prepare(t).unwrap()).collect();
        let queries: Vec<_> = queries.iter().collect();
        let new = |at| Frame::new(&queries, StepGrid::instant(at), options(at), Shape::Instant);
        let start = 1_700_000_007_000;
        for (later, expected) in moves {
            let frames = Frames::default();
            frames.put(new(start));
            let at = start + later;
            let moved = frames.take(StepGrid::instant(at), options(at));
            assert_eq!(moved.is_some(), *expected, "{texts:?} by {later} ms");
            if let Some(moved) = moved {
                assert_eq!(times(&moved), times(&new(at)), "{texts:?} by {later} ms");
            }
        }
    }

    #[test]
    fn a_frame_that_is_moved_is_the_one_that_would_be_made() {
        let any = [(30_000, true), (1, true), (-60_000, true), (0, true)];
        check(&["sum(rate(a[5m]))", "avg(rate(a[5m])) > 1", "a offset 1h", "b offset -5m"], &any);
        check(&["time() - a", "vector(1)", "1"], &any);
        // Steps of subqueries lie at multiples of their step.
        let steps = [(30_000, false), (60_000, true), (120_000, true), (-60_000, true)];
        check(&["max_over_time(a[10m:1m])", "a"], &steps);
        check(&["max_over_time(a[10m:])"], &steps);
        check(
            &["max_over_time(a[10m:40s])", "max_over_time(sum(a)[9m:30s])"],
            &[(60_000, false), (120_000, true)],
        );
        // What is pinned does not move.
        check(&["a @ 100", "b"], &[(30_000, false), (0, false)]);
        check(&["max_over_time(a[1m:30s] @ end())"], &[(30_000, false)]);
    }

    #[test]
    fn a_query_that_cannot_be_moved_leaves_the_others_their_frame() {
        let engine = Engine::new(EngineOptions::default());
        let texts = ["sum(a)", "a @ 100", "rate(b[5m])", "a[5m]"];
        let queries = texts.iter().map(|t| Arc::new(engine.prepare(t).unwrap())).collect();
        let bundle = Bundle::new(&engine, queries);
        let grid = StepGrid::instant(1_700_000_000_000);
        assert_eq!(bundle.places(grid, &RunOptions::default()), [vec![0, 2, 3], vec![1]]);
        let texts = |hand: &Bundle| -> Vec<String> {
            hand.queries().iter().map(|q| q.text().to_owned()).collect()
        };
        let dealt = bundle.dealt(3);
        let hands: Vec<_> = dealt.iter().map(texts).collect();
        assert_eq!(hands, [vec!["sum(a)", "a[5m]"], vec!["a @ 100"], vec!["rate(b[5m])"]]);
        assert!(Arc::ptr_eq(&dealt, &bundle.dealt(3)));
        for hands in 1..3 * DEALT_MAX {
            assert_eq!(bundle.dealt(hands).len(), hands);
        }
        assert_eq!(bundle.dealt.lock().len(), DEALT_MAX);
    }

    #[test]
    fn other_settings_and_failures_need_a_frame_of_their_own() {
        let engine = Engine::new(EngineOptions::default());
        let query = engine.prepare("max_over_time(a[10m:])").unwrap();
        let frames = Frames::default();
        let make = || Frame::new(&[&query], StepGrid::instant(0), options(0), Shape::Instant);
        for i in 0..2 * FRAMES_MAX as i64 {
            let at = 1_700_000_000_000 + i * 7;
            let grid = StepGrid::instant(at);
            frames.put(Frame::new(&[&query], grid, options(at), Shape::Instant));
        }
        assert_eq!(frames.0.lock().len(), FRAMES_MAX);
        let at = frames.0.lock()[0].options.end_ms;
        let other = BindOptions { default_step_ms: 30_000, ..options(at) };
        assert!(frames.take(StepGrid::instant(at), other).is_none());
        assert!(frames.take(StepGrid::instant(at), options(at)).is_some());
        frames.put(make());
        assert_eq!(frames.0.lock().len(), FRAMES_MAX - 1, "near 0 steps round the other way");
    }

    #[test]
    fn a_request_is_read_through_the_longest_around_it() {
        let engine = Engine::new(EngineOptions::default());
        let texts = ["rate(a[5m])", "rate(a[1h])", "rate(a[30m])", "rate(b[5m])", "a offset 1m"];
        let queries: Vec<_> = texts.iter().map(|t| engine.prepare(t).unwrap()).collect();
        let queries: Vec<_> = queries.iter().collect();
        let at = 1_700_000_000_000;
        let frame = Frame::new(&queries, StepGrid::instant(at), options(at), Shape::Instant);
        assert_eq!(frame.around, [Some(1), None, Some(1), None, Some(1)]);
    }
}
