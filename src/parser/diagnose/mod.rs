//! Says what is wrong with a text the grammar refused, as Prometheus would: its parser
//! stops at the first token that cannot continue any expression, and names the construct
//! it was in where that construct has words for it. This walk mirrors those constructs and
//! runs only on the way to an error.
//!
//! What was wrong with finished parts before that token comes first: the walk makes their
//! nodes as `build` does, as far as that can report anything.

use super::ast::Span;
use super::build::{Builder, Node};
use super::scan::{Kind, Scan, Token, scan};
use super::{ParseError, ParseErrors, ParserOptions};
use crate::aggregations;

mod braces;
mod postfix;

/// A token that does not fit, and the words of the innermost construct that has any:
/// where (`label matching`) and what was expected instead (may be empty).
struct Fault {
    words: Option<Words>,
    /// An aggregation around it has filed it already.
    reported: bool,
}

impl Fault {
    const UNWORDED: Self = Self { words: None, reported: false };

    fn worded(words: Words) -> Self {
        Self { words: Some(words), reported: false }
    }
}

type Words = (&'static str, &'static str);

type Walk = Result<(), Fault>;

/// Why `text` is not a query.
pub(super) fn query(text: &str, options: &ParserOptions) -> ParseErrors {
    explain(text, options, |walker| {
        if walker.token().kind == Kind::End {
            walker.builder.error(0..0, "no expression found in input");
            return Ok(());
        }
        walker.expr()?;
        walker.end()
    })
}

/// Why `text` is not a lone selector.
pub(super) fn selector(text: &str) -> ParseErrors {
    explain(text, &ParserOptions::all(), |walker| {
        if walker.token().is("{") {
            walker.matchers()?;
        } else if is_metric_name(walker.token()) {
            walker.bump();
            if walker.token().is("{") {
                walker.matchers()?;
            }
        } else {
            return walker.fault();
        }
        walker.end()
    })
}

/// Why `text` is not a metric.
pub(super) fn metric(text: &str) -> ParseErrors {
    explain(text, &ParserOptions::all(), |walker| {
        if is_metric_name(walker.token()) {
            walker.bump();
        }
        if walker.token().is("{") {
            walker.label_set()?;
        }
        walker.end()
    })
}

fn explain(
    text: &str,
    options: &ParserOptions,
    walk: impl FnOnce(&mut Walker<'_>) -> Walk,
) -> ParseErrors {
    let Scan { tokens, error: lexer_error } = scan(text);
    let mut walker = Walker { tokens, pos: 0, lexer_error, builder: Builder::new(text, options) };
    if let Err(fault) = walk(&mut walker)
        && !fault.reported
    {
        walker.report(fault.words);
    }
    let mut errors = walker.builder.syntax;
    if errors.is_empty() {
        // The walk knows the grammar's language; this is for a gap between the two.
        let message = "not a PromQL expression".to_owned();
        errors.push(ParseError { span: 0..text.len() as u32, message });
    }
    ParseErrors { input: text.to_owned(), errors }
}

struct Walker<'a> {
    /// Never empty: the last one is the end or the lexer's error.
    tokens: Vec<Token<'a>>,
    pos: usize,
    /// Taken once it is reported.
    lexer_error: Option<(Span, String)>,
    /// Makes the nodes and keeps the errors.
    builder: Builder<'a>,
}

