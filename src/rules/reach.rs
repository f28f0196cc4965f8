//! What an alert looks at: the selectors of its expression, how far each reaches back, and
//! by which labels an alert finds the series of each that matter to it.
//!
//! What rules record is looked through: an alert on `job:errors:rate5m` looks at the errors
//! of five minutes, be it by way of a recording. Everything here errs on one side: a series
//! that is said not to matter to an alert does not.

use std::collections::{BTreeSet, HashMap};

use super::config::{GroupSpec, RuleKind, RuleSpec};
use crate::functions::{Kernel, Operator};
use crate::model::value::ValueType;
use crate::model::{METRIC_NAME, Matcher, TimestampMs};
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, AtModifier, Binary, BinaryOp, Call, Cardinality, DurationExpr, DurationKind,
    ExprKind, Grouping, Modifiers, UnaryOp,
};

/// Reaches back further than anything is stored: a range that is computed.
pub(super) const ENDLESS_MS: i64 = i64::MAX / 4;

/// Most selectors of one rule, recordings looked through; beyond it, everything matters.
const NEEDS_MAX: usize = 64;

/// What one selector reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Need {
    /// Without any, everything that is stored.
    pub matchers: Vec<Matcher>,
    /// Set by `@`: it reads at this time at every tick.
    pub at_ms: Option<TimestampMs>,
    pub offset_ms: i64,
    /// 0: the newest sample alone.
    pub window_ms: i64,
    /// The labels that a series and the alerts it matters to have alike.
    pub alike: Alike,
}

/// Some of all label names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Alike {
    /// `None`: all of them.
    only: Option<BTreeSet<String>>,
    except: BTreeSet<String>,
}

impl Alike {
    pub(super) fn has(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name)) && !self.except.contains(name)
    }

    fn by<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Self {
        let only = names.into_iter().filter(|name| self.has(name)).cloned().collect();
        Self { only: Some(only), except: BTreeSet::new() }
    }

    fn without<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Self {
        let mut all = self.clone();
        all.except.extend(names.into_iter().cloned());
        all
    }

    fn none() -> Self {
        Self { only: Some(BTreeSet::new()), except: BTreeSet::new() }
    }

    fn grouped(&self, grouping: &Grouping) -> Self {
        match grouping {
            Grouping::By(labels) => self.by(labels),
            Grouping::Without(labels) => self.without(labels),
        }
    }
}

/// All rules, by what they write.
pub(super) struct Writers<'a> {
    recorded: HashMap<&'a str, Vec<Writer<'a>>>,
    alerts: Vec<Writer<'a>>,
}

#[derive(Clone, Copy)]
struct Writer<'a> {
    rule: &'a RuleSpec,
    interval_ms: i64,
}

impl<'a> Writers<'a> {
    /// The rules of these groups, each with its interval.
    pub(super) fn new(groups: impl IntoIterator<Item = (&'a GroupSpec, i64)>) -> Self {
        let mut writers = Self { recorded: HashMap::new(), alerts: Vec::new() };
        for (group, interval_ms) in groups {
            for rule in &group.rules {
                let writer = Writer { rule, interval_ms };
                match &rule.kind {
                    RuleKind::Recording { record } => {
                        writers.recorded.entry(record).or_default().push(writer);
                    }
                    RuleKind::Alerting(_) => writers.alerts.push(writer),
                }
            }
        }
        writers
    }

    /// What the alerts of a rule look at.
    pub(super) fn needs(&self, rule: &RuleSpec) -> Vec<Need> {
        let mut walk =
            Walk { writers: self, path: vec![std::ptr::from_ref(rule)], found: Vec::new() };
        let alike = Alike::default().without(&own_labels(rule));
        let place = Place { alike, at_ms: None, offset_ms: 0, window_ms: 0 };
        walk.expr(&rule.expr.expr, &place);
        if walk.found.len() > NEEDS_MAX {
            walk.found = vec![Need {
                matchers: Vec::new(),
                at_ms: None,
                offset_ms: 0,
                window_ms: ENDLESS_MS,
                alike: Alike::none(),
            }];
        }
        walk.found
    }

    /// The rules that may write what a selector finds, as far as names and the rules' own
    /// labels tell.
    fn of(&self, matchers: &[Matcher]) -> Vec<Writer<'a>> {
        let names: Vec<&Matcher> = matchers.iter().filter(|m| &*m.name == METRIC_NAME).collect();
        let finds = |name: &str| names.iter().all(|m| m.matches(name));
        let recorded = self.recorded.iter().filter(|(name, _)| finds(name));
        let mut found: Vec<Writer<'a>> = recorded.flat_map(|(_, rules)| rules).copied().collect();
        if finds("ALERTS") || finds("ALERTS_FOR_STATE") {
            found.extend(&self.alerts);
        }
        found.retain(|writer| {
            let fixed = |m: &&Matcher| {
                writer.rule.labels.get(&*m.name).is_some_and(|value| {
                    // A template may become anything.
                    !value.contains("{{") && !m.matches(value)
                })
            };
            let named = |m: &&Matcher| {
                matches!(writer.rule.kind, RuleKind::Alerting(_))
                    && &*m.name == "alertname"
                    && !m.matches(writer.rule.name())
            };
            !matchers.iter().any(|m| fixed(&m) || named(&m))
        });
        found
    }
}

