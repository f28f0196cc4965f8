//! What VictoriaMetrics is asked whole: made-up expressions of everything that is, over
//! counters with resets, gaps, staleness markers, infinities and samples sent twice.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

const CASES: usize = 600;

struct Maker(StdRng);

impl Maker {
    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all.choose(&mut self.0).unwrap()
    }

    fn selector(&mut self) -> String {
        let metrics = [
            "level",
            "sometimes",
            "requests_total",
            "errors_total",
            "up",
            "flaky",
            "odd",
            "single",
        ];
        let matchers =
            ["", "{job='api'}", "{job=~'a.*|db'}", "{instance!='a:1'}", "{job!~'w.+',instance=''}"];
        format!("{}{}", self.one(&metrics), self.one(&matchers))
    }

    fn offset(&mut self) -> &'static str {
        self.one(&["", "", "", " offset 7m", " offset -90s", " offset 13s"])
    }

    fn input(&mut self, depth: usize) -> String {
        let selector = self.selector();
        match self.0.random_range(0..if depth == 0 { 5 } else { 8 }) {
            0 | 1 => selector + self.offset(),
            2..5 => {
                let function = self.one(&[
                    "avg_over_time",
                    "changes",
                    "count_over_time",
                    "last_over_time",
                    "max_over_time",
                    "min_over_time",
                    "present_over_time",
                    "sum_over_time",
                ]);
                let range = self.one(&["16s", "45s", "90s", "3m", "10m", "31m"]);
                format!("{function}({selector}[{range}]{})", self.offset())
            }
            5 | 6 => {
                let input = self.input(depth - 1);
                self.function(&input)
            }
            _ => self.aggregate(&["min", "max", "count", "group"], depth - 1),
        }
    }

    fn function(&mut self, input: &str) -> String {
        match self.0.random_range(0..5) {
            0 => format!("clamp_min({input}, 2.5)"),
            1 => format!("clamp_max({input}, -1)"),
            n => format!("{}({input})", ["abs", "ceil", "floor"][n - 2]),
        }
    }

    fn aggregate(&mut self, operators: &[&str], depth: usize) -> String {
        let operator = self.one(operators);
        let grouping = self.one(&[
            "",
            "by (job)",
            "by (job, instance)",
            "without (instance)",
            "without (job, code)",
        ]);
        let parameter =
            if operator == "quantile" { self.one(&["0, ", "0.5, ", "0.9, ", "1, "]) } else { "" };
        format!("{operator} {grouping} ({parameter}{})", self.input(depth))
    }

    fn expression(&mut self) -> String {
        let all = ["avg", "count", "group", "max", "min", "quantile", "sum"];
        let one = self.aggregate(&all, 2);
        match self.0.random_range(0..5) {
            0 => format!(
                "{one} {} {}",
                self.one(&["+", "-", "*", "/"]),
                self.one(&["2", "-0.5", "(100)"])
            ),
            1 => format!("{} {} {one}", self.one(&["1", "-3"]), self.one(&["+", "-", "*"])),
            2 => self.function(&one),
            _ => one,
        }
    }
}

/// A result without values that are no number, and series that had no others.
fn numbers(value: Option<Value>) -> Option<Value> {
    let mut value = value?;
    let none = |v: &Value| v == "NaN";
    let result = value["data"]["result"].as_array_mut()?;
    for series in result.iter_mut() {
        if let Some(values) = series["values"].as_array_mut() {
            values.retain(|pair| !none(&pair[1]));
        }
    }
    result
        .retain(|s| !none(&s["value"][1]) && s["values"].as_array().is_none_or(|v| !v.is_empty()));
    Some(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_victoriametrics_is_asked_whole_it_answers_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_program, base)) = start_victoria_metrics(dir.path()) else { return };
    let sent = without_nan(data::request(SEED));
    // A sender that did not hear the answer sends everything again.
    send(&base, &sent).await;
    send(&base, &sent).await;
    flush(&base).await;
    let ours: Side = (Engine::new(EngineOptions::default()), local(&sent));
    let remote = open(&base, DatasourceKind::VictoriaMetrics, Evaluation::PushDown).await;
    let theirs: Side = (pushing(&remote), remote);
    let mut maker = Maker(StdRng::seed_from_u64(7));
    let (mut answered, mut no_numbers, mut different) = (0, 0, Vec::new());
    for n in 0..CASES {
        let expr = maker.expression();
        let plan = theirs.0.prepare(&expr).unwrap_or_else(|e| panic!("{expr}: {e}")).explain();
        assert_eq!(plan.trim().lines().count(), 1, "{expr} is pushed whole: {plan}");
        for when in TIMES.iter().skip(n % 2).step_by(2) {
            let answers = Answers::get(&ours, &theirs, &expr, *when).await;
            answered += usize::from(answers.theirs.is_some());
            if answers.are_same() {
                continue;
            }
            // Of infinities of both signs: it drops what is no number.
            let odd = ["flaky", "odd"].iter().any(|name| expr.contains(name));
            if odd && same(&numbers(answers.ours.clone()), &numbers(answers.theirs.clone())) {
                no_numbers += 1;
                continue;
            }
            different.push(answers.told);
        }
    }
    println!("{answered} answered, {no_numbers} without what is no number");
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(answered > CASES && no_numbers > 0, "{answered} {no_numbers}");
}
