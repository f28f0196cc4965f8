//! How soon an evaluation stops when it is told to: between two looks at the interrupt no
//! operator does more than a bounded amount of work, whatever it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cx::CHECK_EVERY;
use super::{Cx, ExecError, ExecOptions, Found, Interrupt, instant, range, sort};
use crate::model::effort::{counted, effort};
use crate::model::histogram::Span;
use crate::model::{FloatHistogram, Labels, StepGrid, Value};
use crate::parser::{self, ParserOptions};
use crate::plan::{BindOptions, Plan, PlanOptions};
use crate::storage::{RawSeries, StorageError};
use crate::vector::RawSamples;

/// Work that may lie between two looks: a pace's worth, and what a loop was at besides.
const WORK_MAX: usize = 3 * CHECK_EVERY;

/// A sample every 15 s, or a native histogram every minute.
struct Endless {
    labels: Labels,
    histograms: bool,
}

impl RawSeries for Endless {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(&self, from: i64, to: i64, out: &mut RawSamples) -> Result<(), StorageError> {
        let every = if self.histograms { 60_000 } else { 15_000 };
        let first = from.div_euclid(every) * every + every;
        let seed = self.labels.as_bytes().iter().map(|b| u64::from(*b)).sum::<u64>();
        for ts in (first..=to).step_by(every as usize) {
            effort(1);
            if self.histograms {
                out.hist.push((ts, histogram(ts as f64)));
            } else {
                out.push(ts, (seed * 37 % 1009 + ts as u64 / 15_000) as f64);
            }
        }
        Ok(())
    }
}

fn histogram(count: f64) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        count,
        sum: count,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![count],
        ..FloatHistogram::default()
    })
}

/// Many series of `wide` and few of `long`; `other_*` have partners in both directions.
fn store() -> Vec<Arc<Endless>> {
    let mut all = vec![];
    let mut add = |name: &str, count: u32, le: Option<u32>, histograms: bool| {
        for i in 0..count {
            let mut labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("i", format!("{:05}", i * 7919 % count)),
                ("tenth", (i % 10).to_string()),
            ])
            .builder();
            if let Some(buckets) = le {
                labels.set("le", &(i % buckets).to_string()).set("i", &(i / buckets).to_string());
            }
            all.push(Arc::new(Endless { labels: labels.build(), histograms }));
        }
    };
    add("wide", 6_000, None, false);
    add("other_wide", 6_000, None, false);
    add("bucket_wide", 6_000, Some(10), false);
    add("native_wide", 6_000, None, true);
    add("target_info", 6_000, None, false);
    add("long", 2, None, false);
    add("other_long", 40, None, false);
    add("bucket_long", 4, Some(4), false);
    add("native_long", 1, None, true);
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

fn evaluate(
    store: &[Arc<Endless>],
    text: &str,
    grid: StepGrid,
    interrupt: Interrupt,
) -> Result<Value, ExecError> {
    let expr = parser::parse(text, &ParserOptions::all()).unwrap();
    let plan = Plan::new(&expr, PlanOptions::default());
    let bind = BindOptions { lookback_ms: 300_000, default_step_ms: 60_000, end_ms: grid.end_ms() };
    let binding = plan.bind(grid, bind).unwrap();
    let wanted = |request: &crate::plan::bind::Request| -> Vec<Arc<dyn RawSeries>> {
        let matching =
            store.iter().filter(|s| request.matchers.iter().all(|m| m.matches_labels(&s.labels)));
        matching.map(|s| Arc::clone(s) as Arc<dyn RawSeries>).collect()
    };
    let series = binding.requests.iter().map(|r| Found::new(wanted(r))).collect();
    let options = ExecOptions {
        max_samples: 100_000_000,
        max_memory_bytes: u64::MAX,
        delayed_names: false,
        use_start_timestamps: false,
        type_and_unit_labels: false,
        per_step_stats: false,
        parallel: false,
        part_work: super::PART_WORK,
    };
    // The longest stretch is that of what follows.
    counted::longest();
    let cx = Cx::new(Arc::new(binding), series, options, interrupt)?;
    let value = if grid.is_instant() { instant(&cx, &plan.root)? } else { range(&cx, &plan.root)? };
    sort(&cx, value)
}

/// Runs an expression undisturbed, then stops it at looks spread over its whole course.
/// Says what is wrong.
fn problems(store: &[Arc<Endless>], text: &str, grid: StepGrid) -> Vec<String> {
    let run = |looks: u64| {
        let left = Arc::new(AtomicU64::new(looks));
        let result = evaluate(store, text, grid, Interrupt::after_looks(left.clone()));
        (result.err(), counted::longest(), looks.wrapping_sub(left.load(Ordering::Relaxed)))
    };
    let (error, longest, looks) = run(u64::MAX);
    // One plain pass over the steps of one row is not interrupted.
    let work_max = WORK_MAX + grid.len as usize;
    let mut all = vec![];
    if error.is_some() {
        all.push(format!("{text}: {error:?}"));
    }
    if longest > work_max {
        all.push(format!("{text}: {longest} units of work between two looks"));
    }
    for part in 0..=3 {
        let stop_at = (looks * part / 3).max(1);
        let (error, longest, looked) = run(stop_at);
        if error != Some(ExecError::Canceled) {
            all.push(format!("{text}: stopped at look {stop_at} of {looks}: {error:?}"));
        }
        // Whoever sees it stops for good: nobody goes on and looks again.
        if longest > work_max || looked > stop_at + 1 {
            all.push(format!("{text}: {longest} units, {looked} looks, stopped at {stop_at}"));
        }
    }
    all
}

