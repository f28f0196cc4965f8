//! Go's `time.Time` and `time.Duration` as templates print them. Calendar arithmetic is
//! `chrono`'s; the layout language (`2006-01-02 15:04:05`) is Go's and written here.

use std::fmt;

use chrono::{DateTime, Datelike, Months, TimeDelta, Timelike, Utc};

pub(super) const NS_PER_SECOND: i64 = 1_000_000_000;

/// A point in time in UTC with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoTime(DateTime<Utc>);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `time.Month.String`.
pub(super) fn month_name(month: i64) -> String {
    named(&MONTHS, month - 1).unwrap_or_else(|| format!("%!Month({month})"))
}

/// `time.Weekday.String`.
pub(super) fn weekday_name(day: i64) -> String {
    named(&DAYS, day).unwrap_or_else(|| format!("%!Weekday({day})"))
}

fn named(names: &[&str], i: i64) -> Option<String> {
    usize::try_from(i).ok().and_then(|i| names.get(i)).map(|n| (*n).to_owned())
}

impl GoTime {
    /// `None` beyond the calendar, some 260,000 years away.
    pub(super) fn from_unix_ms(ms: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(ms).map(Self)
    }

    pub(super) fn unix(self) -> i64 {
        self.0.timestamp()
    }

    pub(super) fn nanosecond(self) -> i64 {
        i64::from(self.0.nanosecond().min(999_999_999))
    }

    /// Nanoseconds since the epoch; wraps as Go's does outside 1678..2262.
    pub(super) fn unix_nano(self) -> i64 {
        self.unix().wrapping_mul(NS_PER_SECOND).wrapping_add(self.nanosecond())
    }

    pub(super) fn date(self) -> (i64, i64, i64) {
        (i64::from(self.0.year()), i64::from(self.0.month()), i64::from(self.0.day()))
    }

    pub(super) fn clock(self) -> (i64, i64, i64) {
        (i64::from(self.0.hour()), i64::from(self.0.minute()), i64::from(self.0.second()))
    }

    pub(super) fn weekday(self) -> i64 {
        i64::from(self.0.weekday().num_days_from_sunday())
    }

    pub(super) fn year_day(self) -> i64 {
        i64::from(self.0.ordinal())
    }

    pub(super) fn add(self, ns: i64) -> Option<Self> {
        self.0.checked_add_signed(TimeDelta::nanoseconds(ns)).map(Self)
    }

    /// Go's `AddDate`: a day past the end of its month runs on into the next.
    pub(super) fn add_date(self, years: i64, months: i64, days: i64) -> Option<Self> {
        let total = years.checked_mul(12)?.checked_add(months)?;
        let day = i64::from(self.0.day());
        let first = self.0.with_day(1)?;
        let by = Months::new(u32::try_from(total.unsigned_abs()).ok()?);
        let moved =
            if total < 0 { first.checked_sub_months(by) } else { first.checked_add_months(by) };
        let days = TimeDelta::try_days(day.checked_sub(1)?.checked_add(days)?)?;
        moved?.checked_add_signed(days).map(Self)
    }

    /// Difference in nanoseconds, at most what an `i64` holds.
    pub(super) fn sub(self, other: Self) -> i64 {
        let diff = self.0.signed_duration_since(other.0);
        diff.num_nanoseconds().unwrap_or(if diff < TimeDelta::zero() { i64::MIN } else { i64::MAX })
    }

    /// What is left over of the time since year 1 in steps of `ns`.
    fn remainder(self, ns: i64) -> i64 {
        const YEAR_1: i128 = -62_135_596_800;
        let since = (i128::from(self.unix()) - YEAR_1) * i128::from(NS_PER_SECOND)
            + i128::from(self.nanosecond());
        i64::try_from(since.rem_euclid(i128::from(ns))).unwrap_or(0)
    }

    pub(super) fn truncate(self, ns: i64) -> Option<Self> {
        if ns <= 0 { Some(self) } else { self.add(-self.remainder(ns)) }
    }

    /// To the nearest step, half away from year 1.
    pub(super) fn round(self, ns: i64) -> Option<Self> {
        if ns <= 0 {
            return Some(self);
        }
        let rest = self.remainder(ns);
        if rest < ns - rest { self.add(-rest) } else { self.add(ns - rest) }
    }

    pub(super) fn is_zero(self) -> bool {
        self.unix() == -62_135_596_800 && self.nanosecond() == 0
    }

    /// Prints by a Go layout.
    pub(super) fn format(self, layout: &str) -> String {
        let mut out = String::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while let Some(c) = rest.chars().next() {
            let taken = self.element(rest, &mut out);
            if taken == 0 {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            } else {
                rest = &rest[taken..];
            }
        }
        out
    }

