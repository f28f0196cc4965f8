//! YAML with positions: every node knows the line and column it stands at, so that what
//! is wrong in a file can be shown where the user wrote it.
//!
//! Built on the events of `saphyr-parser`. Where YAML libraries differ, this follows
//! go-yaml, which reads Prometheus' files: duplicate keys are errors, merge keys (`<<`)
//! work, plain scalars keep their text (`yes`, `1.10`), tabs may not indent, and texts of
//! errors are go-yaml's. This module knows nothing about rules or configurations.

mod build;
mod decode;
mod locate;
mod merge;
mod quick;

use std::sync::Arc;

use thiserror::Error;

pub use crate::model::lines::Position;
pub(crate) use build::{parse, parse_first};
pub(crate) use decode::{DecodeError, Decoder, Fields, MapEntry};
pub(crate) use locate::{locate, locate_span, node_span};
pub(crate) use merge::{KeyProblem, NOT_MERGEABLE};

/// The text is not YAML, or one of its limits is exceeded. `Display` is go-yaml's form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("yaml: line {}: {message}", .at.line)]
pub(crate) struct SyntaxError {
    pub at: Position,
    pub message: String,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    DoubleQuoted,
    /// `|` or `>`.
    Block,
}

/// A node of the document tree. Aliases are resolved: they share their anchor's node, and
/// with it the position where the text really stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub at: Position,
    pub content: Content,
    size: Size,
}

#[derive(Debug)]
pub(crate) enum Content {
    Scalar { text: Box<str>, style: Style, tag: Option<Box<str>> },
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

/// Extent of a subtree with aliases counted in full, saturating.
#[derive(Clone, Copy, Debug)]
struct Size {
    nodes: u32,
    /// Levels, 1 for a scalar.
    height: u32,
}

/// A key and its value.
pub(crate) type Entry = (Arc<Node>, Arc<Node>);

/// One document of a stream. `root` is `None` when it is empty.
#[derive(Debug)]
pub(crate) struct Document {
    /// Where it starts.
    pub at: Position,
    pub root: Option<Arc<Node>>,
}

impl Node {
    pub(crate) fn new(at: Position, content: Content) -> Self {
        let mut size = Size { nodes: 1, height: 1 };
        match &content {
            Content::Scalar { .. } => {}
            Content::Sequence(items) => items.iter().for_each(|item| size.hold(item)),
            Content::Mapping(entries) => entries.iter().for_each(|(key, value)| {
                size.hold(key);
                size.hold(value);
            }),
        }
        Self { at, content, size }
    }

    /// The absent value.
    pub(crate) fn null(at: Position) -> Self {
        let text = Box::default();
        Self::new(at, Content::Scalar { text, style: Style::Plain, tag: None })
    }

    /// The text of a scalar.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// True for an absent value: `key:`, `~`, `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, style: Style::Plain, tag: None } => {
                matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            Content::Scalar { tag: Some(tag), .. } => &**tag == "!!null",
            _ => false,
        }
    }

    /// The value under a plain key, without merge keys: enough to tell what a document is.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Node>> {
        match &self.content {
            Content::Mapping(entries) => {
                entries.iter().find(|(k, _)| k.scalar() == Some(key)).map(|(_, v)| v)
            }
            _ => None,
        }
    }

    /// Go's short name of the node's type, as its error texts have it: `!!seq`, `!!int`.
    pub(crate) fn tag(&self) -> &str {
        match &self.content {
            Content::Scalar { tag: Some(tag), .. } => tag,
            Content::Scalar { text, style: Style::Plain, .. } => plain_tag(text),
            Content::Scalar { .. } => "!!str",
            Content::Sequence(_) => "!!seq",
            Content::Mapping(_) => "!!map",
        }
    }
}

fn plain_tag(text: &str) -> &'static str {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => "!!null",
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "!!bool",
        "<<" => "!!merge",
        _ if integer(text).is_some() => "!!int",
        _ if float(text).is_some() => "!!float",
        _ => "!!str",
    }
}

impl Size {
    /// Counts in a node below.
    fn hold(&mut self, node: &Node) {
        self.nodes = self.nodes.saturating_add(node.size.nodes);
        self.height = self.height.max(node.size.height + 1);
    }
}

/// An integer as YAML 1.1 and Go write it: `1_000`, `0x1f`, `0o17`, `0b1`. Beyond Go's
/// 64 bits, signed or not, it is none.
pub(crate) fn integer(text: &str) -> Option<i128> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-_".contains(c)) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value = match digits.get(..2) {
        Some("0x" | "0X") => i128::from_str_radix(&digits[2..], 16),
        Some("0o") => i128::from_str_radix(&digits[2..], 8),
        Some("0b") => i128::from_str_radix(&digits[2..], 2),
        _ if digits.len() > 1
            && digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            i128::from_str_radix(digits, 8)
        }
        _ => digits.parse(),
    }
    .ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// A float as YAML and Go write it: `.inf`, `.NaN`, `1e3`, and every [`integer`].
pub(crate) fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(value) = integer(text) {
        return Some(value as f64);
    }
    // Rust would also read words such as `+inf`, which are texts here.
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.bytes().all(|b| b.is_ascii_digit() || b"+-._eE".contains(&b));
    if numeric { text.replace('_', "").parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
