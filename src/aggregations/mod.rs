//! The aggregator registry: one row per aggregation operator, the same pattern as
//! `functions`.

use crate::functions::{Flags, Stability};
use crate::model::value::ValueType;
use crate::vector::SeriesBlock;

/// One aggregator.
#[derive(Debug)]
pub struct AggregatorSpec {
    /// Name in lower case; matched case-insensitively.
    pub name: &'static str,
    /// Type of the parameter before the vector, if it takes one.
    pub param: Option<ValueType>,
    pub stability: Stability,
    pub kernel: AggregatorKernel,
    /// One paragraph for the reference page.
    pub doc: &'static str,
    /// An expression that uses it.
    pub example: &'static str,
}

impl PartialEq for AggregatorSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The code behind an aggregator.
#[derive(Clone, Copy, Debug)]
pub enum AggregatorKernel {
    /// Folds series into groups; `new(groups, steps, param per step)`.
    Fold(fn(u32, u32, &[f64]) -> Box<dyn Accumulator>),
    /// Chooses some of the input series per group and step.
    Select(Selection),
    /// One output series per distinct value: an operator of its own.
    CountValues,
}

/// Aggregators that pass samples through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    TopK,
    BottomK,
    LimitK,
    LimitRatio,
}

/// Folds rows of blocks into groups. Rows arrive in series order; with parallel input,
/// each range of series has its own accumulator and they are merged in range order, so
/// the result does not depend on timing.
pub trait Accumulator: Send {
    /// Adds one series to a group, all steps at once.
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32);

    /// Adds what `later` gathered from the series after this one's; same groups and steps,
    /// same concrete type.
    fn merge(&mut self, later: Box<dyn Accumulator>);

    /// For `merge`: gives up the concrete type.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;

    /// One row per group; a slot without input is absent. Flags are per group.
    fn finish(self: Box<Self>) -> (SeriesBlock, Vec<Flags>);
}

mod fold;
mod rows;
mod simple;
mod spread;
mod sum;

/// The row of an aggregator; any case.
pub fn find(name: &str) -> Option<&'static AggregatorSpec> {
    all().find(|spec| spec.name.eq_ignore_ascii_case(name))
}

