//! `--diff`: expected and got alerts in one tree, with what differs in colour. The layout
//! is that of the JSON differ promtool uses.

use std::collections::BTreeSet;

use super::schema::ExpectedAlert;
use crate::model::Labels;
use crate::model::labels::quote;

/// Only expected.
const REMOVED: &str = "\x1b[0;31m";
/// Only got.
const ADDED: &str = "\x1b[0;32m";
/// Expected and got differ.
const CHANGED: &str = "\x1b[0;33m";
const PLAIN: &str = "\x1b[0m";

/// The text after `diff: `; every line but the first stands behind `indent`.
pub(super) fn alerts(expected: &[ExpectedAlert], got: &[ExpectedAlert], indent: &str) -> String {
    // One side without alerts is shown as one without labels, so that all of the other
    // side's are coloured one by one.
    let nothing = [ExpectedAlert { labels: Labels::empty(), annotations: Labels::empty() }];
    let expected = if expected.is_empty() { &nothing } else { expected };
    let got = if got.is_empty() { &nothing } else { got };
    let count = expected.len().max(got.len());
    let mut lines = vec!["[".to_owned()];
    for i in 0..count {
        let mut alert = match (expected.get(i), got.get(i)) {
            (Some(e), Some(g)) => both(e, g),
            (Some(only), None) => one(only, REMOVED),
            (None, Some(only)) => one(only, ADDED),
            (None, None) => Vec::new(),
        };
        if let Some(last) = alert.last_mut().filter(|_| i + 1 < count) {
            last.push(',');
        }
        lines.extend(alert.into_iter().map(|line| format!("    {line}")));
    }
    lines.push("]".to_owned());
    lines.join(&format!("\n{indent}"))
}

fn both(expected: &ExpectedAlert, got: &ExpectedAlert) -> Vec<String> {
    alert(labels(&expected.annotations, &got.annotations), labels(&expected.labels, &got.labels))
}

/// An alert that only one side has: all of it is coloured.
fn one(only: &ExpectedAlert, colour: &str) -> Vec<String> {
    let plain =
        |of: &Labels| of.iter().map(|(n, v)| format!("{}: {}", quote(n), quote(v))).collect();
    let lines = alert(plain(&only.annotations), plain(&only.labels));
    let paint = |line: String| {
        let text = line.trim_start();
        format!("{}{colour}{text}{PLAIN}", &line[..line.len() - text.len()])
    };
    lines.into_iter().map(paint).collect()
}

fn alert(annotations: Vec<String>, labels: Vec<String>) -> Vec<String> {
    let mut lines = vec!["{".to_owned()];
    for (name, pairs, end) in [("Annotations", annotations, ","), ("Labels", labels, "")] {
        if pairs.is_empty() {
            lines.push(format!("    \"{name}\": {{}}{end}"));
            continue;
        }
        lines.push(format!("    \"{name}\": {{"));
        let last = pairs.len() - 1;
        let comma = |i: usize| if i == last { "" } else { "," };
        lines.extend(pairs.iter().enumerate().map(|(i, p)| format!("        {p}{}", comma(i))));
        lines.push(format!("    }}{end}"));
    }
    lines.push("}".to_owned());
    lines
}

/// The pairs of both sides, by name.
fn labels(expected: &Labels, got: &Labels) -> Vec<String> {
    let names: BTreeSet<&str> = expected.iter().chain(got.iter()).map(|(name, _)| name).collect();
    let pair = |name: &str| {
        let key = quote(name);
        match (expected.get(name), got.get(name)) {
            (Some(e), Some(g)) if e == g => format!("{key}: {}", quote(e)),
            (Some(e), Some(g)) => {
                format!("{key}: {CHANGED}{} => {}{PLAIN}", quote(e), quote(g))
            }
            (Some(e), None) => format!("{REMOVED}{key}: {}{PLAIN}", quote(e)),
            (None, g) => format!("{ADDED}{key}: {}{PLAIN}", quote(g.unwrap_or_default())),
        }
    };
    names.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(labels: &[(&str, &str)]) -> ExpectedAlert {
        let labels = Labels::from_sorted_pairs(labels.iter().copied());
        ExpectedAlert { labels, annotations: Labels::empty() }
    }

    fn check(expected: &[ExpectedAlert], got: &[ExpectedAlert], text: &str) {
        assert_eq!(alerts(expected, got, "").replace('\x1b', "^"), text);
    }

    #[test]
    fn what_differs_is_coloured() {
        check(
            &[alert(&[("a", "1"), ("b", "x"), ("c", "3")])],
            &[alert(&[("a", "1"), ("b", "y"), ("d", "4")]), alert(&[("e", "5")])],
            "[\n    {\n        \"Annotations\": {},\n        \"Labels\": {\n            \"a\": \"1\",\n            \"b\": ^[0;33m\"x\" => \"y\"^[0m,\n            ^[0;31m\"c\": \"3\"^[0m,\n            ^[0;32m\"d\": \"4\"^[0m\n        }\n    },\n    ^[0;32m{^[0m\n        ^[0;32m\"Annotations\": {},^[0m\n        ^[0;32m\"Labels\": {^[0m\n            ^[0;32m\"e\": \"5\"^[0m\n        ^[0;32m}^[0m\n    ^[0;32m}^[0m\n]",
        );
        check(
            &[],
            &[alert(&[("a", "1")])],
            "[\n    {\n        \"Annotations\": {},\n        \"Labels\": {\n            ^[0;32m\"a\": \"1\"^[0m\n        }\n    }\n]",
        );
    }
}
