//! What a template calls, found without expanding it.

use super::node::{Command, List, Node, Pipe, Term, TermKind};

/// The string literals that are handed to `query`, as its argument or through a pipe.
pub(super) fn literal_queries<'t>(list: &'t List, found: &mut Vec<&'t str>) {
    for node in &list.nodes {
        match node {
            Node::Action { pipe, .. } => in_pipe(pipe, found),
            Node::Branch { pipe, list, otherwise, .. } => {
                in_pipe(pipe, found);
                literal_queries(list, found);
                if let Some(otherwise) = otherwise {
                    literal_queries(otherwise, found);
                }
            }
            Node::Template { pipe: Some(pipe), .. } => in_pipe(pipe, found),
            Node::Template { pipe: None, .. }
            | Node::Text { .. }
            | Node::Break { .. }
            | Node::Continue { .. } => {}
        }
    }
}

fn in_pipe<'t>(pipe: &'t Pipe, found: &mut Vec<&'t str>) {
    let mut before: Option<&'t Command> = None;
    for command in &pipe.commands {
        let is_query = matches!(&command.args[..], [Term { kind: TermKind::Identifier(name), .. }, ..] if name == "query");
        match (is_query, &command.args[..], before.map(|c| &c.args[..])) {
            (true, [_, Term { kind: TermKind::Str { text, .. }, .. }], _) => found.push(text),
            (true, [_], Some([Term { kind: TermKind::Str { text, .. }, .. }])) => found.push(text),
            _ => {}
        }
        command.args.iter().for_each(|term| in_term(term, found));
        before = Some(command);
    }
}

fn in_term<'t>(term: &'t Term, found: &mut Vec<&'t str>) {
    match &term.kind {
        TermKind::Pipe(pipe) => in_pipe(pipe, found),
        TermKind::Chain(inner, _) => in_term(inner, found),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::template::Template;

    fn check(text: &str, expected: &[&str]) {
        let template = Template::parse_alert("A", text).unwrap();
        let mut found = template.literal_queries();
        found.sort_unstable();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn queries_that_are_written_out_are_found() {
        check("{{ $value }} query", &[]);
        check(r#"{{ query "up" | first | value }}"#, &["up"]);
        check(r#"{{ "up" | query | first }}"#, &["up"]);
        check(
            r#"{{ with (query "a") }}{{ range query `b` }}{{ end }}{{ else }}{{ (query "c" | first).Value }}{{ end }}"#,
            &["a", "b", "c"],
        );
        check(r#"{{ query (printf "x%s" .Labels.a) }}{{ printf "x" | query }}"#, &[]);
        check(r#"{{ define "t" }}{{ query "d" }}{{ end }}{{ template "t" }}"#, &["d"]);
    }
}