/// Every row.
pub fn all() -> impl Iterator<Item = &'static AggregatorSpec> {
    rows::ALL.iter()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::FloatHistogram;
    use crate::vector::SeriesId;

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    fn start(name: &str, groups: u32, steps: u32, params: &[f64]) -> Box<dyn Accumulator> {
        match find(name).expect("known aggregator").kernel {
            AggregatorKernel::Fold(start) => start(groups, steps, params),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// One series per value, all in group 0 at one step.
    fn column(values: &[f64]) -> SeriesBlock {
        let mut block = SeriesBlock::absent(SeriesId(0), values.len() as u32, 1);
        for (row, v) in values.iter().enumerate() {
            block.set_float(row as u32, 0, *v);
        }
        block
    }

    fn fold(name: &str, params: &[f64], values: &[f64], split: usize) -> Option<f64> {
        let block = column(values);
        let mut first = start(name, 1, 1, params);
        let mut second = start(name, 1, 1, params);
        for row in 0..block.rows {
            let part = if (row as usize) < split { &mut first } else { &mut second };
            part.add(0, &block, row);
        }
        if split < values.len() {
            first.merge(second);
        }
        first.finish().0.float(0, 0)
    }

    /// Checks the fold in one go, and as two ranges of series that are merged.
    fn check(name: &str, params: &[f64], values: &[f64], expected: f64) {
        for split in [values.len(), values.len() / 2] {
            let got = fold(name, params, values, split).expect("a value");
            let same = got == expected
                || (got.is_nan() && expected.is_nan())
                || (got - expected).abs() <= 1e-15 * got.abs();
            assert!(same, "{name} of {values:?} split at {split}: {expected} != {got}");
        }
    }

    #[test]
    fn folds_give_the_same_alone_and_merged() {
        check("sum", &[], &[1.0, 1e100, 1.0, -1e100], 2.0);
        check("sum", &[], &[INF, -INF], NAN);
        check("sum", &[], &[-0.0], -0.0);
        check("avg", &[], &[1.0, 2.0, 6.0], 3.0);
        check("avg", &[], &[f64::MAX, f64::MAX, f64::MAX], f64::MAX);
        check("avg", &[], &[INF, 1.0, 2.0], INF);
        check("count", &[], &[NAN, 1.0, 2.0], 3.0);
        check("group", &[], &[7.0, 8.0], 1.0);
        check("min", &[], &[NAN, 3.0, -1.0], -1.0);
        check("max", &[], &[NAN, 3.0, -1.0, NAN], 3.0);
        check("max", &[], &[NAN, NAN], NAN);
        check("stdvar", &[], &[0.0, 8.0, 8.0, 2.0, 3.0], 10.56);
        check("stddev", &[], &[1.0, 3.0], 1.0);
        check("stddev", &[], &[INF, 3.0], NAN);
        check("quantile", &[0.25], &[4.0, 1.0], 1.75);
        check("quantile", &[2.0], &[4.0, 1.0], INF);
    }

    #[test]
    fn absent_slots_stay_absent_and_full_words_take_the_dense_path() {
        let steps = 130;
        let mut block = SeriesBlock::absent(SeriesId(0), 3, steps);
        for step in 0..steps {
            block.set_float(0, step, f64::from(step));
            if step != 64 {
                block.set_float(1, step, 1.0);
            }
        }
        for name in ["sum", "avg", "count", "min", "max"] {
            let mut acc = start(name, 2, steps, &[]);
            for row in 0..3 {
                acc.add(u32::from(row == 2), &block, row);
            }
            let (out, _) = acc.finish();
            let expected = |step: u32| {
                let v = f64::from(step);
                match name {
                    "sum" if step != 64 => v + 1.0,
                    "avg" if step != 64 => (v + 1.0) / 2.0,
                    "count" => {
                        if step == 64 {
                            1.0
                        } else {
                            2.0
                        }
                    }
                    "min" if step != 64 => v.min(1.0),
                    "max" if step != 64 => v.max(1.0),
                    _ => v,
                }
            };
            for step in 0..steps {
                assert_eq!(out.float(0, step), Some(expected(step)), "{name} at {step}");
                assert_eq!(out.float(1, step), None, "{name} at {step}");
            }
        }
    }

    #[test]
    fn histograms_are_summed_and_never_mixed_with_floats() {
        let h = |count: f64| Arc::new(FloatHistogram { count, sum: count, ..Default::default() });
        let mut block = SeriesBlock::absent(SeriesId(0), 2, 2);
        block.set_histogram(0, 0, h(1.0));
        block.set_histogram(1, 0, h(3.0));
        block.set_histogram(0, 1, h(1.0));
        block.set_float(1, 1, 5.0);
        let run = |name: &str| {
            let mut acc = start(name, 1, 2, &[]);
            acc.add(0, &block, 0);
            acc.add(0, &block, 1);
            let (out, flags) = acc.finish();
            (out.histogram(0, 0).map(|h| h.count), out.float(0, 0), out.float(0, 1), flags[0])
        };
        assert_eq!(run("sum"), (Some(4.0), None, None, Flags::MIXED_AGG));
        assert_eq!(run("avg"), (Some(2.0), None, None, Flags::MIXED_AGG));
        assert_eq!(run("count"), (None, Some(2.0), Some(2.0), Flags::default()));
        assert_eq!(run("max"), (None, None, Some(5.0), Flags::HISTOGRAMS_IGNORED_AGG));
    }

    #[test]
    fn every_row_is_documented() {
        for spec in all() {
            assert!(spec.doc.len() > 40 && spec.doc.ends_with('.'), "{}", spec.name);
            assert!(spec.example.contains(spec.name), "{}", spec.name);
        }
        assert_eq!(all().count(), 14);
    }
}
