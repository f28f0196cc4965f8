//! `watchfire query analyze`: how many buckets of histograms are populated, native and
//! classic. What it prints is promtool's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use clap::Args;
use serde_json::Value as Json;

use super::{now_seconds, seconds};
use crate::cli::client::{ApiClient, ClientArgs};
use crate::cli::format;
use crate::model::duration::{format_duration, parse_duration};

const HEADER: &str = "\
Bucket stats for each histogram series over time
------------------------------------------------
First the min, avg, and max number of populated buckets, followed by the total
number of buckets (only if different from the max number of populated buckets
which is typical for classic but not native histograms).";

const FOOTER: &str = "\
Aggregated bucket stats
-----------------------
Each line shows min/avg/max over the series above.";

#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    /// The server, e.g. http://127.0.0.1:9090.
    #[arg(long, value_name = "URL")]
    server: String,
    /// What to look at: histogram.
    #[arg(long = "type")]
    kind: String,
    /// How far back to look.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    duration: String,
    /// Where to look back from: RFC 3339 or Unix seconds; now if left out.
    #[arg(long)]
    time: Option<String>,
    /// Selector of native histograms, or of the `_bucket` series of classic ones; repeatable.
    #[arg(long = "match", value_name = "SELECTOR", required = true)]
    matchers: Vec<String>,
}

/// Writes what is found into `out`; what stands there when something fails was told before.
/// Gives what to say when that is nothing.
pub(super) async fn run(
    args: &AnalyzeArgs,
    client: &ClientArgs,
    out: &mut String,
) -> Result<Option<String>, String> {
    if args.kind != "histogram" {
        return Err(format!("analyze type is {}, must be 'histogram'", args.kind));
    }
    let range_ms = parse_duration(&args.duration).map_err(|e| format!("--duration: {e}"))?;
    let client = ApiClient::new(client, &args.server, super::REQUEST_TIMEOUT).await?;
    let at = match &args.time {
        Some(time) => seconds(time).map_err(|e| format!("error parsing time '{time}': {e}"))?,
        None => now_seconds(),
    };
    let _ = writeln!(out, "{HEADER}\n");
    let (mut native, mut classic) = (Totals::default(), Totals::default());
    for matcher in &args.matchers {
        let query = format!("{matcher}[{}]", format_duration(range_ms));
        let form = [("query", query), ("time", at.to_string())];
        let data = client.api_post("api/v1/query", &form).await?;
        if data["resultType"] != "matrix" {
            return Err("query of buckets resulted in non-Matrix".to_owned());
        }
        series(&data, out, &mut native, &mut classic)?;
    }
    let _ = writeln!(out, "\n{FOOTER}");
    for (name, totals) in [("Native", &native), ("Classic", &classic)] {
        if totals.least.count > 0 {
            let _ = writeln!(out, "\n{name} {totals}");
        }
    }
    if native.least.count + classic.least.count > 0 {
        return Ok(None);
    }
    Ok(Some(format!(
        "nothing found: no histogram of {} has two samples in {}; classic histograms are found by \
         their series that end in _bucket, e.g. --match=prometheus_http_request_duration_seconds_bucket",
        args.matchers.join(", "),
        args.duration
    )))
}

/// One answer. Series with any float are taken for buckets of a classic histogram, others
/// for native ones; what is neither, or too short, is left out.
fn series(
    data: &Json,
    out: &mut String,
    native: &mut Totals,
    classic: &mut Totals,
) -> Result<(), String> {
    let mut buckets: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for row in data["result"].as_array().into_iter().flatten() {
        let metric = &row["metric"];
        if points(row).is_empty() {
            if let Some(stats) = native_stats(row) {
                let _ = writeln!(out, "- {} (native): {stats}", format::metric(metric));
                native.add(&stats);
            }
            continue;
        }
        let name = metric["__name__"].as_str().unwrap_or("");
        if !metric["le"].is_string() || !name.ends_with("_bucket") {
            continue;
        }
        let mut labels = metric.as_object().cloned().unwrap_or_default();
        labels.retain(|label, _| label != "__name__" && label != "le");
        let key = format!("{name}{}", format::label_set(&Json::Object(labels)));
        buckets.entry(key).or_default().push(row);
    }
    for (key, rows) in buckets {
        if let Some(stats) = classic_stats(rows)? {
            let _ = writeln!(out, "- {key} (classic): {stats}");
            classic.add(&stats);
        }
    }
    Ok(())
}

