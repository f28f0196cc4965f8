//! One row for each check. The rows are in the order of their ids; docs/lint.md is made
//! from them.

use super::checks::{
    alerts, comments, expressions, groups, impossible, policies, project, reader, regexp, templates,
};
use super::context::{FileCx, Findings, GroupCx, Project, RuleCx};
use super::online;
use crate::diagnostics::{CheckInfo, Severity};

/// One check.
pub struct Check {
    pub id: &'static str,
    /// Of its findings, unless they say otherwise.
    pub severity: Severity,
    /// What it finds, in a few words.
    pub summary: &'static str,
    /// Why that is bad, and when it is not.
    pub doc: &'static str,
    /// Rules in which it finds something.
    pub bad: &'static str,
    /// The same rules made good.
    pub good: &'static str,
    /// Settings without which it finds nothing.
    pub settings: &'static str,
    /// It runs unless it is turned off.
    pub by_default: bool,
    /// What it finds nothing without, such as `--server`; empty: nothing.
    pub needs: &'static str,
    pub(super) run: Run,
}

/// What a check looks at.
pub(super) enum Run {
    Rule(fn(&RuleCx<'_>, &mut Findings<'_>)),
    Group(fn(&GroupCx<'_>, &mut Findings<'_>)),
    File(fn(&FileCx<'_>, &mut Findings<'_>)),
    Project(fn(&Project<'_>, &mut Findings<'_>)),
}

/// The ids, in order.
pub fn ids() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.id)
}

/// What programs are told of the checks.
pub fn infos() -> Vec<CheckInfo> {
    let info = |check: &Check| CheckInfo {
        id: check.id,
        severity: check.severity,
        summary: check.summary.to_owned(),
        doc: check.doc.to_owned(),
    };
    CHECKS.iter().map(info).collect()
}

/// The server that is asked.
const SERVER: &str = "`--server`";

const CHECK: Check = Check {
    id: "",
    severity: Severity::Warning,
    summary: "",
    doc: "",
    bad: "",
    good: "",
    settings: "",
    by_default: true,
    needs: "",
    run: Run::File(|_, _| {}),
};

