//! What the author of a file tells the linter in comments: `# watchfire: disable ID`, or
//! pint's own `# pint disable ID`, which means the same.

use std::ops::Range;

use chrono::{DateTime, NaiveDate};

use crate::diagnostics::nearest::nearest;
use crate::model::lines::Lines;

/// All directives, without the slash in front of what can also be said for a whole file.
const DIRECTIVES: &[&str] = &[
    "disable",
    "snooze",
    "file/disable",
    "file/snooze",
    "file/owner",
    "rule/owner",
    "rule/set",
    "ignore/file",
    "ignore/line",
    "ignore/next-line",
    "ignore/begin",
    "ignore/end",
];

/// One comment that is meant for the linter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comment {
    pub line: usize,
    /// Column of the `#`, from 1.
    pub column: usize,
    /// Nothing but the comment is on its line.
    pub alone: bool,
    /// Bytes of the comment.
    pub span: Range<usize>,
    pub what: What,
}

/// What a comment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Checks that are not to be heard, here or in the whole file.
    Silence {
        file: bool,
        checks: Vec<Silenced>,
    },
    Owner {
        file: bool,
        name: String,
    },
    IgnoreFile,
    IgnoreLine,
    IgnoreNextLine,
    IgnoreBegin,
    IgnoreEnd,
    /// Known to pint, of no effect here.
    Other,
    /// It cannot be understood.
    Bad {
        message: String,
        help: Option<String>,
    },
}

/// A check, or one of its findings: `promql/aggregate(job:true)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silenced {
    pub id: String,
    pub key: Option<String>,
}

impl Silenced {
    /// Whether it silences a finding.
    pub(super) fn covers(&self, id: &str, key: Option<&str>) -> bool {
        let plain = |text: &str| text.replace(['^', '$', '\'', '"'], "");
        self.id == id
            && match (&self.key, key) {
                (None, _) => true,
                (Some(wanted), Some(key)) => plain(wanted) == plain(key),
                (Some(_), None) => false,
            }
    }
}

/// Every comment for the linter; `known` are the ids of checks.
pub(super) fn comments(lines: &Lines<'_>, now_ms: i64, known: &[&str]) -> Vec<Comment> {
    let text = lines.text();
    if !text.contains("pint") && !text.contains("watchfire:") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for line in 1..=lines.count() {
        let range = lines.line(line);
        let content = &text[range.clone()];
        let Some((hash, said)) = directive_text(content) else { continue };
        let start = range.start + hash;
        found.push(Comment {
            line,
            column: content[..hash].chars().count() + 1,
            alone: content[..hash].trim().is_empty(),
            span: start..range.start + content.trim_end().len(),
            what: read(said, now_ms, known),
        });
    }
    found
}

/// Where the comment of a line begins, and what follows the linter's name in it.
fn directive_text(content: &str) -> Option<(usize, &str)> {
    for (hash, _) in content.match_indices('#') {
        let free = content[..hash].chars().next_back().is_none_or(char::is_whitespace);
        let rest = content[hash + 1..].trim_start();
        let said = rest
            .strip_prefix("watchfire:")
            .or_else(|| rest.strip_prefix("pint").filter(|r| r.starts_with(char::is_whitespace)));
        if let (true, Some(said)) = (free, said) {
            return Some((hash, said.trim()));
        }
    }
    None
}