/// Labels that a rule's series have whatever it looks at.
fn own_labels(rule: &RuleSpec) -> Vec<String> {
    let more = [METRIC_NAME, "alertname", "alertstate"].map(str::to_owned);
    rule.labels.keys().cloned().chain(more).collect()
}

/// Where in an expression, seen from the alert.
#[derive(Clone)]
struct Place {
    alike: Alike,
    at_ms: Option<TimestampMs>,
    offset_ms: i64,
    window_ms: i64,
}

impl Place {
    fn alike(&self, alike: Alike) -> Self {
        Self { alike, ..self.clone() }
    }

    fn modified(&self, modifiers: &Modifiers, range: Option<&DurationExpr>) -> Self {
        let mut place = self.clone();
        if let Some(AtModifier::Timestamp(at_ms)) = modifiers.at {
            // Where the parts around it look does not matter any more.
            (place.at_ms, place.offset_ms, place.window_ms) = (Some(at_ms), 0, 0);
        }
        let offset = modifiers.offset.as_ref().map_or(Some(0), millis);
        let range = range.map_or(Some(0), millis);
        match (offset, range) {
            (Some(offset_ms), Some(range_ms)) => {
                place.offset_ms = place.offset_ms.saturating_add(offset_ms);
                place.window_ms = place.window_ms.saturating_add(range_ms).min(ENDLESS_MS);
            }
            _ => place.window_ms = ENDLESS_MS,
        }
        place
    }
}

/// `None` when it is computed.
fn millis(duration: &DurationExpr) -> Option<i64> {
    match &duration.kind {
        DurationKind::Number(number) => Some((number.value * 1000.0).ceil() as i64),
        DurationKind::Paren(inner) | DurationKind::Unary { op: UnaryOp::Plus, expr: inner } => {
            millis(inner)
        }
        DurationKind::Unary { op: UnaryOp::Minus, expr } => millis(expr).map(|ms| -ms),
        _ => None,
    }
}

struct Walk<'w, 'a> {
    writers: &'w Writers<'a>,
    /// The rules that are being looked through; circles end there.
    path: Vec<*const RuleSpec>,
    found: Vec<Need>,
}

