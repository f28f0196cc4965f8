//! What checks look at: files, groups and rules with the nodes they were read from, and
//! where findings are gathered.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::comments::{Comment, Silenced, What};
use super::online::Observed;
use super::registry::Check;
use super::settings::{Kind, Policy, Settings, Which};
use crate::diagnostics::{Diagnostic, Severity};
use crate::model::labels::quote;
use crate::model::lines::Lines;
use crate::parser::{Expr, ParserOptions};
use crate::rules::config::{
    AlertSpec, GroupSpec, RuleKind, RuleSpec, Written, WrittenGroup, WrittenRule,
};
use crate::rules::graph::shape::{self, Shape};
use crate::yaml::{Content, Node, Style, locate_span, node_span};

/// One file.
pub(super) struct FileCx<'a> {
    /// Index among the sources of the report.
    pub index: usize,
    pub name: &'a str,
    pub lines: Lines<'a>,
    pub written: Written,
    pub parser: ParserOptions,
    pub comments: Vec<Comment>,
    /// A comment asks to leave the whole file alone.
    pub ignored: bool,
    /// Comments by what they are about.
    by_scope: HashMap<Scope, Vec<usize>>,
    /// Comments about the whole file.
    whole: Vec<usize>,
}

/// What a comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    File,
    Group(usize),
    Rule(usize, usize),
}

impl<'a> FileCx<'a> {
    pub(super) fn new(
        index: usize,
        name: &'a str,
        lines: Lines<'a>,
        written: Written,
        parser: ParserOptions,
        comments: Vec<Comment>,
    ) -> Self {
        let ignored = comments.iter().any(|c| c.what == What::IgnoreFile);
        let mut by_scope: HashMap<Scope, Vec<usize>> = HashMap::new();
        let mut whole = Vec::new();
        let parts = parts(&written);
        for (i, comment) in comments.iter().enumerate() {
            match comment.what {
                What::Silence { file: true, .. } | What::Owner { file: true, .. } => whole.push(i),
                _ => by_scope.entry(scope_of(comment, &parts, &written)).or_default().push(i),
            }
        }
        Self { index, name, lines, written, parser, comments, ignored, by_scope, whole }
    }

    fn comments_for(&self, group: usize, rule: Option<usize>) -> impl Iterator<Item = &Comment> {
        let own = rule.and_then(|r| self.by_scope.get(&Scope::Rule(group, r)));
        let of_group = self.by_scope.get(&Scope::Group(group));
        own.into_iter().chain(of_group).flatten().map(|i| &self.comments[*i])
    }

    fn whole_file(&self) -> impl Iterator<Item = &Comment> {
        self.whole.iter().map(|i| &self.comments[*i])
    }

    /// Whether a finding about this part is not to be heard.
    pub(super) fn silenced(
        &self,
        id: &str,
        key: Option<&str>,
        part: Option<(usize, Option<usize>)>,
    ) -> bool {
        let covers = |checks: &[Silenced]| checks.iter().any(|c| c.covers(id, key));
        let says = |c: &Comment| matches!(&c.what, What::Silence { checks, .. } if covers(checks));
        self.whole_file().any(says)
            || part.is_some_and(|(group, rule)| self.comments_for(group, rule).any(says))
    }

    /// Who owns a rule: the nearest comment that says so.
    pub(super) fn owner(&self, group: usize, rule: usize) -> Option<(&str, &Comment)> {
        let all = self.comments_for(group, Some(rule)).chain(self.whole_file());
        all.filter_map(|c| match &c.what {
            What::Owner { name, .. } => Some((name.as_str(), c)),
            _ => None,
        })
        .next()
    }

    /// The bytes of a node.
    pub(super) fn span(&self, node: &Node) -> Range<usize> {
        node_span(&self.lines, node)
    }

    /// The bytes that a range of a scalar's text was read from.
    pub(super) fn inside(&self, node: &Node, range: Range<usize>) -> Range<usize> {
        let empty = range.is_empty();
        let span = locate_span(&self.lines, node, range);
        if empty { span.start..span.start } else { span }
    }
}

/// A group or a rule: the line and column of its node.
type Part = (usize, usize, Scope);

