//! Bars are for people at terminals: a pseudo-terminal of `script` sees one, nobody else
//! does.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::watchfire as run;
use crate::support::watchfire;

/// What a terminal shows of `test promql` over two scripts, with these variables set.
fn on_terminal(dir: &Path, env: &[(&str, &str)]) -> Option<String> {
    let line = format!("{} test promql a.test b.test", watchfire().display());
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(dir);
    for name in ["NO_COLOR", "CI"] {
        script.env_remove(name);
    }
    script.env("TERM", "xterm").envs(env.iter().copied());
    match script.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            eprintln!("SKIPPED: no pseudo-terminal: script: {error}");
            None
        }
    }
}

#[test]
fn a_bar_is_for_a_terminal() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["a.test", "b.test"] {
        let text = "load 1m\n  m 1 2\n\neval instant at 1m m\n  m 2\n";
        fs::write(dir.path().join(name), text).expect("a script");
    }
    let bar = "testing [";
    let Some(seen) = on_terminal(dir.path(), &[]) else { return };
    assert!(seen.contains(bar) && seen.contains("2 passed, 0 failed"), "{seen:?}");
    for env in [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")] {
        let seen = on_terminal(dir.path(), &[env]).expect("a terminal");
        assert!(!seen.contains(bar) && seen.contains("2 passed, 0 failed"), "{env:?}: {seen:?}");
    }
    let output = run(&["test", "promql", "a.test", "b.test"], dir.path(), None);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