pub static CHECKS: &[Check] = &[
    Check {
        id: "alerts/absent",
        summary: "`absent()` without `for`",
        doc: "After a restart there are no samples until the first scrape, so an alert on what is \
              absent fires at once unless `for` outlasts that.",
        bad: "- alert: NoTargets\n  expr: absent(up{job=\"api\"})\n",
        good: "- alert: NoTargets\n  expr: absent(up{job=\"api\"})\n  for: 5m\n",
        run: Run::Rule(alerts::absent),
        ..CHECK
    },
    Check {
        id: "alerts/annotation",
        summary: "annotations that a policy asks for",
        doc: "The settings name annotations (by a pattern) that alerts must have, and what their \
              values must look like.",
        settings: "rules:\n- match: {kind: alerting}\n  annotations:\n    runbook_url:\n      required: true\n      value: https://.+\n",
        bad: "- alert: Down\n  expr: up == 0\n  annotations:\n    runbook_url: see the wiki\n",
        good: "- alert: Down\n  expr: up == 0\n  annotations:\n    runbook_url: https://example.com/down\n",
        run: Run::Rule(policies::annotations),
        ..CHECK
    },
    Check {
        id: "alerts/comparison",
        severity: Severity::Bug,
        summary: "alerts that fire whatever the value",
        doc: "An alert fires for every series its expression returns, be the value 0. Without a \
              comparison that can be false (one with `bool` cannot leave anything out), the alert \
              fires as long as there are series. Expressions that always have a result, such as \
              `vector(1)`, are taken for watchdogs.",
        bad: "- alert: Errors\n  expr: rate(errors_total[5m])\n",
        good: "- alert: Errors\n  expr: rate(errors_total[5m]) > 0.1\n",
        run: Run::Rule(alerts::comparison),
        ..CHECK
    },
    Check {
        id: "alerts/count",
        severity: Severity::Info,
        summary: "how often alerts would have fired",
        doc: "Each alert's expression is evaluated by the server over the last day, and its `for` \
              and `keep_firing_for` applied.",
        needs: SERVER,
        run: Run::Rule(online::count),
        ..CHECK
    },
    Check {
        id: "alerts/external_labels",
        severity: Severity::Bug,
        summary: "external labels that the server does not have",
        doc: "A template uses `$externalLabels.x`, and `x` is not among the `external_labels` of \
              the server's configuration: it expands to nothing.",
        needs: SERVER,
        run: Run::Rule(online::external_labels),
        ..CHECK
    },
    Check {
        id: "alerts/flapping",
        summary: "alerts that go on and off by themselves",
        doc: "`irate` and `idelta` look at two samples, so that a single quiet one resolves the \
              alert and `for` starts again. A window shorter than the interval of the group leaves \
              out what happens in between (only where the interval is known).",
        bad: "- alert: Errors\n  expr: irate(errors_total[5m]) > 0.1\n  for: 5m\n",
        good: "- alert: Errors\n  expr: rate(errors_total[5m]) > 0.1\n  for: 5m\n",
        run: Run::Rule(alerts::flapping),
        ..CHECK
    },
    Check {
        id: "alerts/for",
        summary: "`for` and `keep_firing_for` without effect",
        doc: "0 is what holds without the field. A `for` shorter than the interval lasts until the \
              second evaluation all the same; a `keep_firing_for` shorter than the interval is \
              over at the next evaluation (only where the interval is known).",
        bad: "- alert: Down\n  expr: up == 0\n  for: 0s\n",
        good: "- alert: Down\n  expr: up == 0\n",
        run: Run::Rule(alerts::hold),
        ..CHECK
    },
    Check {
        id: "alerts/template",
        severity: Severity::Bug,
        summary: "labels and annotations that cannot come out as meant",
        doc: "A template is no template, or uses a label that the expression drops, or runs a \
              query that is no PromQL. In a label, the value makes a new alert each time it \
              changes. As information: a rate printed with all its digits.",
        bad: "- alert: Errors\n  expr: sum by (job) (rate(errors_total[5m])) > 1\n  annotations:\n    summary: '{{ $labels.instance }} has errors'\n",
        good: "- alert: Errors\n  expr: sum by (job) (rate(errors_total[5m])) > 1\n  annotations:\n    summary: '{{ $labels.job }} has errors'\n",
        run: Run::Project(templates::templates),
        ..CHECK
    },
    Check {
        id: "group/interval",
        summary: "intervals longer than the lookback",
        doc: "A sample is seen for the lookback (5m by default, `lookback_delta` in the settings). \
              What a group records less often is absent in between.",
        bad: "groups:\n- name: example\n  interval: 10m\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n",
        good: "groups:\n- name: example\n  interval: 5m\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n",
        run: Run::Group(groups::interval),
        ..CHECK
    },
    Check {
        id: "ignore/file",
        severity: Severity::Info,
        summary: "files that are left alone",
        doc: "The comment `# pint ignore/file` keeps the linter from a file.",
        bad: "# pint ignore/file\ngroups: []\n",
        good: "groups: []\n",
        run: Run::File(comments::ignored),
        ..CHECK
    },
    Check {
        id: "labels/conflict",
        summary: "labels of rules that others set as well",
        doc: "A label of the rule is one of the server's `external_labels`, so that it says \
              something else outside than series of other rules; or it is a label of the \
              server's targets that the expression keeps: what it told apart becomes one \
              series, and the evaluation fails.",
        needs: SERVER,
        run: Run::Rule(online::conflict),
        ..CHECK
    },
    Check {
        id: "pint/comment",
        summary: "comments that have no effect",
        doc: "A comment begins like one for the linter, but names no directive, no check, or no \
              time.",
        bad: "# pint disable promql/regex\n- record: job:up:sum\n  expr: sum by (job) (up)\n",
        good: "# pint disable promql/regexp\n- record: job:up:sum\n  expr: sum by (job) (up)\n",
        run: Run::File(comments::bad),
        ..CHECK
    },
    Check {
        id: "promql/aggregate",
        summary: "labels that a policy wants kept or removed",
        doc: "The settings name labels that the result must still have (`keep`) or must not have \
              any more (`strip`).",
        settings: "rules:\n- match: {kind: recording}\n  aggregate:\n  - name: 'job:.+'\n    keep: [job]\n    strip: [instance]\n",
        bad: "- record: job:errors:rate5m\n  expr: sum by (instance) (rate(errors_total[5m]))\n",
        good: "- record: job:errors:rate5m\n  expr: sum by (job) (rate(errors_total[5m]))\n",
        run: Run::Rule(policies::aggregate),
        ..CHECK
    },
    Check {
        id: "promql/always",
        severity: Severity::Info,
        summary: "comparisons that are always true",
        doc: "What is compared cannot have another value, so the comparison leaves nothing out: \
              `count` is at least 1 wherever it is.",
        bad: "- alert: Down\n  expr: count(up == 0) > 0\n",
        good: "- alert: Down\n  expr: count(up == 0) > 2\n",
        run: Run::Rule(impossible::always),
        ..CHECK
    },
    Check {
        id: "promql/counter",
        summary: "counters read as they are, and rates of gauges",
        doc: "The server knows the types of metrics. A counter's value depends on when its process \
              was started; what `rate` makes of a gauge depends on how often it falls.",
        needs: SERVER,
        run: Run::Rule(online::counter),
        ..CHECK
    },
    Check {
        id: "promql/features",
        severity: Severity::Bug,
        summary: "expressions the server cannot read",
        doc: "The server is asked to evaluate the expression at a time before there were any \
              samples. It refuses what is newer than itself, or wants a feature that is off \
              (`--enable-feature`).",
        needs: SERVER,
        run: Run::Rule(online::features),
        ..CHECK
    },
    Check {
        id: "promql/fragile",
        summary: "alerts whose set of series changes by itself",
        doc: "`topk` and its like choose other series each time, and each is an alert of its own. \
              A ratio of two jobs is wrong while one of them has not been scraped yet, unless \
              `for` outlasts that.",
        bad: "- alert: Largest\n  expr: topk(3, queue_length > 100)\n",
        good: "- alert: Large\n  expr: queue_length > 100\n",
        run: Run::Rule(expressions::fragile),
        ..CHECK
    },
    Check {
        id: "promql/impossible",
        severity: Severity::Bug,
        summary: "parts of expressions that never have a result",
        doc: "Comparisons that cannot be true (`count(x) < 1`), matchers that exclude each other, \
              quantiles outside 0 to 1, and labels that are used for grouping, matching or copying \
              after an aggregation has dropped them.",
        bad: "- alert: NoTargets\n  expr: count(up{job=\"api\"}) == 0\n",
        good: "- alert: NoTargets\n  expr: (count(up{job=\"api\"}) or vector(0)) == 0\n",
        run: Run::Rule(impossible::impossible),
        ..CHECK
    },
    Check {
        id: "promql/nan",
        summary: "divisions by 0 inside aggregations",
        doc: "One NaN or Inf among the inputs of sum, avg, stddev or stdvar is all that is left of \
              the group.",
        bad: "- record: job:error_ratio:avg\n  expr: avg by (job) (errors / requests)\n",
        good: "- record: job:error_ratio:avg\n  expr: avg by (job) (errors / (requests > 0))\n",
        run: Run::Rule(expressions::nan),
        ..CHECK
    },
    Check {
        id: "promql/offset",
        severity: Severity::Bug,
        summary: "selectors that look back further than samples are kept",
        doc: "`offset` or `@` leads to a time before the server's retention: there is never \
              anything.",
        needs: SERVER,
        run: Run::Rule(online::offset),
        ..CHECK
    },
    Check {
        id: "promql/range_query",
        summary: "windows longer than samples are kept",
        doc: "A window, its offset and the subqueries around it reach back further than the \
              server's retention: the result is that of a shorter window.",
        needs: SERVER,
        run: Run::Rule(online::range_query),
        ..CHECK
    },
    Check {
        id: "promql/rate",
        summary: "rates of too little, or of sums",
        doc: "A rate needs two samples in its window: twice the scrape interval, if \
              `scrape_interval` is known. The rate of a sum takes a restart of one instance for a \
              reset of all, also through a recording rule.",
        bad: "- record: job:requests:rate5m\n  expr: rate(sum(requests_total)[5m:])\n",
        good: "- record: job:requests:rate5m\n  expr: sum(rate(requests_total[5m]))\n",
        run: Run::Rule(expressions::rate),
        ..CHECK
    },
    Check {
        id: "promql/regexp",
        summary: "regular expressions that need not be",
        doc: "Matchers always match the whole value, so anchors do nothing; a pattern without \
              special characters is an equality; `.*` matches all. With `regexp: {smelly: true}` \
              in the settings also labels that seem to hold several things.",
        bad: "- alert: Down\n  expr: up{job=~\"api\"} == 0\n",
        good: "- alert: Down\n  expr: up{job=\"api\"} == 0\n",
        run: Run::Rule(regexp::regexp),
        ..CHECK
    },
    Check {
        id: "promql/selector",
        summary: "labels that a policy wants in selectors",
        doc: "The settings name labels that selectors must have a matcher for, of some metrics \
              (`metric`) or below some functions (`call`).",
        settings: "rules:\n- selector:\n  - call: absent\n    required_labels: [job]\n",
        bad: "- alert: NoTargets\n  expr: absent(up)\n  for: 5m\n",
        good: "- alert: NoTargets\n  expr: absent(up{job=\"api\"})\n  for: 5m\n",
        run: Run::Rule(policies::selector),
        ..CHECK
    },
    Check {
        id: "promql/series",
        severity: Severity::Bug,
        summary: "selectors that find nothing on the server",
        doc: "The server has no such metric, or none with such a label, now and within the last \
              day. What rules of these files record is not asked for, nor what stands in \
              `absent`, `or` or behind `unless`.",
        needs: SERVER,
        run: Run::Rule(online::series),
        ..CHECK
    },
    Check {
        id: "promql/syntax",
        severity: Severity::Fatal,
        summary: "expressions that are no PromQL",
        doc: "The expression cannot be parsed, or its types do not fit. docs/diagnostics.md has \
              the usual mistakes.",
        bad: "- record: job:up:sum\n  expr: sum(up) bye (job)\n",
        good: "- record: job:up:sum\n  expr: sum(up) by (job)\n",
        run: Run::File(reader::syntax),
        ..CHECK
    },
    Check {
        id: "promql/vector_matching",
        severity: Severity::Bug,
        summary: "operators whose sides never match",
        doc: "Series of the two sides match when the labels `on` names, or all but those \
              `ignoring` names, are equal. Reported where aggregations and matchers leave sides \
              that cannot be equal; for metrics that no rule records, it is taken that scraped \
              series have `instance` and `job`. With `--server` also where its series do not \
              match though both sides have some, or match too many.",
        bad: "- alert: Errors\n  expr: sum by (job) (errors) / sum by (team) (requests) > 0.1\n  for: 5m\n",
        good: "- alert: Errors\n  expr: sum by (job) (errors) / sum by (job) (requests) > 0.1\n  for: 5m\n",
        run: Run::Rule(impossible::matching),
        ..CHECK
    },
    Check {
        id: "query/cost",
        severity: Severity::Info,
        summary: "what an evaluation costs the server",
        doc: "The server evaluates each expression once and tells how many series it gives and \
              how many samples it reads. The settings hold what is too much. Parts that a \
              recording rule of these files or of the server computes already are named.",
        settings: "cost: {max_series: 1000, max_samples: 1000000, max_peak_samples: 100000, max_duration: 2s, severity: warning}\n",
        needs: SERVER,
        run: Run::Project(online::cost),
        ..CHECK
    },
    Check {
        id: "rule/dead",
        severity: Severity::Bug,
        summary: "selectors that no recording rule can satisfy",
        doc: "A selector names a metric that rules of these files record, and asks for a label or \
              value that none of them gives it.",
        bad: "- record: job:errors:rate5m\n  expr: sum by (job) (rate(errors_total[5m]))\n- alert: Errors\n  expr: job:errors:rate5m{instance=\"a\"} > 1\n",
        good: "- record: job:errors:rate5m\n  expr: sum by (job) (rate(errors_total[5m]))\n- alert: Errors\n  expr: job:errors:rate5m{job=\"a\"} > 1\n",
        run: Run::Project(impossible::dead),
        ..CHECK
    },
    Check {
        id: "rule/dependency",
        severity: Severity::Info,
        summary: "recording rules that read those of other groups",
        doc: "Groups are evaluated at times of their own, so a rule that reads what another group \
              records sees a value up to one interval old. `dependency: {ignore: [PATTERN]}` in \
              the settings excepts metrics. Watchfire evaluates groups in order when they are \
              aligned (docs/rules.md); Prometheus does not.",
        bad: "groups:\n- name: base\n  rules:\n  - record: job:errors:rate5m\n    expr: sum by (job) (rate(errors_total[5m]))\n- name: top\n  rules:\n  - record: errors:rate5m\n    expr: sum(job:errors:rate5m)\n",
        good: "groups:\n- name: base\n  rules:\n  - record: job:errors:rate5m\n    expr: sum by (job) (rate(errors_total[5m]))\n  - record: errors:rate5m\n    expr: sum(job:errors:rate5m)\n",
        run: Run::Project(project::dependency),
        ..CHECK
    },
    Check {
        id: "rule/duplicate",
        summary: "rules that are written twice",
        doc: "Two recording rules that write the same series: one of the samples is dropped with \
              an error, or if they agree, one evaluation is for nothing. Alerts count when name, \
              labels and expression are the same. All files given are looked at together.",
        bad: "- record: job:up:sum\n  expr: sum by (job) (up)\n- record: job:up:sum\n  expr: sum by (job) (up)\n",
        good: "- record: job:up:sum\n  expr: sum by (job) (up)\n- record: job:up:count\n  expr: count by (job) (up)\n",
        run: Run::Project(project::duplicate),
        ..CHECK
    },
    Check {
        id: "rule/for",
        severity: Severity::Bug,
        summary: "how long a policy lets alerts wait",
        doc: "The settings bound `for` and `keep_firing_for` from below and above.",
        settings: "rules:\n- match: {labels: {severity: critical}}\n  for: {max: 5m, comment: somebody must get up}\n",
        bad: "- alert: Down\n  expr: up == 0\n  for: 1h\n  labels: {severity: critical}\n",
        good: "- alert: Down\n  expr: up == 0\n  for: 5m\n  labels: {severity: critical}\n",
        run: Run::Rule(policies::hold),
        ..CHECK
    },
    Check {
        id: "rule/label",
        summary: "labels that a policy asks for",
        doc: "The settings name labels (by a pattern) that rules must set, and what their values \
              must look like. Labels of the group count.",
        settings: "rules:\n- match: {kind: alerting}\n  labels:\n    severity: {required: true, values: [critical, warning]}\n",
        bad: "- alert: Down\n  expr: up == 0\n  labels: {severity: urgent}\n",
        good: "- alert: Down\n  expr: up == 0\n  labels: {severity: critical}\n",
        run: Run::Rule(policies::rule_labels),
        ..CHECK
    },
    Check {
        id: "rule/link",
        severity: Severity::Bug,
        summary: "links in annotations that lead nowhere",
        doc: "Links that match the policy are followed, and must be answered with 200. `uri` says \
              what to ask for instead, with `$1` for what a group of the pattern matched, and \
              `headers` what to send along. Links with templates in them are left out. The \
              server need not be named for it.",
        settings: "rules:\n- link:\n  - {url: 'https://runbooks\\.example\\.com/(.+)', uri: 'https://raw.example.com/$1.md'}\n",
        needs: "a policy",
        run: Run::Rule(online::link),
        ..CHECK
    },
    Check {
        id: "rule/name",
        severity: Severity::Info,
        summary: "how a policy wants rules named",
        doc: "The settings hold a pattern that names of rules must match.",
        settings: "rules:\n- match: {kind: recording}\n  name: {pattern: '.+:.+:.+'}\n",
        bad: "- record: up_sum\n  expr: sum(up)\n",
        good: "- record: all:up:sum\n  expr: sum(up)\n",
        run: Run::Rule(policies::name),
        ..CHECK
    },
    Check {
        id: "rule/owner",
        severity: Severity::Bug,
        summary: "rules that nobody owns",
        doc: "The settings ask for an owner of every rule: a comment `# watchfire: rule/owner \
              NAME` (or `# pint rule/owner NAME`) at the rule, or file/owner for a file.",
        settings: "owners: {required: true, allowed: 'team-.+'}\n",
        bad: "- record: job:up:sum\n  expr: sum by (job) (up)\n",
        good: "# watchfire: rule/owner team-a\n- record: job:up:sum\n  expr: sum by (job) (up)\n",
        run: Run::Rule(policies::owner),
        ..CHECK
    },
    Check {
        id: "rule/reject",
        severity: Severity::Bug,
        summary: "names and values that a policy forbids",
        doc: "The settings hold patterns that names or values of labels or annotations must not \
              match.",
        settings: "rules:\n- reject:\n  - {pattern: '.* .*', label_values: true}\n",
        bad: "- alert: Down\n  expr: up == 0\n  labels: {team: the crew}\n",
        good: "- alert: Down\n  expr: up == 0\n  labels: {team: crew}\n",
        run: Run::Rule(policies::reject),
        ..CHECK
    },
    Check {
        id: "rule/report",
        summary: "rules that a policy wants to be told of",
        doc: "The settings hold a remark about every rule that matches.",
        settings: "rules:\n- match: {kind: recording}\n  report: {comment: recording rules go to the other repository, severity: bug}\n",
        bad: "- record: job:up:sum\n  expr: sum by (job) (up)\n",
        good: "- alert: Down\n  expr: up == 0\n",
        run: Run::Rule(policies::report),
        ..CHECK
    },
    Check {
        id: "rule/unused",
        severity: Severity::Info,
        summary: "recording rules that no rule reads",
        doc: "No rule of the files given reads what a rule records. Dashboards and people may, so \
              this is off unless it is asked for.",
        by_default: false,
        bad: "- record: job:up:sum\n  expr: sum by (job) (up)\n",
        good: "- record: job:up:sum\n  expr: sum by (job) (up)\n- alert: Down\n  expr: job:up:sum < 2\n",
        run: Run::Project(project::unused),
        ..CHECK
    },
    Check {
        id: "server/answer",
        severity: Severity::Fatal,
        summary: "servers that cannot be asked",
        doc: "There is no server at the address, it answers too late (`--server.timeout`) or with \
              something else than Prometheus' JSON: an error when nothing could be asked, a \
              warning at each rule whose question had no answer. When several in a row have \
              none, no more are asked.",
        needs: SERVER,
        run: Run::Project(online::unanswered),
        ..CHECK
    },
    Check {
        id: "yaml/parse",
        severity: Severity::Fatal,
        summary: "files that are no rule files",
        doc: "The file is no YAML, or has fields that rules do not have, or lacks some.",
        bad: "- alert: Down\n  exp: up == 0\n",
        good: "- alert: Down\n  expr: up == 0\n",
        run: Run::File(reader::problems),
        ..CHECK
    },
];
