//! The test file as written: promtool's keys, and ours beyond them, which promtool does not
//! know: `use_group_intervals`, `match`, `exp_pending`, `exp_keep_firing`, `exp_resolved`
//! and `notification_test`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::duration::parse_duration;
use crate::model::labels::quote;
use crate::model::regex::AnchoredRegex;
use crate::model::{Labels, TimestampMs};
use crate::rules::config::GroupSpec;
use crate::yaml::{self, Decoder, Node, Position};

/// One test file.
#[derive(Debug, Default)]
pub(super) struct TestFile {
    pub rule_files: Vec<String>,
    pub evaluation_interval_ms: i64,
    /// Position of a group in the order of evaluation; groups not named come first.
    pub group_order: HashMap<String, usize>,
    pub fuzzy_compare: bool,
    /// Groups are evaluated in their own intervals instead of all at each
    /// `evaluation_interval`.
    pub use_group_intervals: bool,
    pub tests: Vec<Test>,
}

/// How what is expected is held against what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Match {
    /// All labels and annotations are equal.
    #[default]
    Exact,
    /// Those that are expected are there; others may be.
    Subset,
    /// As `Subset`, and what is expected is a regular expression of the whole value.
    Regex,
}

/// One item of `tests`.
#[derive(Debug, Default)]
pub(super) struct Test {
    pub name: String,
    pub interval_ms: i64,
    pub input_series: Vec<InputSeries>,
    pub alerts: Vec<AlertCase>,
    pub notifications: Vec<NotificationCase>,
    pub expressions: Vec<ExprCase>,
    pub external_labels: Labels,
    pub external_url: String,
    pub start_ms: TimestampMs,
}

#[derive(Debug)]
pub(super) struct InputSeries {
    pub series: String,
    pub values: String,
    pub at: Position,
}

/// One item of `alert_rule_test`.
#[derive(Debug)]
pub(super) struct AlertCase {
    pub eval_time_ms: i64,
    pub alert: String,
    pub matching: Match,
    /// What fires, kept-firing alerts among it.
    pub expected: Vec<ExpectedAlert>,
    /// `None`: nobody asked.
    pub pending: Option<Vec<ExpectedAlert>>,
    /// What fires only because of `keep_firing_for`.
    pub keep_firing: Option<Vec<ExpectedAlert>>,
    /// What fired and has ended.
    pub resolved: Option<Vec<ExpectedAlert>>,
}

/// One item of `notification_test`: what Alertmanagers are sent in the evaluation at that
/// time.
#[derive(Debug)]
pub(super) struct NotificationCase {
    pub eval_time_ms: i64,
    pub matching: Match,
    pub expected: Vec<ExpectedNotification>,
}

/// One item of `exp_notifications`. Times count from the start of the test.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExpectedNotification {
    /// With external labels, as an Alertmanager gets them.
    pub alert: ExpectedAlert,
    /// `None`: either.
    pub firing: Option<bool>,
    pub starts_at_ms: Option<i64>,
    pub ends_at_ms: Option<i64>,
}

/// One item of `exp_alerts`, the alert's name among its labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExpectedAlert {
    pub labels: Labels,
    pub annotations: Labels,
}

/// One item of `promql_expr_test`.
#[derive(Debug)]
pub(super) struct ExprCase {
    pub expr: String,
    pub eval_time_ms: i64,
    pub matching: Match,
    pub expected: Vec<ExpectedSample>,
}

#[derive(Debug)]
pub(super) struct ExpectedSample {
    pub labels: String,
    pub value: f64,
    pub histogram: String,
}

impl TestFile {
    /// The place of a group in the order of evaluation.
    pub(super) fn order_of(&self, group: &GroupSpec) -> usize {
        self.group_order.get(&group.name).copied().unwrap_or(0)
    }
}

impl Test {
    /// The latest time anything is looked at, from the start.
    pub(super) fn last_eval_time_ms(&self) -> i64 {
        let alerts = self.alerts.iter().map(|c| c.eval_time_ms);
        let notifications = self.notifications.iter().map(|c| c.eval_time_ms);
        alerts
            .chain(notifications)
            .chain(self.expressions.iter().map(|c| c.eval_time_ms))
            .max()
            .unwrap_or(0)
    }
}