/// Groups and rules in the order of their lines.
fn parts(written: &Written) -> Vec<Part> {
    let mut parts = Vec::new();
    for (g, group) in written.groups.iter().enumerate() {
        parts.push((group.node.at.line, group.node.at.column, Scope::Group(g)));
        for (r, rule) in group.rules.iter().enumerate() {
            parts.push((rule.node.at.line, rule.node.at.column, Scope::Rule(g, r)));
        }
    }
    // Aliases stand where their anchor does.
    parts.sort_by_key(|part| part.0);
    parts
}

/// The part a comment is about: what it stands in, or what follows it.
fn scope_of(comment: &Comment, parts: &[Part], written: &Written) -> Scope {
    let after = parts.partition_point(|part| part.0 <= comment.line);
    let next = parts.get(after).map(|part| part.2);
    let Some((_, column, scope)) = after.checked_sub(1).map(|i| parts[i]) else {
        return next.filter(|_| comment.alone).unwrap_or(Scope::File);
    };
    let inside = !comment.alone || comment.column >= column;
    let before_rules = match scope {
        Scope::Group(g) => {
            written.groups[g].field("rules").is_none_or(|(key, _)| comment.line < key.at.line)
        }
        _ => true,
    };
    match next {
        Some(next) if !(inside && before_rules) => next,
        _ => scope,
    }
}

/// Whether a text may be put into a scalar as it is.
pub(super) fn fits(node: &Node, text: &str) -> bool {
    match &node.content {
        Content::Scalar { style: Style::Block, .. } => !text.contains('\n'),
        Content::Scalar { style: Style::Quoted, .. } => !text.contains(['\'', '\n']),
        Content::Scalar { style: Style::DoubleQuoted, .. } => !text.contains(['"', '\\', '\n']),
        Content::Scalar { style: Style::Plain, .. } => {
            !text.contains("#") && !text.contains(": ") && !text.contains('\n')
        }
        _ => false,
    }
}

/// All files, and what their rules record.
pub(super) struct Project<'a> {
    pub files: Vec<FileCx<'a>>,
    pub settings: &'a Settings,
    /// What a server has answered, if one was asked.
    pub observed: Option<Observed>,
    /// Recording rules that can be used, by the metric they write: file, group and rule.
    pub recorded: HashMap<String, Vec<Place>>,
    /// Shapes of recorded metrics, as they become known; `None` is one that is not.
    shapes: RefCell<HashMap<String, Option<Shape>>>,
}

/// Most recording rules of one name whose labels are looked at.
const WRITERS_MAX: usize = 16;

/// Most recording rules on the way from one to another.
const CHAIN_MAX: usize = 16;

/// Where a rule stands: indexes of file, group and rule.
pub(super) type Place = (usize, usize, usize);

impl<'a> Project<'a> {
    pub(super) fn new(files: Vec<FileCx<'a>>, settings: &'a Settings) -> Self {
        let mut project = Self {
            files,
            settings,
            observed: None,
            recorded: HashMap::new(),
            shapes: RefCell::default(),
        };
        let mut recorded: HashMap<String, Vec<Place>> = HashMap::new();
        for rule in project.rules() {
            if let RuleKind::Recording { record } = &rule.spec.kind {
                recorded.entry(record.clone()).or_default().push(rule.place());
            }
        }
        project.recorded = recorded;
        project
    }

