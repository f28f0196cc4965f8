//! `/federate`: the latest sample of each selected series, as a scrape target would
//! expose it.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use super::params::Params;
use super::response::text_response;
use super::state::ApiState;
use crate::model::sorted::sorted;
use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, Labels, Sample, TimestampMs, float, labels};
use crate::parser;
use crate::storage::{RawSeries, SelectHints, SelectRequest, StorageError};
use crate::telemetry::exposition::ExpositionFormat;
use crate::vector::RawSamples;

/// The label a federating server sets itself; present with an empty value, so that
/// `honor_labels` does not put the federating target's own value in its place.
const INSTANCE: &str = "instance";

struct Latest {
    labels: Labels,
    ts: TimestampMs,
    sample: Sample,
}

/// Latest samples of the series that any `match[]` selects. Without one: nothing.
pub(super) async fn federate(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let mut requests = Vec::new();
    let now_ms = state.clock.now_ms();
    let options = state.engine.options();
    for text in params.all("match[]") {
        match parser::parse_metric_selector(text) {
            Ok(matchers) => requests.push(SelectRequest {
                matchers,
                from_ms: now_ms - options.lookback_ms,
                to_ms: now_ms,
                hints: SelectHints::default(),
            }),
            Err(errors) => return text_response(StatusCode::BAD_REQUEST, &errors.to_string()),
        }
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let layout = Layout {
        format: ExpositionFormat::negotiate(accept),
        utf8_names: accept.is_some_and(|a| a.contains("escaping=allow-utf-8")),
        external: state.status.external_labels(),
    };
    let mut series: Vec<Arc<dyn RawSeries>> = Vec::new();
    for request in &requests {
        match state.source.select(request).await {
            Ok(set) => series.extend(set.series),
            Err(error) => {
                return text_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
            }
        }
    }
    let from_ms = now_ms - options.lookback_ms;
    // Whoever hangs up drops this future, and the guard with it.
    let gone = CancellationToken::new();
    let _stop = gone.clone().drop_guard();
    let written = tokio::task::spawn_blocking(move || {
        let look = || if gone.is_cancelled() { Err(Stopped::Gone) } else { Ok(()) };
        layout.write(&latest(&series, from_ms, now_ms, look)?, look)
    });
    match written.await {
        Ok(Ok((text, content_type))) => {
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        Ok(Err(Stopped::Storage(error))) => {
            text_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
        Ok(Err(Stopped::Gone)) | Err(_) => {
            text_response(StatusCode::INTERNAL_SERVER_ERROR, "federation was interrupted")
        }
    }
}

/// Why nothing came of it.
#[derive(Debug, PartialEq)]
enum Stopped {
    /// Nobody waits for the answer any more.
    Gone,
    Storage(StorageError),
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Work between two looks at whether somebody still waits, in units of the sort.
const LOOK_EVERY: usize = 1 << 16;

/// The newest sample of each series, by name and then by labels; stale series are left out.
/// `look` tells whether to go on.
fn latest(
    series: &[Arc<dyn RawSeries>],
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    mut look: impl FnMut() -> Result<(), Stopped>,
) -> Result<Vec<Latest>, Stopped> {
    let mut found: Vec<Latest> = Vec::new();
    let mut samples = RawSamples::default();
    for one in series {
        look()?;
        samples.clear();
        one.read_newest_into(from_ms, to_ms, &mut samples)?;
        let number = samples.ts.last().copied().zip(samples.vs.last().copied());
        let histogram = samples.hist.last();
        let (ts, sample) = match (number, histogram) {
            (Some((ts, v)), Some((other_ts, h))) if *other_ts > ts => {
                let _ = v;
                (*other_ts, Sample::Histogram(Arc::clone(h)))
            }
            (Some((ts, v)), _) => (ts, Sample::Float(v)),
            (None, Some((ts, h))) => (*ts, Sample::Histogram(Arc::clone(h))),
            (None, None) => continue,
        };
        let stale = match &sample {
            Sample::Float(v) => is_stale_nan(*v),
            Sample::Histogram(h) => is_stale_nan(h.sum),
        };
        if !stale {
            found.push(Latest { labels: one.labels().clone(), ts, sample });
        }
    }
    let order = |a: &Latest, b: &Latest| {
        (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels))
    };
    let mut found = sorted(found, order, LOOK_EVERY, look)?;
    found.dedup_by(|a, b| a.labels == b.labels);
    Ok(found)
}

/// How the samples are written.
struct Layout {
    format: ExpositionFormat,
    /// The scraper reads names beyond the legacy alphabet.
    utf8_names: bool,
    external: Labels,
}

impl Layout {
    fn write(
        &self,
        latest: &[Latest],
        mut look: impl FnMut() -> Result<(), Stopped>,
    ) -> Result<(String, HeaderValue), Stopped> {
        let mut out = String::new();
        let mut family = ("", "");
        for one in latest {
            look()?;
            let name = one.labels.metric_name();
            let kind = match &one.sample {
                _ if name.is_empty() => continue,
                Sample::Float(_) => match self.format {
                    ExpositionFormat::Text => "untyped",
                    ExpositionFormat::OpenMetrics => "unknown",
                },
                Sample::Histogram(h) if h.uses_custom_buckets() => "histogram",
                // Exponential buckets have no text form.
                Sample::Histogram(_) => continue,
            };
            if family != (name, kind) {
                family = (name, kind);
                writeln!(out, "# TYPE {} {kind}", self.type_name(name))
                    .expect("BUG: writing to a String cannot fail");
            }
            match &one.sample {
                Sample::Float(v) => self.push_line(&mut out, one, "", None, *v),
                Sample::Histogram(h) => self.push_histogram(&mut out, one, h),
            }
        }
        if self.format == ExpositionFormat::OpenMetrics {
            out.push_str("# EOF\n");
        }
        let escaping = if self.utf8_names { "allow-utf-8" } else { "underscores" };
        let content_type = format!("{}; escaping={escaping}", self.format.content_type());
        let content_type = HeaderValue::from_str(&content_type)
            .unwrap_or(HeaderValue::from_static("text/plain; version=0.0.4"));
        Ok((out, content_type))
    }

    fn push_histogram(&self, out: &mut String, one: &Latest, histogram: &FloatHistogram) {
        let mut cumulative = 0.0;
        let mut bounds = histogram.custom_values.iter().copied();
        for bucket in histogram.all_buckets() {
            for bound in bounds.by_ref().take_while(|bound| *bound < bucket.upper) {
                self.push_line(out, one, "_bucket", Some(bound), cumulative);
            }
            cumulative += bucket.count;
            if bucket.upper.is_finite() {
                self.push_line(out, one, "_bucket", Some(bucket.upper), cumulative);
            }
        }
        for bound in bounds {
            self.push_line(out, one, "_bucket", Some(bound), cumulative);
        }
        self.push_line(out, one, "_bucket", Some(f64::INFINITY), histogram.count);
        self.push_line(out, one, "_sum", None, histogram.sum);
        self.push_line(out, one, "_count", None, histogram.count);
    }

    fn push_line(&self, out: &mut String, one: &Latest, suffix: &str, le: Option<f64>, value: f64) {
        let name = format!("{}{suffix}", one.labels.metric_name());
        let quoted = self.utf8_names && !labels::is_legacy_metric_name(&name);
        let mut pairs: Vec<String> = Vec::new();
        if quoted {
            pairs.push(quote_value(&name));
        } else {
            push_legacy(out, &name, labels::is_legacy_metric_name);
        }
        let own = one.labels.iter().filter(|(n, _)| *n != crate::model::METRIC_NAME);
        let external = self.external.iter().filter(|(n, _)| one.labels.get(n).is_none());
        for (name, value) in own.chain(external) {
            pairs.push(self.pair(name, value));
        }
        if one.labels.get(INSTANCE).is_none() && self.external.get(INSTANCE).is_none() {
            pairs.push(self.pair(INSTANCE, ""));
        }
        if let Some(bound) = le {
            pairs.push(self.pair("le", &float::general(bound)));
        }
        if !pairs.is_empty() {
            out.push('{');
            out.push_str(&pairs.join(","));
            out.push('}');
        }
        out.push(' ');
        float::push_general(out, value);
        out.push(' ');
        match self.format {
            ExpositionFormat::Text => write!(out, "{}", one.ts),
            ExpositionFormat::OpenMetrics => {
                super::query_json::push_timestamp(out, one.ts);
                Ok(())
            }
        }
        .expect("BUG: writing to a String cannot fail");
        out.push('\n');
    }

    fn pair(&self, name: &str, value: &str) -> String {
        let mut pair = String::new();
        if self.utf8_names && !labels::is_legacy_label_name(name) {
            pair.push_str(&quote_value(name));
        } else {
            push_legacy(&mut pair, name, labels::is_legacy_label_name);
        }
        pair.push('=');
        pair.push_str(&quote_value(value));
        pair
    }

    fn type_name(&self, name: &str) -> String {
        if self.utf8_names && !labels::is_legacy_metric_name(name) {
            return quote_value(name);
        }
        let mut out = String::new();
        push_legacy(&mut out, name, labels::is_legacy_metric_name);
        out
    }
}

/// Replaces what the legacy alphabet lacks by underscores.
fn push_legacy(out: &mut String, name: &str, is_legacy: fn(&str) -> bool) {
    if is_legacy(name) {
        out.push_str(name);
        return;
    }
    for (i, c) in name.chars().enumerate() {
        let legal = c.is_ascii_alphanumeric() && !(i == 0 && c.is_ascii_digit());
        out.push(if legal || c == ':' { c } else { '_' });
    }
}

/// Quotes as the exposition formats do: only backslash, quote and line feed are escaped.
fn quote_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: &Layout, latest: &[Latest], expected: &str) {
        let (text, _) = layout.write(latest, || Ok(())).unwrap();
        assert_eq!(text, expected);
    }

    fn latest_of(pairs: &[(&str, &str)], v: f64) -> Latest {
        let labels = Labels::from_pairs(pairs.iter().copied());
        Latest { labels, ts: 1_435_781_451_781, sample: Sample::Float(v) }
    }

    /// A series with a sample at any time.
    struct Wide(Labels);

    impl RawSeries for Wide {
        fn labels(&self) -> &Labels {
            &self.0
        }

        fn read_into(&self, _: i64, to_ms: i64, out: &mut RawSamples) -> Result<(), StorageError> {
            out.push(to_ms, 1.0);
            Ok(())
        }
    }

    #[test]
    fn a_scraper_that_is_gone_stops_it_at_once() {
        let wide =
            |i: u32| Wide(Labels::from_pairs([("__name__", format!("m{}", i * 7919 % 100))]));
        let series: Vec<Arc<dyn RawSeries>> =
            (0..100).map(|i| Arc::new(wide(i)) as Arc<dyn RawSeries>).collect();
        let layout =
            Layout { format: ExpositionFormat::Text, utf8_names: false, external: Labels::empty() };
        let mut looks = 0;
        let mut run = |allowed: usize| {
            looks = 0;
            let mut look = || {
                looks += 1;
                if looks <= allowed { Ok(()) } else { Err(Stopped::Gone) }
            };
            let found = latest(&series, 0, 10, &mut look)?;
            layout.write(&found, look).map(|(text, _)| text.lines().count())
        };
        // A sample and a type of each; 100 looks to read, one to sort, 100 to write.
        assert_eq!(run(201), Ok(200));
        for allowed in [0, 99, 100, 200] {
            assert_eq!(run(allowed), Err(Stopped::Gone), "{allowed}");
        }
    }

    #[test]
    fn series_get_external_labels_and_an_empty_instance() {
        let latest = [
            latest_of(&[("__name__", "a"), ("dc", "own"), ("x", "q\"\n\\")], 1e6),
            latest_of(&[("__name__", "a"), ("instance", "i")], f64::NAN),
            latest_of(&[("__name__", "b.c"), ("1é", "v")], -0.5),
            latest_of(&[("nameless", "x")], 1.0),
        ];
        let external = Labels::from_pairs([("dc", "fra"), ("replica", "1")]);
        let mut layout = Layout { format: ExpositionFormat::Text, utf8_names: false, external };
        check(
            &layout,
            &latest,
            concat!(
                "# TYPE a untyped\n",
                "a{dc=\"own\",x=\"q\\\"\\n\\\\\",replica=\"1\",instance=\"\"} 1e+06 1435781451781\n",
                "a{instance=\"i\",dc=\"fra\",replica=\"1\"} NaN 1435781451781\n",
                "# TYPE b_c untyped\n",
                "b_c{__=\"v\",dc=\"fra\",replica=\"1\",instance=\"\"} -0.5 1435781451781\n",
            ),
        );
        layout = Layout {
            format: ExpositionFormat::OpenMetrics,
            utf8_names: true,
            external: Labels::empty(),
        };
        check(
            &layout,
            &latest[2..],
            concat!(
                "# TYPE \"b.c\" unknown\n",
                "{\"b.c\",\"1é\"=\"v\",instance=\"\"} -0.5 1435781451.781\n# EOF\n",
            ),
        );
    }

    #[test]
    fn histograms_with_custom_bounds_become_classic_ones() {
        use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};
        let histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: vec![0.5, 1.0, 2.0, 4.0],
            positive_spans: vec![Span { offset: 1, length: 1 }, Span { offset: 2, length: 1 }],
            positive_buckets: vec![3.0, 2.0],
            count: 5.0,
            sum: 20.0,
            ..FloatHistogram::default()
        };
        let latest = Latest {
            labels: Labels::from_pairs([("__name__", "h"), ("instance", "i")]),
            ts: 0,
            sample: Sample::Histogram(Arc::new(histogram)),
        };
        let layout =
            Layout { format: ExpositionFormat::Text, utf8_names: false, external: Labels::empty() };
        check(
            &layout,
            &[latest],
            concat!(
                "# TYPE h histogram\n",
                "h_bucket{instance=\"i\",le=\"0.5\"} 0 0\n",
                "h_bucket{instance=\"i\",le=\"1\"} 3 0\n",
                "h_bucket{instance=\"i\",le=\"2\"} 3 0\n",
                "h_bucket{instance=\"i\",le=\"4\"} 3 0\n",
                "h_bucket{instance=\"i\",le=\"+Inf\"} 5 0\n",
                "h_sum{instance=\"i\"} 20 0\n",
                "h_count{instance=\"i\"} 5 0\n",
            ),
        );
    }
}
