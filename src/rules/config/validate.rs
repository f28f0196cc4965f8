//! One document's groups: taken from nodes and checked, in Prometheus' order and words.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::extensions::RuleExtensions;
use super::load::{LoadedFile, Rejected, RejectedRule, Scope};
use super::problem::{Problem, ProblemKind, Severity};
use super::verdicts::Verdicts;
use super::{
    AlertSpec, DuplicateRule, GroupSpec, LoadOptions, Position, RuleExpr, RuleKind, RuleSpec,
};
use crate::model::duration::parse_duration;
use crate::model::labels::{is_legacy_label_name, is_legacy_metric_name, quote};
use crate::model::lines::Lines;
use crate::model::{Labels, METRIC_NAME};
use crate::parser::{self, Expr};
use crate::rules::template::Template;
use crate::yaml::{DecodeError, Decoder, MapEntry, Node, locate};

/// Where groups come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    /// The API server drops unknown fields and the operator forgives empty durations.
    Kubernetes {
        /// `NAMESPACE/NAME`
        object: String,
    },
}

impl Dialect {
    fn object(&self) -> Option<&str> {
        match self {
            Self::Prometheus => None,
            Self::Kubernetes { object } => Some(object),
        }
    }
}

impl Scope {
    /// All groups of the file, or of the object the file holds.
    pub(super) fn file(dialect: &Dialect) -> Self {
        match dialect.object() {
            None => Self::File,
            Some(object) => Self::Object(object.to_owned()),
        }
    }
}

/// See [`Reader::mark`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    problems: usize,
    errors: usize,
    unknown: usize,
}

/// Reads documents of one file and collects their groups and problems.
pub(super) struct Reader<'a> {
    file: &'a str,
    source: &'a str,
    /// Made when something is wrong in an expression.
    lines: OnceCell<Lines<'a>>,
    options: LoadOptions,
    /// Only what is wrong is of interest: rules are not kept.
    checking: Option<Verdicts>,
    /// Of rules that were not kept.
    made: Vec<DuplicateRule>,
    decoder: Decoder,
    groups: Vec<GroupSpec>,
    problems: Vec<Problem>,
    rejected: Vec<Rejected>,
    /// Identities (file, name) given out.
    identities: HashSet<(String, String)>,
}

/// What the errors of a rule begin with: `group "G", rule N, "NAME": `.
#[derive(Clone, Copy)]
struct RuleContext<'a> {
    group: &'a str,
    /// From 1.
    index: usize,
    name: &'a str,
}

