//! Which values an expression may have, and whether it always, perhaps or never has a
//! result: interval arithmetic over the tree, one visit a node.

use std::f64::consts::{FRAC_PI_2, PI};

use super::{Inferred, Kind, span};
use crate::model::{METRIC_NAME, MatchOp};
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Call, Cardinality, ExprKind, UnaryOp, ValueType, VectorSelector,
};

/// Whether there is a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lint) enum Presence {
    Never,
    Maybe,
    /// Whatever the data.
    Always,
}

/// What is known of the values of an expression. Native histograms are none of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::lint) struct Facts {
    /// Least and greatest value, NaN apart; above `hi` when there is none but NaN.
    pub lo: f64,
    pub hi: f64,
    /// It may be NaN.
    pub nan: bool,
    /// It may be 0, as far as `lo` and `hi` allow it.
    pub zero: bool,
    pub presence: Presence,
}

impl Facts {
    const ANY: Facts = Facts {
        lo: f64::NEG_INFINITY,
        hi: f64::INFINITY,
        nan: true,
        zero: true,
        presence: Presence::Maybe,
    };

    fn between(lo: f64, hi: f64) -> Self {
        Self { lo, hi, nan: false, ..Self::ANY }
    }

    fn at_least(lo: f64) -> Self {
        Self::between(lo, f64::INFINITY)
    }

    fn constant(value: f64) -> Self {
        if value.is_nan() {
            return Self { nan: true, ..Self::between(f64::INFINITY, f64::NEG_INFINITY) };
        }
        Self::between(value, value)
    }

    fn with(self, presence: Presence) -> Self {
        Self { presence, ..self }
    }

    fn or_nan(self) -> Self {
        Self { nan: true, ..self }
    }

    /// Whether 0 is among the values.
    pub(in crate::lint) fn may_be_zero(&self) -> bool {
        self.zero && self.lo <= 0.0 && self.hi >= 0.0
    }

    fn is_constant(&self) -> bool {
        self.lo == self.hi
    }

    fn is_empty(&self) -> bool {
        self.lo > self.hi
    }

    fn says_nothing(&self) -> bool {
        self.lo == f64::NEG_INFINITY && self.hi == f64::INFINITY
    }

    /// `at least 1`, for a person.
    fn describe(&self) -> String {
        match (self.lo, self.hi) {
            (lo, hi) if lo > hi => "never a number".to_owned(),
            (lo, hi) if lo == hi => format!("always {}", number(lo)),
            (f64::NEG_INFINITY, f64::INFINITY) => "any number".to_owned(),
            (lo, f64::INFINITY) => match shown_bound(lo, true) {
                (bound, true) => format!("above {bound}"),
                (bound, false) => format!("at least {bound}"),
            },
            (f64::NEG_INFINITY, hi) => match shown_bound(hi, false) {
                (bound, true) => format!("below {bound}"),
                (bound, false) => format!("at most {bound}"),
            },
            (lo, hi) => {
                format!("between {} and {}", shown_bound(lo, true).0, shown_bound(hi, false).0)
            }
        }
    }
}

/// Open bounds are kept as the next number; a person is shown the bound itself.
fn shown_bound(bound: f64, lower: bool) -> (String, bool) {
    let neighbour = if lower { bound.next_down() } else { bound.next_up() };
    let (own, other) = (number(bound), number(neighbour));
    if other.len() < own.len() { (other, true) } else { (own, false) }
}

fn number(value: f64) -> String {
    let digits = format!("{value}");
    if digits.len() > 12 { format!("{value:e}") } else { digits }
}

/// The facts of an expression, and everything that is odd in it.
pub(in crate::lint) fn analyse(expr: &Expr) -> (Facts, Vec<Inferred>) {
    let mut walk = Walk { found: Vec::new() };
    let facts = walk.of(expr);
    (facts, walk.found)
}

struct Walk {
    found: Vec<Inferred>,
}

