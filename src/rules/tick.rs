//! One evaluation of a group: rounds of queries, and between them what rules do with the
//! answers.
//!
//! Rules that may be committed (`order`) do so in file order, their samples in one batch. What
//! fails, panics included, goes no further than its rule.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;

use super::cost::Cost;
use super::error::RuleError;
use super::group::{Context, Group, Rule, panic_text, samples_of_failure, seconds_since};
use super::order::{Turns, Writes};
use super::outcome::{Answer, Outcome};
use super::recording::record;
use super::waves::{Asked, Waves};
use super::write::{Refused, write_all};
use crate::model::{Labels, Sample, TimestampMs};
use crate::query::{QueryError, QueryResult};
use crate::storage::StorageError;

/// Samples after which a batch is written although more would belong to it.
const BATCH_SAMPLES: usize = 1_024;

type Samples = Vec<(Labels, Sample)>;

/// What an evaluation came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub samples: usize,
    pub rule_seconds: f64,
}

/// See the module.
pub(super) struct Tick<'a> {
    group: &'a Group,
    cx: &'a Context,
    ts: TimestampMs,
    turns: Turns<'a>,
    waves: Waves<'a>,
    /// Rules may be committed before their turn.
    overlap: bool,
    /// By rule, while it waits for its commit.
    queried: Vec<Option<Queried>>,
    /// In order; what is left to do is to write.
    concluded: Vec<Concluded<'a>>,
    /// What rules took that have not been counted yet.
    seconds: Vec<f64>,
    made: Made,
}

/// A rule with its answer.
struct Queried {
    what: What,
    started_ms: TimestampMs,
    /// Until now.
    cost: Cost,
}

enum What {
    /// Of an alerting rule.
    Answer(Result<QueryResult, RuleError>),
    /// Of a recording rule.
    Recorded(Result<(Samples, Outcome), RuleError>),
}

/// A rule that has done everything but to write its samples.
struct Concluded<'a> {
    rule: &'a Rule,
    samples: Samples,
    /// It failed, and its policy makes samples of that.
    error: Option<RuleError>,
    started_ms: TimestampMs,
    cost: Cost,
}

impl<'a> Tick<'a> {
    pub(super) fn new(group: &'a Group, cx: &'a Context, ts: TimestampMs) -> Self {
        let waves = Waves::new(group, cx, ts);
        // What an alert looks at while it waits for its data goes beyond its expression.
        let holds = |rule: &Rule| rule.alerting.as_ref().is_some_and(|a| a.hold.lock().is_some());
        Self {
            overlap: waves.overlap() && !group.rules.iter().any(holds),
            turns: Turns::new(&group.order),
            queried: group.rules.iter().map(|_| None).collect(),
            concluded: Vec::new(),
            seconds: Vec::new(),
            made: Made::default(),
            group,
            cx,
            ts,
            waves,
        }
    }

    /// Evaluates every rule; `None` when `stop` said so between two of them.
    pub(super) async fn run(mut self, stop: impl Fn() -> bool) -> Option<Made> {
        loop {
            for rule in self.turns.first()..self.queried.len() {
                if !self.may_go(rule) {
                    continue;
                }
                if stop() {
                    self.write().await;
                    return None;
                }
                if let Some(queried) = self.queried[rule].take() {
                    self.conclude(rule, queried).await;
                }
            }
            self.write().await;
            if self.turns.all_done() {
                return Some(self.made);
            }
            if stop() {
                return None;
            }
            for (rule, asked) in self.waves.next(&self.turns).await {
                self.queried[rule] = Some(self.receive(rule, asked));
            }
        }
    }

    /// Whether a rule has its answer and may be committed.
    fn may_go(&self, number: usize) -> bool {
        let Some(queried) = &self.queried[number] else { return false };
        if number == self.turns.first() || !self.overlap {
            return number == self.turns.first();
        }
        let rule = &self.group.rules[number];
        let (previous, mut met) = (rule.previous.lock(), rule.met.lock());
        let writes = match &queried.what {
            What::Answer(_) => Writes::Unknown,
            What::Recorded(Err(_)) => Writes::Nothing,
            What::Recorded(Ok((samples, _))) => Writes::Series(samples, &previous),
        };
        self.turns.may_go(number, writes, &mut met)
    }

    fn receive(&self, number: usize, asked: Asked) -> Queried {
        let Asked { result, started_ms, seconds } = asked;
        let cost = Cost { seconds, ..Cost::of(&result) };
        let rule = &self.group.rules[number];
        let what = match rule.alerting {
            Some(_) => What::Answer(result),
            None => {
                let recorded = catch_unwind(AssertUnwindSafe(|| self.recorded(rule, result)));
                let panicked = |panic: Box<dyn std::any::Any + Send>| {
                    Err(RuleError::Panic(panic_text(&*panic)))
                };
                What::Recorded(recorded.unwrap_or_else(panicked))
            }
        };
        Queried { what, started_ms, cost }
    }

    /// What a recording rule makes of its query's result.
    fn recorded(
        &self,
        rule: &Rule,
        result: Result<QueryResult, RuleError>,
    ) -> Result<(Samples, Outcome), RuleError> {
        let Answer { samples, outcome } = Answer::new(result?)?;
        let (spec, limit) = (&rule.spec, self.group.spec.limit);
        let samples = record(samples, spec.name(), &spec.labels, limit, &mut rule.names.lock())?;
        Ok((samples, outcome))
    }