impl Walk<'_, '_> {
    fn expr(&mut self, expr: &Expr, place: &Place) {
        if self.found.len() > NEEDS_MAX {
            return;
        }
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::VectorSelector(selector) => {
                self.select(&selector.matchers, &place.modified(&selector.modifiers, None));
            }
            ExprKind::MatrixSelector(matrix) => {
                let place = place.modified(&matrix.selector.modifiers, Some(&matrix.range));
                self.select(&matrix.selector.matchers, &place);
            }
            ExprKind::Subquery(subquery) => {
                self.expr(
                    &subquery.expr,
                    &place.modified(&subquery.modifiers, Some(&subquery.range)),
                );
            }
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => self.expr(inner, place),
            ExprKind::Call(call) => self.call(call, place),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, place),
            ExprKind::Binary(binary) => self.binary(binary, place),
        }
    }

    fn select(&mut self, matchers: &[Matcher], place: &Place) {
        let Place { alike, at_ms, offset_ms, window_ms } = place.clone();
        self.found.push(Need {
            matchers: matchers.to_vec(),
            at_ms,
            offset_ms,
            window_ms,
            alike: alike.without(&[METRIC_NAME.to_owned()]),
        });
        for Writer { rule, interval_ms } in self.writers.of(matchers) {
            let here = std::ptr::from_ref(rule);
            if self.path.contains(&here) {
                continue;
            }
            self.path.push(here);
            let mut place = place.alike(alike.without(&own_labels(rule)));
            // What is found was made of what was there up to an interval before.
            place.window_ms = place.window_ms.saturating_add(interval_ms).min(ENDLESS_MS);
            self.expr(&rule.expr.expr, &place);
            self.path.pop();
        }
    }

    fn call(&mut self, call: &Call, place: &Place) {
        if let Kernel::Operator(Operator::Info) = call.function.kernel {
            // The labels it brings along are part of what an alert is known by.
            let target = [Matcher::equal(METRIC_NAME, "target_info")];
            let named = call.args.get(1).is_some();
            if !named {
                self.select(&target, &place.alike(Alike::none()));
            }
        }
        let none = matches!(
            call.function.kernel,
            Kernel::Operator(Operator::Absent | Operator::AbsentOverTime | Operator::Scalar)
        );
        // Labels that a function writes have their name in a text.
        let texts = call.args.iter().filter_map(|arg| match &arg.unparenthesised().kind {
            ExprKind::String(text) => Some(text),
            _ => None,
        });
        let alike = if none { Alike::none() } else { place.alike.without(texts) };
        for (i, arg) in call.args.iter().enumerate() {
            let beside = arg.value_type() == ValueType::Scalar
                || i > 0 && matches!(call.function.kernel, Kernel::Operator(Operator::Info));
            let alike = if beside { Alike::none() } else { alike.clone() };
            self.expr(arg, &place.alike(alike));
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, place: &Place) {
        // Who is among the top depends on all others of the group as well.
        let mut alike = place.alike.grouped(&aggregate.grouping);
        if let Some(param) = &aggregate.param {
            match &param.unparenthesised().kind {
                ExprKind::String(label) => alike = alike.without([label]),
                _ => self.expr(param, &place.alike(Alike::none())),
            }
        }
        self.expr(&aggregate.expr, &place.alike(alike));
    }

    fn binary(&mut self, binary: &Binary, place: &Place) {
        let Some(matching) = &binary.matching else {
            for side in [&binary.lhs, &binary.rhs] {
                let alike = match side.value_type() {
                    ValueType::Scalar => Alike::none(),
                    _ => place.alike.clone(),
                };
                self.expr(side, &place.alike(alike));
            }
            return;
        };
        let own = place.alike.without(&matching.include);
        let matched =
            if matching.on { own.by(&matching.labels) } else { own.without(&matching.labels) };
        let (lhs, rhs) = match (binary.op, matching.card) {
            (BinaryOp::And | BinaryOp::Unless, _) | (_, Cardinality::ManyToOne) => (own, matched),
            (_, Cardinality::OneToMany) => (matched, own),
            _ => (matched.clone(), matched),
        };
        self.expr(&binary.lhs, &place.alike(lhs));
        self.expr(&binary.rhs, &place.alike(rhs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::config::{LoadOptions, load_source};

    /// A need as text: `SELECTOR window+offset@at [labels alike]`, in seconds.
    fn show(need: &Need) -> String {
        let matchers: Vec<String> = need.matchers.iter().map(ToString::to_string).collect();
        let names = |names: &BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        let alike = match &need.alike {
            Alike { only: Some(only), except } => {
                assert!(except.is_empty() || only.is_disjoint(except), "{need:?}");
                names(only)
            }
            Alike { only: None, except } => {
                let own =
                    BTreeSet::from([METRIC_NAME, "alertname", "alertstate"].map(str::to_owned));
                format!("all but {}", names(&(except - &own))).trim_end().to_owned()
            }
        };
        let window = match need.window_ms {
            ENDLESS_MS => "endless".to_owned(),
            ms => (ms / 1000).to_string(),
        };
        let at = need.at_ms.map(|at| format!("@{}", at / 1000)).unwrap_or_default();
        format!("{} {window}+{}{at} [{alike}]", matchers.join(","), need.offset_ms / 1000)
    }

    fn needs(rules: &str, name: &str) -> Vec<String> {
        let text = format!("groups: [{{name: g, interval: 30s, rules: [{rules}]}}]");
        let loaded = load_source("f.yml", &text, &LoadOptions::default());
        let groups = loaded.groups.iter().map(|group| (group, 30_000));
        let writers = Writers::new(groups);
        let rule = loaded.groups[0].rules.iter().find(|rule| rule.name() == name).unwrap();
        writers.needs(rule).iter().map(show).collect()
    }

    fn check(expr: &str, expected: &[&str]) {
        let rule = format!("{{alert: A, labels: {{own: x}}, expr: '{expr}'}}");
        let found: Vec<String> =
            needs(&rule, "A").iter().map(|need| need.replace("__name__=", "")).collect();
        let expected: Vec<String> =
            expected.iter().map(|text| text.replace('~', "all but own")).collect();
        assert_eq!(found, expected, "{expr}");
    }

    #[test]
    fn selectors_reach_as_far_back_as_what_is_around_them() {
        check("x == 1", &["\"x\" 0+0 [~]"]);
        check("rate(x[5m] offset 1m) > 1", &["\"x\" 300+60 [~]"]);
        check("max_over_time(rate(x[1m])[10m:1m] offset 2m) > 1", &["\"x\" 660+120 [~]"]);
        check("x @ 90 offset 30s > 1", &["\"x\" 0+30@90 [~]"]);
        check("max_over_time((x @ 90)[10m:1m]) > 1", &["\"x\" 0+0@90 [~]"]);
        check("rate(x[2 * step()]) > 1", &["\"x\" endless+0 [~]"]);
        check("vector(1) > 0", &[]);
    }

    #[test]
    fn labels_tell_which_series_matter() {
        check("sum by (job, own) (x) > 1", &["\"x\" 0+0 [job]"]);
        check("topk(3, x) > 1", &["\"x\" 0+0 []"]);
        check("sum without (i) (rate(x[1m])) > 1", &["\"x\" 60+0 [all but i own]"]);
        check("a > on (i) group_left (l) b", &["\"a\" 0+0 [all but l own]", "\"b\" 0+0 [i]"]);
        check("a and ignoring (k) b", &["\"a\" 0+0 [~]", "\"b\" 0+0 [all but k own]"]);
        check("a or b", &["\"a\" 0+0 [~]", "\"b\" 0+0 [~]"]);
        check("absent(x)", &["\"x\" 0+0 []"]);
        check("x > scalar(y)", &["\"x\" 0+0 [~]", "\"y\" 0+0 []"]);
        check(
            "label_replace(x, \"dst\", \"$1\", \"src\", \"(.*)\") > 1",
            &["\"x\" 0+0 [all but $1 (.*) dst own src]"],
        );
        check("count_values(\"v\", x) > 1", &["\"x\" 0+0 []"]);
    }

    #[test]
    fn recordings_are_looked_through() {
        let rules = "
            {record: r, expr: 'sum by (job, i) (rate(x[1m]))', labels: {i: '1'}},
            {record: s, expr: 'r + s'},
            {alert: A, expr: 'max_over_time(s[2m]) > 1'},
            {alert: B, expr: 'r{i=\"2\"} > 1'},
            {alert: C, expr: 'ALERTS{alertname=\"B\"} == 1'}";
        let shown = |name| {
            needs(rules, name).into_iter().map(|n| n.replace("__name__=", "")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown("A"),
            [
                "\"s\" 120+0 [all but]",
                "\"r\" 150+0 [all but]",
                "\"x\" 240+0 [job]",
                "\"s\" 150+0 [all but]",
            ]
        );
        assert_eq!(shown("B"), ["i=\"2\",\"r\" 0+0 [all but]"]);
        assert_eq!(shown("C").len(), 2);
    }
}