impl Walk {
    fn of(&mut self, expr: &Expr) -> Facts {
        match &expr.kind {
            ExprKind::Number(literal) => Facts::constant(literal.value).with(Presence::Always),
            ExprKind::String(_) => Facts::ANY.with(Presence::Always),
            ExprKind::VectorSelector(selector) => of_selector(selector),
            ExprKind::MatrixSelector(matrix) => of_selector(&matrix.selector),
            ExprKind::Subquery(subquery) => self.of(&subquery.expr),
            ExprKind::Paren(inner) => self.of(inner),
            ExprKind::Unary { op: UnaryOp::Plus, expr } => self.of(expr),
            ExprKind::Unary { op: UnaryOp::Minus, expr } => {
                let inner = self.of(expr);
                Facts { lo: -inner.hi, hi: -inner.lo, ..inner }
            }
            ExprKind::Call(call) => self.of_call(call),
            ExprKind::Aggregate(aggregate) => self.of_aggregate(aggregate),
            ExprKind::Binary(binary) => self.of_binary(expr, binary),
        }
    }

    fn of_call(&mut self, call: &Call) -> Facts {
        let args: Vec<Facts> = call.args.iter().map(|arg| self.of(arg)).collect();
        let vector = call.args.iter().position(|arg| {
            matches!(arg.value_type(), ValueType::InstantVector | ValueType::RangeVector)
        });
        let inner = vector.map_or(Facts::ANY.with(Presence::Always), |i| args[i]);
        let facts = match call.function.name {
            "absent" | "absent_over_time" => {
                let presence = match inner.presence {
                    Presence::Never => Presence::Always,
                    Presence::Maybe => Presence::Maybe,
                    Presence::Always => Presence::Never,
                };
                if presence == Presence::Never {
                    let at = span(&call.args[0]);
                    let message = "there is always a result, so it is never absent";
                    self.found.push(Inferred::new(Kind::Never, at, message));
                }
                return Facts::constant(1.0).with(presence);
            }
            "scalar" => return inner.or_nan().with(Presence::Always),
            "vector" => return args.first().copied().unwrap_or(Facts::ANY).with(Presence::Always),
            name => function_values(name, inner, &args),
        };
        if matches!(call.function.name, "quantile_over_time" | "histogram_quantile")
            && let Some(phi) = args.first()
        {
            self.quantile(&call.args[0], phi);
        }
        facts.with(match inner.presence {
            Presence::Never => Presence::Never,
            // A window may hold nothing.
            Presence::Always
                if vector.is_some_and(|i| call.args[i].value_type() == ValueType::RangeVector) =>
            {
                Presence::Maybe
            }
            other => other,
        })
    }

    fn quantile(&mut self, at: &Expr, phi: &Facts) {
        if phi.lo > 1.0 || phi.hi < 0.0 {
            let mut found = Inferred::new(
                Kind::Parameter,
                span(at),
                "a quantile lies between 0 and 1; beyond, the result is +Inf or -Inf",
            );
            if phi.is_constant() && phi.lo > 1.0 && phi.lo <= 100.0 {
                found.help = format!("the {}th percentile is {}", phi.lo, phi.lo / 100.0);
            }
            self.found.push(found);
        }
    }

    fn of_aggregate(&mut self, aggregate: &Aggregate) -> Facts {
        let inner = self.of(&aggregate.expr);
        let param = aggregate.param.as_ref().map(|p| (p, self.of(p)));
        let facts = match aggregate.op.name {
            "sum" if inner.lo >= 0.0 => Facts { hi: f64::INFINITY, ..inner },
            "sum" if inner.hi <= 0.0 => Facts { lo: f64::NEG_INFINITY, ..inner },
            "sum" => Facts::ANY,
            "avg" => Facts { zero: true, ..inner },
            "min" | "max" | "topk" | "bottomk" | "limitk" | "limit_ratio" => inner,
            "count" | "count_values" => Facts::at_least(1.0),
            "group" => Facts::constant(1.0),
            "stddev" | "stdvar" => Facts::at_least(0.0).or_nan(),
            "quantile" => match param {
                Some((at, phi)) => {
                    self.quantile(at, &phi);
                    let inside = phi.lo >= 0.0 && phi.hi <= 1.0;
                    if inside { Facts { zero: true, ..inner } } else { Facts::ANY }
                }
                None => Facts::ANY,
            },
            _ => Facts::ANY,
        };
        if let (Some((at, k)), "topk" | "bottomk" | "limitk") = (param, aggregate.op.name)
            && k.hi < 1.0
        {
            let message = format!("{} of fewer than one series is always empty", aggregate.op.name);
            self.found.push(Inferred::new(Kind::Never, span(at), message));
            return facts.with(Presence::Never);
        }
        facts.with(inner.presence)
    }

