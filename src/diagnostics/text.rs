//! Diagnostics for a person: the message, an excerpt of the source with a caret, notes, and
//! the changes that would help.

use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use super::{Diagnostic, Edit, Report, Severity, Source};
use crate::model::lines::Lines;

/// Places further apart than this many lines are shown as two excerpts.
const EXCERPT_LINES_MAX: usize = 12;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With the colours of a terminal.
    pub colour: bool,
    /// Columns of the terminal; longer lines of the source are cut.
    pub width: usize,
}

impl Default for Look {
    fn default() -> Self {
        Self { colour: false, width: 120 }
    }
}

/// All diagnostics, each followed by an empty line.
pub fn text(report: &Report, look: Look) -> String {
    let lines: Vec<Lines<'_>> = report.sources.iter().map(|s| Lines::new(&s.text)).collect();
    let renderer = renderer(look);
    let mut out = String::new();
    for diagnostic in &report.diagnostics {
        let shown = match report.sources.get(diagnostic.source) {
            Some(source) => show(diagnostic, source, &lines[diagnostic.source], &renderer),
            None => diagnostic.message.clone(),
        };
        let _ = writeln!(out, "{shown}\n");
    }
    out
}

/// One diagnostic about `source`, without a final line break.
pub fn render(diagnostic: &Diagnostic, source: &Source, look: Look) -> String {
    show(diagnostic, source, &Lines::new(&source.text), &renderer(look))
}

fn renderer(look: Look) -> Renderer {
    let renderer = if look.colour { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).term_width(look.width.max(40))
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Fatal => Level::ERROR,
        Severity::Bug => Level::ERROR.with_name("bug"),
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    }
}

fn show(
    diagnostic: &Diagnostic,
    source: &Source,
    lines: &Lines<'_>,
    renderer: &Renderer,
) -> String {
    let title = level(diagnostic.severity).primary_title(&diagnostic.message).id(diagnostic.id);
    let mut group = Group::with_title(title);
    let mut edits = Vec::new();
    match &diagnostic.span {
        Some(span) => {
            for snippet in excerpts(diagnostic, span, source, lines) {
                group = group.element(snippet);
            }
        }
        None => group = group.element(annotate_snippets::Origin::path(&source.name)),
    }
    if let Some(subject) = &diagnostic.subject {
        group = group.element(Level::NOTE.with_name("in").message(subject));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &diagnostic.helps {
        match &help.edit {
            Some(edit) => edits.push((help, edit)),
            None => group = group.element(Level::HELP.message(&help.text)),
        }
    }
    let mut groups = vec![group];
    for (help, edit) in edits {
        let title = Level::HELP.secondary_title(&help.text);
        groups.push(Group::with_title(title).element(patched(edit, lines)));
    }
    renderer.render(&groups)
}

/// A part of a text: whole lines, and where they start.
struct Cut<'a> {
    text: &'a str,
    offset: usize,
    first_line: usize,
}

impl<'a> Cut<'a> {
    fn new(lines: &Lines<'a>, span: Range<usize>) -> Self {
        let first_line = lines.position(span.start).line;
        let last_line = lines.position(span.end.max(span.start)).line;
        let offset = lines.line(first_line).start;
        let text = &lines.text()[offset..lines.line(last_line).end.max(offset)];
        Self { text, offset, first_line }
    }

    fn inside(&self, span: &Range<usize>) -> Range<usize> {
        let end = self.text.len();
        let start = span.start.saturating_sub(self.offset).min(end);
        start..span.end.saturating_sub(self.offset).clamp(start, end)
    }
}

fn excerpts<'a>(
    diagnostic: &'a Diagnostic,
    span: &Range<usize>,
    source: &'a Source,
    lines: &Lines<'a>,
) -> Vec<Snippet<'a, Annotation<'a>>> {
    let line = |span: &Range<usize>| lines.position(span.start).line;
    let shown = shortened(span, lines);
    let near = |other: &Range<usize>| line(other).abs_diff(line(&shown)) < EXCERPT_LINES_MAX;
    let mut whole = shown.clone();
    for related in diagnostic.related.iter().filter(|r| near(&r.span)) {
        whole.start = whole.start.min(related.span.start);
        whole.end = whole.end.max(related.span.end);
    }
    let cut = Cut::new(lines, whole);
    let mut snippet = Snippet::source(cut.text).line_start(cut.first_line).path(&source.name);
    let primary = AnnotationKind::Primary.span(cut.inside(&shown));
    snippet = snippet.annotation(match diagnostic.label.as_str() {
        "" => primary,
        label => primary.label(label),
    });
    let mut far = Vec::new();
    for related in &diagnostic.related {
        let span = shortened(&related.span, lines);
        if near(&related.span) {
            let context = AnnotationKind::Context.span(cut.inside(&span)).label(&related.label);
            snippet = snippet.annotation(context);
        } else {
            let cut = Cut::new(lines, span.clone());
            let context = AnnotationKind::Context.span(cut.inside(&span)).label(&related.label);
            far.push(Snippet::source(cut.text).line_start(cut.first_line).annotation(context));
        }
    }
    let mut all = vec![snippet];
    all.extend(far);
    all
}

/// A span of many lines is shown by its first one.
fn shortened(span: &Range<usize>, lines: &Lines<'_>) -> Range<usize> {
    let (first, last) = (lines.position(span.start).line, lines.position(span.end).line);
    match last - first < EXCERPT_LINES_MAX {
        true => span.clone(),
        false => span.start..lines.line(first).end.max(span.start),
    }
}

fn patched<'a>(edit: &'a Edit, lines: &Lines<'a>) -> Snippet<'a, Patch<'a>> {
    let cut = Cut::new(lines, edit.span.clone());
    let patch = Patch::new(cut.inside(&edit.span), edit.replacement.as_str());
    Snippet::source(cut.text).line_start(cut.first_line).patch(patch)
}
