//! The registry as text: the classic format 0.0.4, or OpenMetrics when asked for.
//!
//! `prometheus_client` writes only OpenMetrics and knows no summaries, so its output is
//! read back into families and laid out again as client_golang does: families sorted by
//! name, series by labels, Go's number layout, and in the classic format counters typed
//! under their full name. This is also where a [`Summary`](super::Summary) takes shape.

use std::collections::BTreeMap;

use prometheus_client::registry::Registry;

use super::summary::QUANTILE_SCALE;
use crate::model::float;

/// The text formats a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// `text/plain; version=0.0.4`
    Text,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl ExpositionFormat {
    /// The best format an `Accept` header allows; the classic one when it says nothing.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Self::Text,
                _ => continue,
            };
            let mut weight = 1.0;
            let mut known_version = true;
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" if format == Self::OpenMetrics => {
                        known_version = matches!(value.trim(), "1.0.0" | "0.0.1");
                    }
                    _ => {}
                }
            }
            if known_version && weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// The `Content-Type` of a response in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes every metric of the registry.
pub fn encode(registry: &Registry, format: ExpositionFormat) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, registry)
        .expect("BUG: writing metrics to a String cannot fail");
    relayout(&text, format)
}

/// One family of the intermediate text.
#[derive(Default)]
struct Family<'a> {
    help: &'a str,
    kind: &'a str,
    /// Rows by the labels of their series (without `le`), in written order per series.
    series: BTreeMap<String, Vec<Row<'a>>>,
}

/// One line of samples.
struct Row<'a> {
    /// What follows the family's name: `_total`, `_bucket`, ...
    suffix: &'a str,
    /// Labels without `le`, comma separated.
    labels: String,
    le: Option<f64>,
    value: &'a str,
    /// The exemplar, from its `{` on.
    exemplar: Option<&'a str>,
}

fn relayout(text: &str, format: ExpositionFormat) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            current = name;
            families.entry(name).or_default().help = help;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            families.entry(name).or_default().kind = kind;
        } else if !line.starts_with('#') {
            let row = parse_row(line, current);
            let family = families.entry(current).or_default();
            family.series.entry(row.labels.clone()).or_default().push(row);
        }
    }
    let mut out = String::with_capacity(text.len());
    for (name, family) in &families {
        if !family.series.is_empty() {
            write_family(&mut out, name, family, format);
        }
    }
    if format == ExpositionFormat::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn parse_row<'a>(line: &'a str, family: &str) -> Row<'a> {
    let name_len = line.find(['{', ' ']).unwrap_or(line.len());
    let suffix = line[..name_len].strip_prefix(family).unwrap_or("");
    let (pairs, rest) = match line[name_len..].strip_prefix('{') {
        Some(rest) => split_labels(rest),
        None => (Vec::new(), &line[name_len..]),
    };
    let mut le = None;
    let mut labels = String::new();
    for pair in pairs {
        match pair.strip_prefix("le=\"").and_then(|v| v.strip_suffix('"')) {
            Some(bound) => le = bound.parse().ok(),
            None => {
                if !labels.is_empty() {
                    labels.push(',');
                }
                labels.push_str(pair);
            }
        }
    }
    let (value, exemplar) = match rest.trim_start().split_once(" # ") {
        Some((value, exemplar)) => (value, Some(exemplar)),
        None => (rest.trim_start(), None),
    };
    Row { suffix, labels, le, value, exemplar }
}