    fn of_binary(&mut self, expr: &Expr, binary: &Binary) -> Facts {
        let (lhs, rhs) = (self.of(&binary.lhs), self.of(&binary.rhs));
        let either_never = lhs.presence == Presence::Never || rhs.presence == Presence::Never;
        let fills = binary
            .matching
            .as_ref()
            .is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
        match binary.op {
            BinaryOp::And => {
                let presence = if either_never { Presence::Never } else { Presence::Maybe };
                self.contradiction(expr, binary, lhs.with(presence))
            }
            BinaryOp::Or => Facts {
                lo: lhs.lo.min(rhs.lo),
                hi: lhs.hi.max(rhs.hi),
                nan: lhs.nan || rhs.nan,
                zero: lhs.may_be_zero() || rhs.may_be_zero(),
                presence: match (lhs.presence, rhs.presence) {
                    (Presence::Always, _) | (_, Presence::Always) => Presence::Always,
                    (Presence::Never, Presence::Never) => Presence::Never,
                    _ => Presence::Maybe,
                },
            },
            BinaryOp::Unless => self.of_unless(expr, binary, lhs, rhs),
            op if op.is_comparison() => self.of_comparison(expr, binary, lhs, rhs, fills),
            op => {
                let scalars = binary.matching.is_none();
                let presence = match (lhs.presence, rhs.presence) {
                    _ if fills => Presence::Maybe,
                    (Presence::Never, _) | (_, Presence::Never) => Presence::Never,
                    (Presence::Always, Presence::Always) if scalars => Presence::Always,
                    _ => Presence::Maybe,
                };
                let (lhs, rhs) = match &binary.matching {
                    Some(m) => (filled(lhs, m.fill_left), filled(rhs, m.fill_right)),
                    None => (lhs, rhs),
                };
                arithmetic(op, &lhs, &rhs).with(presence)
            }
        }
    }

    fn of_unless(&mut self, expr: &Expr, binary: &Binary, lhs: Facts, rhs: Facts) -> Facts {
        let same = on_all_labels(binary) && binary.lhs.to_string() == binary.rhs.to_string();
        if same {
            let message = "both sides of `unless` are the same, so nothing is left";
            self.found.push(Inferred::new(Kind::Never, span(expr), message));
            return lhs.with(Presence::Never);
        }
        if lhs.presence == Presence::Never || rhs.presence == Presence::Never {
            return lhs;
        }
        lhs.with(Presence::Maybe)
    }

    /// `x > 5 and x < 3`
    fn contradiction(&mut self, expr: &Expr, binary: &Binary, facts: Facts) -> Facts {
        if !on_all_labels(binary) || facts.presence == Presence::Never {
            return facts;
        }
        let (Some((left, a)), Some((right, b))) =
            (self.constraint(&binary.lhs), self.constraint(&binary.rhs))
        else {
            return facts;
        };
        if left != right {
            return facts;
        }
        if a.lo.max(b.lo) > a.hi.min(b.hi) {
            let mut found = Inferred::new(
                Kind::Never,
                span(expr),
                format!("`{left}` cannot be {} and {} at once", a.describe(), b.describe()),
            );
            found.help = "one of them is to be `or`, or one of the comparisons turned round".into();
            self.found.push(found);
            return facts.with(Presence::Never);
        }
        Facts { lo: a.lo.max(b.lo), hi: a.hi.min(b.hi), ..facts }
    }

