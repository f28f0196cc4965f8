//! The folds against hand-computed values, and against a naive evaluation.

use std::sync::Arc;

use proptest::prelude::*;

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
        first.merge(second, &|| true);
    }
    first.finish(&|| true).0.float(0, 0)
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
        let (out, _) = acc.finish(&|| true);
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
        let (out, flags) = acc.finish(&|| true);
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

/// Every value of a group at a step, in series order.
fn naive(name: &str, values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let variance = || values.iter().map(|v| (v - sum / n) * (v - sum / n)).sum::<f64>() / n;
    match name {
        "sum" => sum,
        "avg" => sum / n,
        "count" => n,
        "group" => 1.0,
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "stddev" => variance().sqrt(),
        "stdvar" => variance(),
        "quantile" => {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            let rank = 0.3 * (n - 1.0);
            let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
            sorted[low] + (sorted[high] - sorted[low]) * rank.fract()
        }
        other => panic!("no naive {other}"),
    }
}

proptest! {
    /// Rows of 1 to 200 steps in up to three groups, cut anywhere into two ranges.
    #[test]
    fn columns_equal_a_naive_evaluation(
        steps in 1u32..200,
        rows in prop::collection::vec((0u32..3, any::<u64>(), -1e6f64..1e6), 1..12),
        split in 0usize..12,
    ) {
        let mut block = SeriesBlock::absent(SeriesId(0), rows.len() as u32, steps);
        for (row, (_, seed, base)) in rows.iter().enumerate() {
            for step in 0..steps {
                // A third of the rows is dense, the others have gaps.
                if seed % 3 == 0 || seed.rotate_left(step) & 1 == 1 {
                    block.set_float(row as u32, step, base + f64::from(step) * 0.5);
                }
            }
        }
        for name in ["sum", "avg", "count", "group", "min", "max", "stddev", "stdvar", "quantile"] {
            let phis = vec![0.3; steps as usize];
            let mut first = start(name, 3, steps, &phis);
            let mut second = start(name, 3, steps, &phis);
            for (row, (group, ..)) in rows.iter().enumerate() {
                let part = if row < split { &mut first } else { &mut second };
                part.add(*group, &block, row as u32);
            }
            first.merge(second, &|| true);
            let (out, flags) = first.finish(&|| true);
            prop_assert!(flags.iter().all(|f| *f == Flags::default()));
            for group in 0..3 {
                for step in 0..steps {
                    let members: Vec<f64> = (0..rows.len())
                        .filter(|row| rows[*row].0 == group)
                        .filter_map(|row| block.float(row as u32, step))
                        .collect();
                    match out.float(group, step) {
                        None => prop_assert!(members.is_empty(), "{name} misses {members:?}"),
                        Some(got) => {
                            let want = naive(name, &members);
                            let scale = members.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                            let close = (got - want).abs() <= 1e-6 * scale * scale.max(1.0);
                            prop_assert!(close, "{name} of {members:?}: {want} != {got}");
                        }
                    }
                }
            }
        }
    }
}
