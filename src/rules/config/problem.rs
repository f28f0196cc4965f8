//! What is wrong with a rule file, and where.

use std::fmt;

use super::Position;

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used, perhaps not as its author meant.
    Warning,
    /// Worth knowing, e.g. that a document was skipped.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Note => "NOTE",
        })
    }
}

/// Which layer found a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The file could not be read, or is not YAML.
    Syntax,
    /// A field is unknown, repeated, or of the wrong type.
    Field,
    /// The rules themselves.
    Rule,
    /// An expression is no PromQL.
    Expression,
    /// A label or annotation is no template.
    Template,
}

/// One problem. `Display` is Prometheus' text, `FILE: MESSAGE`, which for some problems
/// has no position; [`Problem::position`] always says where to look when that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// "" for standard input.
    pub file: String,
    pub severity: Severity,
    pub kind: ProblemKind,
    pub position: Option<Position>,
    /// Prometheus' words, with the positions it prints.
    pub message: String,
}

impl Problem {
    /// `FILE:LINE:COLUMN`, as editors and terminals understand it.
    pub fn location(&self) -> String {
        at_file(&self.file, self.position)
    }

    /// The text with the place it is about, once.
    pub fn placed(&self) -> String {
        match self.position {
            Some(at) if !self.message.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("{}: {}", at_file(&self.file, Some(at)), self.message)
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        f.write_str(&self.message)
    }
}

fn at_file(file: &str, position: Option<Position>) -> String {
    let file = if file.is_empty() { "standard input" } else { file };
    match position {
        Some(at) => format!("{file}:{at}"),
        None => file.to_owned(),
    }
}

/// The lines Prometheus prints for a list of errors: those about fields come first, under
/// one heading.
pub(in crate::rules) fn render(errors: &[Problem]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fields = errors.iter().filter(|p| p.kind == ProblemKind::Field).peekable();
    if let Some(first) = fields.peek() {
        let prefix =
            if first.file.is_empty() { String::new() } else { format!("{}: ", first.file) };
        lines.push(format!("{prefix}yaml: unmarshal errors:"));
        lines.extend(fields.map(|p| format!("  {}", p.message)));
    }
    let others = errors.iter().filter(|p| p.kind != ProblemKind::Field);
    lines.extend(others.map(ToString::to_string));
    lines
}