    /// The expression below comparisons with numbers, and what they leave of it.
    fn constraint(&self, expr: &Expr) -> Option<(String, Facts)> {
        let binary = match &expr.unparenthesised().kind {
            ExprKind::Binary(b) if b.op.is_comparison() && !b.return_bool => b,
            _ => return None,
        };
        let constant = |side: &Expr| match &side.unparenthesised().kind {
            ExprKind::Number(literal) => Some(Facts::constant(literal.value)),
            ExprKind::Unary { op: UnaryOp::Minus, expr } => match &expr.unparenthesised().kind {
                ExprKind::Number(literal) => Some(Facts::constant(-literal.value)),
                _ => None,
            },
            _ => None,
        };
        let (inner, op, bound) = match (constant(&binary.lhs), constant(&binary.rhs)) {
            (None, Some(bound)) => (&binary.lhs, binary.op, bound),
            (Some(bound), None) => (&binary.rhs, mirrored(binary.op), bound),
            _ => return None,
        };
        let (base, known) = self
            .constraint(inner)
            .unwrap_or_else(|| (inner.unparenthesised().to_string(), Facts::ANY));
        Some((base, narrowed(&known, op, &bound)))
    }

    fn of_comparison(
        &mut self,
        expr: &Expr,
        binary: &Binary,
        lhs: Facts,
        rhs: Facts,
        fills: bool,
    ) -> Facts {
        let (vector_left, vector_right) = (is_vector(&binary.lhs), is_vector(&binary.rhs));
        if !vector_left && !vector_right {
            return Facts::between(0.0, 1.0).with(Presence::Always);
        }
        let inputs = match (lhs.presence, rhs.presence) {
            _ if fills => Presence::Maybe,
            (Presence::Never, _) | (_, Presence::Never) => Presence::Never,
            (Presence::Always, Presence::Always) if binary.matching.is_none() => Presence::Always,
            _ => Presence::Maybe,
        };
        let verdict = verdict(binary.op, &lhs, &rhs);
        // What is the same whatever the data is was written so on purpose.
        let deliberate = lhs.presence == Presence::Always && rhs.presence == Presence::Always;
        if inputs != Presence::Never && !fills && !deliberate {
            self.judge(expr, binary, &lhs, &rhs, verdict);
        }
        if binary.return_bool {
            return Facts::between(0.0, 1.0).with(inputs);
        }
        let (kept, op, other) = match vector_left {
            true => (&lhs, binary.op, &rhs),
            false => (&rhs, mirrored(binary.op), &lhs),
        };
        let presence = match verdict {
            Some(false) => Presence::Never,
            Some(true) => inputs,
            None if inputs == Presence::Never => Presence::Never,
            None => Presence::Maybe,
        };
        narrowed(kept, op, other).with(presence)
    }

    fn judge(
        &mut self,
        expr: &Expr,
        binary: &Binary,
        lhs: &Facts,
        rhs: &Facts,
        verdict: Option<bool>,
    ) {
        let Some(holds) = verdict else { return };
        let op = binary.op.as_str();
        let (kind, message) = match (holds, binary.return_bool) {
            (false, false) => {
                (Kind::Never, format!("this `{op}` is never true, so there is no result"))
            }
            (false, true) => (Kind::Always, format!("this `{op} bool` is always 0")),
            (true, true) => (Kind::Always, format!("this `{op} bool` is always 1")),
            (true, false) => {
                (Kind::Always, format!("this `{op}` is always true: it leaves nothing out"))
            }
        };
        let at = binary.op_span.start as usize..binary.op_span.end as usize;
        let mut found = Inferred::new(kind, at, message);
        for (side, facts) in [(&binary.lhs, lhs), (&binary.rhs, rhs)] {
            if !facts.says_nothing() && !matches!(side.unparenthesised().kind, ExprKind::Number(_))
            {
                found.related.push((span(side), facts.describe()));
            }
        }
        if rhs.is_empty() || lhs.is_empty() {
            found
                .notes
                .push("nothing is equal to NaN, not even NaN: test with `x != x`".to_owned());
        }
        let _ = expr;
        self.found.push(found);
    }
}