impl<'a> Walker<'a> {
    fn token(&self) -> &Token<'a> {
        let last = self.tokens.len() - 1;
        &self.tokens[self.pos.min(last)]
    }

    fn bump(&mut self) {
        self.pos += 1;
    }

    /// Steps over the token if it is `text`.
    fn take(&mut self, text: &str) -> bool {
        let hit = self.token().is(text);
        self.pos += usize::from(hit);
        hit
    }

    fn fault<T>(&self) -> Result<T, Fault> {
        Err(Fault::UNWORDED)
    }

    fn fault_in<T>(&self, context: &'static str, expected: &'static str) -> Result<T, Fault> {
        Err(Fault::worded((context, expected)))
    }

    fn need(&mut self, text: &str) -> Walk {
        if self.take(text) { Ok(()) } else { self.fault() }
    }

    fn end(&mut self) -> Walk {
        if self.token().kind == Kind::End { Ok(()) } else { self.fault() }
    }

    /// Files the lexer's error if the walk has come to it.
    fn report_lexer(&mut self) -> bool {
        if self.token().kind != Kind::Error {
            return false;
        }
        if let Some((span, message)) = self.lexer_error.take() {
            self.builder.error(span, message);
        }
        true
    }

    fn report(&mut self, words: Option<Words>) {
        if self.report_lexer() {
            return;
        }
        let token = self.token();
        let mut message = format!("unexpected {}", token.describe());
        if let Some((context, expected)) = words {
            message.push_str(" in ");
            message.push_str(context);
            if !expected.is_empty() {
                message.push_str(", expected ");
                message.push_str(expected);
            }
        }
        let span = token.span();
        self.builder.error(span, message);
    }

    /// End of the token before this one.
    fn end_of_last(&self) -> u32 {
        self.tokens[..self.pos.min(self.tokens.len())].last().map_or(0, |t| t.span().end)
    }

    /// End of the last bracket, number or duration read: where Prometheus ends a call.
    fn last_closing(&self) -> u32 {
        let read = &self.tokens[..(self.pos + 1).min(self.tokens.len())];
        let closes = |t: &&Token<'_>| {
            matches!(t.kind, Kind::Number | Kind::Duration) || t.is_any(&[")", "]", "}"])
        };
        read.iter().rev().find(closes).map_or(0, |t| t.span().end)
    }

    fn expr(&mut self) -> Walk {
        loop {
            while self.token().is_any(&["+", "-"]) {
                self.bump();
            }
            let mut node = self.primary()?;
            while self.at_postfix() {
                node = self.postfix(node)?;
            }
            if !is_binary(self.token()) {
                return Ok(());
            }
            self.bump();
            self.binary_modifiers()?;
        }
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let start = self.token().start;
        let mut selects = false;
        match self.token().kind {
            Kind::Number | Kind::Duration => {
                self.number()?;
            }
            Kind::String => self.bump(),
            Kind::Aggregator => selects = !self.aggregation()?,
            Kind::Identifier | Kind::Preprocessor => {
                let name = self.token().clone();
                self.bump();
                if self.token().is("(") {
                    self.args()?;
                    self.builder.callable(name.text, name.span());
                } else {
                    selects = true;
                    self.optional_matchers()?;
                }
            }
            _ if self.token().is("{") => {
                selects = true;
                self.matchers()?;
            }
            _ if self.token().is("(") => {
                self.bump();
                self.expr()?;
                self.need(")")?;
            }
            _ if is_metric_name(self.token()) => {
                selects = true;
                self.bump();
                self.optional_matchers()?;
            }
            _ => return self.fault(),
        }
        let span = start..self.end_of_last();
        Ok(if selects { Node::bare_selector(span) } else { Node::opaque(span) })
    }

    fn optional_matchers(&mut self) -> Walk {
        if self.token().is("{") { self.matchers() } else { Ok(()) }
    }

    /// An aggregator alone is a metric name (`false`); with a body or grouping it is itself.
    fn aggregation(&mut self) -> Result<bool, Fault> {
        let op = self.token().clone();
        self.bump();
        if self.token().is("{") {
            self.matchers()?;
            return Ok(false);
        }
        if !self.token().is_any(&["(", "by", "without"]) {
            return Ok(false);
        }
        match self.aggregation_body() {
            Ok(count) => {
                self.check_aggregation(&op, count);
                Ok(true)
            }
            Err(fault) => {
                // What is wrong inside is wrong "in aggregation" unless it has better words.
                if fault.words.is_some() || fault.reported {
                    return Err(fault);
                }
                self.report(Some(("aggregation", "")));
                self.check_aggregation(&op, 0);
                Err(Fault { reported: true, ..Fault::UNWORDED })
            }
        }
    }

    fn aggregation_body(&mut self) -> Result<usize, Fault> {
        let before = self.token().is_any(&["by", "without"]);
        if before {
            self.bump();
            self.labels()?;
        }
        if !self.token().is("(") {
            return self.fault();
        }
        let count = self.args()?;
        if before {
            return Ok(count);
        }
        if self.token().is_any(&["by", "without"]) {
            self.bump();
            self.labels()?;
        } else {
            // Only having looked at the next token is Prometheus sure of the aggregation's
            // end, so the lexer's complaint comes before those about its arguments.
            self.report_lexer();
        }
        Ok(count)
    }

    fn check_aggregation(&mut self, op: &Token<'_>, count: usize) {
        let span = op.start..self.last_closing();
        if let Some(spec) = aggregations::find(op.text) {
            self.builder.aggregate_arity(spec, count, span);
        }
    }

    /// Arguments in parentheses; returns how many.
    fn args(&mut self) -> Result<usize, Fault> {
        self.need("(")?;
        let mut count = 0;
        if self.take(")") {
            return Ok(count);
        }
        loop {
            self.expr()?;
            count += 1;
            let comma = self.token().span();
            if !self.take(",") {
                self.need(")")?;
                return Ok(count);
            }
            if !self.starts_expr() {
                self.report_lexer();
                self.builder.trailing_comma(comma);
                self.need(")")?;
                return Ok(count);
            }
        }
    }

    fn at_fill(&self) -> bool {
        let token = self.token();
        token.kind == Kind::Keyword && token.is_any(&["fill", "fill_left", "fill_right"])
    }

    fn starts_expr(&self) -> bool {
        let token = self.token();
        matches!(
            token.kind,
            Kind::Number
                | Kind::Duration
                | Kind::String
                | Kind::Aggregator
                | Kind::Identifier
                | Kind::Preprocessor
        ) || token.is_any(&["(", "{", "+", "-"])
            || is_metric_name(token)
    }

    fn binary_modifiers(&mut self) -> Walk {
        self.take("bool");
        if self.token().is_any(&["on", "ignoring"]) {
            self.bump();
            self.labels()?;
            if self.token().is_any(&["group_left", "group_right"]) {
                self.bump();
                // Labels may be left out, but only before what can follow them.
                if self.token().is("(") || !(self.starts_expr() || self.at_fill()) {
                    self.labels()?;
                }
            }
        }
        let (mut left, mut right) = (false, false);
        while self.at_fill() {
            let sets_left = !self.token().is("fill_right");
            let sets_right = !self.token().is("fill_left");
            if (left && sets_left) || (right && sets_right) {
                return self.fault();
            }
            left |= sets_left;
            right |= sets_right;
            let start = self.token().start;
            self.bump();
            self.need("(")?;
            self.sign();
            self.number()?;
            self.need(")")?;
            self.builder.fill_enabled(start..self.end_of_last());
        }
        Ok(())
    }
}

fn is_binary(token: &Token<'_>) -> bool {
    token.kind == Kind::Operator && !token.is("@")
}

/// Whether a token may be a metric's name.
fn is_metric_name(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator | Kind::Preprocessor => true,
        Kind::Operator => token.is_any(&["and", "or", "unless"]),
        Kind::Keyword => !token.is_any(&["bool", "on", "ignoring", "group_left", "group_right"]),
        _ => false,
    }
}
