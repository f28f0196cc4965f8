//! Several queries as one plan: each distinct request is made once, what the plans have in
//! common is evaluated once, and every query ends as it would alone. One's failure is its
//! own, and its limits count what it would hold alone.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{MaybeDone, join_all};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::bundle::{Bound, Frame, Frames};
use super::run::{self, EXECUTION, QUEUE, SMALL_WORK, Shape, Stopwatch};
use super::{Engine, PreparedQuery, QueryError, QueryMetrics, QueryResult, QueryStats, RunOptions};
use crate::exec::{self, ExecError, Found, Interrupt, Member, Together};
use crate::model::StepGrid;
use crate::plan;
use crate::plan::common::Commons;
use crate::storage::Source;

/// Parts of the time allowed after which it is looked at what runs longer than it may.
const LOOKS: u32 = 16;

type Answer = Result<QueryResult, QueryError>;

/// Evaluates all; the answers are in the order of the queries. `frames` are those of this
/// list of queries, when it is asked again and again.
pub(super) async fn run(
    engine: &Arc<Engine>,
    queries: &[&PreparedQuery],
    source: &Arc<dyn Source>,
    grid: StepGrid,
    shape: Shape,
    options: &RunOptions,
    frames: Option<&Frames>,
) -> Vec<Answer> {
    // The threads that evaluate several queries have no stack for depth.
    let alone = |q: &&&PreparedQuery| q.deep || !Arc::ptr_eq(&q.engine, engine);
    let limit = options.timeout.unwrap_or(engine.options.timeout).min(engine.options.timeout);
    let hopeless = options.cancel.is_cancelled() || limit.is_zero();
    if queries.len() < 2 || hopeless || queries.iter().find(alone).is_some() {
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            answers.push(match query.check(shape) {
                Ok(()) => run::run(query, source, grid, shape, options).await,
                Err(e) => Err(e),
            });
        }
        return answers;
    }
    let watch = Arc::new(Watch::default());
    // A caller that drops the future stops the evaluation as well.
    let _stop = StopOnDrop(watch.clone());
    let _running: Vec<_> =
        queries.iter().filter_map(|_| engine.metrics.get().map(QueryMetrics::begin)).collect();
    let batch = Batch { engine, source, grid, shape, options, limit, watch, frames };
    let answers: Vec<Answer> = tokio::select! {
        biased;
        answers = batch.run(queries) => answers,
        () = options.cancel.cancelled() => {
            queries.iter().map(|_| Err(QueryError::Canceled(EXECUTION))).collect()
        }
    };
    if engine.has_query_log() {
        for (query, answer) in queries.iter().zip(&answers) {
            engine.note(query, grid, shape == Shape::Range, options, answer.as_ref());
        }
    }
    answers
}

/// What is being evaluated, each part with how often it will still be looked at.
#[derive(Default)]
struct Watch(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    stopped: bool,
    parts: Vec<(u32, Interrupt)>,
}

impl Watch {
    /// What stops a part that begins now.
    fn begin(&self) -> Interrupt {
        let interrupt = Interrupt::default();
        let mut watched = self.0.lock();
        if watched.stopped {
            interrupt.cancel();
        }
        // The first look may come at once.
        watched.parts.push((LOOKS + 1, interrupt.clone()));
        interrupt
    }

    /// Stops what has run for the whole time allowed.
    fn look(&self) {
        self.0.lock().parts.retain_mut(|(looks, interrupt)| {
            *looks -= 1;
            if *looks == 0 {
                interrupt.time_out();
            }
            *looks > 0
        });
    }

    fn stop(&self) {
        let mut watched = self.0.lock();
        watched.stopped = true;
        watched.parts.iter().for_each(|(_, interrupt)| interrupt.cancel());
    }
}

struct StopOnDrop(Arc<Watch>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What evaluations of one batch share.
struct Batch<'a> {
    engine: &'a Arc<Engine>,
    source: &'a Arc<dyn Source>,
    grid: StepGrid,
    shape: Shape,
    options: &'a RunOptions,
    limit: Duration,
    watch: Arc<Watch>,
    frames: Option<&'a Frames>,
}

/// The queries that have all they read.
struct Ready {
    bound: Vec<Bound>,
    commons: Commons,
    /// By request of the frame.
    found: Vec<Arc<Found>>,
}

/// What one request found.
type Fetched = Result<(Arc<Found>, Vec<String>), QueryError>;

