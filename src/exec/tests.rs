//! Plans evaluated with and without what makes them cheaper: the results are the same.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::{Cx, ExecOptions, Found, Interrupt, range, sort};
use crate::model::{Labels, StepGrid, Value};
use crate::parser::{self, ParserOptions};
use crate::plan::{BindOptions, Plan, PlanOptions};
use crate::storage::memory::MemoryStorage;
use crate::storage::{SelectHints, SelectRequest, Source};

/// 120 series of two metrics, an hour of samples every 15 s with gaps and a reset.
fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for i in 0..120u32 {
        let labels = Labels::from_pairs([
            ("__name__", if i % 3 == 0 { "a_total" } else { "b_total" }.to_owned()),
            ("instance", format!("i{}", i / 3)),
            ("zone", format!("z{}", i % 5)),
        ]);
        for t in 0..240u32 {
            if (t + i) % 17 < 2 {
                continue;
            }
            let value = f64::from((t * (i + 1)) % 97) + 0.1 * f64::from(i);
            storage.append(&labels, i64::from(t) * 15_000, value, None).unwrap();
        }
    }
    storage
}

fn evaluate(
    plan: &Plan,
    storage: &MemoryStorage,
    grid: StepGrid,
    parallel: bool,
) -> Result<Value, String> {
    let bind = BindOptions { lookback_ms: 300_000, default_step_ms: 60_000, end_ms: grid.end_ms() };
    let binding = plan.bind(grid, bind)?;
    let series: Vec<Arc<Found>> = binding
        .requests
        .iter()
        .map(|r| {
            let request = SelectRequest {
                matchers: r.matchers.clone(),
                from_ms: r.from_ms,
                to_ms: r.to_ms,
                hints: SelectHints::default(),
            };
            let future = storage.select(&request);
            Found::new(futures_util::FutureExt::now_or_never(future).unwrap().unwrap().series)
        })
        .collect();
    let options = ExecOptions {
        max_samples: 10_000_000,
        max_memory_bytes: u64::MAX,
        delayed_names: false,
        use_start_timestamps: false,
        type_and_unit_labels: false,
        per_step_stats: false,
        parallel,
        part_work: 4096,
    };
    let cx = Cx::new(Arc::new(binding), series, options, Interrupt::default()).unwrap();
    let sorted = range(&cx, &plan.root).and_then(|value| sort(&cx, value));
    sorted.map_err(|e| e.to_string())
}

const EXPRESSIONS: &[&str] = &[
    "sum(rate(a_total[5m]))",
    "sum by (zone) (rate(b_total[5m]) * 2 > 3)",
    "topk(3, a_total) + on (instance, zone) group_left () a_total",
    "avg_over_time(max by (zone) (a_total)[10m:1m])",
    "a_total @ 1200 + a_total",
    "-a_total @ end() offset 5m",
    "rate(a_total[5m] @ start()) / rate(a_total[5m])",
    "abs(-sum without (instance) (a_total)) or b_total",
    "count_values('v', floor(a_total / 20))",
    "sort(a_total)",
    "scalar(sum(a_total)) * (1 + 2 * 3) - vector(time())",
    "absent(nothing{x='y'}) unless a_total @ 0",
    "sum(last_over_time(a_total[1m] @ 600)) + predict_linear(a_total{instance='i0'}[5m] @ 600, 60)",
    "sum by (zone) (a_total) and sum by (zone) (b_total) > 10",
    "quantile by (zone) (0.9, b_total)",
    "label_replace(a_total, 'x', '$1', 'instance', 'i(.*)')",
    "{instance='i1'} * 2",
];

#[test]
fn passes_and_threads_change_nothing() {
    let storage = storage();
    let grid = StepGrid::range(300_000, 3_300_000, 10_000).unwrap();
    for text in EXPRESSIONS {
        let expr = parser::parse(text, &ParserOptions::all()).unwrap();
        for delayed_name_removal in [false, true] {
            let options = PlanOptions { delayed_name_removal };
            let plan = Plan::new(&expr, options);
            // As text, because a NaN equals no NaN.
            let show =
                |plan: &Plan, parallel| format!("{:?}", evaluate(plan, &storage, grid, parallel));
            let got = show(&plan, true);
            let unoptimized = Plan::unoptimized(&expr, options);
            assert!(got == show(&unoptimized, true), "passes: {text}\n{}", plan.explain());
            assert!(got == show(&plan, false), "threads: {text}");
        }
    }
}

