//! Keys Prometheus does not know: Watchfire's own, and those of other rulers.
//!
//! Watchfire's own keys are always read. The keys of vmalert, Thanos and Mimir are read
//! when [`LoadOptions::dialects`](super::LoadOptions) says so, as the server does; else
//! they are unknown fields, as for promtool, and a note says who would know them. A key
//! that is read but cannot be honoured is a warning that says what happens instead.

use std::fmt::Display;

use super::Position;
use super::problem::{ProblemKind, Severity};
use super::validate::{Dialect, Reader};
use crate::model::duration::{format_duration, parse_duration};
use crate::model::labels::quote;
use crate::rules::policy::{GroupPolicySpec, PolicySpec, parse_budget};
use crate::yaml::{Content, Fields, Node};

/// Most names one `depends_on` may hold.
const DEPENDENCIES_MAX: usize = 1000;

/// What a group says in keys Prometheus does not know.
#[derive(Debug, Default)]
pub(super) struct GroupExtensions {
    pub policy: PolicySpec,
    pub group_policy: GroupPolicySpec,
    pub depends_on: Vec<String>,
    pub query_offset_ms: Option<i64>,
    pub eval_offset_ms: Option<i64>,
    pub aligned: bool,
    pub concurrency: Option<usize>,
    /// Which datasource its rules are about.
    pub datasource: Option<String>,
    /// Written in a query language that is not PromQL; its rules are not to be read.
    pub foreign_language: bool,
}

/// What a rule says in keys Prometheus does not know.
#[derive(Debug, Default)]
pub(super) struct RuleExtensions {
    pub policy: PolicySpec,
    pub depends_on: Vec<String>,
    /// Which datasource it is about.
    pub datasource: Option<String>,
    /// Where the first key stands that only alerts may have, and its name.
    pub alert_only: Option<(Position, &'static str)>,
}

/// Group keys of other rulers: who has them.
const GROUP_KEYS: &[(&str, &str)] = &[
    ("type", "vmalert"),
    ("eval_offset", "vmalert"),
    ("eval_delay", "vmalert"),
    ("eval_alignment", "vmalert"),
    ("concurrency", "vmalert"),
    ("params", "vmalert"),
    ("headers", "vmalert"),
    ("notifier_headers", "vmalert"),
    ("debug", "vmalert"),
    ("tenant", "vmalert"),
    ("extra_filter_labels", "vmalert"),
    ("partial_response_strategy", "Thanos"),
    ("source_tenants", "Mimir"),
    ("align_evaluation_time_on_interval", "Mimir"),
    ("evaluation_delay", "Mimir"),
];

/// Rule keys of other rulers: who has them.
const RULE_KEYS: &[(&str, &str)] = &[("debug", "vmalert"), ("update_entries_limit", "vmalert")];

/// Parameters of a query that change nothing here: answers are never taken from a cache
/// and never partial.
const HARMLESS_PARAMS: &[&str] = &["nocache", "denyPartialResponse", "deny_partial_response"];

impl Reader<'_> {
    /// Takes the keys of a group that Prometheus does not know.
    pub(super) fn group_extensions(
        &mut self,
        fields: &mut Fields,
        dialect: &Dialect,
        group: &str,
        interval_ms: Option<i64>,
    ) -> GroupExtensions {
        let context = format_args!("group {}: ", quote(group));
        let mut found = GroupExtensions {
            policy: self.policy(fields, &context).0,
            depends_on: self.depends_on(fields, &context),
            datasource: self.datasource(fields, &context),
            ..GroupExtensions::default()
        };
        found.group_policy.on_limit = self.word(fields, "on_limit", &context).map(|(_, v)| v);
        found.group_policy.budget = fields.take("budget").and_then(|node| {
            let text = self.text(&node, "budget", &context)?;
            match parse_budget(&text) {
                Ok(share) => Some(share),
                Err(e) => self.refuse(node.at, &context, "budget", &e.to_string()),
            }
        });
        if let Some(node) = fields.take("catch_up") {
            let context = format_args!("{context}field 'catch_up'");
            found.group_policy.catch_up_ms = self.duration(Some(&node), dialect, &context);
        }
        if self.options().dialects {
            self.dialect_group_keys(fields, dialect, &context, interval_ms, &mut found);
        } else {
            self.note_dialects(fields, GROUP_KEYS, &context);
        }
        found
    }

    /// Takes the keys of a rule that Prometheus does not know.
    pub(super) fn rule_extensions(
        &mut self,
        fields: &mut Fields,
        prefix: &dyn Display,
    ) -> RuleExtensions {
        let (policy, alert_only) = self.policy(fields, prefix);
        let depends_on = self.depends_on(fields, prefix);
        let datasource = self.datasource(fields, prefix);
        if self.options().dialects {
            if let Some((key, node)) = fields.take_entry("debug")
                && self.decode().bool(&node)
            {
                self.unhonoured(&key, prefix, "what the rule does is shown by /api/v1/rules and /api/v1/rules/top; nothing more is logged");
            }
            if let Some((key, node)) = fields.take_entry("update_entries_limit") {
                self.decode().int(&node);
                self.unhonoured(&key, prefix, "the number of evaluations that are kept per rule is fixed; /api/v1/rules/top shows them");
            }
        } else {
            self.note_dialects(fields, RULE_KEYS, prefix);
        }
        RuleExtensions { policy, depends_on, datasource, alert_only }
    }

