//! What binary operators do to two floats. Stands here because constant folding and the
//! evaluator must agree to the bit.

use crate::parser::ast::BinaryOp;

/// The arithmetic of `lhs op rhs`; comparisons have none and give the left side.
#[inline]
pub(crate) fn arithmetic(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        // Rust's `%` on floats is C's fmod, as Go's math.Mod is.
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => power(lhs, rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        _ => lhs,
    }
}

/// Go's `math.Pow`, which agrees with C's but for -1 to an infinite power and 1 to NaN.
fn power(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

/// Whether the comparison `lhs op rhs` holds; false for operators that do not compare.
#[inline]
pub(crate) fn compare(op: BinaryOp, lhs: f64, rhs: f64) -> bool {
    match op {
        BinaryOp::Eq => lhs == rhs,
        BinaryOp::NotEq => lhs != rhs,
        BinaryOp::Less => lhs < rhs,
        BinaryOp::LessEq => lhs <= rhs,
        BinaryOp::Greater => lhs > rhs,
        BinaryOp::GreaterEq => lhs >= rhs,
        _ => false,
    }
}

/// `lhs op rhs` for scalars, where a comparison is always a `bool` one.
pub(crate) fn scalar_binary(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    if op.is_comparison() {
        f64::from(u8::from(compare(op, lhs, rhs)))
    } else {
        arithmetic(op, lhs, rhs)
    }
}
