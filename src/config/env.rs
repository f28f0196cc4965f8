//! `$NAME` and `${NAME}` in external labels, as Go's `os.Expand` reads them.

/// Replaces variables by what `lookup` says; names those it does not know in `missing`.
/// `$$` is a dollar sign; a `$` before anything that is no name stays.
pub(super) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    missing: &mut Vec<String>,
) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = variable(rest);
        rest = after;
        match name {
            None => out.push('$'),
            // `${}` and an unclosed brace are eaten.
            Some("") => {}
            Some("$") => out.push('$'),
            Some(name) => match lookup(name).filter(|value| !value.is_empty()) {
                Some(value) => out.push_str(&value),
                None => missing.push(name.to_owned()),
            },
        }
    }
    out + rest
}

/// The name after a `$` and what follows it.
fn variable(text: &str) -> (Option<&str>, &str) {
    let special = |c: char| "*#$@!?-".contains(c) || c.is_ascii_digit();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            Some(end) => (Some(&inner[..end]), &inner[end + 1..]),
            None => (Some(""), inner),
        };
    }
    if text.starts_with(special) {
        return (Some(&text[..1]), &text[1..]);
    }
    let end = text.find(|c| !word(c)).unwrap_or(text.len());
    if end == 0 { (None, text) } else { (Some(&text[..end]), &text[end..]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn variables_are_expanded_as_go_does() {
        let lookup = |name: &str| (name == "FOO").then(|| "bar".to_owned());
        for (text, expected) in [
            ("$FOO", "bar"),
            ("${FOO}x$FOO-", "barxbar-"),
            ("$$FOO", "$FOO"),
            ("a$ b", "a$ b"),
            ("x$NONE", "x"),
            ("${}", ""),
            ("5$", "5$"),
        ] {
            let mut missing = Vec::new();
            assert_eq!(super::expand(text, &lookup, &mut missing), expected, "{text}");
            assert_eq!(missing.is_empty(), !text.contains("NONE"));
        }
    }
}
