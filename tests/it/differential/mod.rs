//! Generated questions to a real Prometheus and to this server over the same data: same
//! answer, or same refusal. The seed is fixed; every failure names the seed and the
//! expressions, which the next run asks again.

mod causes;
pub mod data;
pub mod generate;
mod invalid;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use watchfire::query::{Engine, EngineOptions};
use watchfire::remote_write;
use watchfire::telemetry::clock::ManualClock;

use self::generate::Generator;
use crate::api::{TestServer, answer};
use crate::support::{Program, alike, ordered, start_prometheus};

pub const SEED: u64 = 20_240_603;
const EXPRESSIONS: usize = 700;
const MUTATIONS: usize = 700;
/// Sums in another order and other compensation move the last digits.
pub const TOLERANCE: f64 = 1e-9;

/// Both servers, holding the same samples.
struct Pair {
    _prometheus: Program,
    _dir: tempfile::TempDir,
    real: String,
    ours: TestServer,
    client: reqwest::Client,
}

impl Pair {
    async fn start(seed: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (prometheus, real) = start_prometheus(dir.path(), "global: {}\n")?;
        let ours = TestServer::start_with(Arc::new(ManualClock::new(data::END_MS)), |state| {
            state.options.enable_remote_write_receiver = true;
            let options = EngineOptions { per_step_stats: true, ..EngineOptions::default() };
            state.engine = Engine::new(options);
        })
        .await;
        let client = reqwest::Client::new();
        let body = remote_write::encode(&data::request(seed)).unwrap();
        for base in [&real, &ours.base] {
            let request = client
                .post(format!("{base}/api/v1/write"))
                .header("Content-Type", "application/x-protobuf")
                .header("Content-Encoding", "snappy")
                .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                .body(body.clone());
            let got = answer(request).await;
            assert_eq!(got.status, 204, "{base}: {}", got.body);
        }
        Some(Self { _prometheus: prometheus, _dir: dir, real, ours, client })
    }

    /// Both answers, without what only newer versions send.
    async fn ask(&self, endpoint: &str, fields: &[(&str, &str)]) -> (Value, Value) {
        let mut answers = Vec::new();
        for base in [&self.real, &self.ours.base] {
            let request = self.client.post(format!("{base}/api/v1/{endpoint}")).form(fields);
            let mut value = ordered(&answer(request).await.body);
            if let Some(object) = value.as_object_mut() {
                object.remove("warnings");
                object.remove("infos");
            }
            answers.push(value);
        }
        let ours = answers.pop().unwrap();
        (answers.pop().unwrap(), ours)
    }
}

