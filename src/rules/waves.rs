//! The query phase of an evaluation: which rules of a group are queried together.
//!
//! A rule may be queried as soon as every earlier rule it reads from has been committed, and
//! its answer waits until the rule may be committed itself (`order`): it finds exactly what it
//! would find if all rules ran one by one. So a group needs about as few rounds of queries as
//! its longest chain of dependent rules has links, and a round is one evaluation that selects
//! and computes once what several rules need.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::RuleError;
use super::group::{Context, Group, panic_text};
use super::mates::Mates;
use super::order::Turns;
use crate::model::{Clock, TimestampMs};
use crate::query::{Bundle, Engine, PreparedQuery, QueryError, QueryResult, RunOptions};
use crate::storage::Source;

/// Most series the answers of one round may be expected to hold: they wait in memory for
/// their turn. What a rule gave the last time is what is expected of it.
pub(super) const SERIES_EXPECTED_MAX: usize = 200_000;

/// What is expected of a rule that has not been evaluated yet.
pub(super) const SERIES_OF_NEW_RULE: usize = 1_000;

/// A rule that took longer the last time is queried in its own turn: all that are queried
/// with it would wait for it.
pub(super) const SLOW_RULE_SECONDS: f64 = 0.5;

/// How rules are evaluated; results never depend on it.
#[derive(Clone)]
pub struct EvaluationOptions {
    /// `--rules.shared-evaluation`: rules that do not depend on each other are evaluated
    /// together.
    pub shared: bool,
    /// `--enable-feature=concurrent-rule-eval` with `--rules.max-concurrent-evals`: how many
    /// evaluations may run beside those that run anyway, over all groups.
    pub concurrent: Option<Arc<Semaphore>>,
    /// `--rules.align-groups`: groups that do not say where in their interval they are
    /// evaluated are evaluated at its whole multiples.
    pub align_groups: bool,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self { shared: true, concurrent: None, align_groups: false }
    }
}

impl EvaluationOptions {
    /// With `concurrent-rule-eval` on, for that many evaluations at once.
    #[must_use]
    pub fn with_concurrent_evals(self, max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { concurrent: Some(Arc::new(Semaphore::new(max))), ..self }
    }
}

/// The answer to a rule's query.
pub(super) struct Asked {
    pub result: Result<QueryResult, RuleError>,
    pub started_ms: TimestampMs,
    /// How long it took; of what was computed for several rules, this one's share.
    pub seconds: f64,
}

/// The rounds of queries of one evaluation of a group.
pub(super) struct Waves<'a> {
    group: &'a Group,
    cx: &'a Context,
    tick: TimestampMs,
    mates: Arc<Mates>,
    asked: Vec<bool>,
    /// A rule may end series it would not make: which, is not known from its text.
    inherited: bool,
}

impl<'a> Waves<'a> {
    pub(super) fn new(group: &'a Group, cx: &'a Context, tick: TimestampMs) -> Self {
        let (asked, inherited) = (vec![false; group.rules.len()], group.has_inherited());
        Self { group, cx, tick, mates: group.mates.load_full(), asked, inherited }
    }

    /// Whether several rules may be under way at a time, committed in another order than that
    /// of the file.
    pub(super) fn overlap(&self) -> bool {
        let options = &self.cx.evaluation;
        let several = options.shared || options.concurrent.is_some();
        several && !self.inherited && !self.mates.wait_for_others()
    }

    /// Answers to the next round of queries: the first rule that has none is among them.
    /// Everything before that one has been committed.
    pub(super) async fn next(&mut self, turns: &Turns<'_>) -> Vec<(usize, Asked)> {
        let first = turns.first();
        if first == 0 {
            let answers = self.mates.first_answers(self.tick, self.cx).await;
            answers.iter().for_each(|(rule, _)| self.asked[*rule] = true);
            if self.asked[0] {
                return answers;
            }
            let mut all = self.round(turns).await;
            all.extend(answers);
            return all;
        }
        self.round(turns).await
    }

    async fn round(&mut self, turns: &Turns<'_>) -> Vec<(usize, Asked)> {
        let first = turns.first();
        self.mates.wait(self.group, first, (self.tick, self.tick), self.cx).await;
        let wave = self.ready(first, turns);
        wave.iter().for_each(|rule| self.asked[*rule] = true);
        let query = |i: &usize| self.group.rules[*i].query.clone();
        let bundle = self.group.bundles.get(&self.cx.engine, &wave, query);
        let answers = ask(self.cx, &bundle, self.tick - self.group.query_offset_ms).await;
        wave.into_iter().zip(answers).collect()
    }

    /// The rules to query now: `first`, and those after it that are ready as well.
    fn ready(&self, first: usize, turns: &Turns<'_>) -> Vec<usize> {
        let mut wave = vec![first];
        let options = &self.cx.evaluation;
        let rules = &self.group.rules;
        if self.inherited || !options.shared && options.concurrent.is_none() {
            return wave;
        }
        let mut series = rules[first].expected_series();
        for (i, rule) in rules.iter().enumerate().skip(first + 1) {
            let waits = self.asked[i] || !turns.is_ready(i) || !self.mates.is_ready(i, self.tick);
            if waits || rule.last_seconds() > SLOW_RULE_SECONDS {
                continue;
            }
            series = series.saturating_add(rule.expected_series());
            if series > SERIES_EXPECTED_MAX {
                break;
            }
            wave.push(i);
        }
        wave
    }
}

