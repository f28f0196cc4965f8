//! Time: of the evaluation, of samples, and the fields of the calendar (UTC).

use super::families::MAP;
use super::*;
use crate::model::value::ValueType::Scalar;

const fn field(
    name: &'static str,
    kernel: fn(i64) -> f64,
    doc: &'static str,
    example: &'static str,
) -> FunctionSpec {
    let arity = Arity::Optional(1);
    FunctionSpec { name, arity, kernel: Kernel::Calendar(kernel), doc, example, ..MAP }
}

/// Folded into a literal once the grid is known.
const fn of_query(
    name: &'static str,
    operator: Operator,
    doc: &'static str,
    example: &'static str,
) -> FunctionSpec {
    FunctionSpec {
        name,
        args: &[],
        returns: Scalar,
        labels: LabelEffect::Own,
        stability: Stability::Experimental,
        kernel: Kernel::Operator(operator),
        doc,
        example,
        ..MAP
    }
}

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        stability: Stability::Stable,
        ..of_query(
            "time",
            Operator::Time,
            "The evaluation time in seconds since the epoch, UTC: the time of the step, not the \
             time of day the query runs at.",
            "time() - process_start_time_seconds",
        )
    },
    FunctionSpec {
        name: "timestamp",
        histograms: HistogramPolicy::Accept,
        kernel: Kernel::Operator(Operator::Timestamp),
        doc: "For a plain selector, the time of each sample in seconds since the epoch; for any \
              other expression the evaluation time. Histogram samples have a time too.",
        example: "time() - timestamp(up) > 60",
        ..MAP
    },
    FunctionSpec {
        name: "start_timestamp",
        histograms: HistogramPolicy::Accept,
        stability: Stability::Experimental,
        kernel: Kernel::Operator(Operator::StartTimestamp),
        doc: "For a plain selector, the start timestamp of each sample in seconds since the epoch: \
              when the counter began to count. Empty for any other expression, for samples \
              without one, and unless start timestamps are in use.",
        example: "time() - start_timestamp(http_requests_total)",
        ..MAP
    },
    of_query(
        "start",
        Operator::QueryStart,
        "Start of the outermost query in seconds since the epoch; for an instant query its time.",
        "time() - start()",
    ),
    of_query(
        "end",
        Operator::QueryEnd,
        "End of the outermost query in seconds since the epoch; for an instant query its time.",
        "end() - time()",
    ),
    of_query(
        "range",
        Operator::QueryRange,
        "Length of the outermost query in seconds, 0 for an instant query.",
        "range() / 2",
    ),
    of_query(
        "step",
        Operator::QueryStep,
        "Step of the outermost query in seconds, 0 for an instant query.",
        "step() * 4",
    ),
    field(
        "minute",
        |t| (second_of_day(t) / 60 % 60) as f64,
        "Minute of the hour, 0 to 59 (UTC), of every value taken as seconds since the epoch; of \
         the evaluation time without an argument. Histograms are dropped.",
        "minute() < 10",
    ),
    field(
        "hour",
        |t| (second_of_day(t) / 3600) as f64,
        "Hour of the day, 0 to 23 (UTC), of every value taken as seconds since the epoch; of the \
         evaluation time without an argument. Histograms are dropped.",
        "up == 0 and on () hour() >= 8 < 18",
    ),
    field(
        "day_of_week",
        |t| (days(t) + 4).rem_euclid(7) as f64,
        "Day of the week, 0 (Sunday) to 6 (UTC), of every value taken as seconds since the epoch; \
         of the evaluation time without an argument. Histograms are dropped.",
        "day_of_week() > 0 < 6",
    ),
    field(
        "day_of_month",
        |t| Date::of(t).day as f64,
        "Day of the month, 1 to 31 (UTC), of every value taken as seconds since the epoch; of the \
         evaluation time without an argument. Histograms are dropped.",
        "day_of_month() == 1",
    ),
    field(
        "day_of_year",
        |t| {
            let date = Date::of(t);
            (days(t) - days_before_year(date.year) + 1) as f64
        },
        "Day of the year, 1 to 365 or 366 (UTC), of every value taken as seconds since the epoch; \
         of the evaluation time without an argument. Histograms are dropped.",
        "day_of_year(certificate_not_after_seconds)",
    ),
    field(
        "days_in_month",
        |t| Date::of(t).days_in_month() as f64,
        "Number of days, 28 to 31, of the month (UTC) in which every value, taken as seconds since \
         the epoch, lies; of the evaluation time without an argument. Histograms are dropped.",
        "day_of_month() == days_in_month()",
    ),
    field(
        "month",
        |t| Date::of(t).month as f64,
        "Month, 1 (January) to 12 (UTC), of every value taken as seconds since the epoch; of the \
         evaluation time without an argument. Histograms are dropped.",
        "month(certificate_not_after_seconds)",
    ),
    field(
        "year",
        |t| Date::of(t).year as f64,
        "Year (UTC) of every value taken as seconds since the epoch; of the evaluation time \
         without an argument. Histograms are dropped.",
        "year(certificate_not_after_seconds)",
    ),
];

