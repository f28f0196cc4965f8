//! Groups that tick together: those that are aligned (`eval_offset`, `eval_alignment`,
//! `--rules.align-groups`) and so are evaluated for the same millisecond.
//!
//! Each group keeps its own task. Two things tie them:
//! - A rule that reads what a rule of another group writes in the same tick waits for that
//!   rule's commit, in the order of the [`RuleGraph`], which has no circles. It waits for a
//!   quarter of its group's interval after the tick at most, and then takes what is there:
//!   a group that is stuck delays those that read from it, and only that long.
//! - The group that comes first to a tick asks the queries of all groups that are ready for
//!   it, of rules that depend on nothing in that tick, as one evaluation. The others find
//!   their answers there. A group still busy with an earlier tick is not waited for, a rule
//!   that took long the last time is left to its own group, and after a quarter of the
//!   shortest interval the common evaluation is given up: each group asks for itself then,
//!   so that only the one to blame is late.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, watch};

use super::config::{GroupSpec, Problem};
use super::graph::{RuleGraph, Ticks};
use super::group::{Context, Group};
use super::waves::{Asked, Bundles, SERIES_EXPECTED_MAX, SLOW_RULE_SECONDS, ask};
use crate::model::TimestampMs;

/// Part of its interval after the tick for which a group waits for others.
const PATIENCE: i64 = 4;

/// How far a group has come, for those that read from it.
#[derive(Debug)]
pub(super) struct Progress(watch::Sender<At>);

/// The tick a group is at, or sleeps towards, and how many of its rules it has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    tick: TimestampMs,
    committed: usize,
    /// The first tick it evaluates next: `tick`, or one before that is to be made up for.
    next: TimestampMs,
}

impl At {
    /// Whether a rule is done with a tick; with one that is made up for, for good.
    fn has_passed(&self, tick: TimestampMs, rule: usize, made_up: bool) -> bool {
        let here = self.tick == tick && self.committed > rule;
        here || self.tick > tick && !(made_up && self.next <= tick)
    }
}

impl Default for Progress {
    /// Of a group that does not run: nobody waits for it.
    fn default() -> Self {
        let (tick, next) = (TimestampMs::MAX, TimestampMs::MAX);
        Self(watch::Sender::new(At { tick, committed: 0, next }))
    }
}

impl Progress {
    /// The group goes on to a tick: everything before is done.
    pub(super) fn at(&self, tick: TimestampMs) {
        self.committed(tick, 0);
    }

    /// So many rules are committed for a tick.
    pub(super) fn committed(&self, tick: TimestampMs, committed: usize) {
        self.0.send_replace(At { tick, committed, next: tick });
    }

    /// The group sleeps towards a tick; `next` is the first it evaluates then.
    pub(super) fn sleeps(&self, tick: TimestampMs, next: TimestampMs) {
        self.0.send_replace(At { tick, committed: 0, next });
    }

    /// The group runs no more.
    pub(super) fn ended(&self) {
        self.at(TimestampMs::MAX);
    }

    fn is_ready_for(&self, tick: TimestampMs) -> bool {
        *self.0.borrow() == At { tick, committed: 0, next: tick }
    }
}

/// A rule of another group.
struct Wait {
    progress: Arc<Progress>,
    ticks: Ticks,
    /// Its index in its group.
    rule: usize,
    /// `FILE;GROUP`, for people.
    group: String,
}

/// What a group has to do with others.
#[derive(Default)]
pub(super) struct Mates {
    /// For each rule, whom it waits for.
    waits: Vec<Vec<Wait>>,
    cohort: Option<(Arc<Cohort>, usize)>,
}

impl Mates {
    /// Whether a rule may be queried for a tick without waiting.
    pub(super) fn is_ready(&self, rule: usize, tick: TimestampMs) -> bool {
        self.pending(rule, tick, false).next().is_none()
    }