/// Most rounds whose queries are kept ready: a group has few, but which rules are asked in
/// one may change from tick to tick.
const BUNDLES_MAX: usize = 16;

/// The queries of rounds, as they were put together for earlier ticks; `K` names a rule.
pub(super) struct Bundles<K>(Mutex<Vec<(Vec<K>, Arc<Bundle>)>>);

impl<K> Default for Bundles<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + PartialEq> Bundles<K> {
    /// The queries of these rules.
    pub(super) fn get(
        &self,
        engine: &Arc<Engine>,
        rules: &[K],
        query: impl Fn(&K) -> Arc<PreparedQuery>,
    ) -> Arc<Bundle> {
        let mut bundles = self.0.lock();
        if let Some(found) = bundles.iter().position(|(known, _)| known == rules) {
            // The one that was used longest ago comes first.
            bundles[found..].rotate_left(1);
        } else {
            if bundles.len() == BUNDLES_MAX {
                bundles.remove(0);
            }
            let queries = rules.iter().map(query).collect();
            bundles.push((rules.to_vec(), Arc::new(Bundle::new(engine, queries))));
        }
        let (_, bundle) = bundles.last().expect("BUG: it was put there just now");
        bundle.clone()
    }
}

/// What it takes to ask, on any task.
#[derive(Clone)]
struct Asker {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    run: RunOptions,
    /// What queries have in common is computed once.
    shared: bool,
    at: TimestampMs,
}

/// Asks all queries; answers come in their order. With concurrent evaluation the queries
/// are dealt out to as many tasks as there are permits to be had without waiting, and to
/// this one.
pub(super) async fn ask(cx: &Context, bundle: &Bundle, at: TimestampMs) -> Vec<Asked> {
    let queries = bundle.queries();
    let asker = Asker {
        source: cx.source.clone(),
        clock: cx.clock.clone(),
        run: cx.run.clone(),
        shared: cx.evaluation.shared,
        at,
    };
    let mut permits: Vec<OwnedSemaphorePermit> = Vec::new();
    if let Some(semaphore) = &cx.evaluation.concurrent {
        while permits.len() + 1 < queries.len()
            && let Ok(permit) = semaphore.clone().try_acquire_owned()
        {
            permits.push(permit);
        }
    }
    if permits.is_empty() {
        return asker.ask(bundle).await;
    }
    let dealt = bundle.dealt(permits.len() + 1);
    let tasks: Vec<_> = permits
        .into_iter()
        .enumerate()
        .map(|(hand, permit)| {
            let (asker, dealt) = (asker.clone(), dealt.clone());
            tokio::spawn(async move {
                let _permit = permit;
                asker.ask(&dealt[hand]).await
            })
        })
        .collect();
    let own = asker.ask(&dealt[tasks.len()]).await;
    let mut hands = Vec::with_capacity(dealt.len());
    for task in tasks {
        hands.push(task.await.unwrap_or_default().into_iter());
    }
    hands.push(own.into_iter());
    let count = hands.len();
    let lost = || asker.failed(RuleError::Panic("a task that evaluates rules died".to_owned()));
    (0..queries.len()).map(|i| hands[i % count].next().unwrap_or_else(lost)).collect()
}

impl Asker {
    /// Asks all at once, as one plan. Should that panic, as none of its parts may, each is
    /// asked for itself.
    async fn ask(&self, bundle: &Bundle) -> Vec<Asked> {
        let queries = bundle.queries();
        if self.shared && queries.len() > 1 {
            let started_ms = self.clock.now_ms();
            let started = self.clock.monotonic_ns();
            let together = bundle.instant(&self.source, self.at, &self.run);
            match AssertUnwindSafe(together).catch_unwind().await {
                Ok(answers) => {
                    let even = self.seconds_since(started) / answers.len() as f64;
                    let asked = |result: Result<QueryResult, QueryError>| {
                        let seconds = result.as_ref().map_or(even, |r| r.stats.exec_total_seconds);
                        Asked { result: result.map_err(RuleError::Query), started_ms, seconds }
                    };
                    return answers.into_iter().map(asked).collect();
                }
                Err(panic) => tracing::error!(
                    cause = panic_text(&*panic),
                    "BUG: evaluating rules together panicked; each is evaluated alone"
                ),
            }
        }
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            answers.push(self.alone(query).await);
        }
        answers
    }

    async fn alone(&self, query: &PreparedQuery) -> Asked {
        let started_ms = self.clock.now_ms();
        let started = self.clock.monotonic_ns();
        let evaluation = query.instant(&self.source, self.at, &self.run);
        let outcome = AssertUnwindSafe(evaluation).catch_unwind().await;
        let result = match outcome {
            Ok(result) => result.map_err(RuleError::Query),
            Err(panic) => Err(RuleError::Panic(panic_text(&*panic))),
        };
        Asked { result, started_ms, seconds: self.seconds_since(started) }
    }

    fn seconds_since(&self, started_ns: u64) -> f64 {
        self.clock.monotonic_ns().saturating_sub(started_ns) as f64 / 1e9
    }

    fn failed(&self, error: RuleError) -> Asked {
        Asked { result: Err(error), started_ms: self.clock.now_ms(), seconds: 0.0 }
    }
}