    /// The policy keys, and where the first of them stands.
    fn policy(
        &mut self,
        fields: &mut Fields,
        context: &dyn Display,
    ) -> (PolicySpec, Option<(Position, &'static str)>) {
        let no_data = self.word(fields, "on_no_data", context);
        let error = self.word(fields, "on_error", context);
        let missing = fields.take_entry("missing_evals_to_resolve").and_then(|(key, node)| {
            let value = self.decode().int(&node);
            match u32::try_from(value) {
                Ok(n) if n > 0 => Some((key.at, n)),
                _ => self.refuse(
                    node.at,
                    context,
                    "missing_evals_to_resolve",
                    "want a whole number of evaluations, at least 1",
                ),
            }
        });
        let first = [
            no_data.map(|(at, _)| (at, "on_no_data")),
            error.map(|(at, _)| (at, "on_error")),
            missing.map(|(at, _)| (at, "missing_evals_to_resolve")),
        ];
        let policy = PolicySpec {
            on_no_data: no_data.map(|(_, v)| v),
            on_error: error.map(|(_, v)| v),
            missing_evals_to_resolve: missing.map(|(_, v)| v),
        };
        (policy, first.into_iter().flatten().min())
    }

    fn datasource(&mut self, fields: &mut Fields, context: &dyn Display) -> Option<String> {
        let node = fields.take("datasource")?;
        let name = self.text(&node, "datasource", context)?;
        if name.is_empty() {
            return self.refuse(node.at, context, "datasource", "want the name of a datasource");
        }
        Some(name)
    }

    fn depends_on(&mut self, fields: &mut Fields, context: &dyn Display) -> Vec<String> {
        let Some(node) = fields.take("depends_on") else { return Vec::new() };
        let items = self.decode().items(&node, "[]string");
        if items.len() > DEPENDENCIES_MAX {
            let why = format!("more than {DEPENDENCIES_MAX} names");
            self.refuse::<()>(node.at, context, "depends_on", &why);
            return Vec::new();
        }
        let mut names: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            match self.text(&item, "depends_on", context) {
                Some(name) if name.is_empty() => {
                    self.refuse::<()>(item.at, context, "depends_on", "a name of a rule is empty");
                }
                Some(name) if !names.contains(&name) => names.push(name),
                _ => {}
            }
        }
        names
    }

    /// A scalar's text; anything else is an error of its type.
    fn text(&mut self, node: &Node, field: &str, context: &dyn Display) -> Option<String> {
        if node.is_null() {
            return self.refuse(node.at, context, field, "it has no value");
        }
        if node.scalar().is_none() {
            return self.refuse(node.at, context, field, "want a word");
        }
        Some(self.decode().string(node))
    }

