//! `load_with_nhcb`: for every classic histogram of a block, the equivalent native one
//! with custom buckets under the base name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::{LoadSeries, Point};
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};
use crate::model::{FloatHistogram, Labels, METRIC_NAME};
use crate::storage::memory::MemoryStorage;

/// The classic samples of one histogram at one time.
#[derive(Clone, Debug, Default)]
struct Classic {
    /// `(le, cumulative count)`
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Converts the block and appends the result.
pub(super) fn convert(
    series: &BTreeMap<Labels, LoadSeries>,
    step_ms: i64,
    storage: &MemoryStorage,
) -> Result<(), String> {
    let mut histograms: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
    for (labels, loaded) in series {
        let Some((base, part)) = part_of(labels) else { continue };
        let by_time = histograms.entry(base).or_default();
        for (i, point) in loaded.points.iter().enumerate() {
            let Some(Point::Float(v)) = point else { continue };
            let classic = by_time.entry(i).or_default();
            match part {
                Part::Bucket(le) => classic.buckets.push((le, *v)),
                Part::Count => classic.count = Some(*v),
                Part::Sum => classic.sum = *v,
            }
        }
    }
    for (labels, by_time) in histograms {
        // A metric that merely ends like a part of a histogram is none.
        if by_time.values().all(|classic| classic.buckets.is_empty()) {
            continue;
        }
        for (i, classic) in by_time {
            let histogram = to_native(classic).map_err(|e| format!("{labels}: {e}"))?;
            let point = Point::Histogram { histogram: Arc::new(histogram), hint_given: false };
            point.append(storage, &labels, i as i64 * step_ms, None)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// The labels of the native histogram, and which part of it a series is.
fn part_of(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.metric_name();
    let (base, part) = if let Some(base) = name.strip_suffix("_bucket") {
        let le: f64 = labels.get("le")?.parse().ok().filter(|le: &f64| !le.is_nan())?;
        (base, Part::Bucket(le))
    } else if let Some(base) = name.strip_suffix("_count") {
        (base, Part::Count)
    } else {
        (name.strip_suffix("_sum")?, Part::Sum)
    };
    let mut builder = labels.builder();
    builder.set(METRIC_NAME, base).del("le");
    Some((builder.build(), part))
}

fn to_native(classic: Classic) -> Result<FloatHistogram, String> {
    let Classic { mut buckets, count, sum } = classic;
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let highest = buckets.last().map_or(0.0, |b| b.1);
    let count = count.unwrap_or(highest);
    if buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        buckets.push((f64::INFINITY, count));
    }
    let mut previous = 0.0;
    let mut counts = Vec::with_capacity(buckets.len());
    for (le, cumulative) in &buckets {
        if *cumulative < 0.0 {
            return Err(format!("negative bucket count: le={le}, count={cumulative}"));
        }
        if *cumulative < previous {
            return Err(format!("bucket counts are not cumulative: le={le}, count={cumulative}"));
        }
        counts.push(cumulative - previous);
        previous = *cumulative;
    }
    if previous != count {
        return Err(format!("count mismatch: count={count}, highest bucket={previous}"));
    }
    let whole = buckets.iter().all(|b| b.1.fract() == 0.0) && count.fract() == 0.0;
    let mut h = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum,
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts,
        custom_values: buckets
            .iter()
            .map(|b| b.0)
            .filter(|le| le.is_finite() || *le < 0.0)
            .collect(),
        ..Default::default()
    };
    h.compact(if whole { 2 } else { 0 });
    Ok(h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cumulative_counts_become_buckets() {
        let check = |buckets: &[(f64, f64)], count: Option<f64>, expected: &str| {
            let classic = Classic { buckets: buckets.to_vec(), count, sum: 7.0 };
            let got = to_native(classic).map_or_else(|e| e, |h| h.test_expression());
            assert!(got.contains(expected), "expected {expected:?} in {got:?}");
        };
        check(
            &[(2.0, 3.0), (1.0, 1.0), (f64::INFINITY, 6.0)],
            Some(6.0),
            "{{schema:-53 count:6 sum:7 custom_values:[1 2] buckets:[1 2 3]}}",
        );
        check(&[(1.0, 1.0)], Some(4.0), "custom_values:[1] buckets:[1 3]");
        check(&[(1.0, 1.0), (2.0, 4.0)], None, "count:4 sum:7 custom_values:[1 2] buckets:[1 3]");
        check(&[(1.0, 5.0), (2.0, 4.0)], None, "not cumulative");
        check(&[(f64::INFINITY, 5.0)], Some(6.0), "count mismatch");
    }
}
