//! Request parameters: those of the URL and of a form body together, and what their
//! values mean. Texts of errors are Prometheus'.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};
use chrono::DateTime;

use super::error::ApiError;
use super::state::ApiState;
use crate::model::labels::quote;
use crate::model::time::{MAX_TIME_MS, MIN_TIME_MS};
use crate::model::{Matcher, TimestampMs, duration};
use crate::parser;

/// Largest form body, as in Go's `net/http`.
const FORM_BYTES_MAX: usize = 10 << 20;

/// The parameters of a request; values of a form body come before those of the URL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// Why the first of the malformed pairs was left out.
    malformed: Option<String>,
}

impl FromRequest<Arc<ApiState>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Self::default();
        let is_form = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let media = value.split(';').next().unwrap_or_default().trim();
                media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            });
        if is_form && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            let read = read_body(body, FORM_BYTES_MAX, state.options.read_timeout).await;
            let bytes =
                read.map_err(|e| ApiError::bad_data(format!("error parsing form values: {e}")))?;
            params.extend(&bytes);
        }
        let url_query = parts.uri.query().unwrap_or_default();
        params.extend(url_query.as_bytes());
        Ok(params)
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request body has more than {0} bytes")]
    TooLarge(usize),
    #[error("the request body could not be read: {0}")]
    Broken(axum::Error),
    #[error("the request body did not arrive within {0}s (--web.read-timeout)")]
    TooSlow(u64),
}

/// Reads a whole body within a size and a time.
pub(crate) async fn read_body(
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<axum::body::Bytes, BodyError> {
    // What announces too much is refused before it is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLarge(bytes_max));
    }
    match tokio::time::timeout(timeout, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(BodyError::TooLarge(bytes_max)),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::TooSlow(timeout.as_secs())),
    }
}

/// Why Go's `net/url` does not read a pair, in its words.
fn malformation(pair: &[u8]) -> Option<String> {
    if pair.contains(&b';') {
        return Some("invalid semicolon separator in query".to_owned());
    }
    let escapes = pair.iter().enumerate().filter(|(_, b)| **b == b'%');
    escapes.map(|(at, _)| &pair[at..pair.len().min(at + 3)]).find_map(|escape| {
        let whole = escape.len() == 3 && escape[1..].iter().all(u8::is_ascii_hexdigit);
        (!whole).then(|| format!("invalid URL escape {}", quote(&String::from_utf8_lossy(escape))))
    })
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.to_string().contains("length limit"))
}

impl Params {
    /// Parameters from pairs; for tests and internal calls.
    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { pairs, malformed: None }
    }

    /// Adds the pairs of a form. As in Go, a pair with a semicolon or a broken escape is
    /// left out: most endpoints go on without it, others ask [`Params::well_formed`].
    fn extend(&mut self, form: &[u8]) {
        for pair in form.split(|b| *b == b'&') {
            match malformation(pair) {
                Some(why) => drop(self.malformed.get_or_insert(why)),
                None => self.pairs.extend(url::form_urlencoded::parse(pair).into_owned()),
            }
        }
    }

    /// An error when a pair was malformed.
    pub(crate) fn well_formed(&self) -> Result<(), ApiError> {
        match &self.malformed {
            Some(why) => Err(ApiError::bad_data(format!("error parsing form values: {why}"))),
            None => Ok(()),
        }
    }

    /// The first value of a parameter, "" when it is absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Every value of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// A required time.
    pub(crate) fn time(&self, name: &str) -> Result<TimestampMs, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::invalid_parameter(name, e))
    }

    /// An optional time.
    pub(crate) fn time_or(
        &self,
        name: &str,
        default_ms: TimestampMs,
    ) -> Result<TimestampMs, ApiError> {
        match self.get(name) {
            "" => Ok(default_ms),
            text => parse_time(text).map_err(|e| {
                ApiError::invalid_parameter(name, format!("invalid time value for '{name}': {e}"))
            }),
        }
    }

    /// `start` and `end` of a look-up; everything when they are absent.
    pub(crate) fn time_range(&self) -> Result<(TimestampMs, TimestampMs), ApiError> {
        Ok((self.time_or("start", MIN_TIME_MS)?, self.time_or("end", MAX_TIME_MS)?))
    }

    /// An optional duration in seconds.
    pub(crate) fn duration_seconds(&self, name: &str) -> Result<Option<f64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration_seconds(text)
                .map(Some)
                .map_err(|e| ApiError::invalid_parameter(name, e)),
        }
    }

    /// `limit`: 0 is none.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let limit = parse_int(text).map_err(|e| ApiError::invalid_parameter("limit", e))?;
        usize::try_from(limit)
            .map_err(|_| ApiError::invalid_parameter("limit", "limit must be non-negative"))
    }

    /// A limit that may be absent or negative, both meaning none.
    pub(crate) fn loose_limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_int(text)
                .map(|limit| usize::try_from(limit).ok())
                .map_err(|_| ApiError::bad_data(format!("{name} must be a number"))),
        }
    }

    /// The selectors of `match[]`. Each must have a matcher that does not accept the
    /// empty value, so that it cannot mean "every series".
    pub(crate) fn matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let mut sets = Vec::new();
        for text in self.all("match[]") {
            let matchers = parser::parse_metric_selector(text).map_err(|e| e.to_string())?;
            if matchers.iter().all(Matcher::matches_empty) {
                return Err("match[] must contain at least one non-empty matcher".to_owned());
            }
            sets.push(matchers);
        }
        Ok(sets)
    }
}