    /// Every rule that can be used, in order.
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleCx<'_>> {
        self.files.iter().filter(|f| !f.ignored).flat_map(move |file| {
            (0..file.written.groups.len())
                .filter_map(move |g| GroupCx::new(self, file, g))
                .flat_map(|group| {
                    let count = group.written.rules.len();
                    (0..count).filter_map(move |r| RuleCx::new(group, r))
                })
        })
    }

    /// Every group that can be used, in order.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupCx<'_>> {
        self.files.iter().filter(|f| !f.ignored).flat_map(move |file| {
            (0..file.written.groups.len()).filter_map(move |g| GroupCx::new(self, file, g))
        })
    }

    /// The labels of a metric that rules of these files record.
    pub(super) fn known(&self, metric: &str) -> Option<Shape> {
        self.known_at(metric, 0)
    }

    fn known_at(&self, metric: &str, depth: usize) -> Option<Shape> {
        if let Some(shape) = self.shapes.borrow().get(metric) {
            return shape.clone();
        }
        let writers = self.recorded.get(metric)?;
        if writers.len() > WRITERS_MAX || depth > CHAIN_MAX {
            return None;
        }
        // A rule that reads itself, be it through others, may have any labels.
        self.shapes.borrow_mut().insert(metric.to_owned(), None);
        let inner = |name: &str| self.known_at(name, depth + 1);
        let shapes = writers
            .iter()
            .filter_map(|place| self.rule(*place))
            .map(|cx| shape::recorded_known(cx.expr(), metric, &cx.spec.labels, &inner));
        let shape = shapes.reduce(|a, b| a.or(&b));
        self.shapes.borrow_mut().insert(metric.to_owned(), shape.clone());
        shape
    }

    pub(super) fn rule(&self, place: Place) -> Option<RuleCx<'_>> {
        let file = self.files.get(place.0)?;
        RuleCx::new(GroupCx::new(self, file, place.1)?, place.2)
    }
}

/// A group that can be used.
#[derive(Clone, Copy)]
pub(super) struct GroupCx<'a> {
    pub project: &'a Project<'a>,
    pub file: &'a FileCx<'a>,
    pub index: usize,
    pub written: &'a WrittenGroup,
    pub spec: &'a GroupSpec,
}

impl<'a> GroupCx<'a> {
    fn new(project: &'a Project<'a>, file: &'a FileCx<'a>, index: usize) -> Option<Self> {
        let written = file.written.groups.get(index)?;
        let spec = file.written.loaded.groups.get(written.spec?)?;
        Some(Self { project, file, index, written, spec })
    }

    /// The interval, as far as it is known.
    pub(super) fn interval_ms(&self) -> Option<i64> {
        self.spec.interval_ms.or(self.project.settings.evaluation_interval.map(|d| d.0))
    }

    pub(super) fn subject(&self) -> String {
        format!("group {}", quote(&self.spec.name))
    }
}

/// A rule that can be used.
pub(super) struct RuleCx<'a> {
    pub group: GroupCx<'a>,
    /// Among those written.
    pub index: usize,
    pub written: &'a WrittenRule,
    pub spec: &'a RuleSpec,
    shape: OnceCell<Shape>,
}

impl<'a> RuleCx<'a> {
    fn new(group: GroupCx<'a>, index: usize) -> Option<Self> {
        let written = group.written.rules.get(index)?;
        let spec = group.spec.rules.get(written.spec?)?;
        Some(Self { group, index, written, spec, shape: OnceCell::new() })
    }

    pub(super) fn place(&self) -> Place {
        (self.group.file.index, self.group.index, self.index)
    }

    pub(super) fn file(&self) -> &'a FileCx<'a> {
        self.group.file
    }

