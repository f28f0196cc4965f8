//! Nodes to Rust values, collecting every error on the way.

use std::sync::Arc;

use super::merge::{KeyProblem, NOT_MERGEABLE};
use super::{Content, Entry, Node, Position, Style, float, integer};
use crate::model::labels::quote;

/// One thing that does not fit, with go-yaml's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodeError {
    pub at: Position,
    pub message: String,
}

/// Collects what is wrong while values are taken from nodes; a value that does not fit
/// becomes its zero, so that decoding always goes on.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pub errors: Vec<DecodeError>,
    /// Fields no struct has, apart from `errors`: some callers forgive them.
    pub unknown: Vec<DecodeError>,
}

/// The fields of one mapping, taken out one by one; what is left is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    entries: Vec<Entry>,
}

impl Decoder {
    fn error(&mut self, at: Position, message: String) {
        self.errors.push(DecodeError { at, message });
    }

    /// Notes that a node cannot become a Go type of that name.
    pub(crate) fn mismatch(&mut self, node: &Node, go_type: &str) {
        let value = match node.scalar() {
            None => String::new(),
            Some(text) if text.len() > 10 => {
                let cut = (0..=7).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                format!(" `{}...`", &text[..cut])
            }
            Some(text) => format!(" `{text}`"),
        };
        let message = format!("cannot unmarshal {}{value} into {go_type}", node.tag());
        self.error(node.at, message);
    }

    /// The entries of a mapping with merge keys followed. Null counts as an empty mapping.
    pub(crate) fn entries(&mut self, node: &Node, go_type: &str) -> Option<Vec<Entry>> {
        if node.is_null() {
            return Some(Vec::new());
        }
        let entries = node.merged(&mut |problem| match problem {
            KeyProblem::NotScalar(key) => self.mismatch(key, "string"),
            KeyProblem::Repeated { key, name, first } => self.error(
                key.at,
                format!("mapping key {} already defined at line {}", quote(name), first.line),
            ),
            KeyProblem::NotMergeable(value) => self.error(value.at, NOT_MERGEABLE.to_owned()),
        });
        if entries.is_none() {
            self.mismatch(node, go_type);
        }
        entries
    }

    /// The fields of a struct.
    pub(crate) fn fields(&mut self, node: &Node, go_type: &str) -> Option<Fields> {
        self.entries(node, go_type).map(|entries| Fields { entries })
    }

    /// Notes every field nobody took.
    pub(crate) fn finish(&mut self, fields: Fields, go_type: &str) {
        for (key, _) in fields.entries {
            let name = key.scalar().unwrap_or_default();
            let message = format!("field {name} not found in type {go_type}");
            self.unknown.push(DecodeError { at: key.at, message });
        }
    }

    /// A string; plain scalars keep their text whatever they look like, null is empty.
    pub(crate) fn string(&mut self, node: &Node) -> String {
        match &node.content {
            _ if node.is_null() => String::new(),
            Content::Scalar { text, .. } => text.to_string(),
            _ => {
                self.mismatch(node, "string");
                String::new()
            }
        }
    }

    /// An integer.
    pub(crate) fn int(&mut self, node: &Node) -> i64 {
        let Content::Scalar { text, style: Style::Plain, .. } = &node.content else {
            self.mismatch(node, "int");
            return 0;
        };
        if node.is_null() {
            return 0;
        }
        let whole = |f: &f64| f.fract() == 0.0 && f.abs() < 9e15;
        let exact = integer(text).and_then(|n| i64::try_from(n).ok());
        match exact.or_else(|| text.parse().ok().filter(whole).map(|f| f as i64)) {
            Some(value) => value,
            None => {
                self.mismatch(node, "int");
                0
            }
        }
    }

    /// A float, as Go's YAML reads it (`.inf`, `.NaN`, `1e3`, `0x1f`).
    pub(crate) fn float(&mut self, node: &Node) -> f64 {
        let value = match &node.content {
            _ if node.is_null() => Some(0.0),
            Content::Scalar { text, style: Style::Plain, .. } => float(text),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.mismatch(node, "float64");
            0.0
        })
    }

    /// A truth value.
    pub(crate) fn bool(&mut self, node: &Node) -> bool {
        match node.scalar() {
            _ if node.is_null() => false,
            Some("true" | "True" | "TRUE") if node.tag() == "!!bool" => true,
            Some("false" | "False" | "FALSE") if node.tag() == "!!bool" => false,
            _ => {
                self.mismatch(node, "bool");
                false
            }
        }
    }

    /// The items of a sequence; null has none.
    pub(crate) fn items(&mut self, node: &Node, go_type: &str) -> Vec<Arc<Node>> {
        match &node.content {
            _ if node.is_null() => Vec::new(),
            Content::Sequence(items) => items.clone(),
            _ => {
                self.mismatch(node, go_type);
                Vec::new()
            }
        }
    }

    /// A mapping of strings, in file order, with the node of each value.
    pub(crate) fn string_map(&mut self, node: &Node) -> Vec<MapEntry> {
        let entries = self.entries(node, "map[string]string").unwrap_or_default();
        let mut out = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.scalar().unwrap_or_default().to_owned();
            let text = self.string(&value);
            out.push(MapEntry { name, value: text, key, node: value });
        }
        out
    }
}

/// One entry of a mapping of strings.
#[derive(Clone, Debug)]
pub(crate) struct MapEntry {
    pub name: String,
    pub value: String,
    pub key: Arc<Node>,
    pub node: Arc<Node>,
}

impl Fields {
    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Arc<Node>> {
        self.take_entry(name).map(|(_, value)| value)
    }

    /// Takes a field out with its key.
    pub(crate) fn take_entry(&mut self, name: &str) -> Option<Entry> {
        let i = self.entries.iter().position(|(key, _)| key.scalar() == Some(name))?;
        Some(self.entries.remove(i))
    }

    /// The keys nobody took yet.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.entries.iter().map(|(key, _)| key)
    }
}