fn points(row: &Json) -> &[Json] {
    row["values"].as_array().map_or(&[], Vec::as_slice)
}

fn number(text: &Json) -> f64 {
    let text = text.as_str().unwrap_or("");
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(0.0),
    }
}

/// Populated buckets of one histogram over time.
struct Stats {
    least: usize,
    most: usize,
    mean: f64,
    /// All buckets there ever were.
    total: usize,
}

impl Stats {
    /// `None` for fewer than two samples.
    fn of(populated: &[usize], total: usize) -> Option<Self> {
        let (least, most) = (*populated.iter().min()?, *populated.iter().max()?);
        let mean = populated.iter().sum::<usize>() as f64 / populated.len() as f64;
        (populated.len() > 1).then_some(Self { least, most, mean, total })
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:.3}/{}", self.least, self.mean, self.most)?;
        if self.most != self.total {
            write!(f, "/{}", self.total)?;
        }
        Ok(())
    }
}

/// A native histogram's own list of buckets holds populated ones only.
fn native_stats(row: &Json) -> Option<Stats> {
    let mut bounds = BTreeSet::new();
    let mut populated = Vec::new();
    for sample in row["histograms"].as_array()? {
        let buckets = sample[1]["buckets"].as_array().map_or(&[][..], Vec::as_slice);
        populated.push(buckets.len());
        bounds
            .extend(buckets.iter().map(|b| (b[0].to_string(), b[1].to_string(), b[2].to_string())));
    }
    Stats::of(&populated, bounds.len())
}

/// A bucket is populated when it counts more than the next smaller one. From where a bucket
/// has no samples any more, it and the larger ones count as empty.
fn classic_stats(mut rows: Vec<&Json>) -> Result<Option<Stats>, String> {
    let samples = rows.first().map_or(0, |row| points(row).len());
    rows.sort_by(|a, b| number(&a["metric"]["le"]).total_cmp(&number(&b["metric"]["le"])));
    let mut populated = Vec::with_capacity(samples);
    for i in 0..samples {
        let mut count = 0;
        let mut below: Option<&Json> = None;
        for row in &rows {
            let Some(point) = points(row).get(i) else { break };
            if below.is_some_and(|below| below[0] != point[0]) {
                return Err("matrix result is not time aligned".to_owned());
            }
            let own = number(&point[1]) - below.map_or(0.0, |below| number(&below[1]));
            count += usize::from(own.trunc() != 0.0);
            below = Some(point);
        }
        populated.push(count);
    }
    Ok(Stats::of(&populated, rows.len()))
}

/// Least, mean and most of numbers.
#[derive(Clone, Copy, Default, PartialEq)]
struct Spread {
    least: usize,
    most: usize,
    count: usize,
    mean: f64,
}

impl Spread {
    fn add(&mut self, number: usize) {
        self.least = if self.count == 0 { number } else { self.least.min(number) };
        self.most = self.most.max(number);
        self.count += 1;
        let count = self.count as f64;
        self.mean += number as f64 / count - self.mean / count;
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:.3}/{}", self.least, self.mean, self.most)
    }
}

/// What the histograms of a kind come to together.
#[derive(Default)]
struct Totals {
    least: Spread,
    mean: Spread,
    most: Spread,
    total: Spread,
}

