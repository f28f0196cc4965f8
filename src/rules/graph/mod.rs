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

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
    pub edge: Edge,
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
    pub cycles: Vec<Cycle>,
    /// For each reader and group the first one, and only so many.
    pub conflicts: Vec<Conflict>,
    pub unmet: Vec<Unmet>,
    /// Rules that nobody can tell apart by what they write, sorted: hundreds of rules that
    /// each read what hundreds of others write make no edge for each pair.
    crowds: Vec<Vec<u32>>,
    /// For each rule what it reads, by crowd.
    reads: Vec<Vec<Reads>>,
    /// By reader and another group it reads from and ticks together with: the first rule of
    /// the group that comes after the reader. It sees this tick's value of those before.
    across: HashMap<(u32, u32), usize>,
    /// Conflicts beyond those that are listed.
    more_conflicts: usize,
}

/// What a rule reads of a crowd.
#[derive(Clone, Copy, Debug)]
struct Reads {
    crowd: u32,
    kind: EdgeKind,
    in_query: bool,
}

/// Conflicts that are told one by one: people need one to see what is wrong, and hundreds of
/// groups can have one with each other.
const CONFLICTS_MAX: usize = 50;

/// Different shapes of one name up to which rules of the same one are looked for.
const SHAPES_COMPARED_MAX: usize = 64;

/// The rules, by what they write.
#[derive(Default)]
struct Writers {
    /// The shapes of the series of each crowd.
    shapes: Vec<Vec<Shape>>,
    /// Crowds.
    by_record: HashMap<String, Vec<u32>>,
    alerts: Vec<u32>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Writers {
    fn add(&mut self, index: usize, rule: &RuleSpec, crowds: &mut Vec<Vec<u32>>) {
        self.by_name.entry(rule.name().to_owned()).or_default().push(index);
        let (shapes, known) = match &rule.kind {
            RuleKind::Recording { record } => {
                let shape = shape::recorded(&rule.expr.expr, record, &rule.labels);
                (vec![shape], self.by_record.entry(record.clone()).or_default())
            }
            RuleKind::Alerting(alert) => {
                (shape::alerts(&alert.alert, &rule.labels).to_vec(), &mut self.alerts)
            }
        };
        // The last ones first: rules that were made from one template follow each other.
        let near = known.iter().rev().take(SHAPES_COMPARED_MAX);
        match near.copied().find(|crowd| self.shapes[*crowd as usize] == shapes) {
            Some(crowd) => crowds[crowd as usize].push(index as u32),
            None => {
                known.push(crowds.len() as u32);
                crowds.push(vec![index as u32]);
                self.shapes.push(shapes);
            }
        }
    }

    /// The crowds whose series a selector may find.
    fn of(&self, read: &Read) -> Vec<u32> {
        let shapes = |crowd: &u32| self.shapes[*crowd as usize].iter();
        let matches = |crowd: &u32| shapes(crowd).any(|s| s.may_match(&read.matchers));
        match read.name() {
            Some(name @ ("ALERTS" | "ALERTS_FOR_STATE")) => {
                let records = self.by_record.get(name).into_iter().flatten();
                self.alerts.iter().chain(records).copied().filter(matches).collect()
            }
            Some(name) => {
                let records = self.by_record.get(name).into_iter().flatten();
                records.copied().filter(matches).collect()
            }
            None => (0..self.shapes.len() as u32).filter(matches).collect(),
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
                writers.add(all.len(), rule, &mut graph.crowds);
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
        let mut found: BTreeMap<u32, (EdgeKind, bool)> = BTreeMap::new();
        let mut declared: Vec<u32> = Vec::new();
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
            for crowd in matched {
                let (known, query) = found.entry(crowd).or_insert((kind, false));
                *known = kind.min(*known);
                *query |= !read.in_template;
            }
        }
        let own = self.groups[self.rules[reader].group].rules.clone();
        for name in &rule.depends_on {
            let named = writers.by_name.get(name).map_or(&[][..], Vec::as_slice);
            let later = |w: &&usize| own.contains(*w) && **w >= reader;
            if named.iter().all(|w| later(&w)) {
                let (name, later) = (name.clone(), !named.is_empty());
                self.unmet.push(Unmet { rule: reader, name, later });
            }
            declared.extend(named.iter().filter(|w| !later(w)).map(|w| *w as u32));
        }
        for name in &group.depends_on {
            let named = writers.by_name.get(name).map_or(&[][..], Vec::as_slice);
            if named.is_empty() && reader == own.start {
                self.unmet.push(Unmet { rule: reader, name: name.clone(), later: false });
            }
            // What the group's own rules need of each other is told rule by rule.
            declared.extend(named.iter().filter(|w| !own.contains(*w)).map(|w| *w as u32));
        }
        let outside = &mut self.rules[reader].outside;
        outside.sort();
        outside.dedup();
        let mut reads: Vec<Reads> = found
            .into_iter()
            .map(|(crowd, (kind, in_query))| Reads { crowd, kind, in_query })
            .collect();
        if !declared.is_empty() {
            declared.sort_unstable();
            declared.dedup();
            let crowd = self.crowds.len() as u32;
            self.crowds.push(declared);
            reads.push(Reads { crowd, kind: EdgeKind::Declared, in_query: true });
        }
        self.reads.push(reads);
    }

    /// What a rule reads of others, sorted by writer; one edge for each of those.
    pub fn edges_of(&self, reader: usize) -> Vec<Edge> {
        let mut found: BTreeMap<u32, (EdgeKind, bool)> = BTreeMap::new();
        for Reads { crowd, kind, in_query } in &self.reads[reader] {
            for writer in &self.crowds[*crowd as usize] {
                let (known, query) = found.entry(*writer).or_insert((*kind, *in_query));
                *known = (*known).min(*kind);
                *query |= in_query;
            }
        }
        let edge = |(writer, (kind, in_query)): (u32, (EdgeKind, bool))| {
            let writer = writer as usize;
            let group = self.rules[writer].group as u32;
            let across = self.across.get(&(reader as u32, group));
            let sees = match across.filter(|_| kind != EdgeKind::Indeterminate) {
                Some(first) if writer < *first => Sees::ThisTick,
                Some(_) => Sees::PreviousTick,
                None => self.sees(reader, writer),
            };
            Edge { reader, writer, kind, sees, in_query }
        };
        found.into_iter().map(edge).collect()
    }

    /// Every edge, sorted by reader and writer.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        (0..self.rules.len()).flat_map(|reader| self.edges_of(reader))
    }