/// Reads a test file. Errors are lines as promtool prints them.
pub(super) fn read(source: &str) -> Result<TestFile, Vec<String>> {
    let documents = yaml::parse(source).map_err(|e| vec![e.to_string()])?;
    let mut reader = Reader::default();
    let file = match documents.first().and_then(|d| d.root.as_ref()) {
        Some(root) => reader.file(root),
        None => TestFile { evaluation_interval_ms: 60_000, ..Default::default() },
    };
    let Decoder { mut errors, unknown } = reader.decoder;
    errors.extend(unknown);
    errors.sort_by_key(|e| e.at);
    errors.dedup();
    let mut lines = Vec::new();
    if !errors.is_empty() {
        lines.push("yaml: unmarshal errors:".to_owned());
        lines.extend(errors.iter().map(|e| format!("  line {}: {}", e.at.line, e.message)));
    }
    lines.extend(reader.faults);
    if lines.is_empty() { Ok(file) } else { Err(lines) }
}

#[derive(Default)]
struct Reader {
    decoder: Decoder,
    /// What is wrong beyond types and names of fields.
    faults: Vec<String>,
}

impl Reader {
    fn file(&mut self, root: &Node) -> TestFile {
        let Some(mut fields) = self.decoder.fields(root, "main.unitTestFile") else {
            return TestFile::default();
        };
        let rule_files = fields.take("rule_files").map(|n| self.strings(&n)).unwrap_or_default();
        let interval = self.duration(fields.take("evaluation_interval")).filter(|ms| *ms > 0);
        let order = fields.take("group_eval_order").map(|n| self.strings(&n)).unwrap_or_default();
        let fuzzy_compare = fields.take("fuzzy_compare").is_some_and(|n| self.decoder.bool(&n));
        let use_group_intervals =
            fields.take("use_group_intervals").is_some_and(|n| self.decoder.bool(&n));
        let tests = fields.take("tests");
        self.decoder.finish(fields, "main.unitTestFile");
        let evaluation_interval_ms = interval.unwrap_or(60_000);
        let mut group_order = HashMap::new();
        for (i, name) in order.into_iter().enumerate() {
            if group_order.contains_key(&name) {
                self.faults.push(format!("group name repeated in evaluation order: {name}"));
            }
            group_order.insert(name, i + 1);
        }
        let tests = tests.map(|n| self.decoder.items(&n, "[]main.testGroup")).unwrap_or_default();
        let tests = tests.iter().filter_map(|n| self.test(n, evaluation_interval_ms)).collect();
        TestFile {
            rule_files,
            evaluation_interval_ms,
            group_order,
            fuzzy_compare,
            use_group_intervals,
            tests,
        }
    }

    fn test(&mut self, node: &Node, evaluation_interval_ms: i64) -> Option<Test> {
        let mut fields = self.decoder.fields(node, "main.testGroup")?;
        let name = self.string(fields.take("name"));
        let interval = self.duration(fields.take("interval")).filter(|ms| *ms > 0);
        let input = self.list(fields.take("input_series"), "[]main.series");
        let alerts = self.list(fields.take("alert_rule_test"), "[]main.alertTestCase");
        let notifications = self.list(fields.take("notification_test"), "[]notificationTestCase");
        let expressions = self.list(fields.take("promql_expr_test"), "[]main.promqlTestCase");
        let external_labels = self.labels(fields.take("external_labels"));
        let external_url = self.string(fields.take("external_url"));
        let start_ms = fields.take("start_timestamp").map_or(0, |n| self.time(&n));
        self.decoder.finish(fields, "main.testGroup");
        Some(Test {
            name,
            interval_ms: interval.unwrap_or(evaluation_interval_ms),
            input_series: input.iter().filter_map(|n| self.input_series(n)).collect(),
            alerts: alerts.iter().filter_map(|n| self.alert_case(n)).collect(),
            notifications: notifications.iter().filter_map(|n| self.notification_case(n)).collect(),
            expressions: expressions.iter().filter_map(|n| self.expr_case(n)).collect(),
            external_labels,
            external_url,
            start_ms,
        })
    }

