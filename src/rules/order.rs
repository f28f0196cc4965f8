//! Which rule of a group may be committed before its turn.
//!
//! What a group makes must be what it would make if its rules ran one by one, in file order.
//! A rule that comes before its turn is seen by rules that stand before it, in a tick in which
//! they must not see it. So it may come only when none of those still to come looks at a
//! series that it writes or ends in this tick. Which rules might is known from their text;
//! whether they do is decided by the label sets at hand: the text of `sum by (job) (..)` does
//! not say which jobs there are.

use std::collections::HashMap;
use std::sync::Arc;

use super::config::{GroupSpec, RuleKind, RuleSpec};
use super::graph::{RuleGraph, reads};
use super::write::Written;
use crate::model::{Labels, METRIC_NAME, Matcher, Sample};

/// Series up to which it is remembered who looks at what a rule writes.
const REMEMBERED_MAX: usize = 1_000;

/// What follows from the text of a group's rules.
pub(super) struct Order {
    /// For each rule, the earlier ones whose series its query may find.
    needs: Vec<Box<[u32]>>,
    /// For each rule, the earlier ones that may find its series.
    seen_by: Vec<Box<[u32]>>,
    /// Of each rule named in `seen_by`, what it looks at.
    selectors: Vec<Vec<Box<[Matcher]>>>,
    /// For each rule the last one before it that may write the same series.
    twin: Vec<Option<u32>>,
    /// Whether a rule's templates ask for who knows what.
    asks: Vec<bool>,
    /// For each rule the last one before it that does.
    asking: Vec<Option<u32>>,
}

impl Order {
    /// Of the one group of a graph.
    pub(super) fn new(spec: &GroupSpec, graph: &RuleGraph) -> Self {
        let rules = &spec.rules;
        let mut needs = vec![Vec::new(); rules.len()];
        let mut seen_by = vec![Vec::new(); rules.len()];
        for edge in graph.edges() {
            if edge.writer < edge.reader && edge.in_query {
                needs[edge.reader].push(edge.writer as u32);
            } else if edge.writer > edge.reader {
                seen_by[edge.writer].push(edge.reader as u32);
            }
        }
        let mut looks = vec![false; rules.len()];
        seen_by.iter().flatten().for_each(|reader| looks[*reader as usize] = true);
        let selectors = looks.iter().zip(rules).map(|(looks, rule)| match looks {
            true => reads(rule).into_iter().map(|read| read.matchers.into()).collect(),
            false => Vec::new(),
        });
        Self {
            selectors: selectors.collect(),
            twin: twins(rules),
            asking: last_before(rules.iter().map(|rule| asks(rule))),
            asks: rules.iter().map(|rule| asks(rule)).collect(),
            needs: needs.into_iter().map(Into::into).collect(),
            seen_by: seen_by.into_iter().map(Into::into).collect(),
        }
    }

    /// The earlier rules that look at a series which a rule writes or ends: `made` is what it
    /// writes, `previous` what it wrote the last time.
    fn readers<'m>(
        &self,
        rule: usize,
        made: &[(Labels, Sample)],
        previous: &Written,
        met: &'m mut Met,
    ) -> &'m [u32] {
        let made = || made.iter().map(|(labels, _)| labels);
        if !(same(made(), &met.made) && same(previous.labels(), &met.previous)) {
            let looks = |reader: &&u32| {
                self.selectors[**reader as usize].iter().any(|matchers| {
                    let finds = |l: &Labels| matchers.iter().all(|m| m.matches_labels(l));
                    made().chain(previous.labels()).any(finds)
                })
            };
            met.readers = self.seen_by[rule].iter().filter(looks).copied().collect();
            let few = made().len() + previous.labels().len() <= REMEMBERED_MAX;
            met.made = made().take_while(|_| few).cloned().collect();
            met.previous = previous.labels().take_while(|_| few).cloned().collect();
        }
        &met.readers
    }
}

