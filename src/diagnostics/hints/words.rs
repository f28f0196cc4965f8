//! Words: functions, keywords, and those of other languages.

use super::super::nearest::nearest;
use super::super::promql::{Case, Explained};
use crate::aggregations;
use crate::functions;

/// Names people try and what they are called here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("median", "quantile(0.5, ...)"),
    ("mean", "avg(...)"),
    ("average", "avg(...)"),
    ("percentile", "quantile(0.95, ...)"),
    ("log", "ln(...), log2(...) or log10(...)"),
    ("pow", "the operator ^"),
    ("len", "count(...)"),
    ("size", "count(...)"),
    ("distinct", "count(group by (label) (...))"),
    ("holt_winters", "double_exponential_smoothing(...)"),
    ("now", "time()"),
    ("increase_pure", "increase(...)"),
    ("median_over_time", "quantile_over_time(0.5, ...)"),
    ("average_over_time", "avg_over_time(...)"),
    ("mean_over_time", "avg_over_time(...)"),
];

/// Functions of MetricsQL that rule files bring along most.
const METRICSQL: &[&str] = &[
    "default_rollup",
    "rollup",
    "rollup_rate",
    "rollup_increase",
    "increase_prometheus",
    "range_median",
    "range_avg",
    "running_sum",
    "keep_last_value",
    "interpolate",
    "label_set",
    "label_del",
    "label_copy",
    "label_map",
    "label_match",
    "sum2",
    "outliersk",
    "topk_avg",
    "topk_max",
    "histogram",
    "share_le_over_time",
    "count_gt_over_time",
    "lag",
    "lifetime",
    "zscore",
    "any",
    "geomean",
    "limitk_avg",
    "union",
    "alias",
    "remove_resets",
    "share",
];

fn functions_and_aggregators() -> impl Iterator<Item = &'static str> {
    functions::all().map(|f| f.name).chain(aggregations::all().map(|a| a.name))
}

pub(super) fn unknown_function(case: &Case<'_>, found: &mut Explained) {
    let Some(name) = case.quoted(0).filter(|_| case.says("unknown function with name")) else {
        return;
    };
    found.span = case.start..case.start + name.len();
    found.label = "no such function".to_owned();
    if let Some((_, other)) = OTHER_NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
        found.advise(format!("PromQL has {other} for that"));
    } else if let Some(known) = nearest(name, functions_and_aggregators()) {
        found.suggest(format!("did you mean `{known}`?"), found.span.clone(), known);
    } else if METRICSQL.contains(&name) {
        found.advise(format!(
            "`{name}` is a function of MetricsQL (VictoriaMetrics); PromQL has nothing of that name"
        ));
    } else {
        found.advise("`watchfire promql functions` lists all functions");
    }
}

pub(super) fn experimental(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("is not enabled") && case.quoted(0).is_some() {
        let flag = match case.message {
            m if m.contains("fill") => "promql-binop-fill-modifiers",
            m if m.contains("anchored") || m.contains("smoothed") => {
                "promql-extended-range-selectors"
            }
            _ => "promql-experimental-functions",
        };
        found.advise(format!("--enable-feature={flag} turns it on"));
    }
}

/// Words that mean something elsewhere.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("for", "how long a condition must hold is the field `for` of the rule, beside `expr`"),
    ("if", "`if` is MetricsQL; PromQL says `x and on (...) y`"),
    ("ifnot", "`ifnot` is MetricsQL; PromQL says `x unless on (...) y`"),
    ("default", "`default` is MetricsQL; PromQL says `x or vector(0)`"),
    ("keep_metric_names", "`keep_metric_names` is MetricsQL"),
    ("limit", "PromQL has topk(...), limitk(...) and the field `limit` of a group"),
    ("where", "conditions on labels stand in braces: `x{label=\"value\"}`"),
    ("is", "values are compared with `==`"),
    ("over", "a range is written `x[5m]`: `avg_over_time(x[5m])`"),
    ("like", "patterns stand in braces: `x{label=~\"pattern\"}`"),
    ("between", "write `x > 1 < 2`"),
    ("then", "an alert fires where its expression has a result; there is nothing to add"),
];

pub(super) fn words_of_other_languages(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") {
        return;
    }
    let word = case.found();
    if let Some((_, advice)) = FOREIGN_WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)) {
        found.advise(*advice);
    } else if case.word_before().eq_ignore_ascii_case("not") {
        found.advise("PromQL has no `not`: write `x unless y`, or `x == 0`");
    }
}

const KEYWORDS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "and",
    "or",
    "unless",
    "atan2",
];

pub(super) fn misspelt_keyword(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") || case.message.contains("label matching") {
        return;
    }
    let word = case.found();
    if let Some(keyword) = nearest(word, KEYWORDS.iter().copied()) {
        found.suggest(
            format!("did you mean `{keyword}`?"),
            case.start..case.start + word.len(),
            keyword,
        );
    }
}

/// `http requests > 3`
pub(super) fn two_words(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") {
        return;
    }
    let (word, before) = (case.found(), case.word_before());
    let known = |name: &str| functions::find(name).is_some() || aggregations::find(name).is_some();
    if !before.is_empty() && !before.starts_with(|c: char| c.is_ascii_digit()) && !known(word) {
        let name = format!("{before}_{word}");
        found.advise(format!(
            "names hold no blanks (is it `{name}`?); two expressions need an operator between them"
        ));
    } else {
        found.advise(format!("an operator is missing before `{word}`"));
    }
}
