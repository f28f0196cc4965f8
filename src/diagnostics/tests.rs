//! What is shown, character by character, and which advice is given.

use super::*;
use crate::parser::{ParserOptions, parse};

/// An error: the bytes that are pointed at, and the expression as the first edit makes it,
/// or else the advice.
fn advice(text: &str) -> (String, String) {
    let errors = parse(text, &ParserOptions::default()).expect_err(text);
    let all = promql::explain(&errors);
    let first = &all[0];
    let got = match first.helps.first() {
        None => "-".to_owned(),
        Some(help) => match &help.edit {
            Some(edit) => {
                let mut mended = text.to_owned();
                mended.replace_range(edit.span.clone(), &edit.replacement);
                mended
            }
            None => help.text.clone(),
        },
    };
    (text[first.span.clone()].to_owned(), got)
}

/// All that differ from what is expected.
fn differing(cases: &[(&str, &str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (text, pointed, expected) in cases {
        let (at, got) = advice(text);
        if (at.as_str(), got.as_str()) != (*pointed, *expected) {
            wrong.push(format!(
                "{text}\n  wanted {pointed:?} {expected:?}\n  got    {at:?} {got:?}"
            ));
        }
    }
    wrong
}

#[test]
fn mistakes_that_can_be_mended() {
    let cases = [
        ("rat(http_requests_total[5m])", "rat", "rate(http_requests_total[5m])"),
        ("summ(x)", "summ", "sum(x)"),
        ("sum(avgovertime(x[5m]))", "avgovertime", "sum(avg_over_time(x[5m]))"),
        ("summ by (job) (x)", "by", "sum by (job) (x)"),
        ("sum(rate(x[5m]) by (job)", "by", "sum(rate(x[5m])) by (job)"),
        ("sum(rate(x[5m])) bye (job)", "bye", "sum(rate(x[5m])) by (job)"),
        ("x offest 5m", "offest", "x offset 5m"),
        ("x unles y", "unles", "x unless y"),
        ("sum by job (x)", "job", "sum by (job) (x)"),
        ("sum by (job (x)", "(", "sum by (job) (x)"),
        ("a / on job b", "job", "a / on (job) b"),
        ("rate(x)", "x", "rate(x[5m])"),
        ("rate(x{a=\"b\"}) > 1", "x{a=\"b\"}", "rate(x{a=\"b\"}[5m]) > 1"),
        ("rate(x[5m]", "", "rate(x[5m])"),
        ("sum(rate(x[5m]", "", "sum(rate(x[5m]))"),
        ("sum(rate(x{a=\"b\"[5m]))", "[", "sum(rate(x{a=\"b\"}[5m]))"),
        ("abs(x[5m])", "x[5m]", "abs(x)"),
        ("x > 5 && y < 3", "&&", "x > 5 and y < 3"),
        ("x || y", "||", "x or y"),
        ("x = 5", "=", "x == 5"),
        ("x => 5", "=", "x >= 5"),
        ("x <> 5", ">", "x != 5"),
        ("x != = 5", "=", "x != 5"),
        ("up == \"1\"", "\"1\"", "up == 1"),
        ("{job=foo}", "foo", "{job=\"foo\"}"),
        ("x{job: \"a\"}", ":", "x{job=\"a\"}"),
        ("x{job==\"a\"}", "=", "x{job=\"a\"}"),
        ("x{job!~=\"a\"}", "=", "x{job!~\"a\"}"),
        ("x{job=\"a\" env=\"b\"}", "env", "x{job=\"a\", env=\"b\"}"),
        ("x{job=\"a\",,env=\"b\"}", ",", "x{job=\"a\",env=\"b\"}"),
        ("x{job=\"a\"}{b=\"c\"}", "{", "x{job=\"a\",b=\"c\"}"),
        ("x[5min]", "5min", "x[5m]"),
        ("rate(x[2hours])", "2hours", "rate(x[2h])"),
        ("rate(x[5 m])", "m", "rate(x[5m])"),
        ("x > 10k", "10k", "x > 10000"),
        ("x > 1,000", ",", "x > 1000"),
        ("1 > 2", ">", "1 > bool 2"),
        ("sum_over_time((a+b)[5m])", "[5m]", "sum_over_time((a+b)[5m:])"),
        ("sum(x))", ")", "sum(x)"),
        ("sum(rate(x[5m))", ")", "sum(rate(x[5m]))"),
    ];
    let wrong = differing(&cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (_, _, mended) in cases {
        assert!(parse(mended, &ParserOptions::default()).is_ok(), "{mended}");
    }
}

#[test]
fn mistakes_that_need_a_person() {
    let wrong = differing(&[
        ("median(x)", "median", "PromQL has quantile(0.5, ...) for that"),
        (
            "default_rollup(x[5m])",
            "default_rollup",
            "`default_rollup` is a function of MetricsQL (VictoriaMetrics); PromQL has nothing of that name",
        ),
        ("xyzzy(x)", "xyzzy", "`watchfire promql functions` lists all functions"),
        (
            "x > 80%",
            "%",
            "there are no percentages: compare with 80, or with 0.8 where the value is a share",
        ),
        ("x >", ">", "`>` needs something on its right"),
        ("sum(", "", "write something after `(` and close it"),
        ("x unless on(job) ", "", "the expression ends before it is whole: something must follow"),
        (
            "sum(x[5m])",
            "x[5m]",
            "`sum` adds up series, not time: make one value of each range first, e.g. `sum(rate(x[5m]))` or `sum(sum_over_time(x[5m]))`",
        ),
        (
            "x[5m] > 3",
            "x[5m]",
            "make one value of each range first, e.g. `rate(x[5m])` for a counter or `avg_over_time(x[5m])` for a gauge",
        ),
        (
            "rate(x[$__rate_interval])",
            "$",
            "variables of dashboards ($__rate_interval, $job) mean nothing in rules: write the value, e.g. `[5m]`",
        ),
        (
            "x > {{ $v }}",
            "{",
            "templates are expanded in labels and annotations only; an expression is taken as it is",
        ),
        ("not x", "x", "PromQL has no `not`: write `x unless y`, or `x == 0`"),
        (
            "sum(x) > 5 for 5m",
            "for",
            "how long a condition must hold is the field `for` of the rule, beside `expr`",
        ),
        ("x if y", "if", "`if` is MetricsQL; PromQL says `x and on (...) y`"),
        (
            "x and 1",
            "x and 1",
            "and, or, unless work on series: make one of a number with `vector(1)`",
        ),
        (
            "{job=~\".*\"}",
            "{job=~\".*\"}",
            "name a metric, or a label that must be there: `{job=\"api\"}`, `{job=~\".+\"}`",
        ),
        (
            "histogram_quantile(0.9)",
            "histogram_quantile",
            "for example `histogram_quantile(0.95, sum by (job, le) (rate(http_request_duration_seconds_bucket[5m])))`",
        ),
        (
            "rate(x{a=\"b\"}[5m]) by (job)",
            "by",
            "`by` belongs to an aggregation: `sum by (...) (...)`, or `sum(...) by (...)`",
        ),
        ("count()", "count", "for example `count by (job) (up == 0)`"),
        ("x offset 5m[5m]", "[5m]", "the range comes first: `x[5m] offset 1h`, `x[5m] @ start()`"),
        ("x[-5m]", "-5m", "a range reaches back; shift it with `offset`: `x[5m] offset 1h`"),
        ("x{job=\"a}", "\"", "end the string with `\"`"),
        (
            "x{job=~\"(?!a)b\"}",
            "job=~\"(?!a)b\"",
            "regular expressions are RE2's: no look-ahead (`(?!...)`) and no look-behind; a label is excluded with a matcher of its own, `!~\"...\"`",
        ),
        (
            "foo.bar",
            ".",
            "a name with dots is quoted: `{\"http.requests\"}`; most systems write underscores instead",
        ),
        (
            "http requests > 3",
            "requests",
            "names hold no blanks (is it `http_requests`?); two expressions need an operator between them",
        ),
        (
            "a * on (job) group_left (job) b",
            "* on (job) group_left (job",
            "both sides have the same `job` already: take it out of group_left or group_right",
        ),
        ("x @ now()", "now", "`@` takes a time in seconds, `start()` or `end()`"),
        ("", "", "write a PromQL expression, e.g. `up == 0`"),
    ]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn report() -> Report {
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: |\n      sum(rat(x[5m]))\n        by (jöb) > 1\n  - alert: B\n";
    let of = |part: &str| {
        let start = text.find(part).unwrap();
        start..start + part.len()
    };
    let first = Diagnostic::new("promql/syntax", Severity::Fatal, "unknown function <rat>")
        .at(of("rat"))
        .label("no such function")
        .related(of("alert: A"), "of this alert")
        .note("a note, with 100%")
        .suggest("did you mean `rate`?", of("rat"), "rate")
        .help("or not");
    let second = Diagnostic {
        subject: Some("alert \"B\" of group \"g\"".to_owned()),
        ..Diagnostic::new("alerts/x", Severity::Warning, "no \"expr\"").at(of("alert: B"))
    };
    let third =
        Diagnostic { source: 1, ..Diagnostic::new("ignore/file", Severity::Info, "skipped") };
    let sources = vec![
        Source { name: "rules/a, b.yml".to_owned(), text: text.to_owned() },
        Source { name: "c.yml".to_owned(), text: String::new() },
        Source { name: "d.yml".to_owned(), text: String::new() },
    ];
    Report { sources, diagnostics: vec![third, second, first] }
}

#[test]
fn text_has_excerpts_with_carets() {
    let mut report = report();
    report.sort();
    assert_eq!(report.counts(), "1 error, 1 warning, 1 info");
    assert_eq!(report.worst(), Some(Severity::Fatal));
    let expected = "\
error[promql/syntax]: unknown function <rat>
 --> rules/a, b.yml:6:11
  |
4 |   - alert: A
  |     -------- of this alert
5 |     expr: |
6 |       sum(rat(x[5m]))
  |           ^^^ no such function
  |
  = note: a note, with 100%
  = help: or not
help: did you mean `rate`?
  |
6 |       sum(rate(x[5m]))
  |              +

warning[alerts/x]: no \"expr\"
 --> rules/a, b.yml:8:5
  |
8 |   - alert: B
  |     ^^^^^^^^
  |
  = in: alert \"B\" of group \"g\"

info[ignore/file]: skipped
--> c.yml

";
    let shown = text(&report, Look::default());
    assert_eq!(shown, expected);
    assert!(text(&report, Look { colour: true, width: 80 }).contains("\u{1b}["));
}

#[test]
fn programs_get_the_same() {
    let mut report = report();
    report.sort();
    assert_eq!(
        github(&report),
        "::error file=rules/a%2C b.yml,line=6,endLine=6,col=11,endColumn=13,title=promql/syntax::unknown function <rat>%0Anote: a note, with 100%25%0Ahelp: did you mean `rate`?: rate%0Ahelp: or not\n\
         ::warning file=rules/a%2C b.yml,line=8,endLine=8,col=5,endColumn=12,title=alerts/x::no \"expr\" (alert \"B\" of group \"g\")\n\
         ::notice file=c.yml,title=ignore/file::skipped\n"
    );
    let expected = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites tests=\"4\" failures=\"1\">
  <testsuite name=\"rules/a, b.yml\" tests=\"2\" failures=\"1\">
    <testcase name=\"promql/syntax 6:11\" classname=\"rules/a, b.yml\">
      <failure message=\"unknown function &lt;rat&gt;\" type=\"error\">unknown function &lt;rat&gt;&#10;note: a note, with 100%&#10;help: did you mean `rate`?: rate&#10;help: or not</failure>
    </testcase>
    <testcase name=\"alerts/x 8:5\" classname=\"rules/a, b.yml\">
      <system-out>warning: no &quot;expr&quot; (alert &quot;B&quot; of group &quot;g&quot;)</system-out>
    </testcase>
  </testsuite>
  <testsuite name=\"c.yml\" tests=\"1\" failures=\"0\">
    <testcase name=\"ignore/file\" classname=\"c.yml\">
      <system-out>info: skipped</system-out>
    </testcase>
  </testsuite>
  <testsuite name=\"d.yml\" tests=\"1\" failures=\"0\">
    <testcase name=\"lint\" classname=\"d.yml\"/>
  </testsuite>
</testsuites>
";
    assert_eq!(junit(&report, Severity::Bug), expected);
    let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
    assert_eq!(value["summary"]["error"], 1);
    let first = &value["diagnostics"][0];
    assert_eq!(
        (first["range"]["line"].as_u64(), first["range"]["column"].as_u64()),
        (Some(6), Some(11))
    );
    assert_eq!(first["help"][0]["edit"]["replacement"], "rate");
    assert_eq!(value["diagnostics"][2]["range"], serde_json::Value::Null);
    let info = CheckInfo {
        id: "promql/syntax",
        severity: Severity::Fatal,
        summary: "s".to_owned(),
        doc: "d".to_owned(),
    };
    let value: serde_json::Value = serde_json::from_str(&sarif(&report, &[info], "1")).unwrap();
    let run = &value["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "promql/syntax");
    let results = run["results"].as_array().unwrap();
    let levels: Vec<_> = results.iter().map(|r| r["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warning", "note"]);
    let location = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "rules/a%2C%20b.yml");
    assert_eq!(location["region"]["byteLength"], 3);
    let inserted = &results[0]["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(inserted["insertedContent"]["text"], "rate");
}
