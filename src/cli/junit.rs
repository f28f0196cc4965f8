//! JUnit's XML, which CI systems read: suites of cases that passed, failed or broke.

use std::fmt::Write as _;

/// One suite: a file that was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    pub name: String,
    /// When it began, RFC 3339.
    pub timestamp: String,
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Case {
    pub name: String,
    pub failures: Vec<String>,
    /// Why it could not be run.
    pub error: Option<String>,
}

/// The document.
pub(crate) fn document(suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites {
        let failures: usize = suite.cases.iter().map(|case| case.failures.len()).sum();
        let errors = suite.cases.iter().filter(|case| case.error.is_some()).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" timestamp=\"{}\">",
            escaped(&suite.name),
            suite.cases.len(),
            escaped(&suite.timestamp),
        );
        for case in &suite.cases {
            let _ = writeln!(out, "    <testcase name=\"{}\">", escaped(&case.name));
            for failure in &case.failures {
                let _ = writeln!(out, "      <failure>{}</failure>", escaped(failure));
            }
            if let Some(error) = &case.error {
                let _ = writeln!(out, "      <error>{}</error>", escaped(error));
            }
            out.push_str("    </testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text as XML and HTML hold it. Characters that XML 1.0 cannot hold become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c < ' ' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_counted_and_escaped() {
        let case = Case {
            name: "a<b".to_owned(),
            failures: vec!["x & \"y\"\n\u{1}".to_owned(), "z".to_owned()],
            error: None,
        };
        let broken = Case { error: Some("no".to_owned()), ..Case::default() };
        let suite = Suite {
            name: "f.yml".to_owned(),
            timestamp: "2026-01-01T00:00:00Z".to_owned(),
            cases: vec![case, broken],
        };
        let text = document(&[suite]);
        for line in [
            r#"  <testsuite name="f.yml" tests="2" failures="2" errors="1" skipped="0" timestamp="2026-01-01T00:00:00Z">"#,
            r#"    <testcase name="a&lt;b">"#,
            "      <failure>x &amp; &quot;y&quot;&#10;\u{fffd}</failure>",
            "      <error>no</error>",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
    }
}
