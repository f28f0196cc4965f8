//! Rules with one small mistake each. A test suite that passes all the same does not look
//! at what the mistake changes.

use std::sync::Arc;

use crate::model::duration::format_duration;
use crate::parser::ast::{BinaryOp, DurationKind, ExprKind, Grouping, NumberLiteral};
use crate::parser::{self, Expr, ParserOptions};
use crate::rules::config::{AlertSpec, RuleExpr, RuleKind, RuleSpec};

/// A rule with a mistake in it.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    /// What was changed, such as "`>` became `>=`".
    pub what: String,
    pub rule: Arc<RuleSpec>,
}

/// Every mistake that is made in a rule, one at a time.
pub(super) fn mutants(rule: &RuleSpec, options: &ParserOptions) -> Vec<Mutant> {
    let mut all = Vec::new();
    let root = &rule.expr.expr;
    let mut sites = 0;
    root.walk(&mut |_| sites += 1);
    for site in 0..sites {
        for choice in 0.. {
            let mut expr = Expr::clone(root);
            let mut what = None;
            at_site(&mut expr, site, &mut |node, parent| what = change(node, parent, choice));
            let Some(what) = what else { break };
            let printed = expr.to_string();
            // What cannot be written is no mistake that somebody could make.
            let Ok(expr) = parser::parse(&printed, options) else { continue };
            if printed != rule.expr.printed {
                let expr = RuleExpr { printed, expr: Arc::new(expr) };
                all.push(Mutant { what, rule: Arc::new(RuleSpec { expr, ..rule.clone() }) });
            }
        }
    }
    all.extend(beside_expression(rule));
    all
}

/// Changes of `for` and of the rule's own labels.
fn beside_expression(rule: &RuleSpec) -> Vec<Mutant> {
    let mut all = Vec::new();
    if let RuleKind::Alerting(alert) = &rule.kind
        && alert.for_ms > 0
    {
        for for_ms in [0, alert.for_ms.saturating_mul(2)] {
            let mut alert = AlertSpec::clone(alert);
            let before = format_duration(std::mem::replace(&mut alert.for_ms, for_ms));
            let what = format!("`for: {before}` became `for: {}`", format_duration(for_ms));
            let kind = RuleKind::Alerting(Arc::new(alert));
            all.push(Mutant { what, rule: Arc::new(RuleSpec { kind, ..rule.clone() }) });
        }
    }
    for name in rule.labels.keys() {
        let mut changed = rule.clone();
        changed.labels.insert(name.clone(), "mutant".to_owned());
        all.push(Mutant {
            what: format!("label {name} became \"mutant\""),
            rule: Arc::new(changed),
        });
    }
    all
}

/// Calls `act` on the node at a place in the order of `walk`, with what stands above it.
fn at_site(root: &mut Expr, site: usize, act: &mut dyn FnMut(&mut Expr, Option<BinaryOp>)) {
    fn go(
        expr: &mut Expr,
        parent: Option<BinaryOp>,
        left: &mut usize,
        act: &mut dyn FnMut(&mut Expr, Option<BinaryOp>),
    ) -> bool {
        if *left == 0 {
            act(expr, parent);
            return true;
        }
        *left -= 1;
        let op = match &expr.kind {
            ExprKind::Binary(binary) => Some(binary.op),
            ExprKind::Paren(_) | ExprKind::Unary { .. } => parent,
            _ => None,
        };
        expr.children_mut().into_iter().any(|child| go(child, op, left, act))
    }
    let mut left = site;
    go(root, None, &mut left, act);
}

