//! What a mistake in one rule can change: which rules do something else, which cases of
//! which tests can tell, and which rules have to run so that they can.
//!
//! Everything here errs on one side. What is said not to be affected ends as it does
//! without the mistake; by the graph of which rule may read what which rule may write, in
//! which every mistake stands beside the rule it is made in, and so does every expression
//! a test asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::mutate::Mutant;
use super::schema::Test;
use crate::functions::{Kernel, Operator};
use crate::model::value::ValueType;
use crate::model::{Labels, METRIC_NAME};
use crate::parser::ast::{Binary, BinaryOp, ExprKind};
use crate::parser::{self, Expr, ParserOptions, parse_metric};
use crate::rules::config::{GroupSpec, RuleExpr, RuleKind, RuleSpec};
use crate::rules::graph::{Read, RuleGraph, Ticks, reads};
use crate::rules::policy::{GroupPolicySpec, PolicySpec};
use crate::rules::template::Template;

/// What of a test is looked at, in a run of some of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Names of alerts.
    pub alerts: Vec<String>,
    /// Expressions, by their place in the test.
    pub expressions: Vec<usize>,
    pub notifications: bool,
    /// Input series that something that runs or is looked at may find, by their place.
    pub input: Vec<usize>,
}

impl Scope {
    /// Whether nothing is looked at.
    fn is_blind(&self) -> bool {
        self.alerts.is_empty() && self.expressions.is_empty() && !self.notifications
    }
}

/// A run that tells whether a test notices a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The rules that run, by their place among all.
    pub rules: Vec<usize>,
    pub scope: Scope,
}

/// See the module. Rules are counted through all groups, mistakes follow them, and the
/// expressions of tests come last.
pub(super) struct Affected {
    rules: usize,
    /// For each rule and each mistake the rules it may read.
    reads: Vec<Vec<usize>>,
    /// For each rule and each mistake the rules and expressions that may read it.
    readers: Vec<Vec<usize>>,
    /// Rules of which nobody knows what they read.
    wild: Vec<usize>,
    /// For each rule those that may write the same series, itself among them.
    mates: Vec<Arc<Vec<usize>>>,
    /// For each rule its name.
    names: Vec<String>,
    /// For each rule the name of its alert.
    alerts: Vec<Option<String>>,
    tests: Vec<TestFacts>,
}

/// What is known of a test.
struct TestFacts {
    /// Names its alert cases look at.
    alerts: Vec<String>,
    notifications: bool,
    /// What its first expression is counted as.
    first_expression: usize,
    expressions: usize,
    /// For each rule and each mistake: it may give something over what the test gives it.
    alive: Vec<bool>,
    input: Input,
}

/// The input series of a test.
struct Input {
    /// For each rule, mistake and expression those that it may find.
    found: Vec<Vec<usize>>,
    /// By name, for what a rule of that name writes may be one of them.
    by_name: HashMap<String, Vec<usize>>,
    len: usize,
}