/// Splits `a="x",b="y"} rest` into its pairs and what follows the brace.
fn split_labels(text: &str) -> (Vec<&str>, &str) {
    let mut pairs = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'}' if !quoted => {
                if start < i {
                    pairs.push(&text[start..i]);
                }
                if b == b'}' {
                    return (pairs, &text[i + 1..]);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
    (pairs, "")
}

fn write_family(out: &mut String, name: &str, family: &Family<'_>, format: ExpositionFormat) {
    let is_bucket = |row: &Row<'_>| row.suffix == "_bucket";
    let is_summary = family.kind == "unknown" && family.series.values().flatten().any(is_bucket);
    let classic = format == ExpositionFormat::Text;
    let (full_name, kind) = match family.kind {
        _ if is_summary => (name.to_owned(), "summary"),
        "counter" if classic => (format!("{name}_total"), "counter"),
        "info" if classic => (format!("{name}_info"), "gauge"),
        "unknown" if classic => (name.to_owned(), "untyped"),
        kind => (name.to_owned(), kind),
    };
    // The registry ends every help text with a full stop, also one that has it already.
    let help = family.help.strip_suffix('.').filter(|h| h.ends_with('.')).unwrap_or(family.help);
    for line in ["# HELP ", &full_name, " ", help, "\n# TYPE ", &full_name, " ", kind, "\n"] {
        out.push_str(line);
    }
    for series in family.series.values() {
        // Buckets or quantiles first, then sum and count.
        let is_detail = |row: &&Row<'_>| row.le.is_some();
        for row in series.iter().filter(is_detail).chain(series.iter().filter(|r| !is_detail(r))) {
            if is_summary && row.le.is_some() {
                write_quantile(out, name, row, format);
            } else {
                write_row(out, name, row, format);
            }
        }
    }
}

/// A bucket of a [`Summary`](super::Summary) is a quantile in disguise.
fn write_quantile(out: &mut String, name: &str, row: &Row<'_>, format: ExpositionFormat) {
    let quantile = row.value.parse::<f64>().unwrap_or(f64::NAN) / QUANTILE_SCALE;
    out.push_str(name);
    push_labels(out, &row.labels, Some(("quantile", quantile)), format);
    float::push_general(out, row.le.unwrap_or(f64::NAN));
    out.push('\n');
}

fn write_row(out: &mut String, name: &str, row: &Row<'_>, format: ExpositionFormat) {
    out.push_str(name);
    out.push_str(row.suffix);
    push_labels(out, &row.labels, row.le.map(|bound| ("le", bound)), format);
    push_value(out, row.value);
    if let Some(exemplar) = row.exemplar.filter(|_| format == ExpositionFormat::OpenMetrics) {
        out.push_str(" # ");
        out.push_str(exemplar);
    }
    out.push('\n');
}

fn push_labels(
    out: &mut String,
    labels: &str,
    bound: Option<(&str, f64)>,
    format: ExpositionFormat,
) {
    if !labels.is_empty() || bound.is_some() {
        out.push('{');
        out.push_str(labels);
        if let Some((name, bound)) = bound {
            if !labels.is_empty() {
                out.push(',');
            }
            out.push_str(name);
            out.push_str("=\"");
            push_bound(out, bound, format);
            out.push('"');
        }
        out.push('}');
    }
    out.push(' ');
}

/// Bounds are floats in OpenMetrics (`1.0`) and bare in the classic format (`1`).
fn push_bound(out: &mut String, bound: f64, format: ExpositionFormat) {
    let start = out.len();
    float::push_general(out, bound);
    let bare = !out[start..].contains(['.', 'e', 'I', 'N']);
    if format == ExpositionFormat::OpenMetrics && bare {
        out.push_str(".0");
    }
}

fn push_value(out: &mut String, value: &str) {
    // Integers keep all their digits.
    if value.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        out.push_str(value);
        return;
    }
    match value.parse() {
        Ok(v) => float::push_general(out, v),
        Err(_) => out.push_str(value),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;

    use super::super::Summary;
    use super::*;

    fn sample_registry() -> Registry {
        let mut registry = Registry::default();
        let requests = Family::<Vec<(&str, &str)>, Counter>::default();
        registry.register("http_requests", "Requests served.", requests.clone());
        requests.get_or_create(&vec![("handler", "/b"), ("code", "200")]).inc_by(3);
        requests.get_or_create(&vec![("handler", "/a,}\" le=\"1\"\\"), ("code", "500")]).inc();
        let latency = Family::<Vec<(&str, &str)>, Histogram>::new_with_constructor(|| {
            Histogram::new([0.5, 1.0])
        });
        registry.register("latency_seconds", "Latency", latency.clone());
        latency.get_or_create(&vec![("handler", "/b")]).observe(0.75);
        let duration = Family::<Vec<(&str, &str)>, Summary>::default();
        registry.register("duration_seconds", "Duration", duration.clone());
        duration.get_or_create(&vec![("slice", "inner_eval")]).observe(0.25);
        registry.register(
            "empty_seconds",
            "No series yet",
            Family::<Vec<(&str, &str)>, Summary>::default(),
        );
        let plain = Summary::new(&[0.5]);
        registry.register("plain_seconds", "No labels", plain);
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(1_500_000.0);
        registry.register("a_gauge", "A gauge", gauge);
        registry.register("build", "What runs", Info::new(vec![("version", "1")]));
        registry
    }

    #[test]
    fn the_classic_format_is_what_client_golang_writes() {
        let text = encode(&sample_registry(), ExpositionFormat::Text);
        assert_eq!(
            text,
            r##"# HELP a_gauge A gauge.
# TYPE a_gauge gauge
a_gauge 1.5e+06
# HELP build_info What runs.
# TYPE build_info gauge
build_info{version="1"} 1
# HELP duration_seconds Duration.
# TYPE duration_seconds summary
duration_seconds{slice="inner_eval",quantile="0.5"} 0.25
duration_seconds{slice="inner_eval",quantile="0.9"} 0.25
duration_seconds{slice="inner_eval",quantile="0.99"} 0.25
duration_seconds_sum{slice="inner_eval"} 0.25
duration_seconds_count{slice="inner_eval"} 1
# HELP http_requests_total Requests served.
# TYPE http_requests_total counter
http_requests_total{handler="/a,}\" le=\"1\"\\",code="500"} 1
http_requests_total{handler="/b",code="200"} 3
# HELP latency_seconds Latency.
# TYPE latency_seconds histogram
latency_seconds_bucket{handler="/b",le="0.5"} 0
latency_seconds_bucket{handler="/b",le="1"} 1
latency_seconds_bucket{handler="/b",le="+Inf"} 1
latency_seconds_sum{handler="/b"} 0.75
latency_seconds_count{handler="/b"} 1
# HELP plain_seconds No labels.
# TYPE plain_seconds summary
plain_seconds{quantile="0.5"} NaN
plain_seconds_sum 0
plain_seconds_count 0
"##
        );
    }

    #[test]
    fn openmetrics_keeps_family_names_and_ends_with_eof() {
        let text = encode(&sample_registry(), ExpositionFormat::OpenMetrics);
        for line in [
            "# TYPE http_requests counter\n",
            "http_requests_total{handler=\"/b\",code=\"200\"} 3\n",
            "# TYPE build info\n",
            "# TYPE duration_seconds summary\n",
            "latency_seconds_bucket{handler=\"/b\",le=\"1.0\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_format_follows_the_accept_header() {
        use ExpositionFormat::{OpenMetrics, Text};
        for (accept, expected) in [
            (None, Text),
            (Some("*/*"), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
            (Some("application/openmetrics-text;q=0.1,text/plain"), Text),
            (Some("application/openmetrics-text;version=9.0.0,text/plain;q=0.1"), Text),
            (Some("application/vnd.google.protobuf;proto=x"), Text),
        ] {
            assert_eq!(ExpositionFormat::negotiate(accept), expected, "{accept:?}");
        }
    }
}