fn is_vector(expr: &Expr) -> bool {
    expr.value_type() == ValueType::InstantVector
}

/// Whether series match by all their labels.
fn on_all_labels(binary: &Binary) -> bool {
    binary.matching.as_ref().is_some_and(|m| {
        !m.on
            && m.labels.is_empty()
            && matches!(m.card, Cardinality::ManyToMany | Cardinality::OneToOne)
    })
}

/// The values of a side with those that stand in for series it lacks.
fn filled(side: Facts, fill: Option<f64>) -> Facts {
    match fill {
        Some(value) if value.is_nan() => side.or_nan(),
        Some(value) => Facts {
            lo: side.lo.min(value),
            hi: side.hi.max(value),
            zero: side.may_be_zero() || value == 0.0,
            ..side
        },
        None => side,
    }
}

/// `a op b` as `b op a`.
fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Less => BinaryOp::Greater,
        BinaryOp::LessEq => BinaryOp::GreaterEq,
        BinaryOp::Greater => BinaryOp::Less,
        BinaryOp::GreaterEq => BinaryOp::LessEq,
        op => op,
    }
}

/// Whether a comparison is always or never true.
fn verdict(op: BinaryOp, a: &Facts, b: &Facts) -> Option<bool> {
    let nan = a.nan || b.nan;
    if a.is_empty() || b.is_empty() {
        return Some(op == BinaryOp::NotEq);
    }
    let equal = a.is_constant() && b.is_constant() && a.lo == b.lo;
    let disjoint = a.hi < b.lo || b.hi < a.lo;
    // Both are 0, or one of them cannot be.
    let apart = disjoint
        || (a.is_constant() && a.lo == 0.0 && !b.may_be_zero())
        || (b.is_constant() && b.lo == 0.0 && !a.may_be_zero());
    let (always, never) = match op {
        BinaryOp::Less => (a.hi < b.lo, a.lo >= b.hi),
        BinaryOp::LessEq => (a.hi <= b.lo, a.lo > b.hi),
        BinaryOp::Greater => (a.lo > b.hi, a.hi <= b.lo),
        BinaryOp::GreaterEq => (a.lo >= b.hi, a.hi < b.lo),
        BinaryOp::Eq => (equal, apart),
        // NaN differs from everything.
        _ if apart => return Some(true),
        _ => return (equal && !nan).then_some(false),
    };
    match (always, never) {
        (_, true) => Some(false),
        (true, _) if !nan => Some(true),
        _ => None,
    }
}

/// What a comparison leaves of `a`.
fn narrowed(a: &Facts, op: BinaryOp, b: &Facts) -> Facts {
    let mut left = *a;
    match op {
        BinaryOp::Less => left.hi = left.hi.min(b.hi.next_down()),
        BinaryOp::LessEq => left.hi = left.hi.min(b.hi),
        BinaryOp::Greater => left.lo = left.lo.max(b.lo.next_up()),
        BinaryOp::GreaterEq => left.lo = left.lo.max(b.lo),
        BinaryOp::Eq => (left.lo, left.hi) = (left.lo.max(b.lo), left.hi.min(b.hi)),
        _ => {
            if b.is_constant() && b.lo == 0.0 {
                left.zero = false;
            }
            return left;
        }
    }
    left.nan = false;
    left
}

/// Values by the name alone, where the name is a promise.
fn of_selector(selector: &VectorSelector) -> Facts {
    let named = selector.matchers.iter().find(|m| &*m.name == METRIC_NAME);
    let name = match named {
        Some(m) if m.op == MatchOp::Equal => &*m.value,
        _ => return Facts::ANY,
    };
    match name {
        "up" => Facts::between(0.0, 1.0),
        "ALERTS" => Facts::constant(1.0),
        "ALERTS_FOR_STATE" => Facts::at_least(0.0),
        // Counters.
        name if name.ends_with("_total") || name.ends_with("_bucket") => Facts::at_least(0.0),
        _ => Facts::ANY,
    }
}

