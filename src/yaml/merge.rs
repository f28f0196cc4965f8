//! The entries a mapping stands for: merge keys (`<<`) followed, keys distinct.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Content, Entry, Node, Position, Style};

/// What is wrong with one key of a mapping; the entry is left out.
#[derive(Debug)]
pub(crate) enum KeyProblem<'a> {
    /// The key is a sequence or a mapping.
    NotScalar(&'a Node),
    /// The key stands before, at `first`.
    Repeated { key: &'a Node, name: &'a str, first: Position },
    /// The value of a merge key is neither a mapping nor a sequence of mappings.
    NotMergeable(&'a Node),
}

/// go-yaml's words for [`KeyProblem::NotMergeable`].
pub(crate) const NOT_MERGEABLE: &str = "map merge requires map or sequence of maps as the value";

/// Entries up to which keys are compared one by one.
const FEW: usize = 16;

/// Where a key stands that has been taken.
fn find(
    taken: &[Entry],
    by_name: &Option<HashMap<String, Position>>,
    name: &str,
) -> Option<Position> {
    match by_name {
        Some(by_name) => by_name.get(name).copied(),
        None => taken.iter().find(|(key, _)| key.scalar() == Some(name)).map(|(key, _)| key.at),
    }
}

impl Node {
    /// The entries of a mapping in file order, merged ones last, every key a scalar. Null
    /// counts as an empty mapping; anything else has no entries.
    pub(crate) fn merged(&self, report: &mut dyn FnMut(KeyProblem<'_>)) -> Option<Vec<Entry>> {
        let entries = match &self.content {
            Content::Mapping(entries) => entries,
            _ if self.is_null() => return Some(Vec::new()),
            _ => return None,
        };
        let mut out: Vec<Entry> = Vec::with_capacity(entries.len());
        // Few keys are compared with all before them.
        let mut seen: Option<HashMap<String, Position>> =
            (entries.len() > FEW).then(|| HashMap::with_capacity(entries.len()));
        let mut merges = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.scalar() else {
                report(KeyProblem::NotScalar(key));
                continue;
            };
            if key.is_merge() {
                merges.push(value);
                continue;
            }
            if let Some(first) = find(&out, &seen, name) {
                report(KeyProblem::Repeated { key, name, first });
                continue;
            }
            if let Some(seen) = &mut seen {
                seen.insert(name.to_owned(), key.at);
            }
            out.push((key.clone(), value.clone()));
        }
        for value in merges {
            let seen = seen.get_or_insert_with(|| {
                out.iter()
                    .map(|(key, _)| (key.scalar().unwrap_or_default().to_owned(), key.at))
                    .collect()
            });
            let sources: &[Arc<Node>] = match &value.content {
                Content::Mapping(_) => std::slice::from_ref(value),
                Content::Sequence(items) => items,
                Content::Scalar { .. } => &[],
            };
            let mappings = sources.iter().all(|n| matches!(n.content, Content::Mapping(_)));
            if sources.is_empty() || !mappings {
                report(KeyProblem::NotMergeable(value));
                continue;
            }
            // The mapping's own entries win, then those of the first source that has them.
            for source in sources {
                for (key, value) in source.merged(report).unwrap_or_default() {
                    let name = key.scalar().unwrap_or_default();
                    if !seen.contains_key(name) {
                        seen.insert(name.to_owned(), key.at);
                        out.push((key, value));
                    }
                }
            }
        }
        Some(out)
    }

    pub(crate) fn is_merge(&self) -> bool {
        match &self.content {
            Content::Scalar { text, style: Style::Plain, .. } if &**text == "<<" => true,
            Content::Scalar { tag: Some(tag), .. } => &**tag == "!!merge",
            _ => false,
        }
    }
}
