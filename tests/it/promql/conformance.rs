//! The public conformance scripts: every case of every file passes, and
//! so do the queries the strict runner derives from them.

use watchfire::promqltest::{ScriptOptions, run_script};

use crate::support::shared;

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
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let report = super::block_on(run_script(&name, &text, &options));
        println!("{report}");
        passed += report.passed;
        failed += report.failed;
    }
    println!("total: {passed} passed, {failed} failed");
    assert_eq!((failed, passed), (0, 1542));
}