impl Batch<'_> {
    async fn run(&self, queries: &[&PreparedQuery]) -> Vec<Answer> {
        let engine = self.engine;
        let clock = Stopwatch::new(engine);
        let limit = self.limit;
        let slot = engine.slots.clone().acquire_owned();
        let Ok(permit) = tokio::time::timeout(limit, slot).await else {
            return queries.iter().map(|_| Err(QueryError::Timeout(QUEUE))).collect();
        };
        let permit = permit.expect("BUG: the engine never closes its semaphore");
        let queued = clock.seconds();
        let mut answers: Vec<Option<Answer>> = queries.iter().map(|_| None).collect();
        let mut frame = self.frame(queries);
        for (place, error) in &frame.failed {
            answers[*place] = Some(Err(error.clone()));
        }
        let fetched = self.fetch(&frame, limit).await;
        let mut bound = frame.bound.clone();
        bound.retain(|b| {
            let failed = b.requests.iter().find_map(|r| fetched[*r as usize].as_ref().err());
            if let Some(e) = failed {
                answers[b.place] = Some(Err(e.clone()));
            }
            failed.is_none()
        });
        let whole = bound.len() == frame.bound.len();
        let share = 1.0 / queries.len() as f64;
        let times = Times { queued, prepared: (clock.seconds() - queued) * share };
        let warnings: Vec<Vec<String>> = bound.iter().map(|b| warnings_of(b, &fetched)).collect();
        let found: Vec<Arc<Found>> = fetched
            .iter()
            .map(|f| f.as_ref().map_or_else(|_| Found::new(vec![]), |(found, _)| found.clone()))
            .collect();
        let places: Vec<usize> = bound.iter().map(|b| b.place).collect();
        // Who is left out takes what only it had in common with another one along.
        let commons = match whole {
            true => frame.commons.clone(),
            false => commons_of(queries, &bound, frame.requests.len()),
        };
        let ready = Ready { bound, commons, found };
        let done = self.execute(queries, &frame, ready, limit, permit).await;
        for ((place, done), warnings) in places.into_iter().zip(done).zip(warnings) {
            answers[place] = Some(self.answer(done, times, &warnings));
        }
        if let Some(frames) = self.frames {
            for (about, fetched) in frame.about.iter_mut().zip(&fetched) {
                if let Ok((found, _)) = fetched {
                    *about = found.about().clone();
                }
            }
            frames.put(frame);
        }
        let answers: Vec<Answer> =
            answers.into_iter().map(|a| a.expect("BUG: every query has its answer")).collect();
        if let Some(metrics) = engine.metrics.get() {
            metrics.observe_all(answers.iter().flatten().map(|result| &result.stats));
        }
        answers
    }

    /// All queries bound: as the last time, if that can be.
    fn frame(&self, queries: &[&PreparedQuery]) -> Frame {
        let options = run::bind_options(self.engine, self.grid, self.options);
        let again = self.frames.and_then(|frames| frames.take(self.grid, options));
        again.unwrap_or_else(|| Frame::new(queries, self.grid, options, self.shape))
    }

    /// Makes every request once. One that fails or takes too long fails alone.
    async fn fetch(&self, frame: &Frame, limit: Duration) -> Vec<Fetched> {
        let select = |(request, about)| async move {
            match run::select(self.source, request).await {
                Ok(set) => Ok((Found::again(set.series, about), set.warnings)),
                Err(e) => Err(QueryError::Storage(e)),
            }
        };
        let mut selects: Vec<_> = frame
            .requests
            .iter()
            .zip(&frame.about)
            .map(|request| futures_util::future::maybe_done(Box::pin(select(request))))
            .collect();
        // What is at hand comes at once.
        for select in &mut selects {
            let _ = Pin::new(select).now_or_never();
        }
        let waiting = |s: &&mut MaybeDone<_>| matches!(s, MaybeDone::Future(_));
        let rest = selects.iter_mut().filter(waiting);
        let rest: Vec<_> = rest.collect();
        if !rest.is_empty() {
            let _ = tokio::time::timeout(limit, join_all(rest)).await;
        }
        let taken = selects.iter_mut().map(|select| Pin::new(select).take_output());
        taken.map(|output| output.unwrap_or(Err(QueryError::Timeout(EXECUTION)))).collect()
    }

    async fn execute(
        &self,
        queries: &[&PreparedQuery],
        frame: &Frame,
        Ready { bound, commons, found }: Ready,
        limit: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Vec<Ended> {
        let mut all_work = 0u64;
        let members: Vec<Member> = bound
            .into_iter()
            .map(|Bound { place, binding, requests }| {
                let plan = queries[place].plan.clone();
                let found: Vec<_> = requests.iter().map(|r| found[*r as usize].clone()).collect();
                let work = match plan.subqueries() {
                    0 => run::work(&binding, &found),
                    _ => u64::MAX,
                };
                all_work = all_work.saturating_add(work);
                let options = run::exec_options(self.engine, self.options, work <= SMALL_WORK);
                Member { plan, binding, requests, options }
            })
            .collect();
        let small = all_work <= SMALL_WORK;
        let together = Together {
            members,
            commons,
            memo: self.frames.map(|_| frame.memo.clone()),
            found,
            intervals: frame.requests.iter().map(|r| (r.from_ms, r.to_ms)).collect(),
            around: frame.around.clone(),
            parallel: !small && self.engine.options.parallel,
            // As much again as one query may take.
            max_shared_bytes: self.engine.options.max_memory_bytes,
        };
        let job = Job {
            together,
            engine: self.engine.clone(),
            shape: self.shape,
            watch: self.watch.clone(),
            _permit: permit,
        };
        if small {
            return job.run();
        }
        let members = job.together.members.len();
        let mut running = tokio::task::spawn_blocking(move || job.run());
        let mut looks = tokio::time::interval(limit.max(Duration::from_millis(16)) / LOOKS);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut running => break done,
                _ = looks.tick() => self.watch.look(),
            }
        };
        done.unwrap_or_else(|e| {
            (0..members).map(|_| Ended { result: Err(unexpected(&e)), seconds: 0.0 }).collect()
        })
    }

    fn answer(&self, ended: Ended, times: Times, warnings: &[String]) -> Answer {
        let run::Done { value, mut annotations, stats, sort_seconds } = ended.result?;
        run::add_warnings(&mut annotations, warnings);
        let per_step = self.options.per_step_stats && self.engine.options.per_step_stats;
        let total = times.queued + times.prepared + ended.seconds;
        let stats = QueryStats {
            queue_seconds: times.queued,
            prepare_seconds: times.prepared,
            inner_eval_seconds: ended.seconds - sort_seconds,
            result_sort_seconds: sort_seconds,
            eval_total_seconds: total - times.queued,
            exec_total_seconds: total,
            ..run::sample_stats(stats, self.grid, per_step)
        };
        Ok(QueryResult { value, annotations, stats })
    }
}