    /// Does with one rule's answer what is to be done, but for writing its samples.
    async fn conclude(&mut self, number: usize, queried: Queried) {
        let (group, cx) = (self.group, self.cx);
        let rule = &group.rules[number];
        // What it asks for itself must find what rules before it have made.
        if self.turns.asks(number)
            || rule.alerting.as_ref().is_some_and(|a| a.hold.lock().is_some())
        {
            self.write().await;
        }
        let Queried { what, started_ms, mut cost } = queried;
        let started = cx.clock.monotonic_ns();
        group.metrics.evaluations.inc();
        self.turns.finish(number);
        let outcome = match what {
            What::Recorded(Ok((samples, outcome))) => {
                rule.note_outcome(cx, outcome);
                Ok(samples)
            }
            What::Recorded(Err(e)) => Err(e),
            What::Answer(answer) => {
                let alerts = AssertUnwindSafe(self.alerts(rule, answer)).catch_unwind().await;
                alerts.unwrap_or_else(|panic| Err(RuleError::Panic(panic_text(&*panic))))
            }
        };
        let (samples, error) = match outcome {
            Ok(samples) => (Some(samples), None),
            Err(e) => {
                rule.note_outcome(cx, Outcome::Error);
                let samples = samples_of_failure(rule, cx, &e, self.ts);
                if samples.is_some() {
                    self.tell(rule).await;
                }
                (samples, Some(e))
            }
        };
        cost.seconds += seconds_since(cx, started);
        match (samples, error) {
            (Some(samples), error) => {
                self.made.samples += samples.len();
                self.concluded.push(Concluded { rule, samples, error, started_ms, cost });
            }
            (None, Some(error)) => {
                self.fail(rule, error);
                self.note_cost(rule, started_ms, cost);
            }
            (None, None) => {}
        }
        let waiting = self.concluded.iter().map(|c| c.samples.len()).sum::<usize>();
        if waiting > BATCH_SAMPLES {
            self.write().await;
        }
    }

    /// Writes what rules have made, and shows how far the group has come.
    async fn write(&mut self) {
        let (group, cx) = (self.group, self.cx);
        let mut concluded = std::mem::take(&mut self.concluded);
        let started = cx.clock.monotonic_ns();
        let rules = concluded
            .iter_mut()
            .map(|c| (&c.rule.previous, std::mem::take(&mut c.samples)))
            .collect::<Vec<_>>();
        let counts: Vec<usize> = rules.iter().map(|(_, samples)| samples.len()).collect();
        let results = write_all(&cx.sink, rules, self.ts - group.query_offset_ms).await;
        let even = seconds_since(cx, started) / results.len().max(1) as f64;
        for ((concluded, result), count) in concluded.into_iter().zip(results).zip(counts) {
            let Concluded { rule, error, started_ms, cost, .. } = concluded;
            self.written(rule, error, result, count);
            self.note_cost(rule, started_ms, Cost { seconds: cost.seconds + even, ..cost });
        }
        cx.metrics.observe_rules(&self.seconds);
        self.seconds.clear();
        group.progress.committed(self.ts, self.turns.first());
    }

    fn written(
        &self,
        rule: &Rule,
        error: Option<RuleError>,
        result: Result<Refused, StorageError>,
        count: usize,
    ) {
        let refused = match result {
            Ok(refused) => refused,
            Err(e) => return self.fail(rule, RuleError::Commit(e)),
        };
        rule.note_written(count);
        if let Some((error, refused)) = &refused {
            let (group, rule) = (&self.group.spec.name, rule.spec.name());
            tracing::warn!(group, rule, refused, %error, "samples of a rule were refused");
        }
        match error {
            Some(error) => self.fail(rule, error),
            None => rule.set_result(refused.map_or(Ok(()), |(e, _)| Err(RuleError::Append(e)))),
        }
    }

    fn note_cost(&mut self, rule: &Rule, started_ms: TimestampMs, cost: Cost) {
        self.seconds.push(cost.seconds);
        self.made.rule_seconds += cost.seconds;
        rule.note_cost(started_ms, cost);
    }

    fn fail(&self, rule: &Rule, error: RuleError) {
        let spec = &self.group.spec;
        let (group, name, file) = (&spec.name, rule.spec.name(), &spec.file);
        match &error {
            // Queries are cancelled on purpose, at shutdown.
            RuleError::Query(QueryError::Canceled(_)) => {}
            error => tracing::warn!(file, group, rule = name, %error, "evaluating a rule failed"),
        }
        self.group.metrics.evaluation_failures.inc();
        rule.set_result(Err(error));
    }

    /// Moves alerts on, sends them, and gives what is to be stored.
    async fn alerts(
        &self,
        rule: &Rule,
        answer: Result<QueryResult, RuleError>,
    ) -> Result<Samples, RuleError> {
        let (group, cx, ts) = (self.group, self.cx, self.ts);
        let answer = Answer::new(answer?)?;
        let outcome = answer.outcome;
        let times = (ts, ts - group.query_offset_ms);
        let samples = group.samples_of(rule, cx, answer, times).await;
        if samples.is_ok() {
            self.tell(rule).await;
            rule.note_outcome(cx, outcome);
        } else if let Some(alerting) = &rule.alerting {
            let _ = alerting.commit(cx, ts, group.interval_ms, false).await;
        }
        samples
    }

    /// Writes what became of a rule's alerts to the state log, and sends what is due.
    async fn tell(&self, rule: &Rule) {
        if let Some(alerting) = &rule.alerting {
            let due = alerting.commit(self.cx, self.ts, self.group.interval_ms, true).await;
            alerting.send(&rule.spec, self.cx, self.ts, due);
        }
    }
}
