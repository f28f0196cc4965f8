//! What a recording needs: which rules, which selectors, from when on.

use std::collections::BTreeSet;

use super::RecordError;
use crate::model::duration::format_duration;
use crate::model::{METRIC_NAME, MatchOp, Matcher, TimestampMs};
use crate::parser::ast::{AtModifier, Call, Expr, ExprKind};
use crate::parser::{ParserOptions, parse};
use crate::rules::config::{GroupSpec, RuleKind, RuleSpec};
use crate::rules::graph::reads;
use crate::rules::reach::{ENDLESS_MS, Need, Writers};
use crate::rules::template::Template;

/// Most evaluations of one recording, those before it included.
const TICKS_MAX: i64 = 50_000;

/// How far back an instant selector looks.
pub(super) const LOOKBACK_MS: i64 = 300_000;

/// What somebody wants to have recorded.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub alert: String,
    pub from_ms: TimestampMs,
    pub to_ms: TimestampMs,
    /// Of groups that name none.
    pub default_interval_ms: i64,
    /// How much is needed before, instead of what the expression says.
    pub before_ms: Option<i64>,
}

/// What has to be fetched for it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub alert: String,
    /// Selectors, as `{...}` with the name among the matchers.
    pub selectors: Vec<String>,
    /// The first evaluation, and the distance of two.
    pub start_ms: TimestampMs,
    pub interval_ms: i64,
    /// From when on evaluations may matter to those that count: `for` has to pass, and what
    /// is recorded has to be there. Before it there are only samples.
    pub(super) active_ms: TimestampMs,
    /// The first evaluation that counts, and the last.
    pub from_ms: TimestampMs,
    pub end_ms: TimestampMs,
    /// The groups that have a say, in the order they are to be evaluated, with only the
    /// rules that matter.
    pub(super) groups: Vec<GroupSpec>,
    /// The test has to take place at the time it was recorded.
    pub(super) absolute: bool,
    /// A template uses them.
    pub(super) uses_external: bool,
    /// Metrics that rules record, which are not part of the input.
    pub(super) recorded: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

/// Names of all alerts, for whoever has misspelt one.
pub fn alert_names(groups: &[GroupSpec]) -> impl Iterator<Item = &str> {
    let rules = groups.iter().flat_map(|group| &group.rules);
    rules.filter(|r| matches!(r.kind, RuleKind::Alerting(_))).map(|r| r.name())
}