/// Instant queries at two times, and two ranges. Half seconds: never where a sample is.
const TIMES: &[(&str, &[(&str, &str)])] = &[
    ("query", &[("time", "1699999990.5")]),
    ("query", &[("time", "1699998123.5")]),
    ("query_range", &[("start", "1699998200.5"), ("end", "1699999990.5"), ("step", "73")]),
    ("query_range", &[("start", "1699999300.5"), ("end", "1699999900.5"), ("step", "20")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn generated_expressions_have_the_same_answers() {
    let Some(pair) = Pair::start(SEED).await else { return };
    let mut generator = Generator::new(SEED);
    let mut different = Vec::new();
    let (mut answered, mut refused, mut known) = (0, 0, BTreeMap::<&str, usize>::new());
    for n in 0..EXPRESSIONS {
        let expr = generator.expression();
        // Every question costs two evaluations: each expression gets two of the four.
        for (endpoint, times) in TIMES.iter().skip(n % 2).step_by(2) {
            let fields = [&[("query", expr.as_str()), ("stats", "all")], *times].concat();
            let (mut theirs, mut ours) = pair.ask(endpoint, &fields).await;
            let (their_stats, our_stats) = (take_stats(&mut theirs), take_stats(&mut ours));
            // Stats come with every answer that is no refusal.
            assert!(their_stats.is_some() == (theirs["status"] == "success"), "{expr}: {theirs}");
            let alike = theirs["status"] != ours["status"] || their_stats == our_stats;
            if !alike && !causes::miscounted(&expr) {
                different.push(format!(
                    "{endpoint} {times:?}\n  {expr}\n  theirs {their_stats:?}\n  ours   {our_stats:?}"
                ));
            }
            let count = if theirs["status"] == "success" { &mut answered } else { &mut refused };
            *count += 1;
            if same(&theirs, &ours) {
                continue;
            }
            match causes::reasons(&pair, &expr, (*endpoint, *times)).await {
                Ok(reasons) => *known.entry(reasons[0]).or_default() += 1,
                Err(cause) => different.push(format!(
                    "{endpoint} {times:?}\n  {expr}\n{}\n  in {cause}",
                    first_difference(&theirs, &ours)
                )),
            }
        }
    }
    println!("{answered} answered, {refused} refused, known differences: {known:?}");
    assert!(
        different.is_empty(),
        "seed {SEED}: {} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    assert!(answered > 10 * refused && refused > 10, "{answered} answered, {refused} refused");
    // An exception must stay one.
    assert!(known.values().sum::<usize>() < answered / 50, "{known:?}");
}

/// The samples each step looked at, taken out of an answer. How many are held at once is
/// each engine's own affair, and 2.42 does not tell how many are read.
fn take_stats(answer: &mut Value) -> Option<[Value; 2]> {
    let stats = answer.get_mut("data")?.as_object_mut()?.remove("stats")?;
    let samples = &stats["samples"];
    Some(["totalQueryableSamples", "totalQueryableSamplesPerStep"].map(|key| samples[key].clone()))
}

fn same(theirs: &Value, ours: &Value) -> bool {
    alike(theirs, ours, TOLERANCE)
        || (theirs["errorType"] == ours["errorType"]
            && theirs["error"].is_string()
            && comparable(&theirs["error"]) == comparable(&ours["error"]))
}

/// The part of an error text that both versions agree on.
fn comparable(error: &Value) -> String {
    let text = error.as_str().unwrap_or_default();
    // Range queries name the parameter too, since 3.0.
    let text = text.strip_prefix("invalid parameter \"query\": ").unwrap_or(text);
    // Which of several faulty groups is found first, and in which order its series are
    // met, depends on the order of a hash map in 2.42.
    match text.split_once(" for the match group ") {
        Some((head, tail)) => {
            let end = tail.split_once("]").map_or("", |(_, end)| end);
            let side = if tail.contains(" on the left ") { "left" } else { "right" };
            format!("{head} for the match group on the {side}: {end}")
        }
        None => text.to_owned(),
    }
}

/// Every time with a value, whatever the series; 0 and -0 are one value.
fn values(answer: &Value) -> Vec<String> {
    let text = |point: &Value| point.to_string().replace("\"-0\"", "\"0\"");
    let mut values = Vec::new();
    for series in answer["data"]["result"].as_array().into_iter().flatten() {
        values.extend(series["values"].as_array().into_iter().flatten().map(text));
        values.extend(series.get("value").map(text));
    }
    values.sort();
    values
}

/// The first series or field that differs; whole answers are too long to read.
fn first_difference(theirs: &Value, ours: &Value) -> String {
    let list = |value: &Value| value["data"]["result"].as_array().cloned().unwrap_or_default();
    let (a, b) = (list(theirs), list(ours));
    let cut = |value: &Value| value.to_string().chars().take(400).collect::<String>();
    if a.is_empty() || b.is_empty() {
        return format!("  theirs {}\n  ours   {}", cut(theirs), cut(ours));
    }
    let count = format!("  {} against {} series", a.len(), b.len());
    let pair = a.iter().zip(&b).find(|(a, b)| !same(a, b));
    let Some((a, b)) = pair else { return count };
    match (a["values"].as_array(), b["values"].as_array()) {
        (Some(x), Some(y)) if a["metric"] == b["metric"] => {
            let point = x.iter().zip(y).find(|(x, y)| !same(x, y));
            let (x, y) = point.unwrap_or((&Value::Null, &Value::Null));
            format!("{count}; {}: theirs {x}, ours {y}", a["metric"])
        }
        _ => format!("{count}\n  theirs {}\n  ours   {}", cut(a), cut(b)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_mistakes_are_refused_alike() {
    let Some(pair) = Pair::start(SEED).await else { return };
    let mut generator = Generator::new(SEED);
    let mut different = Vec::new();
    let (mut accepted, mut refused, mut known) = (0, 0, BTreeMap::<&str, usize>::new());
    for n in 0..Generator::pattern_count() + MUTATIONS {
        let expr = generator.invalid(n);
        let fields = [("query", expr.as_str()), ("time", "1699999990.5")];
        let (theirs, ours) = pair.ask("query", &fields).await;
        let verdict = |v: &Value| (v["status"].clone(), v["errorType"].clone());
        let text = |v: &Value| v["error"].as_str().unwrap_or_default().to_owned();
        if theirs["status"] == "success" {
            accepted += 1;
        } else {
            refused += 1;
        }
        let reworded = Value::from(invalid::in_new_words(&text(&theirs)));
        let alike = comparable(&reworded) == comparable(&text(&ours).into());
        if alike && verdict(&theirs) == verdict(&ours) {
            continue;
        }
        match invalid::known_difference(&expr, &text(&theirs), &text(&ours)) {
            Some(reason) => *known.entry(reason).or_default() += 1,
            None => different.push(format!("{expr}\n  theirs {theirs}\n  ours   {ours}")),
        }
    }
    println!("{accepted} accepted, {refused} refused, known differences: {known:?}");
    assert!(
        different.is_empty(),
        "seed {SEED}: {} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    assert!(refused >= 500, "only {refused} refused");
    assert!(known.values().sum::<usize>() < refused / 10, "{known:?}");
}