    /// Before groups that tick together have been ordered.
    fn sees(&self, reader: usize, writer: usize) -> Sees {
        match self.rules[reader].group == self.rules[writer].group {
            true if writer < reader => Sees::ThisTick,
            true => Sees::PreviousTick,
            false => Sees::Latest,
        }
    }

    /// Keeps as many dependencies between groups that tick together as can be kept at once,
    /// those of earlier readers first. What a rule wrote is there before what the next rule
    /// of its group writes, so the file order of every group counts as well, and of what a
    /// reader needs of one group only the last has to be waited for.
    fn order_groups(&mut self) {
        let mut order = cycles::Order::new(self.groups.iter().map(|group| group.rules.clone()));
        for reader in 0..self.rules.len() {
            let own = self.rules[reader].group;
            let ticks = self.groups[own].ticks;
            if ticks.offset_ms.is_none() {
                continue;
            }
            let group = |writer: &u32| self.rules[*writer as usize].group;
            let named = self.reads[reader].iter().filter(|r| r.kind != EdgeKind::Indeterminate);
            let of_crowd = |reads: &Reads| {
                let parts = self.crowds[reads.crowd as usize].chunk_by(|a, b| group(a) == group(b));
                let together = |part: &&[u32]| {
                    let other = group(&part[0]);
                    other != own && ticks.meet(self.groups[other].ticks)
                };
                parts.filter(together).flatten().copied().collect::<Vec<u32>>()
            };
            let mut writers: Vec<u32> = named.flat_map(of_crowd).collect();
            writers.sort_unstable();
            writers.dedup();
            if writers.is_empty() {
                continue;
            }
            let after = order.first_after(reader);
            for of_group in writers.chunk_by(|a, b| group(a) == group(b)) {
                let other = group(&of_group[0]);
                let first = after[other];
                let kept = of_group.partition_point(|writer| (*writer as usize) < first);
                self.across.insert((reader as u32, other as u32), first);
                if let Some(last) = of_group[..kept].last() {
                    order.put_after(*last as usize, reader);
                }
                let Some(&writer) = of_group[kept..].first() else { continue };
                if self.conflicts.len() == CONFLICTS_MAX {
                    self.more_conflicts += 1;
                    continue;
                }
                let (writer, reads) = (writer as usize, &self.reads[reader]);
                let has = |r: &&Reads| self.crowds[r.crowd as usize].contains(&(writer as u32));
                let read = reads.iter().filter(has);
                let edge = Edge {
                    reader,
                    writer,
                    kind: read.clone().map(|r| r.kind).min().unwrap_or(EdgeKind::Selector),
                    sees: Sees::PreviousTick,
                    in_query: read.clone().any(|r| r.in_query),
                };
                let path = order.way(reader, writer);
                self.conflicts.push(Conflict { edge, path });
            }
        }
    }