/// Unix seconds with a fraction, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<TimestampMs, String> {
    if let Some(seconds) = parse_float(text) {
        // Fractions are rounded to ms apart from the seconds, so that large times keep them.
        let whole = seconds.trunc();
        let ms = ((seconds - whole) * 1000.0).round();
        return Ok(((whole * 1000.0 + ms) as i64).clamp(MIN_TIME_MS, MAX_TIME_MS));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    match text {
        // Prometheus' own bounds, whose years no RFC 3339 parser accepts.
        "-292273086-05-16T16:47:06Z" => Ok(MIN_TIME_MS),
        "292277025-08-18T07:12:54.999999999Z" | "+292277025-08-18T07:12:54.999999999Z" => {
            Ok(MAX_TIME_MS)
        }
        _ => Err(format!("cannot parse {} to a valid timestamp", quote(text))),
    }
}

/// Seconds with a fraction, or a Prometheus duration.
pub(crate) fn parse_duration_seconds(text: &str) -> Result<f64, String> {
    if let Some(seconds) = parse_float(text) {
        // Go holds durations as nanoseconds in an int64.
        if seconds.abs() * 1e9 > i64::MAX as f64 {
            return Err(format!(
                "cannot parse {} to a valid duration. It overflows int64",
                quote(text)
            ));
        }
        return Ok(seconds);
    }
    match duration::parse_duration(text) {
        Ok(ms) => Ok(ms as f64 / 1000.0),
        Err(_) => Err(format!("cannot parse {} to a valid duration", quote(text))),
    }
}

/// A finite float. NaN and infinity are no times or durations.
fn parse_float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// As Go's `strconv.Atoi`, errors included.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {why}", quote(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_seconds_or_rfc_3339() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-1.5", Some(-1500)),
            ("1e3", Some(1_000_000)),
            ("1435781451.7814999", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51.781999+02:00", Some(1_435_781_451_781)),
            ("-292273086-05-16T16:47:06Z", Some(MIN_TIME_MS)),
            ("292277025-08-18T07:12:54.999999999Z", Some(MAX_TIME_MS)),
            ("1e300", Some(MAX_TIME_MS)),
            ("", None),
            ("NaN", None),
            ("+Inf", None),
            ("2015-07-01", None),
        ] {
            let why = format!("cannot parse {} to a valid timestamp", quote(text));
            assert_eq!(parse_time(text), expected.ok_or(why));
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        for (text, expected) in [("15", 15.0), ("0.5", 0.5), ("1h30m", 5400.0), ("-1", -1.0)] {
            assert_eq!(parse_duration_seconds(text), Ok(expected));
        }
        for (text, expected) in [
            ("", "cannot parse \"\" to a valid duration"),
            ("5 m", "cannot parse \"5 m\" to a valid duration"),
            ("1e10", "cannot parse \"1e10\" to a valid duration. It overflows int64"),
        ] {
            assert_eq!(parse_duration_seconds(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn parameter_errors_name_the_parameter() {
        let check = |result: Result<String, ApiError>, expected: &str| {
            assert_eq!(result.unwrap_err().message, expected);
        };
        let params = Params::from_pairs(&[("limit", "x"), ("time", "y"), ("step", "z")]);
        check(
            params.limit().map(|v| v.to_string()),
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        );
        check(
            params.time_or("time", 0).map(|v| v.to_string()),
            "invalid parameter \"time\": invalid time value for 'time': \
             cannot parse \"y\" to a valid timestamp",
        );
        check(
            params.time("start").map(|v| v.to_string()),
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        );
        check(
            params.duration_seconds("step").map(|v| format!("{v:?}")),
            "invalid parameter \"step\": cannot parse \"z\" to a valid duration",
        );
        let params = Params::from_pairs(&[("limit", "-1")]);
        check(
            params.limit().map(|v| v.to_string()),
            "invalid parameter \"limit\": limit must be non-negative",
        );
    }
}