    fn pending(
        &self,
        rule: usize,
        tick: TimestampMs,
        made_up: bool,
    ) -> impl Iterator<Item = &Wait> {
        let waits = self.waits.get(rule).map_or(&[][..], Vec::as_slice);
        waits.iter().filter(move |wait| {
            let at = *wait.progress.0.borrow();
            wait.ticks.include(tick) && !at.has_passed(tick, wait.rule, made_up)
        })
    }

    /// Whether some rule may have to wait for another group.
    pub(super) fn wait_for_others(&self) -> bool {
        self.waits.iter().any(|waits| !waits.is_empty())
    }

    /// Waits for what a rule of `group` reads of others in this tick; not long after `due`,
    /// which is the tick, or a later one when it is made up for. False when it took too long.
    pub(super) async fn wait(
        &self,
        group: &Group,
        rule: usize,
        (tick, due): (TimestampMs, TimestampMs),
        cx: &Context,
    ) -> bool {
        let patient_until = due.saturating_add(group.interval_ms / PATIENCE);
        let made_up = tick < due;
        for wait in self.pending(rule, tick, made_up) {
            let mut progress = wait.progress.0.subscribe();
            tokio::select! {
                biased;
                _ = progress.wait_for(|at| at.has_passed(tick, wait.rule, made_up)) => {}
                () = cx.clock.sleep_until(patient_until) => {
                    cx.metrics.order_timeouts.inc();
                    tracing::warn!(
                        group = group.spec.name,
                        file = group.spec.file,
                        rule = group.rules[rule].spec.name(),
                        late = wait.group,
                        "a group that this rule reads from is late; the rule reads what is there"
                    );
                    return false;
                }
            }
        }
        true
    }

    /// The answers to first queries of a group for a tick, by rule, if they were asked
    /// together with those of other groups; else nothing.
    pub(super) async fn first_answers(
        &self,
        tick: TimestampMs,
        cx: &Context,
    ) -> Vec<(usize, Asked)> {
        match &self.cohort {
            Some((cohort, member)) => cohort.answers(*member, tick, cx).await,
            None => Vec::new(),
        }
    }
}

/// Groups that may share their first queries: those whose queries have the same time when
/// they tick together.
struct Cohort {
    members: Vec<Member>,
    current: Mutex<Arc<Joint>>,
    bundles: Bundles<(usize, usize)>,
}

struct Member {
    group: Weak<Group>,
    ticks: Ticks,
    query_offset_ms: i64,
    /// Rules that depend on nothing that is written in their tick.
    first: Vec<usize>,
}

/// By member: its rules with their answers.
type Answers = Mutex<HashMap<usize, Vec<(usize, Asked)>>>;

/// One tick's common evaluation.
struct Joint {
    tick: TimestampMs,
    answers: OnceCell<Answers>,
}

impl Cohort {
    async fn answers(&self, member: usize, tick: TimestampMs, cx: &Context) -> Vec<(usize, Asked)> {
        let joint = {
            let mut current = self.current.lock();
            if current.tick < tick {
                *current = Arc::new(Joint { tick, answers: OnceCell::new() });
            }
            current.clone()
        };
        if joint.tick != tick {
            return Vec::new();
        }
        let answers = joint.answers.get_or_init(|| self.ask(tick, cx)).await;
        answers.lock().remove(&member).unwrap_or_default()
    }

