//! The comments of a rule file: those of YAML, and those within expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::model::lines::Lines;
use crate::parser;
use crate::yaml::{self, Content, Node, Style, node_span};

/// How often each comment is there. Nothing of a text that is no YAML.
pub(in crate::rules) fn comments(text: &str) -> BTreeMap<String, usize> {
    let documents = yaml::parse(text).unwrap_or_default();
    let lines = Lines::new(text);
    let mut found = Found {
        lines: &lines,
        seen: BTreeSet::new(),
        scalars: Vec::new(),
        counts: BTreeMap::new(),
    };
    for root in documents.iter().filter_map(|document| document.root.as_deref()) {
        found.node(root, false);
    }
    let mut bytes = text.as_bytes().to_vec();
    for span in &found.scalars {
        bytes[span.clone()].fill(b'x');
    }
    for number in 1..=lines.count() {
        let line = lines.line(number);
        let is_start =
            |i: &usize| bytes[*i] == b'#' && (*i == line.start || b" \t".contains(&bytes[i - 1]));
        if let Some(start) = line.clone().find(is_start) {
            found.count(&text[start..line.end]);
        }
    }
    found.counts
}

struct Found<'a> {
    lines: &'a Lines<'a>,
    /// The nodes that were looked at: aliases come again and again.
    seen: BTreeSet<*const Node>,
    scalars: Vec<Range<usize>>,
    counts: BTreeMap<String, usize>,
}

impl Found<'_> {
    fn count(&mut self, comment: &str) {
        *self.counts.entry(comment.trim().to_owned()).or_default() += 1;
    }

    fn node(&mut self, node: &Node, is_expr: bool) {
        if !self.seen.insert(std::ptr::from_ref(node)) {
            return;
        }
        match &node.content {
            Content::Scalar { text, style, .. } => {
                let mut span = node_span(self.lines, node);
                if *style == Style::Block {
                    // The header of a block may have a comment beside it.
                    span.start = self.lines.line(node.at.line).end.min(span.end);
                }
                self.scalars.push(span);
                if is_expr {
                    parser::comments(text).into_iter().for_each(|c| self.count(&text[c]));
                }
            }
            Content::Sequence(items) => {
                items.iter().for_each(|item| self.node(item, false));
            }
            Content::Mapping(entries) => {
                for (key, value) in entries {
                    self.node(key, false);
                    self.node(value, key.scalar() == Some("expr"));
                }
            }
        }
    }
}