fn function_values(name: &str, inner: Facts, args: &[Facts]) -> Facts {
    let arg = |i: usize| args.get(i).copied().unwrap_or(Facts::ANY);
    match name {
        "abs" => Facts {
            lo: if inner.lo >= 0.0 { inner.lo } else { (-inner.hi).max(0.0) },
            hi: inner.lo.abs().max(inner.hi.abs()),
            ..inner
        },
        "ceil" | "floor" | "round" => match name {
            "round" if args.len() > 1 => Facts::ANY,
            _ => Facts { lo: inner.lo.floor(), hi: inner.hi.ceil(), zero: true, ..inner },
        },
        "clamp" => clamped(inner, Some(arg(1)), Some(arg(2))),
        "clamp_min" => clamped(inner, Some(arg(1)), None),
        "clamp_max" => clamped(inner, None, Some(arg(1))),
        "present_over_time" => Facts::constant(1.0),
        "count_over_time" => Facts::at_least(1.0),
        "changes" | "resets" | "rate" | "increase" | "irate" | "histogram_count"
        | "stddev_over_time" | "stdvar_over_time" | "histogram_stddev" | "histogram_stdvar"
        | "mad_over_time" => Facts::at_least(0.0),
        "histogram_fraction" => Facts::between(0.0, 1.0).or_nan(),
        "time" | "timestamp" => Facts::at_least(0.0),
        "pi" => Facts::constant(PI),
        "days_in_month" => Facts::between(28.0, 31.0),
        "day_of_month" => Facts::between(1.0, 31.0),
        "day_of_week" => Facts::between(0.0, 6.0),
        "day_of_year" => Facts::between(1.0, 366.0),
        "month" => Facts::between(1.0, 12.0),
        "hour" => Facts::between(0.0, 23.0),
        "minute" => Facts::between(0.0, 59.0),
        "exp" | "sqrt" => Facts::at_least(0.0).or_nan(),
        "sgn" | "sin" | "cos" | "tanh" => Facts::between(-1.0, 1.0).or_nan(),
        "acos" => Facts::between(0.0, PI).or_nan(),
        "asin" | "atan" => Facts::between(-FRAC_PI_2, FRAC_PI_2).or_nan(),
        "cosh" => Facts::at_least(1.0).or_nan(),
        "min_over_time" | "max_over_time" | "last_over_time" | "first_over_time"
        | "label_replace" | "label_join" | "sort" | "sort_desc" | "sort_by_label"
        | "sort_by_label_desc" | "info" => inner,
        "avg_over_time" => Facts { zero: true, ..inner },
        "quantile_over_time" => {
            let inside = arg(0).lo >= 0.0 && arg(0).hi <= 1.0;
            if inside { Facts { zero: true, ..inner } } else { Facts::ANY }
        }
        "sum_over_time" if inner.lo >= 0.0 => Facts { hi: f64::INFINITY, ..inner },
        "sum_over_time" if inner.hi <= 0.0 => Facts { lo: f64::NEG_INFINITY, ..inner },
        _ => Facts::ANY,
    }
}

fn clamped(inner: Facts, min: Option<Facts>, max: Option<Facts>) -> Facts {
    let (mut lo, mut hi) = (inner.lo, inner.hi);
    if let Some(min) = min {
        (lo, hi) = (lo.max(min.lo), hi.max(min.hi));
    }
    if let Some(max) = max {
        (lo, hi) = (lo.min(max.lo), hi.min(max.hi));
    }
    // A bound of 0 puts what was beyond it on 0.
    Facts { lo, hi, zero: true, ..inner }
}