    pub(super) fn settings(&self) -> &'a Settings {
        self.group.project.settings
    }

    pub(super) fn expr(&self) -> &'a Expr {
        &self.spec.expr.expr
    }

    /// The part an alert has beyond a recording rule.
    pub(super) fn alert(&self) -> Option<&'a AlertSpec> {
        match &self.spec.kind {
            RuleKind::Alerting(alert) => Some(alert),
            RuleKind::Recording { .. } => None,
        }
    }

    /// The labels of the expression's result.
    pub(super) fn shape(&self) -> &Shape {
        self.shape
            .get_or_init(|| shape::of_known(self.expr(), &|name| self.group.project.known(name)))
    }

    pub(super) fn field(&self, name: &str) -> Option<&'a (Arc<Node>, Arc<Node>)> {
        self.written.field(name)
    }

    /// The bytes of the file that hold a part of the expression.
    pub(super) fn in_expr(&self, range: Range<usize>) -> Range<usize> {
        match self.field("expr") {
            Some((_, node)) => self.file().inside(node, range),
            None => self.at_name(),
        }
    }

    /// The expression as written.
    pub(super) fn expr_text(&self) -> &'a str {
        self.field("expr").and_then(|(_, node)| node.scalar()).unwrap_or("")
    }

    /// Whether a text may stand in the expression as it is.
    pub(super) fn fits_expr(&self, text: &str) -> bool {
        self.field("expr").is_some_and(|(_, node)| fits(node, text))
    }

    /// The bytes of the rule's name.
    pub(super) fn at_name(&self) -> Range<usize> {
        let name = if self.alert().is_some() { "alert" } else { "record" };
        match self.field(name) {
            Some((_, node)) => self.file().span(node),
            None => self.file().span(&self.written.node),
        }
    }

    pub(super) fn subject(&self) -> String {
        let kind = if self.alert().is_some() { "alert" } else { "record" };
        let (name, group) = (quote(self.spec.name()), quote(&self.group.spec.name));
        format!("{kind} {name} of group {group}")
    }

    /// The policies about this rule.
    pub(super) fn policies(&self) -> impl Iterator<Item = &'a Policy> + use<'a, '_> {
        self.settings().rules.iter().filter(|policy| {
            policy.only.as_ref().is_none_or(|which| self.is(which))
                && !policy.ignore.as_ref().is_some_and(|which| self.is(which))
        })
    }

    fn is(&self, which: &Which) -> bool {
        let kind = if self.alert().is_some() { Kind::Alerting } else { Kind::Recording };
        let labels = &self.spec.labels;
        which.file.as_ref().is_none_or(|p| p.matches(self.file().name))
            && which.group.as_ref().is_none_or(|p| p.matches(&self.group.spec.name))
            && which.name.as_ref().is_none_or(|p| p.matches(self.spec.name()))
            && which.kind.is_none_or(|k| k == kind)
            && which
                .labels
                .iter()
                .all(|(name, pattern)| pattern.matches(labels.get(name).map_or("", String::as_str)))
    }
}

/// A finding and the part it is about.
pub(super) struct Found {
    pub diagnostic: Diagnostic,
    pub part: Option<(usize, Option<usize>)>,
    pub key: Option<String>,
}

/// Gathers what checks find.
pub(super) struct Findings<'a> {
    settings: &'a Settings,
    /// The check that is running.
    pub check: &'static Check,
    pub all: Vec<Found>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(settings: &'a Settings, check: &'static Check) -> Self {
        Self { settings, check, all: Vec::new() }
    }

    fn push(&mut self, found: Found, severity: Option<Severity>) {
        let Found { mut diagnostic, part, key } = found;
        diagnostic.id = self.check.id;
        diagnostic.severity =
            self.settings.severity_of(self.check.id, severity.unwrap_or(self.check.severity));
        self.all.push(Found { diagnostic, part, key });
    }

    /// Notes a finding about a rule.
    pub(super) fn rule(&mut self, cx: &RuleCx<'_>, diagnostic: Diagnostic) {
        self.rule_as(cx, None, None, diagnostic);
    }

    /// As `rule`, with a severity of its own and a name by which comments can silence it
    /// alone.
    pub(super) fn rule_as(
        &mut self,
        cx: &RuleCx<'_>,
        severity: Option<Severity>,
        key: Option<String>,
        mut diagnostic: Diagnostic,
    ) {
        diagnostic.source = cx.file().index;
        diagnostic.subject = Some(cx.subject());
        if diagnostic.span.is_none() {
            diagnostic.span = Some(cx.at_name());
        }
        let part = Some((cx.group.index, Some(cx.index)));
        self.push(Found { diagnostic, part, key }, severity);
    }

    /// Notes a finding about a group.
    pub(super) fn group(&mut self, cx: &GroupCx<'_>, mut diagnostic: Diagnostic) {
        diagnostic.source = cx.file.index;
        diagnostic.subject = Some(cx.subject());
        self.push(Found { diagnostic, part: Some((cx.index, None)), key: None }, None);
    }

    /// Notes a finding about a file.
    pub(super) fn file(
        &mut self,
        cx: &FileCx<'_>,
        severity: Option<Severity>,
        mut diagnostic: Diagnostic,
    ) {
        diagnostic.source = cx.index;
        self.push(Found { diagnostic, part: None, key: None }, severity);
    }
}

/// A finding whose id and severity the check fills in.
pub(super) fn finding(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new("", Severity::Info, message)
}