/// The fields of a rule as they stand in the file.
struct RawRule {
    record: (String, Position),
    alert: (String, Position),
    expr: (String, Option<Arc<Node>>),
    for_ms: i64,
    keep_firing_for_ms: i64,
    labels: Vec<MapEntry>,
    annotations: Vec<MapEntry>,
    more: RuleExtensions,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, source: &'a str, options: LoadOptions) -> Self {
        Self {
            file,
            source: source.strip_prefix('\u{feff}').unwrap_or(source),
            lines: OnceCell::new(),
            options,
            checking: None,
            made: Vec::new(),
            decoder: Decoder::default(),
            groups: Vec::new(),
            problems: Vec::new(),
            rejected: Vec::new(),
            identities: HashSet::new(),
        }
    }

    pub(super) fn finish(self) -> LoadedFile {
        let Self { groups, mut problems, rejected, .. } = self;
        problems.sort_by_key(|p| p.severity);
        LoadedFile { file: self.file.to_owned(), groups, problems, rejected, text: None }
    }

    /// Finds what is wrong only, with what is known of expressions already. What rules make
    /// is then in [`Reader::finish_check`].
    pub(super) fn checking(self, verdicts: Verdicts) -> Self {
        Self { checking: Some(verdicts), ..self }
    }

    /// The problems, and what the rules make by name and labels.
    pub(super) fn finish_check(mut self) -> (LoadedFile, Vec<DuplicateRule>) {
        let made = std::mem::take(&mut self.made);
        (self.finish(), made)
    }

    /// Everything found so far, to tell later what is new.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            problems: self.problems.len(),
            errors: self.decoder.errors.len(),
            unknown: self.decoder.unknown.len(),
        }
    }

    /// Whether anything was found since `mark` that could be an error.
    fn is_suspect_since(&self, mark: Mark) -> bool {
        self.decoder.errors.len() > mark.errors
            || self.decoder.unknown.len() > mark.unknown
            || self.problems.len() > mark.problems
    }

    /// The errors found since `mark`; those about fields are not among the problems yet.
    fn errors_since(&self, mark: Mark, dialect: &Dialect) -> Vec<Problem> {
        let own = self.problems[mark.problems..].iter();
        let mut errors: Vec<Problem> =
            own.filter(|p| p.severity == Severity::Error).cloned().collect();
        let fields = self.decoder.errors[mark.errors..].iter();
        errors.extend(fields.map(|e| self.field_problem(Severity::Error, e)));
        if self.unknown_severity(dialect) == Severity::Error {
            let unknown = self.decoder.unknown[mark.unknown..].iter();
            errors.extend(unknown.map(|e| self.field_problem(Severity::Error, e)));
        }
        errors
    }

    /// Notes that something cannot be used if errors were found since `mark`; true if so.
    pub(super) fn reject_since(&mut self, mark: Mark, dialect: &Dialect, scope: Scope) -> bool {
        let problems = self.errors_since(mark, dialect);
        let rejected = !problems.is_empty();
        if rejected {
            self.rejected.push(Rejected { scope, problems });
        }
        rejected
    }

    fn unknown_severity(&self, dialect: &Dialect) -> Severity {
        let forgive =
            self.options.ignore_unknown_fields || matches!(dialect, Dialect::Kubernetes { .. });
        if forgive { Severity::Warning } else { Severity::Error }
    }

    fn field_problem(&self, severity: Severity, e: &DecodeError) -> Problem {
        Problem {
            file: self.file.to_owned(),
            severity,
            kind: ProblemKind::Field,
            position: Some(e.at),
            message: format!("line {}: {}", e.at.line, e.message),
        }
    }

    /// Notes a problem.
    pub(super) fn problem(
        &mut self,
        severity: Severity,
        kind: ProblemKind,
        position: Option<Position>,
        message: String,
    ) {
        let file = self.file.to_owned();
        self.problems.push(Problem { file, severity, kind, position, message });
    }

    pub(super) fn options(&self) -> &LoadOptions {
        &self.options
    }

    pub(super) fn decode(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    pub(super) fn error(&mut self, position: Position, message: String) {
        let position = (position != Position::default()).then_some(position);
        self.problem(Severity::Error, ProblemKind::Rule, position, message);
    }

    /// Reads a mapping with `groups`.
    pub(super) fn read_groups(&mut self, root: &Node, dialect: Dialect) {
        let mark = self.mark();
        if let Some(mut fields) = self.decoder.fields(root, "rulefmt.RuleGroups") {
            let list = fields.take("groups");
            self.decoder.finish(fields, "rulefmt.RuleGroups");
            let items = list.map(|n| self.decoder.items(&n, "[]rulefmt.RuleGroup"));
            self.reject_since(mark, &dialect, Scope::file(&dialect));
            let mut names: HashMap<String, Position> = HashMap::new();
            for item in items.unwrap_or_default() {
                self.read_group(&item, &dialect, &mut names);
            }
        } else {
            self.reject_since(mark, &dialect, Scope::file(&dialect));
        }
        self.take_field_errors(&dialect);
    }

    /// Turns what the decoder collected into problems, in file order.
    fn take_field_errors(&mut self, dialect: &Dialect) {
        let severity = self.unknown_severity(dialect);
        let decoder = std::mem::take(&mut self.decoder);
        let mut all: Vec<_> = decoder.errors.into_iter().map(|e| (Severity::Error, e)).collect();
        all.extend(decoder.unknown.into_iter().map(|e| (severity, e)));
        all.sort_by_key(|(_, e)| e.at);
        all.dedup();
        for (severity, e) in all {
            let problem = self.field_problem(severity, &e);
            self.problems.push(problem);
        }
    }

    fn read_group(
        &mut self,
        node: &Node,
        dialect: &Dialect,
        names: &mut HashMap<String, Position>,
    ) {
        let mark = self.mark();
        let Some(mut fields) = self.decoder.fields(node, "rulefmt.RuleGroup") else {
            self.reject_since(mark, dialect, Scope::file(dialect));
            return;
        };
        let name_node = fields.take("name");
        let at = name_node.as_ref().map_or(node.at, |n| n.at);
        let name = name_node.map(|n| self.decoder.string(&n)).unwrap_or_default();
        let interval = fields.take("interval");
        let query_offset = fields.take("query_offset");
        let limit = fields.take("limit").map_or(0, |n| self.decoder.int(&n));
        let labels = fields.take("labels").map(|n| self.string_map(&n, dialect));
        let rules = fields.take("rules").map(|n| self.decoder.items(&n, "[]rulefmt.Rule"));
        let shown = Quoted(&name);
        let interval_ms = self.duration(
            interval.as_deref(),
            dialect,
            &format_args!("group {shown}: field 'interval'"),
        );
        let interval_ms = interval_ms.filter(|ms| *ms > 0);
        // The objects have this field themselves.
        if matches!(dialect, Dialect::Kubernetes { .. }) && !self.options.dialects {
            fields.take("partial_response_strategy");
        }
        let more = self.group_extensions(&mut fields, dialect, &name, interval_ms);
        self.decoder.finish(fields, "rulefmt.RuleGroup");

        let mut is_known = false;
        if name.is_empty() {
            self.error(at, format!("{at}: Groupname must not be empty"));
        } else if names.insert(name.clone(), at).is_some() {
            let message = format!("{at}: groupname: {} is repeated in the same file", quote(&name));
            self.error(at, message);
        } else {
            is_known = true;
        }
        let query_offset_ms = self.duration(
            query_offset.as_deref(),
            dialect,
            &format_args!("group {shown}: field 'query_offset'"),
        );
        let labels = labels.unwrap_or_default();
        self.check_labels(&labels, &"");

        let datasource = more.datasource;
        let mut group = GroupSpec {
            file: self.identity(&name, at, dialect),
            origin: self.file.to_owned(),
            object: dialect.object().map(str::to_owned),
            name,
            interval_ms,
            query_offset_ms: query_offset_ms.or(more.query_offset_ms),
            limit: usize::try_from(limit).unwrap_or(0),
            policy: more.policy,
            group_policy: more.group_policy,
            depends_on: more.depends_on,
            eval_offset_ms: more.eval_offset_ms.or(more.aligned.then_some(0)),
            concurrency: more.concurrency,
            rules: Vec::new(),
            at,
        };
        // Its expressions are not PromQL: what the parser would say of them helps nobody.
        let rules = rules.filter(|_| !more.foreign_language);
        // A group whose name says nothing may be any that ran before.
        let scope = match is_known {
            true => Scope::Group { file: group.file.clone(), name: group.name.clone() },
            false => Scope::file(dialect),
        };
        let usable = !self.reject_since(mark, dialect, scope);
        let first_rejected = self.rejected.len();
        for (i, node) in rules.unwrap_or_default().iter().enumerate() {
            let rule = self.read_rule(node, dialect, &group, i, (&labels, datasource.as_deref()));
            group.rules.extend(rule.map(Arc::new));
        }
        if usable {
            self.groups.push(group);
        } else {
            // Rules of a group that is not used are of no interest of their own.
            self.rejected.truncate(first_rejected);
        }
    }

    /// The `file` of a group: objects of one file may share group names.
    fn identity(&mut self, name: &str, at: Position, dialect: &Dialect) -> String {
        let mut file = self.file.to_owned();
        if let Dialect::Kubernetes { object } = dialect
            && self.identities.contains(&(file.clone(), name.to_owned()))
        {
            file = format!("{file}#{object}");
            if self.identities.contains(&(file.clone(), name.to_owned())) {
                let name = quote(name);
                self.error(at, format!("{at}: group {name} of {object} is repeated in this file"));
            }
        }
        self.identities.insert((file.clone(), name.to_owned()));
        file
    }

    pub(super) fn duration(
        &mut self,
        node: Option<&Node>,
        dialect: &Dialect,
        context: &dyn fmt::Display,
    ) -> Option<i64> {
        let node = node.filter(|n| !n.is_null())?;
        let text = self.decoder.string(node);
        // A node of another type has been reported already.
        node.scalar()?;
        if text.is_empty() && matches!(dialect, Dialect::Kubernetes { .. }) {
            return None;
        }
        match parse_duration(&text) {
            Ok(ms) => Some(ms),
            Err(e) => {
                self.error(node.at, format!("{}: {context}: {e}", node.at));
                None
            }
        }
    }

    fn string_map(&mut self, node: &Node, dialect: &Dialect) -> Vec<MapEntry> {
        let map = self.decoder.string_map(node);
        if matches!(dialect, Dialect::Kubernetes { .. }) {
            for entry in map.iter().filter(|e| e.node.tag() != "!!str") {
                let message = format!(
                    "{}: the value of {} is a {}, not a string; the API server refuses that \
                     unless the operator's webhook turns it into text",
                    entry.node.at,
                    quote(&entry.name),
                    entry.node.tag()
                );
                self.problem(Severity::Warning, ProblemKind::Rule, Some(entry.node.at), message);
            }
        }
        map
    }

    fn check_labels(&mut self, labels: &[MapEntry], context: &dyn fmt::Display) {
        for entry in labels {
            let valid = !entry.name.is_empty()
                && (!self.options.legacy_names || is_legacy_label_name(&entry.name));
            if !valid || entry.name == METRIC_NAME {
                self.error(entry.key.at, format!("{context}invalid label name: {}", entry.name));
            }
        }
    }

    /// Reads a rule; what is wrong with it is noted, and it is not used then.
    fn read_rule(
        &mut self,
        node: &Node,
        dialect: &Dialect,
        group: &GroupSpec,
        index: usize,
        (group_labels, group_datasource): (&[MapEntry], Option<&str>),
    ) -> Option<RuleSpec> {
        let mark = self.mark();
        let mut expr = None;
        let raw = self.raw_rule(node, dialect, &group.name, index + 1);
        if let Some(raw) = &raw {
            expr = self.check_rule(raw, raw.context(&group.name, index + 1));
        }
        if self.is_suspect_since(mark) {
            let mut written = RejectedRule { index, at: node.at, ..RejectedRule::default() };
            if let Some(raw) = &raw {
                raw.describe(group_labels, &mut written);
            }
            let (file, group) = (group.file.clone(), group.name.clone());
            let scope = Scope::Rule { file, group, rule: Box::new(written) };
            if self.reject_since(mark, dialect, scope) {
                return None;
            }
        }
        let (raw, expr) = (raw?, expr?);
        if self.checking.is_some() {
            self.made.push(raw.made(group_labels));
            return None;
        }
        let mut expr = expr?;
        let datasource = raw.more.datasource.as_deref().or(group_datasource).unwrap_or_default();
        let datasource = datasource.to_owned();
        if !datasource.is_empty() {
            expr.ask_datasource(&datasource);
        }
        let expr = RuleExpr { printed: expr.to_string(), expr: Arc::new(expr) };
        Some(RuleSpec { datasource, ..raw.into_spec(expr, group_labels, node.at) })
    }

    /// Checks everything a rule says; gives its expression, if that is one and nobody has
    /// judged it before.
    fn check_rule(&mut self, raw: &RawRule, cx: RuleContext<'_>) -> Option<Option<Expr>> {
        self.check_names(raw, cx);
        let expr = self.check_expr(raw, cx);
        if !raw.record.0.is_empty() {
            self.check_recording(raw, cx);
        }
        self.check_labels(&raw.labels, &cx);
        for entry in &raw.annotations {
            let legacy = self.options.legacy_names && !is_legacy_label_name(&entry.name);
            if entry.name.is_empty() || legacy {
                let message = format!("{cx}invalid annotation name: {}", entry.name);
                self.error(entry.key.at, message);
            }
        }
        if let (true, Some((at, field))) = (raw.alert.0.is_empty(), raw.more.alert_only) {
            self.error(at, format!("{at}: {cx}invalid field '{field}' in recording rule"));
        }
        if !raw.alert.0.is_empty() {
            self.check_templates(raw, cx);
        }
        expr
    }

    fn raw_rule(
        &mut self,
        node: &Node,
        dialect: &Dialect,
        group: &str,
        index: usize,
    ) -> Option<RawRule> {
        let mut fields = self.decoder.fields(node, "rulefmt.Rule")?;
        let mut text = |decoder: &mut Decoder, name: &str| match fields.take(name) {
            Some(n) => (decoder.string(&n), n.at),
            None => (String::new(), Position::default()),
        };
        let record = text(&mut self.decoder, "record");
        let alert = text(&mut self.decoder, "alert");
        let expr_node = fields.take("expr");
        let expr = expr_node.as_ref().map(|n| self.decoder.string(n)).unwrap_or_default();
        let name = if alert.0.is_empty() { &record.0 } else { &alert.0 };
        let cx = RuleContext { group, index, name };
        let hold = fields.take("for");
        let keep = fields.take("keep_firing_for");
        let for_ms = self.duration(hold.as_deref(), dialect, &format_args!("{cx}field 'for'"));
        let keep_ms =
            self.duration(keep.as_deref(), dialect, &format_args!("{cx}field 'keep_firing_for'"));
        let labels = fields.take("labels").map(|n| self.string_map(&n, dialect));
        let annotations = fields.take("annotations").map(|n| self.string_map(&n, dialect));
        let more = self.rule_extensions(&mut fields, &cx);
        self.decoder.finish(fields, "rulefmt.Rule");
        Some(RawRule {
            more,
            record,
            alert,
            expr: (expr, expr_node),
            for_ms: for_ms.unwrap_or(0),
            keep_firing_for_ms: keep_ms.unwrap_or(0),
            labels: labels.unwrap_or_default(),
            annotations: annotations.unwrap_or_default(),
        })
    }

    fn check_names(&mut self, raw: &RawRule, cx: RuleContext<'_>) {
        let message = match (raw.record.0.is_empty(), raw.alert.0.is_empty()) {
            (false, false) => "only one of 'record' and 'alert' must be set",
            (true, true) => "one of 'record' or 'alert' must be set",
            _ => return,
        };
        let message = format!("{}: {}: {cx}{message}", raw.record.1, raw.alert.1);
        self.error(raw.record.1.max(raw.alert.1), message);
    }

    fn check_expr(&mut self, raw: &RawRule, cx: RuleContext<'_>) -> Option<Option<Expr>> {
        let (text, node) = &raw.expr;
        let at = node.as_ref().map(|n| n.at).unwrap_or_default();
        if text.is_empty() {
            let message = format!("{at}: {cx}field 'expr' must be set in rule");
            self.error(at, message);
            return None;
        }
        let known = self.checking.as_ref().zip(node.as_ref());
        let parsed = match known.and_then(|(verdicts, node)| verdicts.of(node)) {
            Some(verdict) => verdict.clone().map(|()| None),
            None => parser::parse(text, &self.options.parser).map(Some),
        };
        match parsed {
            Ok(expr) => Some(expr),
            Err(errors) => {
                for error in &errors.errors {
                    let lines = self.lines.get_or_init(|| Lines::new(self.source));
                    let place =
                        node.as_ref().map_or(at, |n| locate(lines, n, error.span.start as usize));
                    let message =
                        format!("{at}: {cx}could not parse expression: {}", errors.render(error));
                    self.problem(Severity::Error, ProblemKind::Expression, Some(place), message);
                }
                None
            }
        }
    }

    fn check_recording(&mut self, raw: &RawRule, cx: RuleContext<'_>) {
        let (record, at) = (&raw.record.0, raw.record.1);
        let mut refuse = |message: String| {
            self.error(at, format!("{at}: {cx}{message}"));
        };
        if !raw.annotations.is_empty() {
            refuse("invalid field 'annotations' in recording rule".to_owned());
        }
        if raw.for_ms != 0 {
            refuse("invalid field 'for' in recording rule".to_owned());
        }
        if raw.keep_firing_for_ms != 0 {
            refuse("invalid field 'keep_firing_for' in recording rule".to_owned());
        }
        if record.contains(['{', '}']) {
            refuse(format!(
                "braces present in the recording rule name; should it be in expr?: {record}"
            ));
        } else if self.options.legacy_names && !is_legacy_metric_name(record) {
            self.error(at, format!("{at}: {cx}invalid recording rule name: {record}"));
        }
    }

    fn check_templates(&mut self, raw: &RawRule, cx: RuleContext<'_>) {
        for (what, entries) in [("label", &raw.labels), ("annotation", &raw.annotations)] {
            for entry in entries {
                if let Err(e) = Template::check_alert(&raw.alert.0, &entry.value) {
                    let name = quote(&entry.name);
                    let message = format!("{cx}{what} {name}: {}", e.detail());
                    let at = Some(entry.node.at);
                    self.problem(Severity::Error, ProblemKind::Template, at, message);
                }
            }
        }
    }
}

