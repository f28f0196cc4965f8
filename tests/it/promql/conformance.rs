//! The public conformance scripts: how many cases of each file pass.

use watchfire::promqltest::{ScriptOptions, run_script};

use crate::support::shared;

/// Files of which every case passes, and the fewest passes of the others: a count that
/// falls is a step back.
const EXPECTED: &[(&str, usize)] = &[];

#[test]
fn conformance_scripts_pass() {
    let Some(dir) = shared("conformance/promql") else { return };
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    let options = ScriptOptions::default();
    let (mut passed, mut failed) = (0, 0);
    let mut fallen = vec![];
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let report = super::block_on(run_script(&name, &text, &options));
        println!("{report}");
        passed += report.passed;
        failed += report.failed;
        let least = EXPECTED.iter().find(|(file, _)| *file == name).map_or(0, |(_, n)| *n);
        if report.passed < least {
            fallen.push(format!("{name}: {} instead of {least}", report.passed));
        }
    }
    println!("total: {passed} passed, {failed} failed");
    assert!(fallen.is_empty(), "{}", fallen.join("\n"));
}
