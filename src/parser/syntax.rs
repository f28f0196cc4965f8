//! The grammar `grammar/promql.pest` as a parser of pairs. Only this file names pest;
//! `build` sees its types through the aliases here.

use pest::Parser;

/// The generated parser; `Rule` has one variant per production of the grammar.
#[derive(pest_derive::Parser)]
#[grammar = "grammar/promql.pest"]
struct Grammar;

/// A production that matched, with its text and its parts.
pub(super) type Pair<'a> = pest::iterators::Pair<'a, Rule>;
/// The parts of a production, in order.
pub(super) type Pairs<'a> = pest::iterators::Pairs<'a, Rule>;

/// Parses `text` from `entry` on. `None` when the text is not of the grammar: what exactly
/// is wrong, in Prometheus' words, is `diagnose`'s business.
pub(super) fn parse(entry: Rule, text: &str) -> Option<Pair<'_>> {
    Grammar::parse(entry, text).ok()?.next()
}