/// Who looked at what a rule wrote, for the next time it writes the very same series.
#[derive(Debug, Default)]
pub(super) struct Met {
    made: Vec<Labels>,
    previous: Vec<Labels>,
    readers: Vec<u32>,
}

fn same<'l>(labels: impl ExactSizeIterator<Item = &'l Labels>, known: &[Labels]) -> bool {
    labels.len() == known.len() && labels.zip(known).all(|(a, b)| a.is_same(b))
}

/// For each rule the last one before it that may write the same series, as names tell.
fn twins(rules: &[Arc<RuleSpec>]) -> Vec<Option<u32>> {
    const ABOUT_ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];
    // A recording rule that goes by such a name may write what any alerting rule writes.
    let names = rules.iter().map(|rule| match &rule.kind {
        RuleKind::Recording { record } => {
            (false, rule.labels.get(METRIC_NAME).unwrap_or(record).as_str())
        }
        RuleKind::Alerting(alert) => (true, alert.alert.as_str()),
    });
    let names: Vec<(bool, &str)> = names.collect();
    let mixed = names.iter().any(|(alerting, name)| !alerting && ABOUT_ALERTS.contains(name));
    let mut last: HashMap<(bool, &str), u32> = HashMap::new();
    let mut twins = Vec::with_capacity(rules.len());
    for (rule, (alerting, name)) in names.into_iter().enumerate() {
        let about_alerts = mixed && (alerting || ABOUT_ALERTS.contains(&name));
        let family = if about_alerts { (true, "") } else { (alerting, name) };
        twins.push(last.insert(family, rule as u32));
    }
    twins
}

/// Whether templates of a rule ask for something: which series, may depend on the sample.
pub(super) fn asks(rule: &RuleSpec) -> bool {
    match &rule.kind {
        RuleKind::Recording { .. } => false,
        RuleKind::Alerting(alert) => {
            rule.labels.values().chain(alert.annotations.values()).any(|t| t.contains("query"))
        }
    }
}

/// For each place the last one before it that is marked.
fn last_before(marked: impl Iterator<Item = bool>) -> Vec<Option<u32>> {
    let mut last = None;
    let before = |(place, marked): (usize, bool)| {
        let before = last;
        if marked {
            last = Some(place as u32);
        }
        before
    };
    marked.enumerate().map(before).collect()
}

/// What a rule is about to do to storage.
#[derive(Clone, Copy)]
pub(super) enum Writes<'a> {
    Nothing,
    /// These samples, where it wrote something the last time.
    Series(&'a [(Labels, Sample)], &'a Written),
    /// It is not known yet.
    Unknown,
}

/// How far a group has come in a tick.
pub(super) struct Turns<'a> {
    order: &'a Order,
    done: Vec<bool>,
    /// The first rule that is not done.
    first: usize,
}

impl<'a> Turns<'a> {
    pub(super) fn new(order: &'a Order) -> Self {
        Self { order, done: vec![false; order.needs.len()], first: 0 }
    }