impl Totals {
    fn add(&mut self, stats: &Stats) {
        self.least.add(stats.least);
        self.mean.add(stats.mean as usize);
        self.most.add(stats.most);
        self.total.add(stats.total);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, mean, most, total } = self;
        writeln!(f, "histogram series ({} in total):", least.count)?;
        write!(f, "- min populated: {least}\n- avg populated: {mean}\n- max populated: {most}")?;
        if most != total {
            write!(f, "\n- total: {total}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(data: &Json, expected: Result<&str, &str>) {
        let (mut native, mut classic) = (Totals::default(), Totals::default());
        let mut out = String::new();
        let made = series(data, &mut out, &mut native, &mut classic);
        for totals in [native, classic].iter().filter(|t| t.least.count > 0) {
            let _ = writeln!(out, "{totals}");
        }
        assert_eq!(made.map(|()| out), expected.map(str::to_owned).map_err(str::to_owned));
    }

    fn bucket(le: &str, values: &[(i64, &str)]) -> Json {
        let metric = json!({"__name__": "h_bucket", "job": "a", "le": le});
        json!({"metric": metric, "values": values})
    }

    #[test]
    fn classic_buckets_are_differences() {
        let data = json!({"result": [
            bucket("+Inf", &[(0, "3"), (60, "9")]),
            bucket("0.5", &[(0, "0"), (60, "2")]),
            bucket("10", &[(0, "3"), (60, "9")]),
            bucket("1", &[(0, "1"), (60, "5")]),
            {"metric": {"__name__": "h_sum", "job": "a"}, "values": [[0, "1"], [60, "2"]]},
            {"metric": {"__name__": "other", "le": "1"}, "values": [[0, "1"], [60, "2"]]},
        ]});
        let said = "- h_bucket{job=\"a\"} (classic): 2/2.500/3/4\nhistogram series (1 in total):\n- min populated: 2/2.000/2\n- avg populated: 2/2.000/2\n- max populated: 3/3.000/3\n- total: 4/4.000/4\n";
        check(&data, Ok(said));
    }

    #[test]
    fn native_buckets_are_those_there_are() {
        let sample =
            |at: i64, buckets: &[Json]| json!([at, {"count": "1", "sum": "1", "buckets": buckets}]);
        let (a, b) = (json!([0, "1", "2", "4"]), json!([0, "2", "4", "1"]));
        let data = json!({"result": [
            {"metric": {"__name__": "n"}, "histograms": [sample(0, std::slice::from_ref(&a)), sample(60, &[a.clone(), b.clone()])]},
            {"metric": {"__name__": "moves"}, "histograms": [sample(0, &[a]), sample(60, &[b])]},
            {"metric": {"__name__": "single"}, "histograms": [sample(0, &[])]},
        ]});
        let said = "- n (native): 1/1.500/2\n- moves (native): 1/1.000/1/2\nhistogram series (2 in total):\n- min populated: 1/1.000/1\n- avg populated: 1/1.000/1\n- max populated: 1/1.500/2\n- total: 2/2.000/2\n";
        check(&data, Ok(said));
    }

    #[test]
    fn odd_answers_are_left_out_or_refused() {
        check(&json!({"result": [bucket("1", &[(0, "1")])]}), Ok(""));
        let apart = [bucket("1", &[(0, "1"), (60, "1")]), bucket("2", &[(0, "1"), (61, "1")])];
        check(&json!({"result": apart}), Err("matrix result is not time aligned"));
        let short = [bucket("1", &[(0, "1"), (60, "1")]), bucket("2", &[(0, "2")])];
        let said = "- h_bucket{job=\"a\"} (classic): 1/1.500/2\nhistogram series (1 in total):\n- min populated: 1/1.000/1\n- avg populated: 1/1.000/1\n- max populated: 2/2.000/2\n";
        check(&json!({"result": short}), Ok(said));
        check(&json!({"result": "nonsense"}), Ok(""));
    }
}