    fn input_series(&mut self, node: &Node) -> Option<InputSeries> {
        let mut fields = self.decoder.fields(node, "main.series")?;
        let series = self.string(fields.take("series"));
        let values = self.string(fields.take("values"));
        self.decoder.finish(fields, "main.series");
        Some(InputSeries { series, values, at: node.at })
    }

    fn alert_case(&mut self, node: &Node) -> Option<AlertCase> {
        let mut fields = self.decoder.fields(node, "main.alertTestCase")?;
        let eval_time_ms = self.duration(fields.take("eval_time")).unwrap_or(0);
        let alert = self.string(fields.take("alertname"));
        let matching = self.matching(fields.take("match"));
        let expected = self.list(fields.take("exp_alerts"), "[]main.alert");
        let beyond = ["exp_pending", "exp_keep_firing", "exp_resolved"];
        let beyond = beyond.map(|key| fields.take(key));
        self.decoder.finish(fields, "main.alertTestCase");
        if alert.is_empty() {
            let time = crate::model::duration::format_duration(eval_time_ms);
            self.faults.push(format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time \
                 {time}"
            ));
        }
        let expected = self.expected_alerts(&expected, &alert, matching);
        let [pending, keep_firing, resolved] = beyond.map(|node| {
            let items = self.decoder.items(&*node?, "[]main.alert");
            Some(self.expected_alerts(&items, &alert, matching))
        });
        Some(AlertCase { eval_time_ms, alert, matching, expected, pending, keep_firing, resolved })
    }

    fn expected_alerts(
        &mut self,
        nodes: &[Arc<Node>],
        alert: &str,
        matching: Match,
    ) -> Vec<ExpectedAlert> {
        let mut alerts = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(mut fields) = self.decoder.fields(node, "main.alert") else { continue };
            let labels = self.labels(fields.take("exp_labels"));
            let annotations = self.annotations(fields.take("exp_annotations"));
            self.decoder.finish(fields, "main.alert");
            let expected = ExpectedAlert { labels, annotations };
            self.check_patterns(&expected, matching, node);
            // The alert's name is the case's and no pattern: only its own alerts are looked at.
            let labels = match matching {
                Match::Regex => expected.labels.builder().del("alertname").build(),
                _ => expected.labels.builder().set("alertname", alert).build(),
            };
            alerts.push(ExpectedAlert { labels, ..expected });
        }
        alerts
    }

    fn check_patterns(&mut self, expected: &ExpectedAlert, matching: Match, node: &Node) {
        if matching != Match::Regex {
            return;
        }
        for (name, pattern) in expected.labels.iter().chain(expected.annotations.iter()) {
            if let Err(e) = AnchoredRegex::new(pattern) {
                self.faults.push(format!("line {}: {}: {e}", node.at.line, quote(name)));
            }
        }
    }

    fn notification_case(&mut self, node: &Node) -> Option<NotificationCase> {
        let mut fields = self.decoder.fields(node, "notificationTestCase")?;
        let eval_time_ms = self.duration(fields.take("eval_time")).unwrap_or(0);
        let matching = self.matching(fields.take("match"));
        let items = self.list(fields.take("exp_notifications"), "[]notification");
        self.decoder.finish(fields, "notificationTestCase");
        let mut expected = Vec::with_capacity(items.len());
        for node in &items {
            let Some(mut fields) = self.decoder.fields(node, "notification") else { continue };
            let labels = self.labels(fields.take("labels"));
            let annotations = self.annotations(fields.take("annotations"));
            let firing = fields.take("status").and_then(|status| self.firing(&status));
            let starts_at_ms = self.duration(fields.take("starts_at"));
            let ends_at_ms = self.duration(fields.take("ends_at"));
            self.decoder.finish(fields, "notification");
            let alert = ExpectedAlert { labels, annotations };
            self.check_patterns(&alert, matching, node);
            expected.push(ExpectedNotification { alert, firing, starts_at_ms, ends_at_ms });
        }
        Some(NotificationCase { eval_time_ms, matching, expected })
    }

    fn firing(&mut self, node: &Node) -> Option<bool> {
        match node.scalar() {
            Some("firing") => Some(true),
            Some("resolved") => Some(false),
            _ => {
                let line = node.at.line;
                self.faults.push(format!("line {line}: status must be firing or resolved"));
                None
            }
        }
    }

    fn matching(&mut self, node: Option<Arc<Node>>) -> Match {
        let Some(node) = node else { return Match::Exact };
        match node.scalar() {
            Some("exact") => Match::Exact,
            Some("subset") => Match::Subset,
            Some("regex") => Match::Regex,
            _ => {
                let line = node.at.line;
                self.faults.push(format!("line {line}: match must be exact, subset or regex"));
                Match::Exact
            }
        }
    }

    fn expr_case(&mut self, node: &Node) -> Option<ExprCase> {
        let mut fields = self.decoder.fields(node, "main.promqlTestCase")?;
        let expr = self.string(fields.take("expr"));
        let eval_time_ms = self.duration(fields.take("eval_time")).unwrap_or(0);
        let matching = self.matching(fields.take("match"));
        let samples = self.list(fields.take("exp_samples"), "[]main.sample");
        self.decoder.finish(fields, "main.promqlTestCase");
        let mut expected = Vec::with_capacity(samples.len());
        for node in &samples {
            let Some(mut fields) = self.decoder.fields(node, "main.sample") else { continue };
            let labels = self.string(fields.take("labels"));
            let value = fields.take("value").map_or(0.0, |n| self.decoder.float(&n));
            let histogram = self.string(fields.take("histogram"));
            self.decoder.finish(fields, "main.sample");
            expected.push(ExpectedSample { labels, value, histogram });
        }
        Some(ExprCase { expr, eval_time_ms, matching, expected })
    }

    fn list(&mut self, node: Option<Arc<Node>>, go_type: &str) -> Vec<Arc<Node>> {
        node.map(|n| self.decoder.items(&n, go_type)).unwrap_or_default()
    }

    fn string(&mut self, node: Option<Arc<Node>>) -> String {
        node.map(|n| self.decoder.string(&n)).unwrap_or_default()
    }

    fn strings(&mut self, node: &Node) -> Vec<String> {
        let items = self.decoder.items(node, "[]string");
        items.iter().map(|n| self.decoder.string(n)).collect()
    }

    fn labels(&mut self, node: Option<Arc<Node>>) -> Labels {
        let entries = node.map(|n| self.decoder.string_map(&n)).unwrap_or_default();
        Labels::from_pairs(entries.iter().map(|e| (&e.name, &e.value)))
    }

    /// Annotations may be empty.
    fn annotations(&mut self, node: Option<Arc<Node>>) -> Labels {
        let mut entries = node.map(|n| self.decoder.string_map(&n)).unwrap_or_default();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Labels::from_sorted_pairs(entries.iter().map(|e| (e.name.as_ref(), e.value.as_ref())))
    }

    fn duration(&mut self, node: Option<Arc<Node>>) -> Option<i64> {
        let node = node.filter(|n| !n.is_null())?;
        let text = self.decoder.string(&node);
        node.scalar()?;
        match parse_duration(&text) {
            Ok(ms) => Some(ms),
            Err(e) => {
                self.faults.push(format!("line {}: {e}", node.at.line));
                None
            }
        }
    }

    /// A number of seconds since the epoch, or an RFC 3339 time.
    fn time(&mut self, node: &Node) -> TimestampMs {
        let Some(text) = node.scalar() else {
            self.decoder.mismatch(node, "main.testStartTimestamp");
            return 0;
        };
        if let Ok(seconds) = text.parse::<f64>()
            && seconds.is_finite()
        {
            return (seconds * 1000.0).round() as i64;
        }
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => time.timestamp_millis(),
            Err(_) => {
                self.faults.push(format!(
                    "line {}: cannot parse start_timestamp {}: use seconds since 1970 or a time \
                     such as 2024-01-01T00:00:00Z",
                    node.at.line,
                    quote(text)
                ));
                0
            }
        }
    }
}