    fn find_cycles(&mut self) {
        // Rules, and behind them crowds: a rule leads to the crowds it reads, those to theirs.
        let rules = self.rules.len();
        let crowds = |reads: &Vec<Reads>| -> Vec<usize> {
            let named = reads.iter().filter(|reads| reads.kind != EdgeKind::Indeterminate);
            named.map(|reads| rules + reads.crowd as usize).collect()
        };
        let writers = |crowd: &Vec<u32>| crowd.iter().map(|rule| *rule as usize).collect();
        let next: Vec<Vec<usize>> =
            self.reads.iter().map(crowds).chain(self.crowds.iter().map(writers)).collect();
        for mut part in cycles::components(&next) {
            part.retain(|node| *node < rules);
            // A rule that reads itself alone is none.
            if part.len() < 2 {
                continue;
            }
            let around = self.way_around(&part);
            let group = self.rules[part[0]].group;
            let within_group = around.iter().all(|r| self.rules[*r].group == group);
            self.cycles.push(Cycle { rules: around, within_group });
        }
    }

    /// A shortest way from the first rule of a part whose rules reach each other back to it,
    /// the rule named once.
    fn way_around(&self, part: &[usize]) -> Vec<usize> {
        let start = part[0];
        let named = |rule: usize| {
            self.reads[rule].iter().filter(|r| r.kind != EdgeKind::Indeterminate).map(|r| r.crowd)
        };
        let of = |crowd: u32| &self.crowds[crowd as usize];
        let mut seen = vec![false; self.crowds.len()];
        let mut came_from: HashMap<usize, usize> = HashMap::from([(start, start)]);
        let mut queue = VecDeque::from([start]);
        while let Some(rule) = queue.pop_front() {
            let back = |crowd: u32| of(crowd).binary_search(&(start as u32)).is_ok();
            if rule != start && named(rule).any(back) {
                let mut way = vec![rule];
                let mut at = rule;
                while at != start {
                    at = came_from[&at];
                    way.push(at);
                }
                way.reverse();
                return way;
            }
            let new = named(rule).filter(|c| !std::mem::replace(&mut seen[*c as usize], true));
            let writers: BTreeSet<u32> = new.flat_map(|crowd| of(crowd).iter().copied()).collect();
            for writer in writers.into_iter().map(|writer| writer as usize) {
                if part.binary_search(&writer).is_ok() && !came_from.contains_key(&writer) {
                    came_from.insert(writer, rule);
                    queue.push_back(writer);
                }
            }
        }
        vec![start]
    }

    /// For each rule of a group how many rules of the group must have been committed before
    /// its query may run, so that it finds what it would find if all ran one by one.
    /// Queries of templates do not count: they run when the rule's turn has come.
    pub fn ready_after(&self, group: usize) -> Vec<usize> {
        let rules = self.groups[group].rules.clone();
        let last_before = |reader: usize| {
            let reads = self.reads[reader].iter().filter(|reads| reads.in_query);
            let last = reads.filter_map(|reads| {
                let crowd = &self.crowds[reads.crowd as usize];
                let before = crowd.partition_point(|writer| (*writer as usize) < reader);
                crowd[..before].last().map(|writer| *writer as usize)
            });
            last.filter(|writer| rules.contains(writer)).max()
        };
        let after = |reader| last_before(reader).map_or(0, |writer| writer - rules.start + 1);
        rules.clone().map(after).collect()
    }

    /// The rules of other groups that must have been committed for a tick before this one
    /// is evaluated for it, where those groups have that tick; of each group the last one.
    pub fn waits(&self, rule: usize) -> Vec<usize> {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        let named = self.reads[rule].iter().filter(|r| r.kind != EdgeKind::Indeterminate);
        for reads in named.filter(|_| !self.across.is_empty()) {
            let crowd = &self.crowds[reads.crowd as usize];
            let group = |writer: &u32| self.rules[*writer as usize].group;
            for part in crowd.chunk_by(|a, b| group(a) == group(b)) {
                let other = group(&part[0]);
                let Some(first) = self.across.get(&(rule as u32, other as u32)) else { continue };
                let kept = part.partition_point(|writer| (*writer as usize) < *first);
                if let Some(writer) = part[..kept].last() {
                    let known = last.entry(other).or_default();
                    *known = (*known).max(*writer as usize);
                }
            }
        }
        last.into_values().collect()
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
            let Edge { reader, writer, .. } = conflict.edge;
            let message = format!(
                "it reads what {} writes in the same tick, which has to wait for it: {}; it \
                 reads the value of the tick before",
                self.label(writer),
                self.chain(conflict.path.iter().copied())
            );
            problems.push(problem(reader, Severity::Warning, message));
        }
        if let (1.., Some(Conflict { edge, .. })) = (self.more_conflicts, self.conflicts.last()) {
            let message = format!(
                "{} more rules read what has to wait for them, of groups that tick together; \
                 they read the values of the tick before",
                self.more_conflicts
            );
            problems.push(problem(edge.reader, Severity::Warning, message));
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
