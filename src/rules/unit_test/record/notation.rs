//! Values as `input_series` writes them: `1+1x5 _x3 2 stale`.

use crate::model::value::is_stale_nan;
use crate::parser::series::{SeriesValue, parse_series_values};

/// The shortest notation that is known here; what is missing at the end is left out.
pub(super) fn notation(values: &[Option<f64>]) -> String {
    let length = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let values = &values[..length];
    let short = items(values, true);
    // Steps are added up one by one where they are read: not every run comes out alike.
    if reads_as(&short, values) { short } else { items(values, false) }
}

fn items(values: &[Option<f64>], steps: bool) -> String {
    let mut items: Vec<String> = Vec::new();
    let mut i = 0;
    while i < values.len() {
        let Some(value) = values[i] else {
            let count = values[i..].iter().take_while(|v| v.is_none()).count();
            items.push(if count == 1 { "_".to_owned() } else { format!("_x{count}") });
            i += count;
            continue;
        };
        let (item, count) = run(&values[i..], value, steps);
        items.push(item);
        i += count;
    }
    items.join(" ")
}

/// The longest run that one item can stand for.
fn run(values: &[Option<f64>], first: f64, steps: bool) -> (String, usize) {
    let same =
        values.iter().take_while(|v| v.is_some_and(|v| v.to_bits() == first.to_bits())).count();
    if is_stale_nan(first) {
        return ("stale".to_owned(), 1);
    }
    let text = number(first);
    if same > 1 && first.is_finite() {
        return (format!("{text}x{}", same - 1), same);
    }
    let step = values.get(1).copied().flatten().map(|second| second - first);
    let Some(step) = step.filter(|s| steps && s.is_finite() && first.is_finite()) else {
        return (text, 1);
    };
    let mut next = first;
    let mut count = 1;
    while let Some(Some(value)) = values.get(count) {
        next += step;
        if value.to_bits() != next.to_bits() {
            break;
        }
        count += 1;
    }
    // Two values are as short written out.
    if count < 3 {
        return (text, 1);
    }
    let sign = if step < 0.0 { '-' } else { '+' };
    (format!("{text}{sign}{}x{}", number(step.abs()), count - 1), count)
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        // Long numbers are shorter with an exponent.
        value if value != 0.0 && !(1e-5..1e15).contains(&value.abs()) => format!("{value:e}"),
        value => format!("{value}"),
    }
}

fn reads_as(text: &str, values: &[Option<f64>]) -> bool {
    let Ok(read) = parse_series_values(text) else { return false };
    let alike = |(read, value): (&SeriesValue, &Option<f64>)| match (read, value) {
        (SeriesValue::Missing, None) => true,
        (SeriesValue::Float(read), Some(value)) => {
            read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan())
        }
        _ => false,
    };
    read.len() == values.len() && read.iter().zip(values).all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::stale_nan;
    use proptest::prelude::*;

    #[test]
    fn runs_are_written_short() {
        let check = |values: &[f64], expected: &str| {
            let values: Vec<Option<f64>> =
                values.iter().map(|v| (*v != -999.0).then_some(*v)).collect();
            assert_eq!(notation(&values), expected);
        };
        let missing = -999.0;
        check(&[], "");
        check(&[missing, missing], "");
        check(&[1.0], "1");
        check(&[1.0, 1.0, 1.0], "1x2");
        check(&[1.0, 2.0], "1 2");
        check(&[1.0, 2.0, 3.0, 3.0], "1+1x2 3");
        check(&[10.0, 7.5, 5.0, missing, missing, 5.0], "10-2.5x2 _x2 5");
        check(&[-1.0, -2.0, -3.0], "-1-1x2");
        check(&[missing, 1.0, stale_nan(), missing, f64::INFINITY], "_ 1 stale _ Inf");
        check(&[f64::NAN, f64::NAN], "NaN NaN");
        check(&[0.1, 0.2, 0.30000000000000004], "0.1+0.1x2");
        check(&[0.1, 0.2, 0.3], "0.1 0.2 0.3");
        check(&[1.7e9, 1.7e9, 1e21, 1e-9], "1700000000x1 1e21 1e-9");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(
            values in proptest::collection::vec(
                prop_oneof![
                    Just(None),
                    Just(Some(stale_nan())),
                    any::<f64>().prop_map(Some),
                    (-5i32..5).prop_map(|i| Some(f64::from(i) / 4.0)),
                ],
                0..40,
            )
        ) {
            let length = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            prop_assert!(reads_as(&notation(&values), &values[..length]), "{}", notation(&values));
        }
    }
}
