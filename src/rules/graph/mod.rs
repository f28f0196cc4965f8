//! Which rule reads what which rule writes, over all groups, found by comparing selectors
//! with the series a rule can make: their names, the rule's labels, and what follows from
//! its expression (`shape`).
//!
//! From it come the order of rules within a group ([`RuleGraph::ready_after`]), the order of
//! rules of groups that tick together ([`RuleGraph::waits`]), the cycles that are reported
//! at load, and what `watchfire rules graph` shows. Pure: it knows no storage and no time.

mod cycles;
mod reads;
pub(crate) mod shape;

use std::collections::HashMap;
use std::ops::Range;

pub(crate) use self::reads::{Read, reads};
use self::shape::Shape;
use super::config::{GroupSpec, Problem, ProblemKind, RuleKind, RuleSpec, Severity};
use crate::model::labels::quote;
use crate::model::time::gcd;

/// When a group is evaluated, as far as it matters to other groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    pub interval_ms: i64,
    /// Ticks lie at multiples of the interval plus this. `None`: at a place of the group's
    /// own, which no other group is meant to share.
    pub offset_ms: Option<i64>,
}

impl Ticks {
    /// Whether two groups are evaluated for the same millisecond again and again.
    pub fn meet(self, other: Ticks) -> bool {
        match (self.offset_ms, other.offset_ms) {
            (Some(a), Some(b)) => (a - b) % gcd(self.interval_ms, other.interval_ms).max(1) == 0,
            _ => false,
        }
    }

    /// Whether one of them is at `ts`.
    pub fn include(self, ts: i64) -> bool {
        self.offset_ms.is_some_and(|offset| (ts - offset).rem_euclid(self.interval_ms.max(1)) == 0)
    }
}

/// A group of the graph.
#[derive(Clone, Debug)]
pub struct GroupNode {
    pub file: String,
    pub name: String,
    pub ticks: Ticks,
    /// Its rules, in file order, as indexes into [`RuleGraph::rules`].
    pub rules: Range<usize>,
}

/// A rule of the graph.
#[derive(Clone, Debug)]
pub struct RuleNode {
    /// Index into [`RuleGraph::groups`].
    pub group: usize,
    pub alerting: bool,
    pub name: String,
    /// Names it selects that no rule writes, sorted.
    pub outside: Vec<String>,
}

/// How a dependency is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// A selector that names what it wants.
    Selector,
    /// `depends_on` says so.
    Declared,
    /// The literal text of a `query` in a label or annotation.
    Template,
    /// A selector without a metric name that might match. It orders rules of one group, not
    /// groups: else everything would depend on everything.
    Indeterminate,
}

/// Which value of the writer a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// What was written for the same tick.
    ThisTick,
    /// What was written for the tick before: the writer is the rule itself, stands later in
    /// its group, or the two would wait for each other.
    PreviousTick,
    /// The writer ticks at times of its own: what it wrote last.
    Latest,
}

/// One dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Indexes into [`RuleGraph::rules`].
    pub reader: usize,
    pub writer: usize,
    pub kind: EdgeKind,
    pub sees: Sees,
    /// The query itself needs it, not only a template.
    pub in_query: bool,
}

/// Rules that read each other in a circle, starting from the first in file order; each
/// reads the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub rules: Vec<usize>,
    /// All in one group: legal and of use, since a rule sees what later ones made before.
    pub within_group: bool,
}

/// A dependency between groups that tick together which cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Index into [`RuleGraph::edges`].
    pub edge: usize,
    /// What must come after what: from the reader to the writer.
    pub path: Vec<usize>,
}

/// A `depends_on` that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub rule: usize,
    pub name: String,
    /// The rule of that name stands later in the same group; else there is none.
    pub later: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RuleGraph {
    pub groups: Vec<GroupNode>,
    pub rules: Vec<RuleNode>,
    /// Sorted by reader and writer; one edge for a pair of rules.
    pub edges: Vec<Edge>,
    pub cycles: Vec<Cycle>,
    pub conflicts: Vec<Conflict>,
    pub unmet: Vec<Unmet>,
}

