//! What was expected beside what came, in promtool's words.

use super::diff;
use super::schema::{AlertCase, ExpectedAlert};
use crate::model::duration::format_duration;
use crate::model::{Labels, Sample};
use crate::rules::template::duration_text;

/// A sample to compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub labels: Labels,
    pub sample: Sample,
}

/// Compares the alerts firing under a name with those expected; order means nothing.
/// With `diff` only what differs is coloured, in one tree.
pub(super) fn alerts(
    test: &str,
    case: &AlertCase,
    mut got: Vec<ExpectedAlert>,
    diff: bool,
) -> Option<String> {
    let order = |a: &ExpectedAlert, b: &ExpectedAlert| {
        a.labels.cmp(&b.labels).then_with(|| a.annotations.cmp(&b.annotations))
    };
    let mut expected = case.expected.clone();
    expected.sort_by(order);
    got.sort_by(order);
    if expected == got {
        return None;
    }
    let name = if test.is_empty() { String::new() } else { format!("    name: {test},\n") };
    let found = if diff {
        format!("diff: {}", diff::alerts(&expected, &got, &" ".repeat(12)))
    } else {
        format!("exp:{}, \n        got:{}", alerts_text(&expected), alerts_text(&got))
    };
    let time = format_duration(case.eval_time_ms);
    Some(format!("{name}    alertname: {}, time: {time}, \n        {found}", case.alert))
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
pub(super) fn samples(expected: &mut [Shown], got: &mut [Shown], fuzzy: bool) -> bool {
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    expected.len() == got.len()
        && expected.iter().zip(got.iter()).all(|(e, g)| {
            e.labels == g.labels
                && match (&e.sample, &g.sample) {
                    (Sample::Float(e), Sample::Float(g)) => {
                        e == g || (fuzzy && (e.next_up() == *g || e.next_down() == *g))
                    }
                    (Sample::Histogram(e), Sample::Histogram(g)) => {
                        e.test_expression() == g.test_expression()
                    }
                    _ => false,
                }
        })
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