/// Makes the node's mistake of that number; `None` when there are no more.
fn change(node: &mut Expr, parent: Option<BinaryOp>, choice: usize) -> Option<String> {
    match &mut node.kind {
        ExprKind::Number(number) if parent.is_some_and(BinaryOp::is_comparison) => {
            threshold(number, choice)
        }
        ExprKind::Binary(binary) => {
            let op = *instead(binary.op).get(choice)?;
            let before = std::mem::replace(&mut binary.op, op);
            Some(format!("`{}` became `{}`", before.as_str(), op.as_str()))
        }
        ExprKind::MatrixSelector(matrix) => {
            let DurationKind::Number(range) = &mut matrix.range.kind else { return None };
            let factor = *[0.5, 2.0].get(choice)?;
            let before = seconds(range.value);
            range.value *= factor;
            Some(format!("the window [{before}] became [{}]", seconds(range.value)))
        }
        ExprKind::VectorSelector(selector) => {
            let matchers = selector.matchers.iter().enumerate();
            let others = matchers.filter(|(_, m)| m.metric_name().is_none());
            let at = others.map(|(i, _)| i).nth(choice)?;
            Some(format!("{} was left out", selector.matchers.remove(at)))
        }
        ExprKind::Aggregate(aggregate) => {
            let (Grouping::By(labels) | Grouping::Without(labels)) = &mut aggregate.grouping;
            if choice >= labels.len() {
                return None;
            }
            Some(format!("grouping label {} was left out", labels.remove(choice)))
        }
        _ => None,
    }
}

/// A number that something is compared with.
fn threshold(number: &mut NumberLiteral, choice: usize) -> Option<String> {
    let before = number.value;
    let changed = match (choice, before == 0.0) {
        (0, true) => 1.0,
        (1, true) => -1.0,
        (0, false) => before * 1.1,
        (1, false) => before * 0.9,
        _ => return None,
    };
    number.value = changed;
    number.duration = false;
    Some(format!("the threshold {before} became {changed}"))
}

fn instead(op: BinaryOp) -> &'static [BinaryOp] {
    use BinaryOp::*;
    match op {
        Greater => &[GreaterEq, Less],
        GreaterEq => &[Greater, LessEq],
        Less => &[LessEq, Greater],
        LessEq => &[Less, GreaterEq],
        Eq => &[NotEq],
        NotEq => &[Eq],
        Add => &[Sub],
        Sub => &[Add],
        Mul => &[Div],
        Div => &[Mul],
        And => &[Unless, Or],
        Unless => &[And],
        Or => &[And],
        _ => &[],
    }
}

fn seconds(value: f64) -> String {
    format_duration((value * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::config::{LoadOptions, load_source};

    fn check(rule: &str, expected: &[&str]) {
        let text = format!("groups: [{{name: g, rules: [{rule}]}}]");
        let loaded = load_source("f", &text, &LoadOptions::default());
        let rule = &loaded.groups[0].rules[0];
        let all = mutants(rule, &ParserOptions::default());
        let said: Vec<String> =
            all.iter().map(|m| format!("{}: {}", m.what, m.rule.expr.printed)).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn every_mistake_is_made_alone() {
        check(
            "{record: r, expr: 'sum by (a) (rate(x{b=\"c\"}[5m])) > 0.5'}",
            &[
                "`>` became `>=`: sum by (a) (rate(x{b=\"c\"}[5m])) >= 0.5",
                "`>` became `<`: sum by (a) (rate(x{b=\"c\"}[5m])) < 0.5",
                "grouping label a was left out: sum(rate(x{b=\"c\"}[5m])) > 0.5",
                "the window [5m] became [2m30s]: sum by (a) (rate(x{b=\"c\"}[2m30s])) > 0.5",
                "the window [5m] became [10m]: sum by (a) (rate(x{b=\"c\"}[10m])) > 0.5",
                "the threshold 0.5 became 0.55: sum by (a) (rate(x{b=\"c\"}[5m])) > 0.55",
                "the threshold 0.5 became 0.45: sum by (a) (rate(x{b=\"c\"}[5m])) > 0.45",
            ],
        );
        check(
            "{alert: A, expr: 'x{b=\"c\"} unless y', for: 1m, labels: {s: t}}",
            &[
                "`unless` became `and`: x{b=\"c\"} and y",
                "b=\"c\" was left out: x unless y",
                "`for: 1m` became `for: 0s`: x{b=\"c\"} unless y",
                "`for: 1m` became `for: 2m`: x{b=\"c\"} unless y",
                "label s became \"mutant\": x{b=\"c\"} unless y",
            ],
        );
    }
}
