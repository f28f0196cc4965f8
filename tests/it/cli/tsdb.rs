//! `watchfire tsdb` beside the real promtool on the same directories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{said, watchfire};
use crate::support::{Program, available, free_address};

/// Some counters over five hours, one of them with gaps.
fn openmetrics() -> String {
    let mut text = "# TYPE http_requests counter\n".to_owned();
    for i in 0..6i64 {
        for minute in (0..5 * 60).filter(|minute| i != 5 || minute % 90 < 20) {
            let (value, seconds) = ((minute * (i + 1)) as f64 / 7.0, 1_700_000_000 + minute * 60);
            let labels = format!("job=\"j{}\",instance=\"host{i}\"", i % 3);
            writeln!(text, "http_requests_total{{{labels}}} {value:e} {seconds}").expect("text");
        }
    }
    text + "# TYPE temperature gauge\ntemperature -1.5 1700000000.5\n# EOF\n"
}

fn promtool(args: &[&str], dir: &Path) -> Output {
    Command::new("promtool").args(args).current_dir(dir).output().expect("promtool")
}

/// Both programs say the same, in the same order unless that is left open.
fn check(args: &[&str], dir: &Path, in_order: bool) {
    let (theirs, ours) = (promtool(args, dir), watchfire(args, dir, None));
    assert_eq!(theirs.status.code(), ours.status.code(), "{args:?}: {}", said(&ours));
    let lines = |output: &Output| {
        let text = String::from_utf8(output.stdout.clone()).expect("text");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if !in_order {
            lines.sort_unstable();
        }
        lines
    };
    assert_eq!(lines(&ours), lines(&theirs), "{args:?}");
}

#[test]
fn blocks_are_listed_analyzed_and_dumped_as_by_promtool() {
    if !available("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("in.om"), openmetrics()).expect("a file");
    for (program, data) in [("theirs", "data"), ("ours", "ours")] {
        let args = ["tsdb", "create-blocks-from", "openmetrics", "-q", "in.om", data];
        let made = match program {
            "theirs" => promtool(&args, dir.path()),
            _ => watchfire(&args, dir.path(), None),
        };
        assert!(made.status.success(), "{program}: {}", said(&made));
        for missing in ["wal", "chunks_head"] {
            fs::create_dir_all(dir.path().join(data).join(missing)).expect("a directory");
        }
        check(&["tsdb", "list", data], dir.path(), true);
        check(&["tsdb", "list", "-r", data], dir.path(), true);
        check(&["tsdb", "analyze", "--limit=50", data], dir.path(), false);
        check(&["tsdb", "analyze", "--extended", "--limit=50", data], dir.path(), false);
        check(&["tsdb", "dump", data], dir.path(), true);
        let some = ["tsdb", "dump", "--match={job=~\"j[12]\"}", "--min-time=1700003000000", data];
        check(&some, dir.path(), true);
        check(&["tsdb", "analyze", data, "nope"], dir.path(), true);
    }
    check(&["tsdb", "list", "nowhere"], dir.path(), true);
    check(&["tsdb", "dump", "nowhere"], dir.path(), true);
    // The two made the same blocks but for their names.
    let indexes = |data: &str| -> Vec<u64> {
        let listed = fs::read_dir(dir.path().join(data)).expect("blocks");
        let mut blocks: Vec<_> = listed.map(|e| e.expect("an entry").path()).collect();
        blocks.retain(|block| block.join("meta.json").exists());
        blocks.sort();
        let len = |block: &PathBuf| fs::metadata(block.join("index")).expect("an index").len();
        blocks.iter().map(len).collect()
    };
    assert_eq!((indexes("data").len(), indexes("data")), (3, indexes("ours")));
}

#[test]
fn rules_are_evaluated_over_the_past_as_by_promtool() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("in.om"), openmetrics()).expect("a file");
    let args = ["tsdb", "create-blocks-from", "openmetrics", "-q", "in.om", "data"];
    assert!(watchfire(&args, dir.path(), None).status.success());
    let rules = r#"
groups:
- name: g
  interval: 45s
  rules:
  - {record: job:rate, expr: 'sum by (job) (rate(http_requests_total[5m]))'}
  - {alert: A, expr: up == 0}
- name: h
  rules:
  - {record: all, expr: 'http_requests_total', labels: {job: '', by: rule}}