fn read(said: &str, now_ms: i64, known: &[&str]) -> What {
    let (directive, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    // What follows a second `#` is for people.
    let rest = rest.split(" #").next().unwrap_or("").trim();
    let (file, action) = match directive.strip_prefix("file/") {
        Some(action) => (true, action),
        None => (false, directive),
    };
    match action {
        "disable" => silence(file, rest, known),
        "snooze" => snooze(file, rest, now_ms, known),
        "owner" if file && !rest.is_empty() => What::Owner { file, name: rest.to_owned() },
        "rule/owner" if !rest.is_empty() => What::Owner { file, name: rest.to_owned() },
        "owner" | "rule/owner" => bad(format!("`{directive}` names nobody"), None),
        "rule/set" => What::Other,
        "ignore/file" => What::IgnoreFile,
        "ignore/line" => What::IgnoreLine,
        "ignore/next-line" => What::IgnoreNextLine,
        "ignore/begin" => What::IgnoreBegin,
        "ignore/end" => What::IgnoreEnd,
        _ => {
            let like = nearest(directive, DIRECTIVES.iter().copied());
            let help = match like {
                Some(like) => format!("did you mean `{like}`?"),
                None => format!("known are {}", DIRECTIVES.join(", ")),
            };
            bad(format!("the linter does not know `{directive}`"), Some(help))
        }
    }
}

fn bad(message: String, help: Option<String>) -> What {
    What::Bad { message, help }
}

fn silence(file: bool, list: &str, known: &[&str]) -> What {
    if list.is_empty() {
        let help = "name the check, e.g. `disable promql/regexp`".to_owned();
        return bad("it does not say which check to disable".to_owned(), Some(help));
    }
    let mut checks = Vec::new();
    for word in split_checks(list) {
        let (id, key) = match word.split_once('(') {
            Some((id, key)) => (id, Some(key.strip_suffix(')').unwrap_or(key).to_owned())),
            None => (word, None),
        };
        if !known.contains(&id) && !ONLINE_OF_PINT.contains(&id) {
            let like = nearest(id, known.iter().copied());
            let help = like.map(|like| format!("did you mean `{like}`?"));
            return bad(format!("there is no check `{id}`"), help);
        }
        checks.push(Silenced { id: id.to_owned(), key });
    }
    What::Silence { file, checks }
}

/// Checks of pint that are not made here; comments about them are left in peace.
const ONLINE_OF_PINT: &[&str] = &["promql/performance"];

/// Ids are separated by commas or blanks; what stands in brackets belongs together.
fn split_checks(list: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (i, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' | ' ' | '\t' if depth == 0 => {
                words.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    words.push(&list[start..]);
    words.into_iter().filter(|w| !w.is_empty()).collect()
}

fn snooze(file: bool, rest: &str, now_ms: i64, known: &[&str]) -> What {
    let (when, list) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let until = match DateTime::parse_from_rfc3339(when) {
        Ok(time) => Some(time.timestamp_millis()),
        Err(_) => NaiveDate::parse_from_str(when, "%Y-%m-%d")
            .ok()
            .and_then(|day| day.and_hms_opt(0, 0, 0))
            .map(|time| time.and_utc().timestamp_millis()),
    };
    let Some(until) = until else {
        let help = "write `snooze 2026-12-31 promql/regexp`, or an RFC 3339 time".to_owned();
        return bad(format!("`{when}` is no day and no time"), Some(help));
    };
    match silence(file, list, known) {
        What::Silence { .. } if until <= now_ms => What::Other,
        what => what,
    }
}

/// The text with everything blanked that comments exclude, byte for byte as long as before,
/// or `None` where nothing is excluded.
pub(super) fn masked(lines: &Lines<'_>, comments: &[Comment]) -> Option<String> {
    let mut hidden: Vec<usize> = Vec::new();
    let mut begin = None;
    for comment in comments {
        match comment.what {
            What::IgnoreLine => hidden.push(comment.line),
            What::IgnoreNextLine => hidden.push(comment.line + 1),
            What::IgnoreBegin => begin = begin.or(Some(comment.line)),
            What::IgnoreEnd => {
                if let Some(begin) = begin.take() {
                    hidden.extend(begin..=comment.line);
                }
            }
            _ => {}
        }
    }
    if let Some(begin) = begin {
        hidden.extend(begin..=lines.count());
    }
    if hidden.is_empty() {
        return None;
    }
    let mut text = lines.text().to_owned();
    for line in hidden {
        let range = lines.line(line);
        let blanks = " ".repeat(range.len());
        text.replace_range(range, &blanks);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<What> {
        let known = ["promql/regexp", "rule/label"];
        comments(&Lines::new(text), 1_700_000_000_000, &known).pop().map(|c| c.what)
    }

    fn silenced(file: bool, checks: &[(&str, Option<&str>)]) -> Option<What> {
        let checks = checks
            .iter()
            .map(|(id, key)| Silenced { id: (*id).to_owned(), key: key.map(str::to_owned) })
            .collect();
        Some(What::Silence { file, checks })
    }

    #[test]
    fn both_names_mean_the_same() {
        assert_eq!(
            one("# pint disable promql/regexp"),
            silenced(false, &[("promql/regexp", None)])
        );
        assert_eq!(
            one("a: b # watchfire: disable promql/regexp, rule/label(a b:true) # because"),
            silenced(false, &[("promql/regexp", None), ("rule/label", Some("a b:true"))])
        );
        assert_eq!(
            one("#watchfire: file/disable rule/label"),
            silenced(true, &[("rule/label", None)])
        );
        let performance = silenced(false, &[("promql/performance", None)]);
        assert_eq!(one("# pint disable promql/performance"), performance);
        assert_eq!(one("# watchfire evaluates these; pint checks them"), None);
        assert_eq!(one("a: x#pint disable promql/regexp"), None);
        let owner = What::Owner { file: true, name: "team a".to_owned() };
        assert_eq!(one("# pint file/owner team a"), Some(owner));
    }

    #[test]
    fn a_snooze_ends() {
        let regexp = silenced(false, &[("promql/regexp", None)]);
        assert_eq!(one("# pint snooze 2024-01-01 promql/regexp"), regexp);
        assert_eq!(one("# pint snooze 2024-01-01T00:00:00Z promql/regexp"), regexp);
        assert_eq!(one("# pint snooze 2023-01-01 promql/regexp"), Some(What::Other));
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let check = |text: &str, message: &str, help: &str| {
            let help = (!help.is_empty()).then(|| help.to_owned());
            let expected = What::Bad { message: message.to_owned(), help };
            assert_eq!(one(text), Some(expected), "{text}");
        };
        check(
            "# pint disabel promql/regexp",
            "the linter does not know `disabel`",
            "did you mean `disable`?",
        );
        check(
            "# pint disable promql/regex",
            "there is no check `promql/regex`",
            "did you mean `promql/regexp`?",
        );
        check(
            "# pint disable",
            "it does not say which check to disable",
            "name the check, e.g. `disable promql/regexp`",
        );
        check(
            "# pint snooze soon promql/regexp",
            "`soon` is no day and no time",
            "write `snooze 2026-12-31 promql/regexp`, or an RFC 3339 time",
        );
        check("# pint file/owner", "`file/owner` names nobody", "");
    }

    #[test]
    fn ignored_lines_are_blanked_without_moving_others() {
        let text = "a: 1\nb: é # pint ignore/line\n# pint ignore/begin\n{{ x }}\n# pint ignore/end\n# pint ignore/next-line\nc\nd: 1\n";
        let lines = Lines::new(text);
        let masked = masked(&lines, &comments(&lines, 0, &[])).unwrap();
        assert_eq!(masked.len(), text.len());
        let left: Vec<&str> = masked.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(left, ["a: 1", "# pint ignore/next-line", "d: 1"]);
    }
}