/// Expressions that give the passes work: constants, `@`, equal parts, subqueries.
fn expressions() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(
        &["2", "(1 + 2 * 3)", "-1", "time()", "scalar(a_total{instance='i3'} @ 900)", "pi()"][..],
    );
    let modifiers = prop::sample::select(
        &["", " @ 1200", " @ end()", " @ start() offset 1m", " offset -2m", " offset 45s"][..],
    );
    let name = prop::sample::select(
        &["a_total", "b_total{zone='z1'}", "{instance=~'i[0-4]'}", "b_total{instance='i2'}"][..],
    );
    let functions = prop::sample::select(
        &["rate", "max_over_time", "changes", "last_over_time", "deriv", "absent_over_time"][..],
    );
    let leaf = prop_oneof![
        (name.clone(), modifiers.clone()).prop_map(|(name, m)| format!("{name}{m}")),
        (functions.clone(), name, modifiers.clone())
            .prop_map(|(f, name, m)| format!("{f}({name}[4m]{m})")),
        scalar.clone().prop_map(|s| format!("vector({s})")),
    ];
    leaf.prop_recursive(4, 24, 2, move |inner| {
        let op = || prop::sample::select(&["+", "/", ">", "== bool", "^"][..]);
        let set = prop::sample::select(&["and on (zone)", "or", "unless ignoring (zone)"][..]);
        let map = prop::sample::select(
            &["abs", "-", "sort", "absent", "timestamp", "ceil", "sum by (zone)", "group", "avg"][..],
        );
        prop_oneof![
            (map, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), op(), scalar.clone()).prop_map(|(a, op, s)| format!("({a}) {op} {s}")),
            (scalar.clone(), op(), inner.clone()).prop_map(|(s, op, a)| format!("{s} {op} ({a})")),
            (inner.clone(), op(), inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} on (instance, zone) ({b})")),
            (inner.clone(), set, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            // Equal parts are evaluated once.
            (inner.clone(), op()).prop_map(|(a, op)| format!("sum({a}) {op} sum({a})")),
            (functions.clone(), inner.clone(), modifiers.clone())
                .prop_map(|(f, a, m)| format!("{f}(({a})[5m:90s]{m})")),
            inner.clone().prop_map(|a| format!("topk(2, {a})")),
            inner.prop_map(|a| format!("label_replace({a}, 'x', '$1', 'instance', 'i(.*)')")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn passes_and_threads_change_no_generated_expression(
        text in expressions(),
        delayed_name_removal in any::<bool>(),
        instant in any::<bool>(),
    ) {
        let Ok(expr) = parser::parse(&text, &ParserOptions::all()) else { return Ok(()) };
        let storage = GENERATED.get_or_init(storage);
        let grid = StepGrid::range(600_000, 1_500_000, 75_000).unwrap();
        let grid = if instant { StepGrid::instant(1_230_000) } else { grid };
        let options = PlanOptions { delayed_name_removal };
        let plan = Plan::new(&expr, options);
        let show = |plan: &Plan, parallel| format!("{:?}", evaluate(plan, storage, grid, parallel));
        let got = show(&plan, true);
        prop_assert_eq!(&got, &show(&Plan::unoptimized(&expr, options), true), "passes: {}", text);
        prop_assert_eq!(&got, &show(&plan, false), "threads: {}", text);
    }
}

static GENERATED: OnceLock<MemoryStorage> = OnceLock::new();

#[test]
fn a_name_that_is_to_go_goes_after_a_comparison_too() {
    let grid = StepGrid::instant(1_200_000);
    let text = "(rate(a_total{instance='i0'}[5m]) > -a_total)";
    let expr = parser::parse(text, &ParserOptions::all()).unwrap();
    let storage = storage();
    let value = |delayed_name_removal| {
        let plan = Plan::new(&expr, PlanOptions { delayed_name_removal });
        evaluate(&plan, &storage, grid, true)
    };
    assert_eq!(value(true), value(false));
    let Ok(Value::Matrix(matrix)) = value(true) else { panic!("no matrix") };
    assert_eq!(matrix.len(), 1);
    assert_eq!(matrix[0].labels.metric_name(), "");
}

#[test]
fn subqueries_of_too_many_steps_are_refused_before_they_take_memory() {
    let expr = parser::parse("sum_over_time(a_total[3w:1ms])", &ParserOptions::all()).unwrap();
    let plan = Plan::new(&expr, PlanOptions::default());
    let got = evaluate(&plan, &storage(), StepGrid::instant(0), true);
    assert_eq!(got, Err("too many samples".into()));
}

#[test]
fn names_that_coincide_after_dropping_are_an_error_only_at_the_same_step() {
    let storage = MemoryStorage::new();
    for (name, from, to) in [("a", 0, 5), ("b", 6, 9), ("c", 0, 9)] {
        for t in from..=to {
            let labels = Labels::from_pairs([("__name__", name)]);
            storage.append(&labels, t * 300_000, 1.0, None).unwrap();
        }
    }
    let grid = StepGrid::range(0, 2_700_000, 300_000).unwrap();
    let check = |text: &str, expected: Result<usize, &str>| {
        let expr = parser::parse(text, &ParserOptions::all()).unwrap();
        let plan = Plan::new(&expr, PlanOptions::default());
        let points = evaluate(&plan, &storage, grid, true).map(|value| match value {
            Value::Matrix(m) => m.iter().map(|s| s.points.len()).sum::<usize>(),
            _ => 0,
        });
        assert_eq!(points, expected.map_err(str::to_owned), "{text}");
    };
    let same = "vector cannot contain metrics with the same labelset";
    check("-{__name__=~'a|b'}", Ok(10));
    check("-{__name__=~'a|b|c'}", Err(same));
    check("rate({__name__=~'a|b'}[10m])", Err(same));
    check("label_replace({__name__=~'a|b'}, '__name__', 'x', '', '')", Ok(10));
    check("{__name__=~'a|c'} > 0", Ok(16));
    check("{__name__=~'a|c'} > bool 0", Err(same));
}
