//! The syntax tree as the JSON of `parse_query`. Keys are those of Prometheus.

use serde_json::{Value, json};

use crate::functions::{Arity, FunctionSpec};
use crate::model::{Matcher, float};
use crate::parser::ast::{
    AtModifier, Binary, Cardinality, DurationExpr, DurationKind, DurationOp, Expr, ExprKind,
    Grouping, Modifiers, NumberLiteral, RangeExtension, UnaryOp, VectorMatching, VectorSelector,
};

/// A tree as the JSON that `parse_query` answers; keys of objects come in alphabetical
/// order, as in Go.
pub fn to_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => {
            json!({"type": "numberLiteral", "val": float::fixed(number.value)})
        }
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::VectorSelector(selector) => selector_json("vectorSelector", selector),
        ExprKind::MatrixSelector(matrix) => {
            let mut value = selector_json("matrixSelector", &matrix.selector);
            let (range, range_expr) = duration_json(Some(&matrix.range));
            value["range"] = range;
            value["rangeExpr"] = range_expr;
            value
        }
        ExprKind::Subquery(subquery) => {
            let (range, range_expr) = duration_json(Some(&subquery.range));
            let (step, step_expr) = duration_json(subquery.step.as_ref());
            let mut value = json!({
                "type": "subquery",
                "expr": to_json(&subquery.expr),
                "range": range,
                "rangeExpr": range_expr,
                "step": step,
                "stepExpr": step_expr,
            });
            set_modifiers(&mut value, &subquery.modifiers);
            value
        }
        ExprKind::Call(call) => json!({
            "type": "call",
            "func": function_json(call.function),
            "args": call.args.iter().map(to_json).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregate) => {
            let (labels, without) = match &aggregate.grouping {
                Grouping::By(labels) => (labels, false),
                Grouping::Without(labels) => (labels, true),
            };
            json!({
                "type": "aggregation",
                "op": aggregate.op.name,
                "expr": to_json(&aggregate.expr),
                "param": aggregate.param.as_ref().map(to_json),
                "grouping": labels,
                "without": without,
            })
        }
        ExprKind::Binary(binary) => binary_json(binary),
        ExprKind::Unary { op, expr } => {
            json!({"type": "unaryExpr", "op": sign(*op), "expr": to_json(expr)})
        }
        ExprKind::Paren(expr) => json!({"type": "parenExpr", "expr": to_json(expr)}),
    }
}

fn sign(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Plus => "+",
        UnaryOp::Minus => "-",
    }
}

fn selector_json(kind: &str, selector: &VectorSelector) -> Value {
    let mut value = json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "matchers": selector.matchers.iter().map(matcher_json).collect::<Vec<_>>(),
        "anchored": selector.extension == Some(RangeExtension::Anchored),
        "smoothed": selector.extension == Some(RangeExtension::Smoothed),
    });
    set_modifiers(&mut value, &selector.modifiers);
    value
}

fn matcher_json(matcher: &Matcher) -> Value {
    json!({"name": &*matcher.name, "type": matcher.op.as_str(), "value": &*matcher.value})
}

fn set_modifiers(value: &mut Value, modifiers: &Modifiers) {
    let (offset, offset_expr) = duration_json(modifiers.offset.as_ref());
    value["offset"] = offset;
    value["offsetExpr"] = offset_expr;
    value["timestamp"] = match modifiers.at {
        Some(AtModifier::Timestamp(ms)) => json!(ms),
        _ => Value::Null,
    };
    value["startOrEnd"] = match modifiers.at {
        Some(AtModifier::Start) => json!("start"),
        Some(AtModifier::End) => json!("end"),
        _ => Value::Null,
    };
}

/// Milliseconds of a constant duration (0 for none or a computed one), and the expression
/// of a computed one.
fn duration_json(duration: Option<&DurationExpr>) -> (Value, Value) {
    match duration {
        None => (json!(0), Value::Null),
        Some(duration) => match constant_seconds(duration) {
            Some(seconds) => (json!((seconds * 1000.0).round() as i64), Value::Null),
            None => (json!(0), duration_tree(duration)),
        },
    }
}

/// The value of a duration that is just a number, possibly with a sign.
fn constant_seconds(duration: &DurationExpr) -> Option<f64> {
    match &duration.kind {
        DurationKind::Number(number) => Some(number.value),
        DurationKind::Unary { op: UnaryOp::Minus, expr } => match &expr.kind {
            DurationKind::Number(number) => Some(-number.value),
            _ => None,
        },
        DurationKind::Unary { op: UnaryOp::Plus, expr } => match &expr.kind {
            DurationKind::Number(number) => Some(number.value),
            _ => None,
        },
        _ => None,
    }
}

fn duration_tree(duration: &DurationExpr) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": false});
    match &duration.kind {
        DurationKind::Number(NumberLiteral { value, duration }) => {
            json!({"type": "numberLiteral", "val": float::fixed(*value), "duration": duration})
        }
        DurationKind::Step => node("step", Value::Null, Value::Null),
        DurationKind::Range => node("range", Value::Null, Value::Null),
        DurationKind::Binary { op, lhs, rhs } => {
            let op = match op {
                DurationOp::Add => "+",
                DurationOp::Sub => "-",
                DurationOp::Mul => "*",
                DurationOp::Div => "/",
                DurationOp::Mod => "%",
                DurationOp::Pow => "^",
            };
            node(op, duration_tree(lhs), duration_tree(rhs))
        }
        DurationKind::Unary { op, expr } => node(sign(*op), Value::Null, duration_tree(expr)),
        DurationKind::MinOf(lhs, rhs) => node("min_of", duration_tree(lhs), duration_tree(rhs)),
        DurationKind::MaxOf(lhs, rhs) => node("max_of", duration_tree(lhs), duration_tree(rhs)),
        DurationKind::Paren(inner) => {
            let mut value = duration_tree(inner);
            if value["type"] == "durationExpr" {
                value["wrapped"] = json!(true);
            }
            value
        }
    }
}

fn function_json(function: &FunctionSpec) -> Value {
    // Go's convention: how many of the last arguments are optional, -1 for any number.
    let variadic = match function.arity {
        Arity::Exact => 0,
        Arity::Optional(n) => i64::try_from(n).unwrap_or(i64::MAX),
        Arity::Variadic { max: None, .. } => -1,
        Arity::Variadic { min, max: Some(max) } => {
            i64::try_from(max.saturating_sub(min)).unwrap_or(i64::MAX)
        }
    };
    json!({
        "name": function.name,
        "argTypes": function.args.iter().map(|t| t.raw()).collect::<Vec<_>>(),
        "variadic": variadic,
        "returnType": function.returns.raw(),
    })
}

fn binary_json(binary: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": to_json(&binary.lhs),
        "rhs": to_json(&binary.rhs),
        "matching": binary.matching.as_ref().map(matching_json),
        "bool": binary.return_bool,
    })
}

fn matching_json(matching: &VectorMatching) -> Value {
    let card = match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    })
}