impl Affected {
    /// `mutants` are mistakes, each with the number of the rule it is made in.
    pub(super) fn new(
        tests: &[&Test],
        groups: &[GroupSpec],
        mutants: &[(usize, Mutant)],
        options: &ParserOptions,
    ) -> Self {
        let own: Vec<(&RuleSpec, &GroupSpec)> =
            groups.iter().flat_map(|g| g.rules.iter().map(move |r| (&**r, g))).collect();
        let rules = own.len();
        let all: Vec<(&RuleSpec, &GroupSpec)> =
            own.iter().copied().chain(mutants.iter().map(|(r, m)| (&*m.rule, own[*r].1))).collect();
        let cases = tests.iter().flat_map(|test| &test.expressions);
        let asked: Vec<Option<RuleSpec>> =
            cases.map(|case| asking(&case.expr, own.first()?.0, options)).collect();
        let graph = graph(groups, mutants, &asked);
        let nodes = rules + mutants.len() + asked.len();
        let first_asked = rules + mutants.len();
        let (mut reads_of, mut readers) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
        let mut link = |reader: usize, writer: usize| {
            if writer < rules {
                reads_of[reader].push(writer);
            }
            if reader < rules || reader >= first_asked {
                readers[writer].push(reader);
            }
        };
        graph.edges().for_each(|edge| link(edge.reader, edge.writer));
        for (at, _) in asked.iter().enumerate().filter(|(_, rule)| rule.is_none()) {
            (0..first_asked).for_each(|writer| link(first_asked + at, writer));
        }
        // Rules of a group that has a policy may hang on each other in other ways.
        let groups_of = graph.groups.iter().take(groups.len()).zip(groups);
        for (node, _) in groups_of.filter(|(_, g)| g.group_policy != GroupPolicySpec::default()) {
            for reader in node.rules.clone() {
                node.rules.clone().for_each(|writer| link(reader, writer));
            }
        }
        let mut selectors: Vec<Vec<Read>> = all.iter().map(|(rule, _)| reads(rule)).collect();
        // One that cannot be read may find everything.
        let anything = || vec![Read { matchers: Vec::new(), in_template: false }];
        selectors.extend(asked.iter().map(|rule| rule.as_ref().map_or_else(anything, reads)));
        let wild = (0..rules).filter(|rule| asks_anything(own[*rule].0)).collect();
        let mut facts = Vec::with_capacity(tests.len());
        let mut first_expression = first_asked;
        for test in tests {
            let input = Input::new(test, &selectors);
            let alive = alive(&input, &all, rules, &reads_of);
            let expressions = test.expressions.len();
            let alerts = test.alerts.iter().map(|case| case.alert.clone()).collect();
            let notifications = !test.notifications.is_empty();
            facts.push(TestFacts {
                alerts,
                notifications,
                first_expression,
                expressions,
                alive,
                input,
            });
            first_expression += expressions;
        }
        let alert = |(rule, _): &(&RuleSpec, &GroupSpec)| match &rule.kind {
            RuleKind::Alerting(alert) => Some(alert.alert.clone()),
            RuleKind::Recording { .. } => None,
        };
        Self {
            rules,
            reads: reads_of,
            readers,
            wild,
            mates: mates(&own),
            names: own.iter().map(|(rule, _)| rule.name().to_owned()).collect(),
            alerts: own.iter().map(alert).collect(),
            tests: facts,
        }
    }

    /// For each test that may notice a mistake in a rule what has to run, those first that
    /// look at something that it may change; the others only notice an evaluation that fails.
    pub(super) fn parts(&self, rule: usize, mutant: usize) -> Vec<(usize, Part)> {
        let mutant = self.rules + mutant;
        let affected = self.affected(rule, mutant);
        let mut seeds: Vec<usize> = vec![mutant];
        for changed in (0..self.rules).filter(|r| affected[*r]) {
            seeds.extend(self.mates[changed].iter());
        }
        let names: Vec<&String> = (0..self.rules)
            .filter(|r| affected[*r])
            .filter_map(|r| self.alerts[r].as_ref())
            .collect();
        let mut parts = Vec::new();
        for (number, test) in self.tests.iter().enumerate() {
            // Neither the rule nor the mistake gives anything, so nothing is changed.
            if !test.alive[rule] && !test.alive[mutant] {
                continue;
            }
            let mut alerts: Vec<String> =
                test.alerts.iter().filter(|name| names.contains(name)).cloned().collect();
            alerts.sort_unstable();
            alerts.dedup();
            let asked = |e: &usize| affected[test.first_expression + e];
            let expressions: Vec<usize> = (0..test.expressions).filter(asked).collect();
            let notifications = test.notifications && !names.is_empty();
            let mut seeds = seeds.clone();
            seeds.extend(expressions.iter().map(|e| test.first_expression + e));
            if notifications {
                // What is sent is looked at as a whole.
                seeds.extend((0..self.rules).filter(|r| self.alerts[*r].is_some()));
            }
            let rules = self.needed(seeds.clone());
            let looking = [mutant].into_iter().chain(seeds.iter().copied());
            let input = self.input(test, looking.chain(rules.iter().copied()));
            let scope = Scope { alerts, expressions, notifications, input };
            parts.push((number, Part { rules, scope }));
        }
        parts.sort_by_key(|(_, part)| (part.scope.is_blind(), part.rules.len()));
        parts
    }

    /// The input series that these rules, mistakes and expressions may find, or write to.
    fn input(&self, test: &TestFacts, nodes: impl Iterator<Item = usize>) -> Vec<usize> {
        let input = &test.input;
        let mut wanted = vec![false; input.len];
        let mut want = |series: &Vec<usize>| series.iter().for_each(|s| wanted[*s] = true);
        let of_name = |name: &str| input.by_name.get(name);
        ["ALERTS", "ALERTS_FOR_STATE"].into_iter().filter_map(of_name).for_each(&mut want);
        for node in nodes {
            if self.wild.contains(&node) {
                return (0..input.len).collect();
            }
            want(&input.found[node]);
            self.names.get(node).and_then(|name| of_name(name)).into_iter().for_each(&mut want);
        }
        (0..input.len).filter(|series| wanted[*series]).collect()
    }

