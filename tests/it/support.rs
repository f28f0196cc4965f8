//! What several integration tests need.

use std::path::PathBuf;

/// A folder of the conformance data or the corpus (`conformance/parser`, `corpus/rules`),
/// which lie beside the project. `None` where they are absent, after saying so loudly.
#[allow(dead_code, reason = "not every module needs the data")]
pub fn shared(path: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if dir.exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: ../shared/{path} is not there; its cases did not run");
    None
}
