//! What the command line tells about itself: completion in a real shell, manual pages a
//! real formatter takes, and help that stays promtool's where it is promtool.

use std::fs;
use std::process::Command;

use super::{outcome, said, watchfire};
use crate::support::{run_watchfire, watchfire as program};

#[test]
fn a_shell_completes_commands_and_flags() {
    let dir = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script) = outcome(&["completion", shell], dir.path());
        assert!(code == Some(0) && script.contains("service-discovery"), "{shell}: {script}");
    }
    let check = |words: &str, expected: &str| {
        let script = format!(
            "source <({} completion bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _watchfire watchfire \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\"",
            program().display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        assert_eq!(said(&output).trim_end(), expected, "{words}");
    };
    check("watchfire qu", "query");
    check("watchfire test ru", "rules");
    check("watchfire query analyze --du", "--duration");
    check("watchfire completion z", "zsh");
    // A link named promtool completes under that name.
    let (_, script) = outcome(&["completion", "bash", "--name=promtool"], dir.path());
    assert!(script.contains("complete -F _promtool"), "{script}");
}

#[test]
fn the_manual_can_be_set_and_has_every_command() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, whole) = outcome(&["man"], dir.path());
    assert_eq!(code, Some(0), "{whole}");
    for heading in ["WATCHFIRE SERVE", "WATCHFIRE QUERY ANALYZE", "WATCHFIRE TEST RULES"] {
        assert!(whole.contains(heading), "no {heading}");
    }
    let (code, _) = outcome(&["man", "--out", "pages/man1"], dir.path());
    assert_eq!(code, Some(0));
    let pages = fs::read_dir(dir.path().join("pages/man1")).expect("the folder");
    let mut pages: Vec<_> = pages.map(|page| page.expect("a page").path()).collect();
    pages.sort();
    assert!(pages.len() > 30 && pages.iter().any(|p| p.ends_with("watchfire-test-rules.1")));
    let (_, one) = outcome(&["man", "test", "rules"], dir.path());
    let kept = fs::read_to_string(dir.path().join("pages/man1/watchfire-test-rules.1"));
    assert_eq!(one, kept.expect("a page").trim_end());
    let (code, text) = outcome(&["man", "test", "rule"], dir.path());
    assert!(code == Some(1) && text.contains("`watchfire test` has no command \"rule\""), "{text}");
    if Command::new("groff").arg("--version").output().is_err() {
        eprintln!("SKIPPED: groff is not installed; pages were not set");
        return;
    }
    for page in &pages {
        let mut groff = Command::new("groff");
        let output = groff
            .args(["-man", "-Tutf8", "-ww", "-P-c", "-P-bou"])
            .arg(page)
            .output()
            .expect("groff runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{page:?}: {complaint}");
        assert!(said(&output).contains("SYNOPSIS"), "{page:?}");
    }
}

#[test]
fn help_leads_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], parts: &[&str]| {
        let (code, text) = outcome(args, dir.path());
        assert_eq!(code, Some(0), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: no {part:?} in\n{text}");
        }
    };
    check(&["--help"], &["Write rules and configurations:\n  check ", "\nExamples:\n", "Set up:"]);
    check(&["help", "test", "rules"], &["watchfire test rules --run", "--coverage"]);
    check(&["serve", "--help"], &["\nStorage:\n", "\nRules and alerts:\n", "\nQueries:\n"]);
    check(&["lint", "-h"], &["\nAsking a server:\n", "--server <URL>"]);
    // Promtool's way with a wrong command line is not touched by any of this.
    let output = run_watchfire(&["promtool", "check", "nonsense"], dir.path(), b"");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.starts_with("promtool: error: ") && text.trim_end().ends_with("try --help"),
        "{text}"
    );
    let output = watchfire(&["check", "nonsense"], dir.path(), None);
    assert_eq!(output.status.code(), Some(2));
}
