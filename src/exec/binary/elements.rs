//! What a binary operator does to two samples: the matrix of floats and histograms.

use std::sync::Arc;

use crate::exec::cx::Cx;
use crate::model::histogram::CounterResetHint;
use crate::model::{FloatHistogram, Sample};
use crate::parser::ast::{BinaryOp, Span};
use crate::plan::arithmetic::{arithmetic, compare};

/// An operator at work, and where its annotations point.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a> {
    pub cx: &'a Cx,
    pub op: BinaryOp,
    pub return_bool: bool,
    pub span: &'a Span,
}

/// What came of two samples: the value, and whether a filter keeps it.
struct Outcome {
    sample: Sample,
    keep: bool,
}

impl Elements<'_> {
    /// `lhs op rhs`; `None` when a filter or the types drop it. A filter passes `value`,
    /// which is the left sample, or the vector's of a vector and a scalar.
    pub(super) fn apply(&self, lhs: &Sample, rhs: &Sample, value: &Sample) -> Option<Sample> {
        let outcome = self.combine(lhs, rhs, value)?;
        if self.return_bool {
            return Some(Sample::Float(f64::from(u8::from(outcome.keep))));
        }
        outcome.keep.then_some(outcome.sample)
    }

    fn combine(&self, lhs: &Sample, rhs: &Sample, value: &Sample) -> Option<Outcome> {
        let op = self.op;
        let kept = |sample| Some(Outcome { sample, keep: true });
        let histogram = |h: FloatHistogram| kept(Sample::Histogram(Arc::new(h)));
        match (lhs, rhs) {
            (Sample::Float(l), Sample::Float(r)) => {
                if op.is_comparison() {
                    return Some(Outcome { sample: value.clone(), keep: compare(op, *l, *r) });
                }
                if op.is_trim() {
                    return self.incompatible("float", "float");
                }
                kept(Sample::Float(arithmetic(op, *l, *r)))
            }
            (Sample::Float(l), Sample::Histogram(r)) => match op {
                BinaryOp::Mul => histogram(scaled(r, |h| h.mul(*l))),
                _ => self.incompatible("float", "histogram"),
            },
            (Sample::Histogram(l), Sample::Float(r)) => match op {
                BinaryOp::Mul => histogram(scaled(l, |h| h.mul(*r))),
                BinaryOp::Div => histogram(scaled(l, |h| h.div(*r))),
                BinaryOp::TrimUpper => histogram(scaled(l, |h| h.trim_above(*r))),
                BinaryOp::TrimLower => histogram(scaled(l, |h| h.trim_below(*r))),
                _ => self.incompatible("histogram", "float"),
            },
            (Sample::Histogram(l), Sample::Histogram(r)) => match op {
                BinaryOp::Add | BinaryOp::Sub => histogram(self.sum(l, r)?),
                BinaryOp::Eq => Some(Outcome { sample: value.clone(), keep: l.equals(r) }),
                BinaryOp::NotEq => Some(Outcome { sample: value.clone(), keep: !l.equals(r) }),
                _ => self.incompatible("histogram", "histogram"),
            },
        }
    }

    fn sum(&self, lhs: &FloatHistogram, rhs: &FloatHistogram) -> Option<FloatHistogram> {
        let mut out = lhs.clone();
        let (word, combined) = match self.op {
            BinaryOp::Add => ("addition", out.add(rhs)),
            _ => ("subtraction", out.sub(rhs)),
        };
        let Ok(combined) = combined else {
            let op = self.op.as_str();
            self.cx.warn(
                self.span,
                format!("incompatible bucket layout encountered for binary operator {op}"),
            );
            return None;
        };
        if combined.bounds_reconciled {
            self.cx.info(
                self.span,
                format!("mismatched custom buckets were reconciled during {word}"),
            );
        }
        if combined.reset_collision {
            self.cx.warn(self.span, format!("conflicting counter resets during histogram {word}"));
            return None;
        }
        if self.op == BinaryOp::Sub {
            out.counter_reset_hint = CounterResetHint::Gauge;
        }
        out.compact(0);
        Some(out)
    }

    fn incompatible(&self, lhs: &str, rhs: &str) -> Option<Outcome> {
        let op = self.op.as_str();
        self.cx.info(
            self.span,
            format!(
                "incompatible sample types encountered for binary operator \"{op}\": {lhs} {op} {rhs}"
            ),
        );
        None
    }

    /// A row of floats against a row of floats: `lhs` becomes the result. Slots outside of
    /// `mask` end absent. Only for operators between floats.
    pub(super) fn floats(
        &self,
        lhs: &mut [f64],
        rhs: &[f64],
        value_is_rhs: bool,
        mask: &mut [u64],
    ) {
        let op = self.op;
        if op.is_comparison() {
            for (w, word) in mask.iter_mut().enumerate() {
                let steps = w * 64..lhs.len().min(w * 64 + 64);
                let mut bits = 0u64;
                for (bit, step) in steps.clone().enumerate() {
                    bits |= u64::from(compare(op, lhs[step], rhs[step])) << bit;
                }
                if self.return_bool {
                    for (bit, step) in steps.enumerate() {
                        lhs[step] = (bits >> bit & 1) as f64;
                    }
                } else {
                    if value_is_rhs {
                        lhs[steps.clone()].copy_from_slice(&rhs[steps]);
                    }
                    *word &= bits;
                }
            }
            return;
        }
        macro_rules! each {
            ($f:expr) => {
                lhs.iter_mut().zip(rhs).for_each(|(l, r)| *l = $f(*l, *r))
            };
        }
        match op {
            BinaryOp::Add => each!(|l: f64, r: f64| l + r),
            BinaryOp::Sub => each!(|l: f64, r: f64| l - r),
            BinaryOp::Mul => each!(|l: f64, r: f64| l * r),
            BinaryOp::Div => each!(|l: f64, r: f64| l / r),
            _ => each!(|l: f64, r: f64| arithmetic(op, l, r)),
        }
    }
}

fn scaled(h: &FloatHistogram, f: impl Fn(&mut FloatHistogram)) -> FloatHistogram {
    let mut out = h.clone();
    f(&mut out);
    out
}