impl Plan {
    /// A plan without rules, for tests of what only needs its times.
    #[cfg(test)]
    pub(super) fn of_times(start_ms: TimestampMs, interval_ms: i64, ticks: i64) -> Self {
        Self {
            alert: String::new(),
            selectors: Vec::new(),
            start_ms,
            interval_ms,
            active_ms: start_ms,
            from_ms: start_ms,
            end_ms: start_ms + (ticks - 1) * interval_ms,
            groups: Vec::new(),
            absolute: false,
            uses_external: false,
            recorded: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    /// Evaluations from the start.
    pub fn ticks(&self) -> usize {
        ((self.end_ms - self.start_ms) / self.interval_ms + 1).max(0) as usize
    }

    /// Group and name of the rules that have a say.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.iter().flat_map(|g| g.rules.iter().map(|r| (&*g.name, r.name())))
    }
}

/// Finds out what an alert depends on.
pub fn plan(groups: &[GroupSpec], wanted: &Wanted) -> Result<Plan, RecordError> {
    let interval = |group: &GroupSpec| group.interval_ms.unwrap_or(wanted.default_interval_ms);
    let is_wanted = |rule: &RuleSpec| matches!(&rule.kind, RuleKind::Alerting(alert) if alert.alert == wanted.alert);
    let alerts = || groups.iter().flat_map(|g| g.rules.iter().map(move |r| (g, r)));
    let Some((group, _)) = alerts().find(|(_, rule)| is_wanted(rule)) else {
        return Err(RecordError::NoSuchAlert(wanted.alert.clone()));
    };
    let interval_ms = interval(group);
    let matter = matter(groups, &is_wanted);
    let recorded: BTreeSet<String> = names_of(&matter);
    let mut notes = Vec::new();
    let mut selectors = BTreeSet::new();
    let (mut back_ms, mut hold_ms) = (0, 0);
    let writers = Writers::new(matter.iter().map(|group| (group, interval(group))));
    for rule in matter.iter().flat_map(|g| &g.rules).filter(|r| is_wanted(r)) {
        if let RuleKind::Alerting(alert) = &rule.kind {
            hold_ms = hold_ms.max(alert.for_ms.saturating_add(alert.keep_firing_for_ms));
        }
        for need in all_needs(&writers, rule) {
            if need.matchers.is_empty() {
                return Err(RecordError::ReadsEverything(rule.expr.printed.clone()));
            }
            let endless = need.window_ms >= ENDLESS_MS;
            if endless && wanted.before_ms.is_none() {
                return Err(RecordError::Computed);
            }
            if need.offset_ms < 0 {
                notes.push(format!(
                    "{} is read {} after the evaluation, which a test cannot have",
                    text(&need.matchers),
                    format_duration(-need.offset_ms)
                ));
            }
            if !endless {
                back_ms = back_ms.max(need.window_ms.saturating_add(need.offset_ms.max(0)));
            }
            if !name_of(&need.matchers).is_some_and(|name| recorded.contains(name)) {
                selectors.insert(text(&need.matchers));
            }
        }
    }
    let before_ms = wanted.before_ms.unwrap_or(back_ms + LOOKBACK_MS).saturating_add(hold_ms);
    let ticks = |ms: i64| ms.saturating_add(interval_ms - 1) / interval_ms;
    let from_ms = wanted.from_ms.div_euclid(interval_ms) * interval_ms;
    let start_ms = from_ms.saturating_sub(ticks(before_ms).saturating_mul(interval_ms));
    let count = ticks(wanted.to_ms.saturating_sub(start_ms));
    if count > TICKS_MAX {
        return Err(RecordError::TooLong { ticks: count, most: TICKS_MAX });
    }
    if matter.iter().any(|group| interval(group) != interval_ms) {
        notes.push(format!(
            "rules of other groups are evaluated every {} as well, as promtool does",
            format_duration(interval_ms)
        ));
    }
    let rules = || matter.iter().flat_map(|group| &group.rules);
    let absolute = rules().any(|rule| is_absolute(&rule.expr.expr));
    let mut texts = rules().filter(|rule| is_wanted(rule)).flat_map(|rule| texts(rule));
    let uses_external = texts.any(|text| text.contains("xternal"));
    drop(texts);
    Ok(Plan {
        alert: wanted.alert.clone(),
        selectors: selectors.into_iter().collect(),
        start_ms,
        interval_ms,
        active_ms: if recorded.is_empty() {
            from_ms.saturating_sub((ticks(hold_ms) + 1).saturating_mul(interval_ms)).max(start_ms)
        } else {
            start_ms
        },
        from_ms,
        end_ms: from_ms + (wanted.to_ms - from_ms).max(0) / interval_ms * interval_ms,
        absolute,
        uses_external,
        groups: ordered(matter),
        recorded,
        notes,
    })
}

/// Labels and annotations of a rule.
fn texts(rule: &RuleSpec) -> impl Iterator<Item = &String> {
    let annotations = match &rule.kind {
        RuleKind::Alerting(alert) => Some(alert.annotations.values()),
        RuleKind::Recording { .. } => None,
    };
    rule.labels.values().chain(annotations.into_iter().flatten())
}

fn name_of(matchers: &[Matcher]) -> Option<&str> {
    let name = matchers.iter().find(|m| &*m.name == METRIC_NAME)?;
    (name.op == MatchOp::Equal).then_some(&*name.value)
}

fn text(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", all.join(","))
}

fn names_of(groups: &[GroupSpec]) -> BTreeSet<String> {
    let rules = groups.iter().flat_map(|g| &g.rules);
    rules
        .filter_map(|rule| match &rule.kind {
            RuleKind::Recording { record } => Some(record.clone()),
            RuleKind::Alerting(_) => None,
        })
        .collect()
}

/// What the expression reads, and the queries of the templates.
fn all_needs(writers: &Writers<'_>, rule: &RuleSpec) -> Vec<Need> {
    let mut needs = writers.needs(rule);
    let RuleKind::Alerting(alert) = &rule.kind else { return needs };
    for text in texts(rule).filter(|text| text.contains("query")) {
        let Ok(template) = Template::parse_alert(&alert.alert, text) else { continue };
        for query in template.literal_queries() {
            if let Ok(expr) = parse(query, &ParserOptions::all()) {
                let mut asking = rule.clone();
                asking.expr.expr = expr.into();
                needs.extend(writers.needs(&asking));
            }
        }
    }
    needs
}

/// The groups with only those rules that the wanted ones read, be it through others.
fn matter(groups: &[GroupSpec], is_wanted: &dyn Fn(&RuleSpec) -> bool) -> Vec<GroupSpec> {
    let all: Vec<(usize, usize, &RuleSpec)> = groups
        .iter()
        .enumerate()
        .flat_map(|(g, group)| group.rules.iter().enumerate().map(move |(r, rule)| (g, r, &**rule)))
        .collect();
    let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut open: Vec<&RuleSpec> = Vec::new();
    for (g, r, rule) in all.iter().filter(|(_, _, rule)| is_wanted(rule)) {
        chosen.insert((*g, *r));
        open.push(rule);
    }
    while let Some(rule) = open.pop() {
        for read in reads(rule) {
            for (g, r, writer) in &all {
                let writes = match &writer.kind {
                    RuleKind::Recording { record } => named(&read.matchers, record),
                    RuleKind::Alerting(_) => {
                        named(&read.matchers, "ALERTS") || named(&read.matchers, "ALERTS_FOR_STATE")
                    }
                };
                if writes && chosen.insert((*g, *r)) {
                    open.push(writer);
                }
            }
        }
    }
    let mut matter = Vec::new();
    for (g, group) in groups.iter().enumerate() {
        let mut group = group.clone();
        let mut index = 0;
        group.rules.retain(|_| {
            index += 1;
            chosen.contains(&(g, index - 1))
        });
        if !group.rules.is_empty() {
            matter.push(group);
        }
    }
    matter
}

/// Whether a selector finds a metric by its name.
fn named(matchers: &[Matcher], metric: &str) -> bool {
    let mut names = matchers.iter().filter(|m| &*m.name == METRIC_NAME).peekable();
    names.peek().is_some() && names.all(|m| m.matches(metric))
}

/// Groups that record before those that read.
fn ordered(groups: Vec<GroupSpec>) -> Vec<GroupSpec> {
    let writes = |group: &GroupSpec, matchers: &[Matcher]| {
        names_of(std::slice::from_ref(group)).iter().any(|name| named(matchers, name))
    };
    let waits = |reader: &GroupSpec, writer: &GroupSpec| {
        reader.rules.iter().flat_map(|rule| reads(rule)).any(|read| writes(writer, &read.matchers))
    };
    let mut left = groups;
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_free = |i: usize| {
            left.iter().enumerate().all(|(other, group)| other == i || !waits(&left[i], group))
        };
        // Groups that wait for each other stay as they stand.
        let next = (0..left.len()).find(|i| is_free(*i)).unwrap_or(0);
        order.push(left.remove(next));
    }
    order
}

/// Whether a result depends on the time of day or on times written into the expression.
fn is_absolute(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |expr| {
        let fixed = |at: &Option<AtModifier>| matches!(at, Some(AtModifier::Timestamp(_)));
        found |= match &expr.kind {
            ExprKind::Call(call) => tells_time(call),
            ExprKind::VectorSelector(selector) => fixed(&selector.modifiers.at),
            ExprKind::MatrixSelector(matrix) => fixed(&matrix.selector.modifiers.at),
            ExprKind::Subquery(subquery) => fixed(&subquery.modifiers.at),
            _ => false,
        };
    });
    found
}

fn tells_time(call: &Call) -> bool {
    let parts = [
        "minute",
        "hour",
        "day_of_week",
        "day_of_month",
        "day_of_year",
        "days_in_month",
        "month",
        "year",
    ];
    let name = call.function.name;
    matches!(name, "time" | "timestamp") || parts.contains(&name) || name.starts_with("ts_of_")
}
