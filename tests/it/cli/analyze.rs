//! `watchfire query analyze` over a real Prometheus, and its refusals.

use std::time::Duration;

use super::{outcome, said, watchfire};
use crate::support::{http_get, start_prometheus, until};

#[test]
fn buckets_of_a_real_server_are_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: self\n  static_configs: [{targets: [SELF]}]\n";
    let Some((_program, base)) = start_prometheus(dir.path(), config) else { return };
    let name = "prometheus_tsdb_compaction_chunk_range_seconds_bucket";
    let path = format!("/api/v1/query?query=count_over_time({name}[5m])>2");
    let twice = until(Duration::from_secs(30), || {
        let (_, body) = http_get(&format!("{base}{path}")).ok()?;
        body.contains("\"value\"").then_some(())
    });
    assert!(twice.is_some(), "the histogram was not scraped thrice");
    let server = format!("--server={base}");
    let check = |args: &[&str], code: i32, parts: &[&str]| {
        let all = [&["query", "analyze", &server], args].concat();
        let output = watchfire(&all, dir.path(), None);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: no {part:?} in\n{text}");
        }
    };
    let instance = base.trim_start_matches("http://");
    let series = format!(
        "containing.\n\n- {name}{{instance=\"{instance}\", job=\"self\"}} (classic): 0/0.000/0/"
    );
    let header = "Bucket stats for each histogram series over time\n------------------------------------------------\n";
    let totals = "\n\nAggregated bucket stats\n-----------------------\nEach line shows min/avg/max over the series above.\n\nClassic histogram series (1 in total):\n- min populated: 0/0.000/0\n- avg populated: 0/0.000/0\n- max populated: 0/0.000/0\n- total: ";
    check(
        &["--type=histogram", "--match", name],
        0,
        &[header, series.trim_start_matches("containing.\n\n"), totals],
    );
    let nothing = "nothing found: no histogram of up has two samples in 1h; classic";
    check(&["--type=histogram", "--match=up"], 0, &[header, "over the series above.", nothing]);
    check(&["--type=gauge", "--match=up"], 1, &["analyze type is gauge, must be 'histogram'"]);
    check(&["--type=histogram", "--match=up{"], 1, &[header, "\nbad_data: "]);
    check(
        &["--type=histogram", "--match=up", "--time=soon"],
        1,
        &["error parsing time 'soon': cannot parse \"soon\" to a valid timestamp"],
    );
    let promtool = ["promtool", "query", "analyze", "--type=histogram", "--match=up"];
    let (code, text) = outcome(&promtool, dir.path());
    assert!(code == Some(1) && text.starts_with("promtool: error: "), "{text}");
}