fn check(cases: &[(&str, StepGrid)]) {
    let store = store();
    let all: Vec<String> =
        cases.iter().flat_map(|(text, grid)| problems(&store, text, *grid)).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

const WIDE: &[&str] = &[
    "wide",
    "wide[1m]",
    "rate(wide[1m])",
    "-wide",
    "wide + 1",
    "wide > 1000",
    "wide + on (i) other_wide",
    "wide * on (tenth) group_left () sum by (tenth) (other_wide)",
    "wide + ignoring (tenth) group_left () other_wide",
    "wide + on (i) fill (0) other_wide",
    "wide and on (i) other_wide",
    "wide or other_wide",
    "wide unless on (tenth) (other_wide > 1008)",
    "sum by (i) (wide)",
    "avg(wide)",
    "quantile by (tenth) (0.5, wide)",
    "stddev by (i) (wide)",
    "count by (i) (wide)",
    "topk(4000, wide)",
    "bottomk by (tenth) (400, wide)",
    "limitk(4000, wide)",
    "limit_ratio(0.5, wide)",
    "count_values('v', wide)",
    "sort(wide)",
    "sort_desc(wide)",
    "sort_by_label(wide, 'i', 'tenth')",
    "label_replace(wide, 'j', '$1', 'i', '(.*)1')",
    "label_join(wide, 'j', '-', 'i', 'tenth')",
    "histogram_quantile(0.9, bucket_wide)",
    "histogram_fraction(0, 1, bucket_wide)",
    "histogram_quantile(0.9, native_wide)",
    "histogram_avg(native_wide)",
    "-native_wide",
    "native_wide * 2",
    "sum(native_wide)",
    "absent(wide)",
    "absent_over_time(wide[1m])",
    "scalar(wide)",
    "info(native_wide, {__name__='target_info'})",
    "max_over_time(wide[1m:15s])",
    "abs(wide)",
    "round(wide, 5)",
    "timestamp(wide)",
    "hour(wide)",
    "clamp(wide, 1, 2)",
];

#[test]
fn over_many_series_no_operator_works_long_without_a_look() {
    let instant = StepGrid::instant(1_000_000_000);
    let cases: Vec<_> = WIDE.iter().map(|text| (*text, instant)).collect();
    check(&cases);
}

#[test]
fn over_many_series_and_some_steps_no_operator_works_long_without_a_look() {
    let grid = StepGrid::range(1_000_000_000, 1_000_300_000, 60_000).unwrap();
    let texts =
        ["wide", "sum by (i) (wide)", "topk(3, wide)", "wide @ end()", "wide + on (i) other_wide"];
    check(&texts.map(|text| (text, grid)));
}

const LONG: &[&str] = &[
    "long",
    "rate(long[30s])",
    "-long",
    "long + 1",
    "1 < long",
    "long + on (i) group_left () other_long{tenth='0'}",
    "sum by (tenth) (other_long{i=~'0000.'}) * on (tenth) group_right () other_long",
    "long and on (i) other_long",
    "long or other_long{i='00001'}",
    "sum(long)",
    "quantile(0.5, long)",
    "topk(1, long)",
    "count_values('v', long > bool 500)",
    "histogram_quantile(0.9, bucket_long)",
    "histogram_quantile(0.9, native_long)",
    "histogram_avg(native_long)",
    "-native_long",
    "native_long * 2",
    "rate(native_long[2m])",
    "absent(long)",
    "absent_over_time(long[15s])",
    "vector(scalar(long) + time() * 2)",
    "max_over_time(long[30s:15s])",
    "round(long, 5)",
    "abs(long)",
    "timestamp(long + 1)",
    "hour(long)",
    "long @ end()",
];

#[test]
fn over_many_steps_no_operator_works_long_without_a_look() {
    let grid = StepGrid::range(1_000_000_000, 1_500_000_000, 15_000).unwrap();
    assert!(grid.len as usize > WORK_MAX, "passes over a row show");
    let cases: Vec<_> = LONG.iter().map(|text| (*text, grid)).collect();
    check(&cases);
}

#[test]
fn over_many_groups_and_steps_nothing_large_is_made_in_one_go() {
    let grid = StepGrid::range(1_000_000_000, 1_000_900_000, 15_000).unwrap();
    let texts = [
        "sum by (i) (wide)",
        "avg by (i) (wide)",
        "max by (i) (wide)",
        "stddev by (i) (wide)",
        "count by (i) (wide)",
        "histogram_quantile(0.9, bucket_wide)",
        "wide + on (i) fill (0) other_wide",
        "info(wide, {__name__='target_info'})",
    ];
    check(&texts.map(|text| (text, grid)));
}

#[test]
fn over_long_ranges_no_series_is_read_in_one_go() {
    let grid = StepGrid::range(1_000_000_000_000, 1_000_000_015_000, 15_000).unwrap();
    let texts = [
        "sum_over_time(long[20d])",
        "quantile_over_time(0.5, long[20d])",
        "rate(long[20d])",
        "rate(native_long[20d])",
        "last_over_time(long[20d:1h])",
    ];
    check(&texts.map(|text| (text, grid)));
    check(&[("long[20d]", StepGrid::instant(1_000_000_000_000))]);
}