    /// Of all rules and expressions those whose outcome may be another one.
    fn affected(&self, rule: usize, mutant: usize) -> Vec<bool> {
        let mut affected = vec![false; self.readers.len()];
        let mut left: Vec<usize> = vec![rule, mutant];
        affected[rule] = true;
        for wild in &self.wild {
            if !std::mem::replace(&mut affected[*wild], true) {
                left.push(*wild);
            }
        }
        while let Some(changed) = left.pop() {
            for reader in &self.readers[changed] {
                if !std::mem::replace(&mut affected[*reader], true) && *reader < self.rules {
                    left.push(*reader);
                }
            }
        }
        affected
    }

    /// The rules among these, and those that they may read.
    fn needed(&self, mut left: Vec<usize>) -> Vec<usize> {
        let mut needed = vec![false; self.reads.len()];
        left.iter().for_each(|node| needed[*node] = true);
        while let Some(reader) = left.pop() {
            if self.wild.contains(&reader) {
                return (0..self.rules).collect();
            }
            for writer in &self.reads[reader] {
                if !std::mem::replace(&mut needed[*writer], true) {
                    left.push(*writer);
                }
            }
        }
        (0..self.rules).filter(|rule| needed[*rule]).collect()
    }
}

/// The graph of rules, mistakes and expressions, each a group or groups of their own.
fn graph(
    groups: &[GroupSpec],
    mutants: &[(usize, Mutant)],
    asked: &[Option<RuleSpec>],
) -> RuleGraph {
    let Some(first) = groups.first() else { return RuleGraph::default() };
    let empty = || GroupSpec { rules: Vec::new(), depends_on: Vec::new(), ..bare(first) };
    let (mut mistakes, mut expressions) = (empty(), empty());
    mistakes.rules = mutants.iter().map(|(_, mutant)| mutant.rule.clone()).collect();
    // One that cannot be read still counts.
    let none = |rule: &Option<RuleSpec>| match (rule, mutants.first()) {
        (Some(rule), _) => Some(Arc::new(rule.clone())),
        (None, Some((_, mutant))) => Some(mutant.rule.clone()),
        (None, None) => None,
    };
    expressions.rules = asked.iter().filter_map(none).collect();
    // Each in a place of its own: which sees what of which tick does not matter here.
    let ticks = Ticks { interval_ms: 60_000, offset_ms: None };
    RuleGraph::new(groups.iter().chain([&mistakes, &expressions]).map(|group| (group, ticks)))
}

/// The group without its rules.
pub(super) fn bare(group: &GroupSpec) -> GroupSpec {
    GroupSpec {
        file: group.file.clone(),
        origin: group.origin.clone(),
        object: group.object.clone(),
        name: group.name.clone(),
        policy: group.policy,
        group_policy: group.group_policy,
        depends_on: group.depends_on.clone(),
        rules: Vec::new(),
        ..*group
    }
}

/// An expression as a rule that reads what it reads.
fn asking(expr: &str, like: &RuleSpec, options: &ParserOptions) -> Option<RuleSpec> {
    let expr = parser::parse(expr, options).ok()?;
    Some(RuleSpec {
        kind: RuleKind::Recording { record: String::new() },
        expr: RuleExpr { printed: String::new(), expr: Arc::new(expr) },
        labels: BTreeMap::new(),
        policy: PolicySpec::default(),
        depends_on: Vec::new(),
        datasource: String::new(),
        at: like.at,
    })
}

/// Whether templates of a rule may make queries that are not written out in them.
fn asks_anything(rule: &RuleSpec) -> bool {
    let RuleKind::Alerting(alert) = &rule.kind else { return false };
    let count = |text: &str| text.matches("query").count();
    let unknown = |text: &String| {
        let Ok(template) = Template::parse_alert(&alert.alert, text) else { return true };
        let known = template.literal_queries();
        count(text) != known.iter().map(|query| 1 + count(query)).sum::<usize>()
    };
    let texts = rule.labels.values().chain(alert.annotations.values());
    texts.filter(|text| count(text) > 0).any(unknown)
}