impl fmt::Display for RuleContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, index, name } = *self;
        write!(f, "group {}, rule {index}, {}: ", quote(group), quote(name))
    }
}

/// Quoted when it is shown.
#[derive(Clone, Copy)]
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(self.0))
    }
}

impl RawRule {
    /// The name of the alert or the recorded metric.
    fn name(&self) -> &str {
        if self.alert.0.is_empty() { &self.record.0 } else { &self.alert.0 }
    }

    fn context<'a>(&'a self, group: &'a str, index: usize) -> RuleContext<'a> {
        RuleContext { group, index, name: self.name() }
    }

    /// The series it makes.
    fn made(&self, group_labels: &[MapEntry]) -> DuplicateRule {
        let labels = Labels::from_pairs(&merged(group_labels, &self.labels));
        DuplicateRule { name: self.name().to_owned(), labels }
    }

    /// What is known of the rule should it be refused.
    fn describe(&self, group_labels: &[MapEntry], written: &mut RejectedRule) {
        written.is_alert = !self.alert.0.is_empty();
        written.name = self.name().to_owned();
        written.expr.clone_from(&self.expr.0);
        written.labels = merged(group_labels, &self.labels);
    }

    fn into_spec(self, expr: RuleExpr, group_labels: &[MapEntry], at: Position) -> RuleSpec {
        let labels = merged(group_labels, &self.labels);
        let kind = if self.alert.0.is_empty() {
            RuleKind::Recording { record: self.record.0 }
        } else {
            RuleKind::Alerting(Arc::new(AlertSpec {
                alert: self.alert.0,
                for_ms: self.for_ms,
                keep_firing_for_ms: self.keep_firing_for_ms,
                annotations: merged(&[], &self.annotations),
            }))
        };
        let RuleExtensions { policy, depends_on, .. } = self.more;
        let datasource = String::new();
        RuleSpec { kind, expr, labels, policy, depends_on, datasource, at }
    }
}

/// The pairs of both; what is in `over` holds.
fn merged(base: &[MapEntry], over: &[MapEntry]) -> BTreeMap<String, String> {
    base.iter().chain(over).map(|e| (e.name.clone(), e.value.clone())).collect()
}
