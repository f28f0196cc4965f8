//! Ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.
//!
//! Reading the pairs is apart from what is made of them: `diagnose` makes the same of a text
//! up to the token that does not fit, since Prometheus reports what was wrong before it.

use super::duration::DurationNode;
use super::*;
use crate::model::TimestampMs;

impl Builder<'_> {
    /// Applies one postfix to an operand. Problems are reported and the operand returned
    /// as far as it makes sense, so that later ones are reported too.
    pub(super) fn postfix(&mut self, node: Node, pair: Pair<'_>) -> Built<Node> {
        match pair.as_rule() {
            Rule::brackets => self.brackets(node, pair),
            Rule::offset => self.offset(node, pair),
            Rule::at => self.at(node, pair),
            _ => Ok(self.extension(node, pair.as_str(), span(&pair).end)),
        }
    }

    fn brackets(&mut self, node: Node, pair: Pair<'_>) -> Built<Node> {
        let bracket_span = span(&pair);
        let mut parts = pair.into_inner().skip(1);
        let range = self.duration_expr(parts.next().ok_or(NotPromql)?)?;
        let range = self.positive(range);
        if parts.next().is_none() {
            return Ok(self.matrix(node, range, bracket_span));
        }
        let step = match parts.next() {
            Some(step) => {
                let step = self.duration_expr(step)?;
                Some(self.positive(step))
            }
            None => None,
        };
        Ok(self.subquery(node, range, step, bracket_span.end))
    }

    /// `node[range:step]`, which ends at `end`.
    pub(in crate::parser) fn subquery(
        &mut self,
        node: Node,
        range: DurationNode,
        step: Option<DurationNode>,
        end: u32,
    ) -> Node {
        let whole = node.expr.span.start..end;
        self.checker.subquery(node.value_type, &whole);
        let below = node.depth.max(range.depth).max(step.as_ref().map_or(0, |s| s.depth));
        let subquery = Subquery {
            expr: node.expr,
            range: range.expr,
            step: step.map(|s| s.expr),
            modifiers: Modifiers::default(),
        };
        let kind = ExprKind::Subquery(Box::new(subquery));
        self.node(whole, kind, ValueType::RangeVector, below)
    }

    /// `node[range]`
    pub(in crate::parser) fn matrix(
        &mut self,
        node: Node,
        range: DurationNode,
        bracket_span: Span,
    ) -> Node {
        let whole = node.expr.span.start..bracket_span.end;
        let selector_span = node.span();
        let ExprKind::VectorSelector(selector) = node.expr.kind else {
            self.error(bracket_span, "ranges only allowed for vector selectors");
            let bad = placeholder(whole, ValueType::RangeVector);
            return Node { bad_range: true, ..bad };
        };
        if selector.modifiers.offset.is_some() {
            self.error(bracket_span, "no offset modifiers allowed before range");
        } else if selector.modifiers.at.is_some() {
            self.error(bracket_span, "no @ modifiers allowed before range");
        }
        let matrix = MatrixSelector { selector, selector_span, range: range.expr };
        let kind = ExprKind::MatrixSelector(matrix);
        self.node(whole, kind, ValueType::RangeVector, node.depth.max(range.depth))
    }

    /// The modifiers of a node that can have them.
    fn modifiers_of<'n>(&mut self, node: &'n mut Node, what: &str) -> Option<&'n mut Modifiers> {
        let span = node.span();
        if node.bad_range {
            self.error(span, "ranges only allowed for vector selectors");
            return None;
        }
        match &mut node.expr.kind {
            ExprKind::VectorSelector(selector) => Some(&mut selector.modifiers),
            ExprKind::MatrixSelector(matrix) => Some(&mut matrix.selector.modifiers),
            ExprKind::Subquery(subquery) => Some(&mut subquery.modifiers),
            _ => {
                self.error(
                    span,
                    format!(
                        "{what} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
                    ),
                );
                None
            }
        }
    }

    fn offset(&mut self, node: Node, pair: Pair<'_>) -> Built<Node> {
        let end = span(&pair).end;
        let offset = self.offset_duration(pair.into_inner().skip(1))?;
        Ok(self.with_offset(node, offset, end))
    }

    /// `node offset ...`, which ends at `end`.
    pub(in crate::parser) fn with_offset(
        &mut self,
        mut node: Node,
        offset: DurationNode,
        end: u32,
    ) -> Node {
        let whole = node.span();
        let Some(modifiers) = self.modifiers_of(&mut node, "offset") else {
            return node;
        };
        if modifiers.offset.is_some() {
            self.error(whole, "offset may not be set multiple times");
        } else if !offset.is_zero() {
            // An offset of nothing is no offset, for Prometheus' printing and checks alike.
            modifiers.offset = Some(offset.expr);
        }
        node.expr.span.end = end;
        node.depth = node.depth.max(offset.depth + 1);
        node
    }

    fn at(&mut self, node: Node, pair: Pair<'_>) -> Built<Node> {
        let end = span(&pair).end;
        let mut parts = pair.into_inner();
        let first = parts.next().ok_or(NotPromql)?;
        if first.as_rule() == Rule::at_edge {
            let start = first.as_str().eq_ignore_ascii_case("start");
            let edge = if start { AtModifier::Start } else { AtModifier::End };
            return Ok(self.with_at(node, edge, end));
        }
        let seconds = match first.as_rule() {
            Rule::sign => {
                let value = self.number(&parts.next().ok_or(NotPromql)?).value;
                if chain::sign(&first) == UnaryOp::Minus { -value } else { value }
            }
            _ => self.number(&first).value,
        };
        let at = self.at_timestamp(seconds, &node.span());
        Ok(self.with_at(node, at, end))
    }

    /// `node @ ...`, which ends at `end`.
    pub(in crate::parser) fn with_at(&mut self, mut node: Node, at: AtModifier, end: u32) -> Node {
        let whole = node.span();
        let Some(modifiers) = self.modifiers_of(&mut node, "@") else {
            return node;
        };
        if modifiers.at.is_some() {
            self.error(whole, "@ <timestamp> may not be set multiple times");
        } else {
            modifiers.at = Some(at);
        }
        node.expr.span.end = end;
        node
    }

    /// Seconds to a pinned time, rounded to milliseconds.
    pub(in crate::parser) fn at_timestamp(&mut self, seconds: f64, whole: &Span) -> AtModifier {
        const BOUND: f64 = i64::MAX as f64;
        if !(-BOUND < seconds && seconds < BOUND) {
            let printed = match seconds {
                s if s.is_nan() => "NaN".to_owned(),
                s if s.is_infinite() => if s > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                s => format!("{s:.6}"),
            };
            self.error(whole.clone(), format!("timestamp out of bounds for @ modifier: {printed}"));
        }
        AtModifier::Timestamp((seconds * 1000.0).round() as TimestampMs)
    }

    /// `node anchored` or `node smoothed`, which ends at `end`.
    pub(in crate::parser) fn extension(&mut self, mut node: Node, word: &str, end: u32) -> Node {
        let (word, wanted) = if word.eq_ignore_ascii_case("anchored") {
            ("anchored", RangeExtension::Anchored)
        } else {
            ("smoothed", RangeExtension::Smoothed)
        };
        let whole = node.span();
        if !self.options.extended_range_selectors {
            self.error(whole, format!("{word} modifier is experimental and not enabled"));
            return node;
        }
        if node.bad_range {
            return node;
        }
        let extension = match &mut node.expr.kind {
            ExprKind::VectorSelector(selector) => &mut selector.extension,
            ExprKind::MatrixSelector(matrix) => &mut matrix.selector.extension,
            ExprKind::Subquery(_) => {
                self.error(whole, format!("{word} modifier is not supported for subqueries"));
                return node;
            }
            _ => {
                self.error(whole, format!("{word} modifier not implemented"));
                return node;
            }
        };
        match extension {
            Some(other) if *other != wanted => {
                self.error(whole, "anchored and smoothed modifiers cannot be used together");
            }
            _ => *extension = Some(wanted),
        }
        node.expr.span.end = end;
        node
    }
}