"#;
    fs::write(dir.path().join("r.yml"), rules).expect("a file");
    let address = free_address();
    let args = ["serve", "--storage.tsdb.path=data", &format!("--web.listen-address={address}")];
    let mut server = Program::watchfire(&args.map(str::to_owned), dir.path());
    server.wait_ready(&format!("http://{address}/-/ready"));
    let url = format!("--url=http://{address}");
    let backfill = |out: &str| {
        let end = "--end=2023-11-15T02:30:00Z";
        let out = format!("--output-dir={out}");
        ["tsdb", "create-blocks-from", "rules", &url, "--start=1700000100", end, &out, "r.yml"]
            .map(str::to_owned)
    };
    let run = |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        watchfire(&args, dir.path(), None)
    };
    let made = run(&backfill("ours"));
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(String::from_utf8_lossy(&made.stdout).lines().count(), 1 + 3);
    let dump = |data: &str| {
        let dumped = watchfire(&["tsdb", "dump", data], dir.path(), None);
        String::from_utf8(dumped.stdout).expect("text")
    };
    let ours = dump("ours");
    assert!(ours.lines().count() > 2_000 && ours.contains(r#"{__name__="all", by="rule""#));
    if available("promtool") {
        let args = backfill("theirs");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let made = promtool(&args, dir.path());
        assert!(made.status.success(), "{}", said(&made));
        // Where in its interval a group is evaluated is another place since 2.42, which hashed
        // labels in another way: what is recorded is the same but for some seconds.
        let counts = |dumped: &str| {
            let mut counts = BTreeMap::new();
            for line in dumped.lines() {
                let series = line.rsplitn(3, ' ').nth(2).expect("a series").to_owned();
                *counts.entry(series).or_insert(0) += 1;
            }
            counts
        };
        assert_eq!(counts(&ours), counts(&dump("theirs")));
    }
    let late = ["--start=5".to_owned(), "--end=4".to_owned(), "r.yml".to_owned()];
    let late = [&backfill("x")[..4], &late].concat();
    assert!(said(&run(&late)).contains("start time is not before end time"));
}

#[test]
fn a_dump_as_openmetrics_makes_the_same_blocks_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |args: &[&str]| {
        let output = watchfire(args, dir.path(), None);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    fs::write(dir.path().join("in.om"), openmetrics()).expect("a file");
    let table = run(&["tsdb", "create-blocks-from", "openmetrics", "in.om", "a"]);
    assert_eq!(table.lines().count(), 1 + 3, "{table}");
    let text = run(&["tsdb", "dump-openmetrics", "a"]);
    assert!(text.contains("\ntemperature{} -1.5 1700000000.500\n") && text.ends_with("# EOF\n"));
    fs::write(dir.path().join("again.om"), text).expect("a file");
    run(&["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", "again.om", "b"]);
    assert_eq!(run(&["tsdb", "dump", "a"]), run(&["promtool", "tsdb", "dump", "b"]));
    let series = run(&["tsdb", "dump", "--format=seriesjson", "--match=temperature", "a"]);
    assert_eq!(series, "{\"__name__\":\"temperature\"}\n");
    let verified = run(&["tsdb", "verify", "a"]);
    assert!(verified.starts_with("3 blocks with "), "{verified}");
}

#[test]
fn what_is_wrong_is_told_with_file_and_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |args: &[&str]| {
        let output = watchfire(args, dir.path(), None);
        (output.status.code(), said(&output))
    };
    for (text, why) in [
        ("a 1 1\n", "# EOF"),
        ("a 1\n# EOF\n", "expected timestamp for series {__name__=\"a\"}, got none"),
        ("a 1 2\na 1 1\n# EOF\n", "out of order sample"),
    ] {
        fs::write(dir.path().join("in.om"), text).expect("a file");
        let (code, said) = run(&["tsdb", "create-blocks-from", "openmetrics", "in.om", "bad"]);
        assert!(code == Some(1) && said.contains(why), "{text:?}: {said}");
    }
    fs::write(dir.path().join("in.om"), openmetrics()).expect("a file");
    assert_eq!(run(&["tsdb", "create-blocks-from", "openmetrics", "in.om", "data"]).0, Some(0));
    let block = fs::read_dir(dir.path().join("data")).expect("blocks").next().expect("a block");
    let chunks = block.expect("a block").path().join("chunks/000001");
    let mut bytes = fs::read(&chunks).expect("chunks");
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&chunks, bytes).expect("broken chunks");
    let (code, said) = run(&["tsdb", "verify", "data"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("chunks/000001 is corrupt at byte ") && said.contains("1 thing"),
        "{said}"
    );
}

#[test]
fn the_benchmark_of_writing_says_what_promtools_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let series: String =
        (0..20).map(|i| format!("{{\"__name__\":\"a\",\"x\":\"{}\"}}\n", i % 12)).collect();
    fs::write(dir.path().join("series.json"), series).expect("a file");
    let args =
        ["tsdb", "bench", "write", "--out=ours", "--metrics=10", "--scrapes=300", "series.json"];
    // Figures are different every time.
    let stages = |output: &Output| -> Vec<String> {
        let text = String::from_utf8(output.stdout.clone()).expect("text");
        let cut = |line: &str| match line.find("duration=").or(line.find("sec: ")) {
            Some(at) => line[..at].to_owned(),
            None => line.to_owned(),
        };
        text.lines().map(cut).collect()
    };
    let ours = watchfire(&args, dir.path(), None);
    assert!(ours.status.success(), "{}", said(&ours));
    if available("promtool") {
        let theirs = promtool(
            &args.map(|arg| arg.replace("ours", "theirs")).each_ref().map(|a| a.as_str()),
            dir.path(),
        );
        assert_eq!(stages(&ours), stages(&theirs));
    }
    let dumped = watchfire(&["tsdb", "dump", "ours/storage"], dir.path(), None);
    let text = String::from_utf8(dumped.stdout).expect("text");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("x=\"3\"")).collect();
    assert_eq!((text.lines().count(), lines.len()), (3000, 300));
    assert_eq!(lines.last().copied(), Some("{__name__=\"a\", x=\"3\"} 123756789 8970000"));

    // Again over what it left, but never over what is somebody's.
    assert!(watchfire(&args, dir.path(), None).status.success());
    fs::write(dir.path().join("ours/thesis.txt"), "all I have").expect("a file");
    let refused = watchfire(&args, dir.path(), None);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("ours holds thesis.txt"), "{}", said(&refused));
    assert!(dir.path().join("ours/thesis.txt").exists());
    fs::write(dir.path().join("series.json"), "a{x=1}\n").expect("a file");
    fs::remove_file(dir.path().join("ours/thesis.txt")).expect("removed");
    let refused = watchfire(&args, dir.path(), None);
    assert!(said(&refused).contains("series.json:1: not a JSON object"), "{}", said(&refused));
}
