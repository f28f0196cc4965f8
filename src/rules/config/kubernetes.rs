//! `PrometheusRule` objects: which documents are one, and what the API server and the
//! operator would say beyond what the rules themselves are checked for.

use std::sync::Arc;

use super::load::Scope;
use super::problem::{ProblemKind, Severity};
use super::validate::{Dialect, Reader};
use crate::yaml::{Content, Node};

/// Largest `spec` the operator accepts: half of what a ConfigMap holds.
const SPEC_BYTES_MAX: usize = 512 << 10;

/// What a document with `apiVersion` and `kind` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    PrometheusRule,
    /// `List`, `PrometheusRuleList`.
    List,
    Other(String),
}

/// The kind of a Kubernetes object; `None` for anything else.
pub(super) fn kind(root: &Node) -> Option<Kind> {
    root.get("apiVersion")?.scalar()?;
    let kind = root.get("kind")?.scalar()?;
    Some(match kind {
        "PrometheusRule" => Kind::PrometheusRule,
        "List" | "PrometheusRuleList" => Kind::List,
        other => Kind::Other(other.to_owned()),
    })
}

/// Reads an object's rules; false when it can hold none.
pub(super) fn read(reader: &mut Reader<'_>, root: &Arc<Node>, kind: &Kind) -> bool {
    match kind {
        Kind::PrometheusRule => {
            read_object(reader, root);
            true
        }
        Kind::List => {
            let Some(Content::Sequence(items)) = root.get("items").map(|n| &n.content) else {
                return true;
            };
            for item in items {
                match self::kind(item) {
                    Some(Kind::PrometheusRule) => read_object(reader, item),
                    Some(Kind::Other(name)) => skipped(reader, item, &name),
                    Some(Kind::List) | None => skipped(reader, item, "List"),
                }
            }
            true
        }
        Kind::Other(name) => {
            skipped(reader, root, name);
            false
        }
    }
}

fn skipped(reader: &mut Reader<'_>, node: &Node, kind: &str) {
    let message = format!("{}: the object of kind {kind} is skipped: it holds no rules", node.at);
    reader.problem(Severity::Note, ProblemKind::Rule, Some(node.at), message);
}

fn read_object(reader: &mut Reader<'_>, root: &Arc<Node>) {
    let metadata = root.get("metadata");
    let field = |name: &str| metadata.and_then(|m| m.get(name)).and_then(|n| n.scalar());
    if field("name").is_none_or(str::is_empty) && field("generateName").is_none() {
        let message = format!("{}: metadata.name is missing; the API server refuses that", root.at);
        reader.problem(Severity::Warning, ProblemKind::Rule, Some(root.at), message);
    }
    let object =
        format!("{}/{}", field("namespace").unwrap_or("default"), field("name").unwrap_or(""));
    let mark = reader.mark();
    let Some(spec) = root.get("spec") else {
        let message = format!("{}: PrometheusRule {object} has no spec", root.at);
        reader.problem(Severity::Error, ProblemKind::Rule, Some(root.at), message);
        let dialect = Dialect::Kubernetes { object };
        reader.reject_since(mark, &dialect, Scope::file(&dialect));
        return;
    };
    let size = text_bytes(spec);
    if size > SPEC_BYTES_MAX {
        let message = format!(
            "{}: the rules of {object} have more than {size} bytes; the operator refuses more \
             than {SPEC_BYTES_MAX}",
            spec.at
        );
        reader.problem(Severity::Warning, ProblemKind::Rule, Some(spec.at), message);
    }
    reader.read_groups(spec, Dialect::Kubernetes { object });
}

/// Bytes of all scalars: a lower bound of what the object takes as YAML.
fn text_bytes(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { text, .. } => text.len(),
        Content::Sequence(items) => items.iter().map(|n| text_bytes(n)).sum(),
        Content::Mapping(entries) => {
            entries.iter().map(|(k, v)| text_bytes(k) + text_bytes(v) + 2).sum()
        }
    }
}
