//! What a rule reads: the selectors of its expression and of the queries its templates make.

use crate::functions::{Kernel, Operator};
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::parser::ast::{Call, ExprKind};
use crate::parser::{Expr, ParserOptions, parse};
use crate::rules::config::{RuleKind, RuleSpec};
use crate::rules::template::Template;

/// One selector of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub matchers: Vec<Matcher>,
    /// It stands in a template, which is expanded when the rule's result is there.
    pub in_template: bool,
}

impl Read {
    /// The one name it can find, if it demands one.
    pub(crate) fn name(&self) -> Option<&str> {
        let mut names = self.matchers.iter().filter(|m| &*m.name == METRIC_NAME);
        names.find(|m| m.op == MatchOp::Equal).map(|m| &*m.value)
    }

    /// Whether it says by name what it wants, be it by a pattern. Prometheus calls a
    /// selector that does not "indeterminate".
    pub(crate) fn is_named(&self) -> bool {
        let mut names = self.matchers.iter().filter(|m| &*m.name == METRIC_NAME);
        names.any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && !m.matches_empty())
    }
}

/// All selectors of a rule.
pub(crate) fn reads(rule: &RuleSpec) -> Vec<Read> {
    let mut found = Vec::new();
    collect(&rule.expr.expr, false, &mut found);
    if let RuleKind::Alerting(alert) = &rule.kind {
        let texts = rule.labels.values().chain(alert.annotations.values());
        for text in texts.filter(|text| text.contains("query")) {
            let Ok(template) = Template::parse_alert(&alert.alert, text) else { continue };
            for query in template.literal_queries() {
                if let Ok(mut expr) = parse(query, &ParserOptions::all()) {
                    if !rule.datasource.is_empty() {
                        expr.ask_datasource(&rule.datasource);
                    }
                    collect(&expr, true, &mut found);
                }
            }
        }
    }
    found
}

fn collect(expr: &Expr, in_template: bool, found: &mut Vec<Read>) {
    let mut add = |matchers: Vec<Matcher>| found.push(Read { matchers, in_template });
    match &expr.kind {
        ExprKind::VectorSelector(selector) => add(selector.matchers.clone()),
        ExprKind::MatrixSelector(matrix) => add(matrix.selector.matchers.clone()),
        ExprKind::Call(call)
            if matches!(call.function.kernel, Kernel::Operator(Operator::Info)) =>
        {
            add(info_matchers(call));
            if let Some(input) = call.args.first() {
                collect(input, in_template, found);
            }
        }
        _ => expr.children().for_each(|child| collect(child, in_template, found)),
    }
}

/// `info` reads `target_info` unless its second argument names other series; one that
/// only excludes names stands for all that end in `_info`.
fn info_matchers(call: &Call) -> Vec<Matcher> {
    let mut matchers = match call.args.get(1).map(|arg| &arg.kind) {
        Some(ExprKind::VectorSelector(selector)) => selector.matchers.clone(),
        _ => Vec::new(),
    };
    let mut names = matchers.iter().filter(|m| &*m.name == METRIC_NAME).peekable();
    if names.peek().is_none() {
        matchers.push(Matcher::equal(METRIC_NAME, "target_info"));
    } else if names.all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex))
        && let Ok(all) = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info")
    {
        matchers.push(all);
    }
    matchers
}
