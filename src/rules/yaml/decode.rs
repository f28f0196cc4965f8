//! Nodes to Rust values, collecting every error on the way.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Content, Node, Position, Style, integer};
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
    entries: Vec<(Arc<Node>, Arc<Node>)>,
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
    pub(crate) fn entries(
        &mut self,
        node: &Node,
        go_type: &str,
    ) -> Option<Vec<(Arc<Node>, Arc<Node>)>> {
        if node.is_null() {
            return Some(Vec::new());
        }
        let Content::Mapping(entries) = &node.content else {
            self.mismatch(node, go_type);
            return None;
        };
        let mut out: Vec<(Arc<Node>, Arc<Node>)> = Vec::with_capacity(entries.len());
        let mut seen: HashMap<&str, Position> = HashMap::with_capacity(entries.len());
        let mut merges = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.scalar() else {
                self.mismatch(key, "string");
                continue;
            };
            if is_merge(key) {
                merges.push(value.clone());
                continue;
            }
            if let Some(first) = seen.insert(name, key.at) {
                let message =
                    format!("mapping key {} already defined at line {}", quote(name), first.line);
                self.error(key.at, message);
                continue;
            }
            out.push((key.clone(), value.clone()));
        }
        for merged in merges {
            self.merge(&merged, &mut out);
        }
        Some(out)
    }

    /// Adds the entries of a merged mapping that are not there yet.
    fn merge(&mut self, value: &Node, out: &mut Vec<(Arc<Node>, Arc<Node>)>) {
        let sources: Vec<&Node> = match &value.content {
            Content::Mapping(_) => vec![value],
            Content::Sequence(items) => items.iter().map(AsRef::as_ref).collect(),
            Content::Scalar { .. } => Vec::new(),
        };
        let all_mappings = sources.iter().all(|n| matches!(n.content, Content::Mapping(_)));
        if sources.is_empty() || !all_mappings {
            self.error(
                value.at,
                "map merge requires map or sequence of maps as the value".to_owned(),
            );
            return;
        }
        for source in sources {
            for (key, value) in self.entries(source, "map").unwrap_or_default() {
                if !out.iter().any(|(k, _)| k.scalar() == key.scalar()) {
                    out.push((key, value));
                }
            }
        }
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
            Content::Scalar { text, .. } => text.clone(),
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
        match integer(text).or_else(|| text.parse().ok().filter(whole).map(|f| f as i64)) {
            Some(value) => value,
            None => {
                self.mismatch(node, "int");
                0
            }
        }
    }

    /// A float, as Go's YAML reads it (`.inf`, `.NaN`, `1e3`, `0x1f`).
    pub(crate) fn float(&mut self, node: &Node) -> f64 {
        let text = match &node.content {
            _ if node.is_null() => return 0.0,
            Content::Scalar { text, style: Style::Plain, .. } => text.as_str(),
            _ => {
                self.mismatch(node, "float64");
                return 0.0;
            }
        };
        match text {
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return f64::INFINITY,
            "-.inf" | "-.Inf" | "-.INF" => return f64::NEG_INFINITY,
            ".nan" | ".NaN" | ".NAN" => return f64::NAN,
            _ => {}
        }
        if let Some(value) = integer(text) {
            return value as f64;
        }
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        match text.replace('_', "").parse() {
            Ok(value) if numeric => value,
            _ => {
                self.mismatch(node, "float64");
                0.0
            }
        }
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
        let i = self.entries.iter().position(|(key, _)| key.scalar() == Some(name))?;
        Some(self.entries.remove(i).1)
    }
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.content, Content::Scalar { text, style: Style::Plain, .. } if text == "<<")
        || key.tag() == "!!merge"
}
