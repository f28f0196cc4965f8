//! Rings and trends: bounded, and right about what they claim to know.

use super::super::metrics::Metrics;
use super::*;
use crate::telemetry::Registry;

#[test]
fn the_last_evaluations_are_kept_and_summed_up() {
    let mut costs = Costs::default();
    assert_eq!((costs.evaluations(), costs.last()), (0, None));
    assert_eq!(costs.summaries()[0], CostSummary::default());
    for i in 1..=200_u64 {
        costs.push(Cost { seconds: i as f64, samples: 2 * i, series: 3, bytes: u64::MAX / 1000 });
    }
    assert_eq!((costs.evaluations(), costs.kept.len()), (200, EVALUATIONS_KEPT));
    let [duration, samples, series, bytes] = costs.summaries();
    // 81 to 200 are kept; the 119th of 120 is 199.
    let expected = CostSummary { last: 200.0, avg: 140.5, p99: 199.0, max: 200.0, total: 20_100.0 };
    assert_eq!(duration, expected);
    assert_eq!((samples.last, samples.avg, samples.total), (400.0, 281.0, 40_200.0));
    assert_eq!((series.p99, series.total), (3.0, 600.0));
    assert_eq!(bytes.last, f64::from(u32::MAX), "cut, not wrapped");
    assert_eq!(std::mem::size_of::<Packed>(), 16);
}

/// A trend of `count` evaluations `step_s` apart whose duration `of` gives by index.
fn trend(count: i64, step_s: i64, of: impl Fn(i64) -> f64) -> (Trend, TimestampMs) {
    let mut trend = Trend::default();
    let at = |i: i64| 1_700_000_000_000 + i * step_s * 1000;
    for i in 0..count {
        trend.push(at(i), of(i));
        assert!(trend.points.len() <= POINTS_MAX);
    }
    (trend, at(count - 1))
}

#[test]
fn a_rise_is_followed_to_the_limit() {
    // 1 ms more every 15 s, from 1 s: 15 s are reached after 14,000 evaluations.
    for count in [POINTS_MIN as i64 * 200, 5_000, 13_999] {
        let (trend, now) = trend(count, 15, |i| 1.0 + 0.001 * i as f64);
        let expected = (14_001 - count) as f64 * 15.0;
        let found = trend.forecast(now, 15.0).unwrap();
        assert!((found - expected).abs() < 60.0, "{count}: {found} instead of {expected}");
    }
    // Under noise as large as the rise it is still found, if less exactly.
    let noise = |i: i64| (i * 7919 % 101) as f64 / 100.0;
    let (rising, now) = trend(10_000, 15, |i| 1.0 + 0.0001 * i as f64 + noise(i));
    let found = rising.forecast(now, 5.0).unwrap();
    let expected = (5.0 - 1.5 - 1.0) / 0.0001 * 15.0;
    assert!((found / expected - 1.0).abs() < 0.1, "{found} instead of {expected}");
    // What is past the limit has no time left.
    assert_eq!(rising.forecast(now, 1.0), Some(0.0));
}

#[test]
fn without_a_certain_rise_nothing_is_foretold() {
    let noise = |i: i64| (i * 7919 % 101) as f64 / 100.0;
    for (count, of) in [
        (5_000, &(|_| 1.0) as &dyn Fn(i64) -> f64),
        (5_000, &noise),
        (5_000, &|i| 100.0 - 0.001 * i as f64),
        (9, &|i| i as f64),
        // It rises, and would take a year.
        (100, &|i| 1.0 + 1e-6 * i as f64),
    ] {
        let (trend, now) = trend(count, 15, of);
        assert_eq!(trend.forecast(now, 15.0), None);
    }
}

#[test]
fn a_trend_spans_a_week_and_no_more() {
    let (trend, now) = trend(100_000, 60, |i| if i < 50_000 { 50.0 } else { 1.0 });
    let oldest = trend.points[0].0;
    assert!(now - oldest > TREND_MS / 2 && now - oldest < TREND_MS * 11 / 10);
    assert!(trend.points.iter().all(|(_, s)| *s == 1.0), "the first half is forgotten");
}

#[test]
fn a_budget_is_crossed_by_what_lasts() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry).group("f;g");
    let pace = Pace::new(10_000, 0.5);
    assert!(pace.view().is_none());
    let mut at = 0;
    let mut note = |seconds: f64| {
        at += 10_000;
        pace.note(&metrics, at, seconds)
    };
    // One slow evaluation among quick ones is counted, and no news.
    let crossings: Vec<_> = [1.0, 1.0, 1.0, 9.0, 1.0].into_iter().map(&mut note).collect();
    assert_eq!(crossings, [None; 5]);
    assert_eq!(metrics.budget_exceeded.get(), 1);
    let crossings: Vec<_> = [9.0, 9.0, 9.0, 1.0, 1.0].into_iter().map(&mut note).collect();
    assert_eq!(crossings, [None, Some(Crossing::Exceeded), None, None, None]);
    let view = pace.view().unwrap();
    assert!(view.exceeded && view.used > 0.5);
    let crossings: Vec<_> = [1.0, 1.0, 1.0].into_iter().map(&mut note).collect();
    assert_eq!(crossings[..2], [Some(Crossing::Kept), None]);
    assert_eq!(pace.view().unwrap().overrun_forecast_seconds, None);
    assert_eq!(metrics.overrun_forecast_seconds.get(), f64::INFINITY);
    // Longer than the interval: there is nothing to wait for.
    (0..5).for_each(|_| {
        note(11.0);
    });
    assert_eq!(metrics.overrun_forecast_seconds.get(), 0.0);
    assert!((metrics.interval_used.get() - 1.1).abs() < 1e-9);
}
