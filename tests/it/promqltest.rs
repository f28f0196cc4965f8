//! Integration tests: `.test` scripts, our own and those of the conformance data.

use std::path::Path;

use watchfire::promqltest::{FileReport, ScriptOptions, run_script};

use crate::support;

fn run(path: &Path, options: &ScriptOptions) -> FileReport {
    let text = std::fs::read_to_string(path).expect("a readable script");
    let name = path.file_name().expect("a file").to_string_lossy();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run_script(&name, &text, options))
}

fn scripts(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("a folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    paths.sort();
    paths
}

/// Runs every script and fails with all failures at once. `SCRIPT=name` runs only those
/// whose name contains it.
fn run_all(dir: &Path) {
    let only = std::env::var("SCRIPT").unwrap_or_default();
    let options = ScriptOptions::default();
    let mut failed = 0;
    for path in scripts(dir) {
        if !path.to_string_lossy().contains(&only) {
            continue;
        }
        let report = run(&path, &options);
        failed += report.failed;
        println!("{report}");
    }
    assert_eq!(failed, 0, "cases failed; see above");
}

#[test]
fn conformance_scripts_pass() {
    if let Some(dir) = support::shared("conformance/promql") {
        run_all(&dir);
    }
}