    /// The first rule that is not done; their number when all are.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn all_done(&self) -> bool {
        self.first == self.done.len()
    }

    pub(super) fn finish(&mut self, rule: usize) {
        self.done[rule] = true;
        let waiting = self.done[self.first..].iter().position(|done| !done);
        self.first = waiting.map_or(self.done.len(), |place| self.first + place);
    }

    /// Whether everything that a rule's query may find has been committed.
    pub(super) fn is_ready(&self, rule: usize) -> bool {
        self.order.needs[rule].iter().all(|writer| self.done[*writer as usize])
    }

    /// Whether templates of a rule ask for something.
    pub(super) fn asks(&self, rule: usize) -> bool {
        self.order.asks[rule]
    }

    /// Whether a rule may be committed now.
    pub(super) fn may_go(&self, rule: usize, writes: Writes<'_>, met: &mut Met) -> bool {
        if rule == self.first {
            return true;
        }
        let waits_for = |before: Option<u32>| before.is_some_and(|b| b as usize >= self.first);
        let undone = |reader: &u32| !self.done[*reader as usize];
        // Of twins each waits for the last one before it, and so for all of them.
        let twin = self.order.twin[rule];
        if twin.as_ref().is_some_and(undone) || waits_for(self.order.asking[rule]) {
            return false;
        }
        let seen_by = &self.order.seen_by[rule];
        match writes {
            Writes::Nothing => true,
            _ if !seen_by.iter().any(undone) => true,
            Writes::Unknown => false,
            Writes::Series(made, previous) => {
                !self.order.readers(rule, made, previous, met).iter().any(undone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::config::{LoadOptions, load_source};
    use crate::rules::graph::Ticks;

    /// Whether the rule `last` may come before all others, when it writes `made` and wrote
    /// `before` the last time; `None`: it is not known what it writes.
    fn check(rules: &[&str], made: Option<&[&str]>, before: &[&str], expected: bool) {
        let count = rules.len();
        let rules = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect::<String>();
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        let file = load_source("f", &text, &LoadOptions::default());
        let spec = &file.groups[0];
        let graph = RuleGraph::new([(spec, Ticks { interval_ms: 1, offset_ms: None })]);
        let order = Order::new(spec, &graph);
        let turns = Turns::new(&order);
        let last = count - 1;
        assert_eq!(spec.rules.len(), count, "{rules}");
        let labels = |svc: &&str| Labels::from_pairs([("__name__", "r"), ("svc", svc)]);
        let previous = Written::of(before.iter().map(labels));
        let made = made.map(|made| made.iter().map(|s| (labels(s), Sample::Float(1.0))));
        let made: Option<Vec<_>> = made.map(Iterator::collect);
        let writes = made.as_ref().map_or(Writes::Unknown, |made| Writes::Series(made, &previous));
        let mut met = Met::default();
        for time in ["first", "again"] {
            assert_eq!(turns.may_go(last, writes, &mut met), expected, "{rules} {time}");
        }
        // What was remembered is of no use for other series.
        let other = [(labels(&"a"), Sample::Float(1.0))];
        let fresh = turns.may_go(last, Writes::Series(&other, &previous), &mut Met::default());
        assert_eq!(turns.may_go(last, Writes::Series(&other, &previous), &mut met), fresh);
    }

    #[test]
    fn a_rule_comes_early_where_nobody_before_it_looks_at_its_series() {
        let r = "record: r, expr: 'sum by (svc) (n)'";
        let looks = r#"record: x, expr: 'r{svc="a"}'"#;
        let template = r#"alert: A, expr: n, annotations: {x: '{{ query "y" }}'}"#;
        let any_but_b = r#"record: x, expr: '{svc=~".+",svc!="b"}'"#;
        let alert = "alert: A, expr: n";
        check(&["record: x, expr: n", r], Some(&["a"]), &[], true);
        check(&[looks, r], Some(&["a"]), &[], false);
        check(&[looks, r], Some(&["b"]), &[], true);
        check(&[looks, r], Some(&["b"]), &["a"], false);
        check(&[looks, r], Some(&[]), &["b"], true);
        check(&[any_but_b, r], Some(&["b"]), &[], true);
        check(&[any_but_b, r], Some(&["c"]), &[], false);
        // Twins, and what templates ask for.
        check(&["record: r, expr: m", r], Some(&["a"]), &[], false);
        check(&[template, r], Some(&["a"]), &[], false);
        check(&[alert, "alert: B, expr: n"], None, &[], true);
        check(&[alert, alert], None, &[], false);
        check(&[alert, "record: ALERTS, expr: n"], Some(&["a"]), &[], false);
        check(&["record: x, expr: ALERTS", alert], None, &[], false);
    }
}
