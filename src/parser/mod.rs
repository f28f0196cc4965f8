//! Text to a typed, checked syntax tree with byte spans, and back to text.
//!
//! `syntax` is the only file that names pest; `build` turns its pairs into the tree,
//! `check` finds type errors, `print` and `pretty` write the tree, `diagnostic` renders
//! errors. The parser collects several errors; Prometheus' API shows the first.

pub mod ast;
pub mod diagnostic;

pub use ast::Expr;
pub use diagnostic::{ParseError, ParseErrors};

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