    /// Prints the layout element `rest` starts with; returns its length, 0 for none.
    fn element(self, rest: &str, out: &mut String) -> usize {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.clock();
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        let lower_follows = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_lowercase());
        let mut put = |len: usize, text: String| {
            out.push_str(&text);
            len
        };
        // Longer elements before those that are their beginning.
        match rest.as_bytes() {
            _ if rest.starts_with("January") => put(7, month_name(month)),
            _ if rest.starts_with("Jan") && !lower_follows(3) => {
                put(3, month_name(month)[..3].to_owned())
            }
            _ if rest.starts_with("Monday") => put(6, weekday_name(self.weekday())),
            _ if rest.starts_with("Mon") && !lower_follows(3) => {
                put(3, weekday_name(self.weekday())[..3].to_owned())
            }
            _ if rest.starts_with("MST") => put(3, "UTC".to_owned()),
            _ if rest.starts_with("2006") => put(4, year_text(year)),
            _ if rest.starts_with("_2006") => put(5, format!("_{}", year_text(year))),
            _ if rest.starts_with("__2") => put(3, format!("{:3}", self.year_day())),
            _ if rest.starts_with("002") => put(3, format!("{:03}", self.year_day())),
            [b'_', b'2', ..] => put(2, format!("{day:2}")),
            [b'0', b'1', ..] => put(2, format!("{month:02}")),
            [b'0', b'2', ..] => put(2, format!("{day:02}")),
            [b'0', b'3', ..] => put(2, format!("{hour12:02}")),
            [b'0', b'4', ..] => put(2, format!("{minute:02}")),
            [b'0', b'5', ..] => put(2, format!("{second:02}")),
            [b'0', b'6', ..] => put(2, format!("{:02}", year.rem_euclid(100))),
            [b'1', b'5', ..] => put(2, format!("{hour:02}")),
            [b'1', ..] => put(1, month.to_string()),
            [b'2', ..] => put(1, day.to_string()),
            [b'3', ..] => put(1, hour12.to_string()),
            [b'4', ..] => put(1, minute.to_string()),
            [b'5', ..] => put(1, second.to_string()),
            [b'P', b'M', ..] => put(2, if hour >= 12 { "PM" } else { "AM" }.to_owned()),
            [b'p', b'm', ..] => put(2, if hour >= 12 { "pm" } else { "am" }.to_owned()),
            [b'-' | b'Z', ..] => match zone(rest) {
                Some((len, text)) => put(len, text.to_owned()),
                None => 0,
            },
            [point @ (b'.' | b','), digit @ (b'0' | b'9'), ..] => {
                let digits = rest[1..].bytes().take_while(|b| b == digit).count();
                if rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit()) {
                    return 0;
                }
                let text = fraction(self.nanosecond(), digits, *point, *digit == b'9');
                put(1 + digits, text)
            }
            _ => 0,
        }
    }
}

impl fmt::Display for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

fn year_text(year: i64) -> String {
    if year < 0 { format!("-{:04}", -year) } else { format!("{year:04}") }
}

/// The zone element a layout starts with, printed for UTC.
fn zone(rest: &str) -> Option<(usize, &'static str)> {
    const ZONES: [(&str, &str); 10] = [
        ("-070000", "+000000"),
        ("-07:00:00", "+00:00:00"),
        ("-0700", "+0000"),
        ("-07:00", "+00:00"),
        ("-07", "+00"),
        ("Z070000", "Z"),
        ("Z07:00:00", "Z"),
        ("Z0700", "Z"),
        ("Z07:00", "Z"),
        ("Z07", "Z"),
    ];
    ZONES.iter().find(|(layout, _)| rest.starts_with(layout)).map(|(l, text)| (l.len(), *text))
}

/// Fractional seconds; `trim` drops trailing zeros, and the point when nothing is left.
fn fraction(nanos: i64, digits: usize, point: u8, trim: bool) -> String {
    let all = format!("{nanos:09}");
    let mut text = all[..digits.min(9)].to_owned();
    text.extend(std::iter::repeat_n('0', digits.saturating_sub(9)));
    if trim {
        text.truncate(text.trim_end_matches('0').len());
        if text.is_empty() {
            return text;
        }
    }
    format!("{}{text}", char::from(point))
}

/// `time.Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
pub(in crate::rules) fn duration_text(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let rest = if digits == 0 { String::new() } else { format!(".{:0digits$}", value % unit) };
        let rest = rest.trim_end_matches('0').trim_end_matches('.').to_owned();
        format!("{}{rest}", value / unit)
    };
    match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(magnitude, 1_000_000)),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_print_as_in_go() {
        let time = GoTime::from_unix_ms(1_435_065_584_128).expect("in range");
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2015-06-23T13:19:44Z"),
            ("2006-01-02T15:04:05.999999999Z07:00", "2015-06-23T13:19:44.128Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 23 Jun 2015 13:19:44 UTC"),
            ("Monday, 2 January 06 3:04PM -0700", "Tuesday, 23 June 15 1:19PM +0000"),
            ("15h05 .000 ,00 .9999 _2 __2 002", "13h44 .128 ,12 .128 23 174 174"),
            ("1/2/03 pm Month Janet", "6/23/01 pm Month Janet"),
            ("é 4 5", "é 19 44"),
        ] {
            assert_eq!(time.format(layout), expected, "{layout}");
        }
        assert_eq!(time.to_string(), "2015-06-23 13:19:44.128 +0000 UTC");
    }

    #[test]
    fn durations_print_as_in_go() {
        for (ns, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (1_800_000_000_000, "30m0s"),
            (-5_430_000_000_001, "-1h30m30.000000001s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration_text(ns), expected, "{ns}");
        }
    }

    #[test]
    fn months_overflow_into_the_next() {
        let time = GoTime::from_unix_ms(1_454_198_400_000).expect("in range");
        assert_eq!(time.format("2006-01-02"), "2016-01-31");
        let moved = time.add_date(0, 1, 0).expect("in range");
        assert_eq!(moved.format("2006-01-02"), "2016-03-02");
        assert_eq!(time.add_date(i64::MAX, 1, 0), None);
    }
}
