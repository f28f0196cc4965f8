//! Text to a typed, checked syntax tree with byte spans, and back to text.
//!
//! `syntax` is the only file that names pest; `build` turns its pairs into the tree,
//! `check` finds type errors, `print`, `pretty` and `outline` write the tree, `diagnostic` renders
//! errors. Where the grammar fails, `diagnose` reads the text again, token by token
//! (`scan`), to say what Prometheus would say. `series` reads the notation of series in
//! tests. The parser collects several errors; Prometheus' API shows the first.

pub mod ast;
mod build;
mod check;
mod diagnose;
pub mod diagnostic;
mod literal;
mod nesting;
mod outline;
pub mod pretty;
mod print;
mod scan;
pub mod series;
mod stack;
mod syntax;
mod walk;

pub use ast::Expr;
pub use diagnostic::{ParseError, ParseErrors};
pub use outline::outline;
pub use pretty::{pretty, pretty_flush, pretty_with_comments};
pub use series::{SeriesDescription, SeriesValue, parse_series_description, parse_series_values};
pub use stack::with_stack;

use std::ops::Range;

use crate::model::{Labels, Matcher};
use syntax::Rule;

/// Deepest nesting of an expression. Beyond it parsing fails with an error of its own
/// rather than exhausting the stack of whoever walks the tree.
pub const NESTING_MAX: usize = 500;

/// Which experimental syntax is accepted; names as in `--enable-feature`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ParserOptions {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`
    pub binop_fill_modifiers: bool,
}

impl ParserOptions {
    /// Everything on, as `.test` scripts expect.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
        }
    }
}

/// Parses and type-checks an expression. Errors are those of Prometheus, in its words and
/// at its positions; too deep nesting is an error of our own.
pub fn parse(text: &str, options: &ParserOptions) -> Result<Expr, ParseErrors> {
    nesting::guarded(text, || parse_guarded(text, options))
}

fn parse_guarded(text: &str, options: &ParserOptions) -> Result<Expr, ParseErrors> {
    let plain = syntax::without_comments(text);
    let built = syntax::parse(Rule::query, &plain)
        .and_then(|pair| build::query(pair, text, options).ok())
        .ok_or_else(|| diagnose::query(text, options))?;
    let errors = if built.syntax.is_empty() { built.types } else { built.syntax };
    if !errors.is_empty() {
        return Err(ParseErrors { input: text.to_owned(), errors });
    }
    match built.too_deep {
        Some(span) => Err(nesting::error(text, span)),
        None => Ok(built.expr),
    }
}

/// The bytes of the comments of a text that can be parsed, in order.
pub fn comments(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    syntax::comments(text, &mut |comment| found.push(comment));
    found
}

/// Parses a selector without range or modifiers, as `match[]` parameters hold. Whether it
/// may match everything is for the caller to decide.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, ParseErrors> {
    // Selectors do not nest, but what is refused is explained with some recursion.
    nesting::guarded(text, || selector_guarded(text))
}

fn selector_guarded(text: &str) -> Result<Vec<Matcher>, ParseErrors> {
    let plain = syntax::without_comments(text);
    let (matchers, errors) = syntax::parse(Rule::selector_query, &plain)
        .and_then(|pair| build::selector_query(pair, text).ok())
        .ok_or_else(|| diagnose::selector(text))?;
    if errors.is_empty() {
        Ok(matchers)
    } else {
        Err(ParseErrors { input: text.to_owned(), errors })
    }
}

/// Parses a metric with its labels, `name{a="b"}`, into a label set.
pub fn parse_metric(text: &str) -> Result<Labels, ParseErrors> {
    nesting::guarded(text, || {
        let plain = syntax::without_comments(text);
        syntax::parse(Rule::metric_query, &plain)
            .and_then(|pair| build::metric_query(pair).ok())
            .ok_or_else(|| diagnose::metric(text))
    })
}

#[cfg(test)]
mod tests;
