//! How a configuration's text becomes a tree whose mappings are final: the first document,
//! with keys that stand twice refused and `<<` merged. How a tree becomes typed values is
//! `decode`'s business.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

pub(super) use crate::yaml::{Content, Entry, Node};
use crate::yaml::{KeyProblem, NOT_MERGEABLE, Position, Style, SyntaxError, parse_first};

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// From 1; 0 while the place is not yet known.
    pub line: usize,
    pub message: String,
}

impl YamlError {
    pub(crate) fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

impl From<SyntaxError> for YamlError {
    fn from(e: SyntaxError) -> Self {
        Self::at(e.at.line, e.message)
    }
}

impl Node {
    pub(super) fn line(&self) -> usize {
        self.at.line
    }

    /// The text of a key; keys are scalars.
    pub(super) fn name(&self) -> &str {
        self.scalar().unwrap_or_default()
    }

    /// The text of a scalar that may be more than a text: plain and not tagged as one.
    pub(super) fn plain(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, style: Style::Plain, tag }
                if tag.as_deref() != Some("!!str") =>
            {
                Some(text)
            }
            _ => None,
        }
    }

    /// The entries of a mapping; none for an absent value.
    pub(super) fn entries(&self, what: &str) -> Result<&[Entry], YamlError> {
        match &self.content {
            Content::Mapping(entries) => Ok(entries),
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.expected(what, "a mapping")),
        }
    }

    /// The items of a sequence; none for an absent value.
    pub(super) fn items(&self, what: &str) -> Result<&[Arc<Node>], YamlError> {
        match &self.content {
            Content::Sequence(items) => Ok(items),
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.expected(what, "a list")),
        }
    }

    /// Splits a mapping into the entries whose key satisfies `wanted` and the others.
    pub(super) fn split(&self, wanted: impl Fn(&str) -> bool) -> (Node, Node) {
        let entries = match &self.content {
            Content::Mapping(entries) => entries.clone(),
            _ => Vec::new(),
        };
        let (yes, no) = entries.into_iter().partition(|(key, _)| wanted(key.name()));
        let node = |entries| Node::new(self.at, Content::Mapping(entries));
        (node(yes), node(no))
    }

    /// `field X must be a list, but is a mapping`.
    pub(super) fn expected(&self, what: &str, wanted: &str) -> YamlError {
        let found = match &self.content {
            Content::Scalar { text, .. } => format!("the text {text:?}"),
            Content::Sequence(_) => "a list".into(),
            Content::Mapping(_) => "a mapping".into(),
        };
        YamlError::at(self.line(), format!("{what} must be {wanted}, but is {found}"))
    }
}

/// A document and where a second one begins, which Go ignores.
#[derive(Debug)]
pub(super) struct Document {
    pub root: Arc<Node>,
    pub second_line: Option<usize>,
}

/// Reads the first document; an empty text is a null.
pub(super) fn parse(text: &str) -> Result<Document, YamlError> {
    check_syntax(text)?;
    let (first, second) = parse_first(text)?;
    let at = Position { line: 1, column: 1 };
    let root = first.and_then(|d| d.root).unwrap_or_else(|| Arc::new(Node::null(at)));
    Ok(Document { root: resolved(&root)?, second_line: second.map(|at| at.line) })
}

/// Lets the scanner that shares its ancestry with Go's judge the syntax first, for the sake
/// of its words.
fn check_syntax(text: &str) -> Result<(), YamlError> {
    let Some(first) = serde_yaml::Deserializer::from_str(text).next() else { return Ok(()) };
    IgnoredAny::deserialize(first).map(|_| ()).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        let text = e.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text);
        YamlError::at(line, message)
    })
}

/// The tree with every mapping merged. Keys are checked everywhere, also where nothing is
/// decoded. The reader has bounded depth and size, aliases followed.
fn resolved(node: &Arc<Node>) -> Result<Arc<Node>, YamlError> {
    let content = match &node.content {
        Content::Scalar { .. } => return Ok(node.clone()),
        Content::Sequence(items) => {
            Content::Sequence(items.iter().map(resolved).collect::<Result<_, _>>()?)
        }
        Content::Mapping(_) => {
            let mut problem = None;
            let entries = node.merged(&mut |p| {
                problem.get_or_insert_with(|| key_error(&p));
            });
            if let Some(problem) = problem {
                return Err(problem);
            }
            let resolve = |(key, value): Entry| Ok((key, resolved(&value)?));
            let entries = entries.unwrap_or_default().into_iter().map(resolve);
            Content::Mapping(entries.collect::<Result<_, YamlError>>()?)
        }
    };
    Ok(Arc::new(Node::new(node.at, content)))
}

fn key_error(problem: &KeyProblem<'_>) -> YamlError {
    match problem {
        KeyProblem::NotScalar(key) => YamlError::at(key.line(), "a key must be a plain text"),
        KeyProblem::Repeated { key, name, first } => {
            let line = first.line;
            YamlError::at(key.line(), format!("key {name:?} already set in map on line {line}"))
        }
        KeyProblem::NotMergeable(value) => YamlError::at(value.line(), NOT_MERGEABLE),
    }
}