    async fn ask(&self, tick: TimestampMs, cx: &Context) -> Answers {
        let (mut places, mut queries) = (Vec::new(), HashMap::new());
        let (mut at, mut series, mut interval_ms) = (tick, 0_usize, i64::MAX);
        for (number, member) in self.members.iter().enumerate() {
            let Some(group) = member.group.upgrade() else { continue };
            let ready = member.ticks.include(tick) && group.progress.is_ready_for(tick);
            if !ready || group.has_inherited() {
                continue;
            }
            at = tick - member.query_offset_ms;
            interval_ms = interval_ms.min(member.ticks.interval_ms);
            for &rule in &member.first {
                let of = &group.rules[rule];
                let expected = of.expected_series();
                if of.last_seconds() <= SLOW_RULE_SECONDS
                    && series.saturating_add(expected) <= SERIES_EXPECTED_MAX
                {
                    series += expected;
                    places.push((number, rule));
                    queries.insert((number, rule), of.query.clone());
                }
            }
        }
        let mut answers: HashMap<usize, Vec<(usize, Asked)>> = HashMap::new();
        let bundle = self.bundles.get(&cx.engine, &places, |place| queries[place].clone());
        let asked = tokio::select! {
            biased;
            asked = ask(cx, &bundle, at) => asked,
            () = cx.clock.sleep_until(tick.saturating_add(interval_ms / PATIENCE)) => {
                tracing::warn!(tick, "evaluating the rules of several groups together takes long; each group evaluates its own");
                Vec::new()
            }
        };
        for ((member, rule), asked) in places.into_iter().zip(asked) {
            answers.entry(member).or_default().push((rule, asked));
        }
        Mutex::new(answers)
    }
}

/// Tells groups what they have to do with each other, and gives what people should know
/// about it. Groups are in the order of evaluation where there is a choice.
pub(super) fn link(groups: &[Arc<Group>], shared: bool) -> Vec<Problem> {
    let graph = RuleGraph::new(groups.iter().map(|group| (&group.spec, group.ticks)));
    let mut mates: Vec<Mates> = Vec::with_capacity(groups.len());
    for node in &graph.groups {
        let wait = |writer: usize| {
            let group = graph.rules[writer].group;
            Wait {
                progress: groups[group].progress.clone(),
                ticks: groups[group].ticks,
                rule: writer - graph.groups[group].rules.start,
                group: groups[group].key(),
            }
        };
        let waits =
            node.rules.clone().map(|rule| graph.waits(rule).into_iter().map(wait).collect());
        mates.push(Mates { waits: waits.collect(), cohort: None });
    }
    if shared {
        for (offset, members) in cohorts(groups) {
            let cohort = Arc::new(Cohort {
                bundles: Bundles::default(),
                current: Mutex::new(Arc::new(Joint {
                    tick: TimestampMs::MIN,
                    answers: OnceCell::new(),
                })),
                members: members
                    .iter()
                    .map(|&number| {
                        let group = &groups[number];
                        let waits = &mates[number].waits;
                        let rules = group.ready_after.iter().zip(waits).enumerate();
                        let first =
                            rules.filter(|(_, (after, waits))| **after == 0 && waits.is_empty());
                        Member {
                            group: Arc::downgrade(group),
                            ticks: group.ticks,
                            query_offset_ms: offset,
                            first: first.map(|(rule, _)| rule).collect(),
                        }
                    })
                    .collect(),
            });
            for (member, number) in members.into_iter().enumerate() {
                mates[number].cohort = Some((cohort.clone(), member));
            }
        }
    }
    for (group, mates) in groups.iter().zip(mates) {
        group.mates.store(Arc::new(mates));
    }
    let specs: Vec<&GroupSpec> = groups.iter().map(|group| &group.spec).collect();
    graph.problems(&specs)
}

/// The aligned groups that meet another one, by query offset.
fn cohorts(groups: &[Arc<Group>]) -> HashMap<i64, Vec<usize>> {
    let mut cohorts: HashMap<i64, Vec<usize>> = HashMap::new();
    for (number, group) in groups.iter().enumerate().filter(|(_, g)| g.ticks.offset_ms.is_some()) {
        cohorts.entry(group.query_offset_ms).or_default().push(number);
    }
    cohorts.retain(|_, members| {
        let all = members.clone();
        let meets = |a: usize, b: usize| a != b && groups[a].ticks.meet(groups[b].ticks);
        members.retain(|a| all.iter().any(|b| meets(*a, *b)));
        !members.is_empty()
    });
    cohorts
}
