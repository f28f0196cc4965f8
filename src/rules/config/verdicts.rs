//! Whether the expressions of a large file can be parsed, found out beforehand and by all
//! processors. Checking is mostly that.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::parser::{self, ParseErrors, ParserOptions};
use crate::yaml::{Content, Document, Node};

/// By node, which must be there as long as this is.
#[derive(Debug, Default)]
pub(super) struct Verdicts(HashMap<*const Node, Result<(), ParseErrors>>);

/// Expressions from which on more than one processor is of use.
const MANY_EXPRESSIONS: usize = 500;

impl Verdicts {
    /// Of all texts under the key `expr`, if they are many.
    pub(super) fn new(documents: &[Document], parser: &ParserOptions) -> Self {
        let mut nodes = Vec::new();
        let roots = documents.iter().filter_map(|document| document.root.as_deref());
        roots.for_each(|root| expressions(root, &mut nodes));
        if nodes.len() < MANY_EXPRESSIONS {
            return Self::default();
        }
        let judge = |node: &&Node| {
            let text = node.scalar().unwrap_or_default();
            parser::parse(text, parser).map(|_| ())
        };
        let verdicts: Vec<_> = nodes.par_iter().with_min_len(64).map(judge).collect();
        Self(nodes.into_iter().map(std::ptr::from_ref).zip(verdicts).collect())
    }

    /// What is known of an expression.
    pub(super) fn of(&self, node: &Node) -> Option<&Result<(), ParseErrors>> {
        self.0.get(&std::ptr::from_ref(node))
    }
}

fn expressions<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    match &node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(items) => items.iter().for_each(|item| expressions(item, found)),
        Content::Mapping(entries) => {
            for (key, value) in entries {
                match value.scalar() {
                    Some(_) if key.scalar() == Some("expr") => found.push(value),
                    _ => expressions(value, found),
                }
            }
        }
    }
}