    fn word<T>(
        &mut self,
        fields: &mut Fields,
        field: &'static str,
        context: &dyn Display,
    ) -> Option<(Position, T)>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let (key, node) = fields.take_entry(field)?;
        let text = self.text(&node, field, context)?;
        match text.parse() {
            Ok(value) => Some((key.at, value)),
            Err(e) => self.refuse(node.at, context, field, &e.to_string()),
        }
    }

    fn refuse<T>(
        &mut self,
        at: Position,
        context: &dyn Display,
        field: &str,
        why: &str,
    ) -> Option<T> {
        self.error(at, format!("{at}: {context}field '{field}': {why}"));
        None
    }

    fn unhonoured(&mut self, key: &Node, context: &dyn Display, instead: &str) {
        let name = key.scalar().unwrap_or_default();
        let message = format!("{}: {context}{name} is not honoured: {instead}", key.at);
        self.problem(Severity::Warning, ProblemKind::Rule, Some(key.at), message);
    }

    /// Who would know a key that is about to be refused.
    fn note_dialects(&mut self, fields: &Fields, keys: &[(&str, &str)], context: &dyn Display) {
        let known: Vec<(Position, String)> = fields
            .keys()
            .filter_map(|key| {
                let name = key.scalar()?;
                let (_, who) = keys.iter().find(|(k, _)| *k == name)?;
                let text = format!(
                    "{}: {context}{name} is a key of {who}: promtool refuses it; watchfire serve, \
                     and check rules --dialects, take it",
                    key.at
                );
                Some((key.at, text))
            })
            .collect();
        for (at, text) in known {
            self.problem(Severity::Note, ProblemKind::Rule, Some(at), text);
        }
    }

    fn dialect_group_keys(
        &mut self,
        fields: &mut Fields,
        dialect: &Dialect,
        context: &dyn Display,
        interval_ms: Option<i64>,
        found: &mut GroupExtensions,
    ) {
        self.language(fields, context, found);
        for field in ["eval_delay", "evaluation_delay"] {
            let Some(node) = fields.take(field) else { continue };
            let context = format_args!("{context}field '{field}'");
            let ms = self.duration(Some(&node), dialect, &context);
            found.query_offset_ms = found.query_offset_ms.or(ms);
        }
        if let Some(node) = fields.take("eval_offset") {
            found.eval_offset_ms = self.eval_offset(&node, context, interval_ms);
        }
        for field in ["eval_alignment", "align_evaluation_time_on_interval"] {
            let Some((key, node)) = fields.take_entry(field) else { continue };
            let on = self.decode().bool(&node);
            if on && found.eval_offset_ms.is_some_and(|ms| ms != 0) {
                self.unhonoured(&key, context, "eval_offset says where in the interval it runs");
            } else {
                found.aligned |= on;
            }
        }
        if let Some(node) = fields.take("concurrency") {
            match usize::try_from(self.decode().int(&node)) {
                Ok(n) => found.concurrency = (n > 0).then_some(n),
                Err(_) => {
                    self.refuse::<()>(node.at, context, "concurrency", "want a number from 0");
                }
            }
        }
        self.params(fields, context);
        if let Some((key, node)) = fields.take_entry("debug")
            && self.decode().bool(&node)
        {
            self.unhonoured(&key, context, "what its rules do is shown by /api/v1/rules and /api/v1/rules/top; nothing more is logged");
        }
        for (field, instead) in [
            ("headers", "its rules are evaluated over this server's own data, without a request"),
            (
                "notifier_headers",
                "requests to Alertmanagers carry what alerting.alertmanagers says",
            ),
            ("tenant", "its rules are evaluated over all data of this server"),
            ("source_tenants", "its rules are evaluated over all data of this server"),
            (
                "extra_filter_labels",
                "its rules select series as they are written, without these labels",
            ),
        ] {
            if let Some((key, node)) = fields.take_entry(field)
                && !is_empty(&node)
            {
                self.unhonoured(&key, context, instead);
            }
        }
        self.partial_response(fields, context);
    }

    fn language(
        &mut self,
        fields: &mut Fields,
        context: &dyn Display,
        found: &mut GroupExtensions,
    ) {
        let Some(node) = fields.take("type") else { return };
        let text = self.decode().string(&node);
        let why = match text.as_str() {
            "" | "prometheus" => return,
            "graphite" => "its rules are written in Graphite's language",
            "vlogs" => "its rules are written in LogsQL",
            _ => "unknown type",
        };
        found.foreign_language = true;
        let text = quote(&text);
        self.refuse::<()>(
            node.at,
            context,
            "type",
            &format!("{text}: {why}; only prometheus (PromQL) is evaluated, none of its rules run"),
        );
    }

    /// Where in the interval the group runs; may be negative.
    fn eval_offset(
        &mut self,
        node: &Node,
        context: &dyn Display,
        interval_ms: Option<i64>,
    ) -> Option<i64> {
        let text = self.text(node, "eval_offset", context)?;
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.as_str()),
        };
        let ms = match parse_duration(digits) {
            Ok(ms) => sign * ms,
            Err(e) => return self.refuse(node.at, context, "eval_offset", &e.to_string()),
        };
        match interval_ms.filter(|interval| ms.abs() > *interval) {
            None => Some(ms),
            Some(interval) => {
                let why = format!("more than the interval of {}", format_duration(interval));
                self.refuse(node.at, context, "eval_offset", &why)
            }
        }
    }

    fn params(&mut self, fields: &mut Fields, context: &dyn Display) {
        let Some(node) = fields.take("params") else { return };
        let entries = self.decode().entries(&node, "url.Values").unwrap_or_default();
        for (key, _) in entries {
            let name = key.scalar().unwrap_or_default();
            if !HARMLESS_PARAMS.contains(&name) {
                let instead = "its rules are evaluated here, without a request that had parameters";
                self.unhonoured(&key, &format_args!("{context}params: "), instead);
            }
        }
    }

    fn partial_response(&mut self, fields: &mut Fields, context: &dyn Display) {
        let Some((key, node)) = fields.take_entry("partial_response_strategy") else { return };
        let text = self.decode().string(&node);
        match text.to_ascii_lowercase().as_str() {
            "" | "abort" => {}
            "warn" => self.unhonoured(&key, context, "answers are never partial: a source that fails makes the rule fail, and on_error says what follows"),
            _ => {
                let why = format!("{}: want abort or warn", quote(&text));
                self.refuse::<()>(node.at, context, "partial_response_strategy", &why);
            }
        }
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.content {
        _ if node.is_null() => true,
        Content::Scalar { text, .. } => text.is_empty(),
        Content::Sequence(items) => items.is_empty(),
        Content::Mapping(entries) => entries.is_empty(),
    }
}