fn arithmetic(op: BinaryOp, a: &Facts, b: &Facts) -> Facts {
    if a.is_empty() || b.is_empty() {
        return Facts::ANY;
    }
    let nan = a.nan || b.nan;
    let bounds = |values: &[f64]| {
        if values.iter().any(|v| v.is_nan()) {
            return Facts::ANY;
        }
        let lo = values.iter().copied().fold(f64::INFINITY, f64::min);
        let hi = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Facts { nan, ..Facts::between(lo, hi) }
    };
    // At the edge, 0 times an infinite bound stands for numbers as large as one likes.
    let times = |x: f64, y: f64| if x == 0.0 || y == 0.0 { 0.0 } else { x * y };
    match op {
        BinaryOp::Add => bounds(&[a.lo + b.lo, a.hi + b.hi]),
        BinaryOp::Sub => bounds(&[a.lo - b.hi, a.hi - b.lo]),
        BinaryOp::Mul => {
            let mut facts = bounds(&[
                times(a.lo, b.lo),
                times(a.lo, b.hi),
                times(a.hi, b.lo),
                times(a.hi, b.hi),
            ]);
            facts.zero = a.may_be_zero() || b.may_be_zero();
            facts
        }
        BinaryOp::Div if b.may_be_zero() => {
            let positive = a.lo >= 0.0 && b.lo >= 0.0;
            if positive { Facts::at_least(0.0).or_nan() } else { Facts::ANY }
        }
        BinaryOp::Div if b.lo > 0.0 || b.hi < 0.0 => {
            let over = |x: f64, y: f64| if y.is_infinite() { 0.0 } else { x / y };
            let mut facts =
                bounds(&[over(a.lo, b.lo), over(a.lo, b.hi), over(a.hi, b.lo), over(a.hi, b.hi)]);
            // An infinite number over another is NaN, but who has those.
            facts.zero = a.may_be_zero() || b.hi.is_infinite() || b.lo.is_infinite();
            facts
        }
        BinaryOp::Mod if a.lo >= 0.0 => Facts::between(0.0, a.hi).or_nan(),
        BinaryOp::Pow if a.lo >= 0.0 => Facts::at_least(0.0).or_nan(),
        BinaryOp::Atan2 => Facts::between(-PI, PI).or_nan(),
        _ => Facts::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    fn facts(text: &str) -> (Facts, Vec<Inferred>) {
        analyse(&parse(text, &ParserOptions::all()).expect(text))
    }

    #[test]
    fn values_are_bounded_by_what_makes_them() {
        let mut wrong = Vec::new();
        for (text, expected) in [
            ("x", "any number"),
            ("count(x)", "at least 1"),
            ("-count(x)", "at most -1"),
            ("count(x) - 1", "at least 0"),
            ("sum(count by (a) (x))", "at least 1"),
            ("sum(rate(x[5m])) * 100", "at least 0"),
            ("rate(a[5m]) / rate(b[5m])", "at least 0"),
            ("1 - rate(a[5m]) / rate(b[5m])", "at most 1"),
            ("hour()", "between 0 and 23"),
            ("absent(x)", "always 1"),
            ("up == 0", "always 0"),
            ("avg(up)", "between 0 and 1"),
            ("sum(up) / count(up)", "at least 0"),
            ("x > 5", "above 5"),
            ("5 > x", "below 5"),
            ("clamp_min(x, 1)", "at least 1"),
            ("clamp(x, 1, 10)", "between 1 and 10"),
            ("abs(x)", "at least 0"),
            ("abs(up - 2)", "between 1 and 2"),
            ("x > bool 1", "between 0 and 1"),
            ("count(x) or vector(0)", "at least 0"),
            ("quantile(0.9, up)", "between 0 and 1"),
            ("histogram_quantile(0.9, x)", "any number"),
            ("x_total ^ 2", "at least 0"),
            ("x % 5", "any number"),
            ("NaN + 1", "any number"),
        ] {
            let got = facts(text).0.describe();
            if got != expected {
                wrong.push(format!("{text}: {got}, not {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for (text, zero) in [
            ("x", true),
            ("x > 0", false),
            ("x != 0", false),
            ("clamp_min(x, 1)", false),
            ("avg(x != 0)", true),
            ("sum(x > 0)", false),
            ("count(x)", false),
            ("rate(x[5m])", true),
        ] {
            assert_eq!(facts(text).0.may_be_zero(), zero, "{text}");
        }
    }

    #[test]
    fn comparisons_that_say_nothing_are_found() {
        use Kind::{Always, Never, Parameter};
        let mut wrong = Vec::new();
        for (text, expected) in [
            ("count(x) < 0", &[(Never, "<")][..]),
            ("count(x) < 1", &[(Never, "<")]),
            ("count(x) == 0", &[(Never, "==")]),
            ("count(x) > 0", &[(Always, ">")]),
            ("count(x) > 1", &[]),
            ("count(x) or vector(0) == 0", &[]),
            ("(count(x) or vector(0)) == 0", &[]),
            ("x > 1 < 1", &[(Never, "<")]),
            ("(x > 5) < 3", &[(Never, "<")]),
            ("x > 5 < 10", &[]),
            ("x == 1 == 2", &[(Never, "==")]),
            ("x > 5 and x < 3", &[(Never, "x > 5 and x < 3")]),
            ("x > 3 and x < 5", &[]),
            ("x > 5 or x < 3", &[]),
            ("x > 5 and on (a) x < 3", &[]),
            ("x unless x", &[(Never, "x unless x")]),
            ("x unless y", &[]),
            ("up > 1", &[(Never, ">")]),
            ("up == 2", &[(Never, "==")]),
            ("up == 0", &[]),
            ("up != 2", &[(Always, "!=")]),
            ("rate(x[5m]) < 0", &[(Never, "<")]),
            ("rate(x[5m]) >= 0", &[(Always, ">=")]),
            ("deriv(x[5m]) < 0", &[]),
            ("x_total < 0", &[(Never, "<")]),
            ("x == NaN", &[(Never, "==")]),
            ("x != NaN", &[(Always, "!=")]),
            ("hour() > 24", &[]),
            ("x and on () hour() >= 24", &[]),
            ("hour(x) > 24", &[(Never, ">")]),
            ("day_of_week(x) == 7", &[(Never, "==")]),
            ("absent(x) == 0", &[(Never, "==")]),
            ("absent(vector(1))", &[(Never, "vector(1)")]),
            ("count(x) > bool 0", &[(Always, ">")]),
            ("quantile(95, x)", &[(Parameter, "95")]),
            ("histogram_quantile(1.5, x)", &[(Parameter, "1.5")]),
            ("quantile_over_time(-0.5, x[5m])", &[(Parameter, "-0.5")]),
            ("topk(0, x)", &[(Never, "0")]),
            ("vector(1) > 0", &[]),
            ("1 - up > 1", &[(Never, ">")]),
            ("x > y", &[]),
            ("count(x) > count(y)", &[]),
            ("count(x) + fill(0) count(y) < 1", &[]),
        ] {
            let got: Vec<(Kind, &str)> =
                facts(text).1.iter().map(|f| (f.kind, &text[f.span.clone()])).collect();
            if got != expected {
                wrong.push(format!("{text}: {got:?}, not {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn presence_is_known() {
        use Presence::{Always, Maybe, Never};
        for (text, expected) in [
            ("x", Maybe),
            ("vector(1)", Always),
            ("vector(1) > 0", Always),
            ("vector(0) > 0", Never),
            ("sum(x) or vector(0)", Always),
            ("sum(vector(1))", Always),
            ("count(x) < 0 or y", Maybe),
            ("count(x) < 0 or count(y) < 0", Never),
            ("sum(count(x) < 0)", Never),
            ("absent(count(x) < 0)", Always),
            ("time()", Always),
            ("scalar(x)", Always),
            ("x * vector(1)", Maybe),
        ] {
            assert_eq!(facts(text).0.presence, expected, "{text}");
        }
    }
}