/// The rules, by what they write.
#[derive(Default)]
struct Writers {
    shapes: Vec<Vec<Shape>>,
    by_record: HashMap<String, Vec<usize>>,
    alerts: Vec<usize>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Writers {
    fn add(&mut self, index: usize, rule: &RuleSpec) {
        self.by_name.entry(rule.name().to_owned()).or_default().push(index);
        self.shapes.push(match &rule.kind {
            RuleKind::Recording { record } => {
                self.by_record.entry(record.clone()).or_default().push(index);
                vec![shape::recorded(&rule.expr.expr, record, &rule.labels)]
            }
            RuleKind::Alerting(alert) => {
                self.alerts.push(index);
                shape::alerts(&alert.alert, &rule.labels).to_vec()
            }
        });
    }

    /// The rules whose series a selector may find, in order.
    fn of(&self, read: &Read) -> Vec<usize> {
        let matches = |i: &usize| self.shapes[*i].iter().any(|s| s.may_match(&read.matchers));
        match read.name() {
            Some("ALERTS" | "ALERTS_FOR_STATE") => {
                let records = read.name().and_then(|n| self.by_record.get(n));
                let mut found: Vec<usize> =
                    self.alerts.iter().chain(records.into_iter().flatten()).copied().collect();
                found.retain(matches);
                found.sort_unstable();
                found
            }
            Some(name) => {
                let records = self.by_record.get(name).into_iter().flatten();
                records.copied().filter(matches).collect()
            }
            None => (0..self.shapes.len()).filter(matches).collect(),
        }
    }
}

impl RuleGraph {
    /// The graph of these groups. `specs` are in the order of evaluation where there is a
    /// choice: sorted by file and then as in the file, so that it is the same everywhere.
    pub fn new<'a>(specs: impl IntoIterator<Item = (&'a GroupSpec, Ticks)>) -> Self {
        let mut graph = Self::default();
        let mut writers = Writers::default();
        let mut all: Vec<(&RuleSpec, &GroupSpec)> = Vec::new();
        for (spec, ticks) in specs {
            let first = all.len();
            for rule in &spec.rules {
                writers.add(all.len(), rule);
                all.push((rule, spec));
                graph.rules.push(RuleNode {
                    group: graph.groups.len(),
                    alerting: matches!(rule.kind, RuleKind::Alerting(_)),
                    name: rule.name().to_owned(),
                    outside: Vec::new(),
                });
            }
            graph.groups.push(GroupNode {
                file: spec.file.clone(),
                name: spec.name.clone(),
                ticks,
                rules: first..all.len(),
            });
        }
        for (reader, (rule, group)) in all.into_iter().enumerate() {
            graph.link(reader, rule, group, &writers);
        }
        graph.order_groups();
        graph.find_cycles();
        graph
    }

    fn link(&mut self, reader: usize, rule: &RuleSpec, group: &GroupSpec, writers: &Writers) {
        let mut found: HashMap<usize, (EdgeKind, bool)> = HashMap::new();
        let mut add = |writer: usize, kind: EdgeKind, in_query: bool| {
            let (known, query) = found.entry(writer).or_insert((kind, in_query));
            *known = kind.min(*known);
            *query |= in_query;
        };
        for read in reads(rule) {
            let matched = writers.of(&read);
            if let (Some(name), true) = (read.name(), matched.is_empty()) {
                self.rules[reader].outside.push(name.to_owned());
            }
            let kind = match (read.is_named(), read.in_template) {
                (false, _) => EdgeKind::Indeterminate,
                (true, true) => EdgeKind::Template,
                (true, false) => EdgeKind::Selector,
            };
            matched.into_iter().for_each(|writer| add(writer, kind, !read.in_template));
        }
        let own = self.groups[self.rules[reader].group].rules.clone();
        for name in &rule.depends_on {
            let named = writers.by_name.get(name).map_or(&[][..], Vec::as_slice);
            let later = |w: &&usize| own.contains(*w) && **w >= reader;
            if named.iter().all(|w| later(&w)) {
                let (name, later) = (name.clone(), !named.is_empty());
                self.unmet.push(Unmet { rule: reader, name, later });
            }
            named.iter().filter(|w| !later(w)).for_each(|w| add(*w, EdgeKind::Declared, true));
        }
        for name in &group.depends_on {
            let named = writers.by_name.get(name).map_or(&[][..], Vec::as_slice);
            if named.is_empty() && reader == own.start {
                self.unmet.push(Unmet { rule: reader, name: name.clone(), later: false });
            }
            // What the group's own rules need of each other is told rule by rule.
            let others = named.iter().filter(|w| !own.contains(*w));
            others.for_each(|w| add(*w, EdgeKind::Declared, true));
        }
        let outside = &mut self.rules[reader].outside;
        outside.sort();
        outside.dedup();
        let edge = |(writer, (kind, in_query))| {
            let sees = self.sees(reader, writer);
            Edge { reader, writer, kind, sees, in_query }
        };
        let mut edges: Vec<Edge> = found.into_iter().map(edge).collect();
        edges.sort_by_key(|edge| edge.writer);
        self.edges.extend(edges);
    }

    /// Before groups that tick together have been ordered.
    fn sees(&self, reader: usize, writer: usize) -> Sees {
        match self.rules[reader].group == self.rules[writer].group {
            true if writer < reader => Sees::ThisTick,
            true => Sees::PreviousTick,
            false => Sees::Latest,
        }
    }

    fn tick_together(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.rules[a].group, self.rules[b].group);
        a != b && self.groups[a].ticks.meet(self.groups[b].ticks)
    }

    /// Keeps as many dependencies between groups that tick together as can be kept at once,
    /// those of earlier readers first. What a rule wrote is there before what the next rule
    /// of its group writes, so the file order of every group counts as well.
    fn order_groups(&mut self) {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.rules.len()];
        for group in &self.groups {
            for rule in group.rules.clone().skip(1) {
                before[rule - 1].push(rule);
            }
        }
        for i in 0..self.edges.len() {
            let Edge { reader, writer, kind, .. } = self.edges[i];
            if kind == EdgeKind::Indeterminate || !self.tick_together(reader, writer) {
                continue;
            }
            if cycles::reaches(&before, reader, writer) {
                self.edges[i].sees = Sees::PreviousTick;
                let path = cycles::way(&before, reader, writer);
                self.conflicts.push(Conflict { edge: i, path });
            } else {
                self.edges[i].sees = Sees::ThisTick;
                before[writer].push(reader);
            }
        }
    }

    fn find_cycles(&mut self) {
        let mut reads: Vec<Vec<usize>> = vec![Vec::new(); self.rules.len()];
        for edge in self.edges.iter().filter(|e| e.kind != EdgeKind::Indeterminate) {
            if edge.reader != edge.writer {
                reads[edge.reader].push(edge.writer);
            }
        }
        for part in cycles::components(&reads) {
            let rules = cycles::way_around(&reads, &part);
            let group = self.rules[part[0]].group;
            let within_group = rules.iter().all(|r| self.rules[*r].group == group);
            self.cycles.push(Cycle { rules, within_group });
        }
    }

    /// For each rule of a group how many rules of the group must have been committed before
    /// its query may run, so that it finds what it would find if all ran one by one.
    /// Queries of templates do not count: they run when the rule's turn has come.
    pub fn ready_after(&self, group: usize) -> Vec<usize> {
        let rules = self.groups[group].rules.clone();
        let mut after = vec![0; rules.len()];
        for edge in self.edges.iter().filter(|e| rules.contains(&e.reader)) {
            let same_group = rules.contains(&edge.writer) && edge.writer < edge.reader;
            if same_group && edge.in_query {
                let reader = &mut after[edge.reader - rules.start];
                *reader = (*reader).max(edge.writer - rules.start + 1);
            }
        }
        after
    }

    /// What a rule reads, sorted by writer.
    pub fn edges_of(&self, rule: usize) -> &[Edge] {
        let first = self.edges.partition_point(|edge| edge.reader < rule);
        let len = self.edges[first..].partition_point(|edge| edge.reader == rule);
        &self.edges[first..first + len]
    }

    /// The rules of other groups that must have been committed for a tick before this one
    /// is evaluated for it, where those groups have that tick.
    pub fn waits(&self, rule: usize) -> impl Iterator<Item = usize> + '_ {
        let group = self.rules[rule].group;
        let others =
            self.edges_of(rule).iter().filter(move |e| self.rules[e.writer].group != group);
        others.filter(|e| e.sees == Sees::ThisTick).map(|e| e.writer)
    }

    /// `FILE;GROUP;NUMBER NAME`, the number from 1.
    pub fn label(&self, rule: usize) -> String {
        let node = &self.rules[rule];
        let group = &self.groups[node.group];
        format!("{};{};{} {}", group.file, group.name, rule - group.rules.start + 1, node.name)
    }

    fn chain(&self, rules: impl IntoIterator<Item = usize>) -> String {
        rules.into_iter().map(|r| self.label(r)).collect::<Vec<_>>().join(" -> ")
    }

    /// What a person should know: cycles, dependencies that cannot be kept, and
    /// `depends_on` without effect. `specs` are those the graph was made of.
    pub fn problems(&self, specs: &[&GroupSpec]) -> Vec<Problem> {
        let problem = |rule: usize, severity: Severity, message: String| {
            let node = &self.rules[rule];
            let (spec, group) = (specs[node.group], &self.groups[node.group]);
            let index = rule - group.rules.start;
            let at = spec.rules[index].at;
            let (group, name) = (quote(&spec.name), quote(&node.name));
            Problem {
                file: spec.file.clone(),
                severity,
                kind: ProblemKind::Rule,
                position: Some(at),
                message: format!("{at}: group {group}, rule {}, {name}: {message}", index + 1),
            }
        };
        let mut problems = Vec::new();
        for conflict in &self.conflicts {
            let Edge { reader, writer, .. } = self.edges[conflict.edge];
            let message = format!(
                "it reads what {} writes in the same tick, which has to wait for it: {}; it \
                 reads the value of the tick before",
                self.label(writer),
                self.chain(conflict.path.iter().copied())
            );
            problems.push(problem(reader, Severity::Warning, message));
        }
        for cycle in &self.cycles {
            let around = cycle.rules.iter().chain(cycle.rules.first()).copied();
            let message = format!("rules read each other in a circle: {}", self.chain(around));
            problems.push(problem(cycle.rules[0], Severity::Note, message));
        }
        for unmet in &self.unmet {
            let name = quote(&unmet.name);
            let message = if unmet.later {
                format!(
                    "depends_on {name} has no effect: that rule stands later in the same group, \
                     so the value of the tick before is seen; move it up"
                )
            } else {
                format!("depends_on {name} has no effect: there is no rule of that name")
            };
            problems.push(problem(unmet.rule, Severity::Warning, message));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
