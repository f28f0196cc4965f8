//! `check rules` and `test rules` beside a real promtool, in one run: processor time, wall
//! time and peak memory of whole processes, taken by turns.
//!
//! `cargo bench --bench cli_versus_promtool` prints README's table. Needs `promtool` in
//! `PATH`. Processor time comes from the kernel's clock of children that have ended, in
//! steps of 10 ms, so each figure is the mean over all rounds; memory is the highest
//! `VmHWM` seen while a process ran.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 10;
const RULES: usize = 10_000;
const PROGRAMS: [&str; 2] = ["promtool", env!("CARGO_BIN_EXE_watchfire")];

#[derive(Clone, Copy, Default)]
struct Cost {
    cpu_s: f64,
    wall_s: f64,
    peak_mib: f64,
}

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("many.yml"), many_rules()).expect("a file");
    fs::write(dir.path().join("rules.yml"), tested_rules()).expect("a file");
    fs::write(dir.path().join("tests.yml"), tests()).expect("a file");
    println!("| measure | promtool | Watchfire | ratio |\n| --- | --- | --- | --- |");
    for (name, args) in [
        ("`check rules`, 10,000 rules in one file", ["check", "rules", "many.yml"]),
        ("`test rules`, 20 tests of 90 minutes over 170 rules", ["test", "rules", "tests.yml"]),
    ] {
        let mut costs = [Cost::default(); 2];
        for _ in 0..ROUNDS {
            for (program, cost) in PROGRAMS.iter().zip(&mut costs) {
                let Some(once) = run(program, &args, dir.path()) else {
                    eprintln!("{program} {} did not succeed", args.join(" "));
                    return;
                };
                cost.cpu_s += once.cpu_s / ROUNDS as f64;
                cost.wall_s += once.wall_s / ROUNDS as f64;
                cost.peak_mib = cost.peak_mib.max(once.peak_mib);
            }
        }
        let [theirs, ours] = costs;
        for (what, theirs, ours, unit) in [
            ("processor time", theirs.cpu_s * 1e3, ours.cpu_s * 1e3, "ms"),
            ("wall time", theirs.wall_s * 1e3, ours.wall_s * 1e3, "ms"),
            ("peak memory", theirs.peak_mib, ours.peak_mib, "MiB"),
        ] {
            let ratio = theirs / ours;
            println!("| {name}: {what} | {theirs:.0} {unit} | {ours:.1} {unit} | {ratio:.1}x |");
        }
    }
}

/// Runs a program to its end. `None` when it fails or is not there.
fn run(program: &str, args: &[&str], dir: &Path) -> Option<Cost> {
    let (before, start) = (children_s(), Instant::now());
    let mut child = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_mib: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().ok()? {
            break status;
        }
        let text = fs::read_to_string(&status_file).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|v| v.parse::<f64>().ok());
        peak_mib = peak_mib.max(kib.unwrap_or(0.0) / 1024.0);
        std::thread::sleep(std::time::Duration::from_micros(500));
    };
    let wall_s = start.elapsed().as_secs_f64();
    status.success().then(|| Cost { cpu_s: children_s() - before, wall_s, peak_mib })
}

/// Processor seconds of the children that have ended.
fn children_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |i: usize| after.split_whitespace().nth(i).and_then(|v| v.parse::<f64>().ok());
    (field(13).unwrap_or(0.0) + field(14).unwrap_or(0.0)) / 100.0
}

fn many_rules() -> String {
    let mut out = String::from("groups:\n");
    for rule in 0..RULES {
        if rule % 50 == 0 {
            let _ = writeln!(out, "- name: group{}\n  rules:", rule / 50);
        }
        let _ = match rule % 2 {
            0 => writeln!(
                out,
                "  - record: job:requests{rule}:rate5m\n    expr: sum by (job, code) (rate(http_requests{rule}_total{{job=~\"api|web\",code!=\"404\"}}[5m]))\n    labels:\n      team: team{}",
                rule % 7
            ),
            _ => writeln!(
                out,
                "  - alert: Errors{rule}\n    expr: |\n      sum by (job) (rate(http_errors{rule}_total{{env=\"prod\"}}[5m]))\n        /\n      sum by (job) (rate(http_requests{rule}_total{{env=\"prod\"}}[5m]))\n        > 0.05\n    for: 10m\n    labels:\n      severity: page\n    annotations:\n      summary: '{{{{ $labels.job }}}} fails {{{{ $value | humanizePercentage }}}} of its requests'"
            ),
        };
    }
    out
}

fn tested_rules() -> String {
    let mut out = String::from("groups:\n- name: tested\n  rules:\n");
    for rule in 0..85 {
        let _ = writeln!(
            out,
            "  - record: job:x{rule}:rate5m\n    expr: sum by (job) (rate(x{{part=\"{}\"}}[5m])) * {rule}\n  - alert: High{rule}\n    expr: job:x{rule}:rate5m > {}\n    for: 5m\n    annotations: {{summary: '{{{{ $labels.job }}}} is at {{{{ $value }}}}'}}",
            rule % 10,
            rule * 1000
        );
    }
    out
}

fn tests() -> String {
    let mut out = String::from("rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n");
    for test in 0..20 {
        let _ = writeln!(out, "- name: test{test}\n  interval: 1m\n  input_series:");
        for part in 0..10 {
            let _ = writeln!(
                out,
                "  - {{series: 'x{{job=\"a\",part=\"{part}\"}}', values: '0+{}x90'}}",
                60 + test
            );
        }
        let rate = f64::from(60 + test) / 60.0;
        let _ = writeln!(
            out,
            "  alert_rule_test:\n  - {{eval_time: 90m, alertname: High1, exp_alerts: []}}\n  promql_expr_test:\n  - {{expr: 'round(job:x1:rate5m, 0.001)', eval_time: 90m, exp_samples: [{{labels: '{{job=\"a\"}}', value: {:.3}}}]}}",
            rate
        );
    }
    out
}
