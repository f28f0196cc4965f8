//! What was expected beside what came, in promtool's words.

use super::assign::{paired, pairs_fit};
use super::diff;
use super::schema::{AlertCase, ExpectedAlert, ExpectedNotification, Match, NotificationCase};
use crate::model::duration::format_duration;
use crate::model::{Labels, Sample, TimestampMs};
use crate::rules::template::duration_text;

/// A sample to compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub labels: Labels,
    pub sample: Sample,
}

/// Compares the alerts of a state under a name with those expected; order means nothing.
/// With `diff` only what differs is coloured, in one tree. `state` is empty for those that
/// fire.
pub(super) fn alerts(
    test: &str,
    case: &AlertCase,
    (state, expected): (&str, &[ExpectedAlert]),
    mut got: Vec<ExpectedAlert>,
    diff: bool,
) -> Option<String> {
    let order = |a: &ExpectedAlert, b: &ExpectedAlert| {
        a.labels.cmp(&b.labels).then_with(|| a.annotations.cmp(&b.annotations))
    };
    let mut expected = expected.to_vec();
    expected.sort_by(order);
    got.sort_by(order);
    let same = match case.matching {
        Match::Exact => expected == got,
        matching => paired(&expected, &got, |e, g| alert_fits(e, g, matching)),
    };
    if same {
        return None;
    }
    let name = if test.is_empty() { String::new() } else { format!("    name: {test},\n") };
    let found = if diff {
        format!("diff: {}", diff::alerts(&expected, &got, &" ".repeat(12)))
    } else {
        format!("exp:{}, \n        got:{}", alerts_text(&expected), alerts_text(&got))
    };
    let time = format_duration(case.eval_time_ms);
    let state = if state.is_empty() { String::new() } else { format!("state: {state}, ") };
    Some(format!("{name}    alertname: {}, time: {time}, {state}\n        {found}", case.alert))
}

fn alert_fits(expected: &ExpectedAlert, got: &ExpectedAlert, matching: Match) -> bool {
    pairs_fit(&expected.labels, &got.labels, matching)
        && pairs_fit(&expected.annotations, &got.annotations, matching)
}

/// Compares what Alertmanagers were sent at a time with what is expected; order means
/// nothing. Times of `got` count from the epoch, as does `start_ms`.
pub(super) fn notifications(
    test: &str,
    case: &NotificationCase,
    got: &[Sent],
    start_ms: TimestampMs,
) -> Option<String> {
    let fits = |e: &ExpectedNotification, g: &Sent| {
        let time = |expected: Option<i64>, at: TimestampMs| {
            expected.is_none_or(|expected| expected == at - start_ms)
        };
        alert_fits(&e.alert, &g.alert, case.matching)
            && e.firing.is_none_or(|firing| firing == g.firing)
            && time(e.starts_at_ms, g.starts_at_ms)
            && time(e.ends_at_ms, g.ends_at_ms)
    };
    if paired(&case.expected, got, fits) {
        return None;
    }
    let name = if test.is_empty() { String::new() } else { format!("    name: {test},\n") };
    let line = |alert: &ExpectedAlert, firing: Option<bool>, times: [Option<i64>; 2]| {
        let status = match firing {
            Some(true) => "firing",
            Some(false) => "resolved",
            None => "any status",
        };
        let time = |at: Option<i64>| at.map_or("any time".to_owned(), format_duration);
        let [from, to] = times.map(time);
        let (labels, annotations) = (&alert.labels, &alert.annotations);
        format!(
            "\n            {status} from {from} to {to}: Labels:{labels} Annotations:{annotations}"
        )
    };
    let expected: String = case
        .expected
        .iter()
        .map(|e| line(&e.alert, e.firing, [e.starts_at_ms, e.ends_at_ms]))
        .collect();
    let sent: String = got
        .iter()
        .map(|g| {
            let times = [g.starts_at_ms, g.ends_at_ms].map(|at| Some(at - start_ms));
            line(&g.alert, Some(g.firing), times)
        })
        .collect();
    let time = format_duration(case.eval_time_ms);
    Some(format!(
        "{name}    notifications, time: {time},\n        exp:{expected}\n        got:{sent}"
    ))
}

/// A notification as an Alertmanager gets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    pub alert: ExpectedAlert,
    pub firing: bool,
    pub starts_at_ms: TimestampMs,
    pub ends_at_ms: TimestampMs,
}

fn alerts_text(alerts: &[ExpectedAlert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let indent = " ".repeat(12);
    let items: Vec<String> = alerts
        .iter()
        .enumerate()
        .map(|(i, alert)| {
            format!(
                "{indent}{i}:\n{indent}  Labels:{}\n{indent}  Annotations:{}",
                alert.labels, alert.annotations
            )
        })
        .collect();
    format!("[\n{}\n{indent}]", items.join(",\n"))
}

/// Compares samples; order means nothing. Floats are equal exactly, or with `fuzzy` when
/// they are neighbours.
pub(super) fn samples(
    expected: &mut [Shown],
    got: &mut [Shown],
    fuzzy: bool,
    matching: Match,
) -> bool {
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    let same = |e: &Shown, g: &Shown| match (&e.sample, &g.sample) {
        (Sample::Float(e), Sample::Float(g)) => {
            e == g || (fuzzy && (e.next_up() == *g || e.next_down() == *g))
        }
        (Sample::Histogram(e), Sample::Histogram(g)) => e.test_expression() == g.test_expression(),
        _ => false,
    };
    match matching {
        Match::Exact => {
            let mut pairs = expected.iter().zip(got.iter());
            expected.len() == got.len() && pairs.all(|(e, g)| e.labels == g.labels && same(e, g))
        }
        matching => {
            paired(expected, got, |e, g| pairs_fit(&e.labels, &g.labels, matching) && same(e, g))
        }
    }
}

/// The samples as promtool lists them; `nil` for none.
pub(super) fn samples_text(samples: &[Shown]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let items: Vec<String> = samples
        .iter()
        .map(|s| match &s.sample {
            Sample::Float(value) => format!("{} {}", s.labels, float_text(*value)),
            Sample::Histogram(h) => format!("{} {}", s.labels, h.test_expression()),
        })
        .collect();
    items.join(", ")
}

/// Go's `strconv.FormatFloat(v, 'E', -1, 64)`.
fn float_text(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{v:E}");
    let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}E{sign}{:02}", exponent.abs())
}

/// Go's `time.Duration` text: `1h5m0s`, `1.5s`, `250ms`.
pub(super) fn go_duration(ms: i64) -> String {
    duration_text(ms.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_look_as_in_go() {
        for (v, text) in [
            (1.0, "1E+00"),
            (0.0, "0E+00"),
            (2.9999999999999987, "2.9999999999999987E+00"),
            (-1.5e-7, "-1.5E-07"),
            (1e100, "1E+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float_text(v), text);
        }
        for (ms, text) in [
            (0, "0s"),
            (250, "250ms"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h0m0s"),
            (60_000, "1m0s"),
        ] {
            assert_eq!(go_duration(ms), text);
        }
    }
}