/// What these queries have in common.
fn commons_of(queries: &[&PreparedQuery], bound: &[Bound], requests: usize) -> Commons {
    let members: Vec<plan::common::Member<'_>> = bound
        .iter()
        .map(|b| plan::common::Member {
            plan: &queries[b.place].plan,
            binding: &b.binding,
            requests: &b.requests,
        })
        .collect();
    plan::common::commons(&members, requests)
}

/// What the source said of the requests of a query, in their order.
fn warnings_of(bound: &Bound, fetched: &[Fetched]) -> Vec<String> {
    let all = bound.requests.iter().filter_map(|r| fetched[*r as usize].as_ref().ok());
    all.flat_map(|(_, warnings)| warnings.iter().cloned()).collect()
}

fn unexpected(what: &dyn std::fmt::Display) -> QueryError {
    QueryError::Execution(format!("unexpected error: {what}"))
}

/// Seconds that all queries of a batch spent alike.
#[derive(Clone, Copy)]
struct Times {
    queued: f64,
    prepared: f64,
}

/// One query evaluated; the seconds are its own and its part of what it shared.
struct Ended {
    result: Result<run::Done, QueryError>,
    seconds: f64,
}

/// Everything the evaluation needs, to be moved to another thread.
struct Job {
    together: Together,
    engine: Arc<Engine>,
    shape: Shape,
    watch: Arc<Watch>,
    _permit: OwnedSemaphorePermit,
}

impl Job {
    fn run(self) -> Vec<Ended> {
        let Self { together, engine, shape, watch, .. } = &self;
        let now_ns = || engine.monotonic_ns();
        let run = |number: usize, cx: Result<exec::Cx, ExecError>| {
            let started = now_ns();
            let (result, shared_ns) = match cx {
                Ok(cx) => {
                    let plan = &together.members[number].plan;
                    (run::execute(engine, &cx, plan, *shape), cx.shared_ns())
                }
                Err(e) => (Err(e), 0),
            };
            let ns = now_ns().saturating_sub(started) + shared_ns;
            (result, ns as f64 / 1e9)
        };
        let done = exec::together(together, &now_ns, &|| watch.begin(), &run);
        done.into_iter()
            .map(|done| match done {
                Ok((result, seconds)) => {
                    let failed = |e| run::query_error(e, &engine.options);
                    Ended { result: result.map_err(failed), seconds }
                }
                Err(panic) => Ended { result: Err(unexpected(&panic)), seconds: 0.0 },
            })
            .collect()
    }
}
