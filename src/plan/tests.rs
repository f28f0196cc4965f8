//! Plans as text, and what they ask of storage once bound.

use super::{BindOptions, Plan, PlanOptions};
use crate::model::StepGrid;
use crate::parser::{self, ParserOptions};

fn plan(text: &str) -> Plan {
    Plan::new(&parser::parse(text, &ParserOptions::all()).unwrap(), PlanOptions::default())
}

#[test]
fn plans_read_as_trees() {
    let check = |text: &str, expected: &str| assert_eq!(plan(text).explain().trim_end(), expected);
    check("1 + 2 * 3", "number 7");
    check(
        "sum by (job) (rate(a[5m]))",
        "sum by (job)\n  merge duplicates\n    drop name (unseen)\n      rate over windows of #0 {__name__=\"a\"}",
    );
    // Groups without names stay distinct: there is nothing to drop or to merge.
    check(
        "sum(a) * 2",
        "drop name (metadata)\n  vector * scalar\n    sum by ()\n      select #0 {__name__=\"a\"}\n    number 2",
    );
    // What an aggregation of something pinned is told is taken from the first step.
    check(
        "topk(scalar(a), b @ 10)",
        "once for all steps\n  topk by ()\n    select #0 {__name__=\"b\"} @ 10\n    once for all steps\n      scalar of the only sample\n        select #1 {__name__=\"a\"}",
    );
    check(
        "a + b @ 10",
        "join + ignoring () OneToOne\n  select #0 {__name__=\"a\"}\n  once for all steps\n    select #1 {__name__=\"b\"} @ 10",
    );
}

/// `FROM..TO` of each request, over 1000 s to 1600 s by 60 s.
fn requests(text: &str) -> Result<Vec<String>, String> {
    let grid = StepGrid::range(1_000_000, 1_600_000, 60_000).unwrap();
    let options = BindOptions { lookback_ms: 300_000, default_step_ms: 60_000, end_ms: 1_610_000 };
    let binding = plan(text).bind(grid, options)?;
    Ok(binding.requests.iter().map(|r| format!("{}..{}", r.from_ms, r.to_ms)).collect())
}

#[test]
fn requests_cover_what_is_needed_and_no_more() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(requests(text).unwrap(), expected, "{text}");
    };
    check("a", &["700001..1600000"]);
    check("a offset 1m", &["640001..1540000"]);
    check("a offset -1m", &["760001..1660000"]);
    check("a @ 100", &["-199999..100000"]);
    check("a @ end()", &["1310001..1610000"]);
    check("rate(a[10m])", &["400001..1600000"]);
    check("rate(a[10m] anchored)", &["100001..1600000"]);
    check("rate(a[10m] smoothed)", &["100001..1900000"]);
    // Steps of a subquery are multiples of its step: 960 s is the first after 940 s.
    check("max_over_time(a[1m:])", &["660001..1560000"]);
    check("rate(a[step() * 2])", &["880001..1600000"]);
    // The same series over times that touch are fetched once, apart otherwise twice.
    check("rate(a[5m]) / a", &["700001..1600000"]);
    check("a - a offset 1w", &["700001..1600000", "-604099999..-603200000"]);
}

#[test]
fn senseless_durations_are_refused_when_bound() {
    let check = |text: &str, expected: &str| {
        assert_eq!(requests(text).unwrap_err(), expected, "{text}");
    };
    check("a[step() - 60]", "2:13: duration must be greater than 0");
    check("a offset (1 / (step() - 60))", "10:27: division by zero");
}