/// For each rule those that may write the same series: a sample that is there already is
/// refused.
fn mates(rules: &[(&RuleSpec, &GroupSpec)]) -> Vec<Arc<Vec<usize>>> {
    let of_alerts = |name: &str| matches!(name, "ALERTS" | "ALERTS_FOR_STATE");
    let record = |rule: &RuleSpec| match &rule.kind {
        RuleKind::Recording { record } => Some(record.clone()),
        RuleKind::Alerting(_) => None,
    };
    let recorded = rules.iter().filter_map(|(rule, _)| record(rule)).any(|r| of_alerts(&r));
    let key = |rule: &RuleSpec| match record(rule) {
        Some(name) if !of_alerts(&name) => (false, name),
        _ if recorded => (true, String::new()),
        _ => (true, rule.name().to_owned()),
    };
    let mut by_key: HashMap<(bool, String), Vec<usize>> = HashMap::new();
    for (number, (rule, _)) in rules.iter().enumerate() {
        by_key.entry(key(rule)).or_default().push(number);
    }
    let by_key: HashMap<_, _> = by_key.into_iter().map(|(k, all)| (k, Arc::new(all))).collect();
    rules.iter().map(|(rule, _)| by_key[&key(rule)].clone()).collect()
}

impl Input {
    fn new(test: &Test, selectors: &[Vec<Read>]) -> Self {
        let len = test.input_series.len();
        let labels: Result<Vec<Labels>, _> =
            test.input_series.iter().map(|input| parse_metric(&input.series)).collect();
        let Ok(labels) = labels else {
            let found = vec![(0..len).collect(); selectors.len()];
            return Self { found, by_name: HashMap::new(), len };
        };
        let finds = |reads: &[Read], series: &Labels| {
            reads.iter().any(|read| read.matchers.iter().all(|m| m.matches_labels(series)))
        };
        let found = |reads: &Vec<Read>| {
            (0..len).filter(|series| finds(reads, &labels[*series])).collect::<Vec<usize>>()
        };
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, series) in labels.iter().enumerate() {
            by_name.entry(series.get_or_empty(METRIC_NAME).to_owned()).or_default().push(number);
        }
        Self { found: selectors.iter().map(found).collect(), by_name, len }
    }
}

/// For each rule and mistake whether it may give anything in a test: it may without any
/// input, or there is some.
fn alive(
    input: &Input,
    all: &[(&RuleSpec, &GroupSpec)],
    rules: usize,
    reads_of: &[Vec<usize>],
) -> Vec<bool> {
    let plain = |rule: &RuleSpec, group: &GroupSpec| {
        rule.policy == PolicySpec::default()
            && group.policy == PolicySpec::default()
            && group.group_policy == GroupPolicySpec::default()
    };
    let own = |(number, (rule, group)): (usize, &(&RuleSpec, &GroupSpec))| {
        !plain(rule, group) || !needs_input(&rule.expr.expr) || !input.found[number].is_empty()
    };
    let mut alive: Vec<bool> = all.iter().enumerate().map(own).collect();
    let mut left: Vec<usize> = (0..rules).filter(|rule| alive[*rule]).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); rules];
    for (reader, writers) in reads_of.iter().enumerate().take(all.len()) {
        writers.iter().for_each(|writer| readers[*writer].push(reader));
    }
    while let Some(writer) = left.pop() {
        for reader in &readers[writer] {
            if !std::mem::replace(&mut alive[*reader], true) && *reader < rules {
                left.push(*reader);
            }
        }
    }
    alive
}

/// Whether an expression gives nothing where none of its selectors finds anything.
fn needs_input(expr: &Expr) -> bool {
    let is_vector =
        |e: &Expr| matches!(e.value_type(), ValueType::InstantVector | ValueType::RangeVector);
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => false,
        ExprKind::VectorSelector(_) | ExprKind::MatrixSelector(_) => true,
        ExprKind::Subquery(subquery) => needs_input(&subquery.expr),
        ExprKind::Call(call) => {
            let makes = matches!(
                call.function.kernel,
                Kernel::Operator(Operator::Absent | Operator::AbsentOverTime)
            );
            let input = call.args.iter().find(|arg| is_vector(arg));
            !makes && call.function.returns != ValueType::Scalar && input.is_some_and(needs_input)
        }
        ExprKind::Aggregate(aggregate) => needs_input(&aggregate.expr),
        ExprKind::Unary { expr, .. } => needs_input(expr),
        ExprKind::Paren(expr) => needs_input(expr),
        ExprKind::Binary(binary) => {
            let Binary { op, lhs, rhs, matching, .. } = &**binary;
            let filled =
                matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
            match op {
                BinaryOp::Unless => needs_input(lhs),
                BinaryOp::Or => needs_input(lhs) && needs_input(rhs),
                _ if filled => needs_input(lhs) && needs_input(rhs),
                _ => needs_input(lhs) || needs_input(rhs),
            }
        }
    }
}