/// Where the calendar of Go begins: the year -292,277,022,399. What lies before, as NaN and
/// infinities do once they are whole seconds, counts from its end, in 292,277,026,596.
const CALENDAR_START: i64 = -9_223_372_028_715_321_600;

/// Days since 1970-01-01, a Thursday.
fn days(seconds: i64) -> i64 {
    around(seconds).div_euclid(86_400) as i64
}

fn second_of_day(seconds: i64) -> i64 {
    around(seconds).rem_euclid(86_400) as i64
}

fn around(seconds: i64) -> i128 {
    i128::from(seconds) + if seconds < CALENDAR_START { 1 << 64 } else { 0 }
}

/// A date of the proleptic Gregorian calendar. Computed here because the calendar of the
/// usual crate ends long before that of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Counts years from March, so that the leap day is the last of its year; 400 years
    /// have 146,097 days, and months from March on repeat with 153 days in five.
    fn of(seconds: i64) -> Self {
        let from_march_0 = days(seconds) + 719_468;
        let era = from_march_0.div_euclid(146_097);
        let day_of_era = from_march_0.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        }
    }

    fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to January 1st of a year.
fn days_before_year(year: i64) -> i64 {
    let y = year - 1;
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_the_gregorian_calendar() {
        let names =
            ["year", "month", "day_of_month", "day_of_week", "day_of_year", "days_in_month"];
        for (seconds, expected) in [
            (0, [1970_i64, 1, 1, 4, 1, 31]),
            (-1, [1969, 12, 31, 3, 365, 31]),
            (951_782_400, [2000, 2, 29, 2, 60, 29]),
            (4_107_542_400, [2100, 3, 1, 1, 60, 31]),
            (1_136_239_445, [2006, 1, 2, 1, 2, 31]),
            (-2_208_988_800, [1900, 1, 1, 1, 1, 31]),
            (253_402_300_799, [9999, 12, 31, 5, 365, 31]),
            (i64::MAX, [292_277_026_596, 12, 4, 0, 339, 31]),
            (i64::MIN, [292_277_026_596, 12, 4, 0, 339, 31]),
        ] {
            for (name, expected) in names.iter().zip(expected) {
                let Some(FunctionSpec { kernel: Kernel::Calendar(kernel), .. }) = find(name) else {
                    panic!("{name} is a calendar function");
                };
                assert_eq!(kernel(seconds), expected as f64, "{name} of {seconds}");
            }
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_its_predecessor() {
        let mut before = Date::of(-400 * 31_556_952);
        for day in days(-400 * 31_556_952) + 1..days(400 * 31_556_952) {
            let date = Date::of(day * 86_400);
            let expected = if before.day < before.days_in_month() {
                Date { day: before.day + 1, ..before }
            } else if before.month < 12 {
                Date { month: before.month + 1, day: 1, ..before }
            } else {
                Date { year: before.year + 1, month: 1, day: 1 }
            };
            assert_eq!(date, expected);
            before = date;
        }
    }
}
