//! What a template calls, found without expanding it.

use super::node::{BranchKind, Command, List, Node, Pipe, Term, TermKind};

/// What the template of an alert uses of it. Offsets are bytes of the text it was parsed
/// from, at or before the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// Labels of the result, by name: `$labels.job`, `.Labels.job`, `index $labels "job"`.
    pub labels: Vec<(String, usize)>,
    /// External labels, by name: `$externalLabels.region`, `.ExternalLabels.region`.
    pub external: Vec<(String, usize)>,
    pub values: Vec<ValueUse>,
}

/// A use of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueUse {
    pub offset: usize,
    /// It is printed as it is, with all its digits.
    pub plain: bool,
}

/// Gathers what a template uses. `dot` says that `.` is the alert itself; `from` is where
/// the text begins, after the definitions put before it.
pub(super) struct UseWalk {
    pub from: usize,
    pub found: Uses,
    /// `$labels` or `$value` means something else here.
    pub redefined: bool,
}

impl UseWalk {
    pub(super) fn list(&mut self, list: &List, dot: bool) {
        for node in &list.nodes {
            match node {
                Node::Action { pipe, .. } => {
                    let plain = matches!(&pipe.commands[..], [one] if one.args.len() == 1);
                    self.pipe(pipe, dot, plain && pipe.decl.is_empty());
                }
                Node::Branch { kind, pipe, list, otherwise, .. } => {
                    self.pipe(pipe, dot, false);
                    self.list(list, dot && *kind == BranchKind::If);
                    if let Some(otherwise) = otherwise {
                        self.list(otherwise, dot);
                    }
                }
                Node::Template { pipe: Some(pipe), .. } => self.pipe(pipe, dot, false),
                _ => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: bool, plain: bool) {
        let own = |name: &String| matches!(name.as_str(), "$labels" | "$value");
        self.redefined |= pipe.pos >= self.from && pipe.decl.iter().any(own);
        for command in &pipe.commands {
            if let [function, map, key, ..] = &command.args[..]
                && matches!(&function.kind, TermKind::Identifier(name) if name == "index")
                && let TermKind::Str { text, .. } = &key.kind
                && is_labels(map, dot)
            {
                self.label(text, key.pos);
            }
            if let [function, map, key, ..] = &command.args[..]
                && matches!(&function.kind, TermKind::Identifier(name) if name == "index")
                && let TermKind::Str { text, .. } = &key.kind
                && is_external(map, dot)
            {
                self.external(text, key.pos);
            }
            command.args.iter().for_each(|term| self.term(term, dot, plain));
        }
    }

    fn label(&mut self, name: &str, pos: usize) {
        self.found.labels.push((name.to_owned(), pos.saturating_sub(self.from)));
    }

    fn external(&mut self, name: &str, pos: usize) {
        self.found.external.push((name.to_owned(), pos.saturating_sub(self.from)));
    }

    fn term(&mut self, term: &Term, dot: bool, plain: bool) {
        let mut value = |pos: usize| {
            // The definitions use it too.
            if pos >= self.from {
                self.found.values.push(ValueUse { offset: pos - self.from, plain });
            }
        };
        match &term.kind {
            TermKind::Variable(names) => {
                match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["$labels", name, ..] | ["$", "Labels", name, ..] => self.label(name, term.pos),
                    ["$externalLabels", name, ..] | ["$", "ExternalLabels", name, ..] => {
                        self.external(name, term.pos);
                    }
                    ["$value"] | ["$", "Value"] => value(term.pos),
                    _ => {}
                }
            }
            TermKind::Field(names) if dot => {
                match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["Labels", name, ..] => self.label(name, term.pos),
                    ["ExternalLabels", name, ..] => self.external(name, term.pos),
                    ["Value"] => value(term.pos),
                    _ => {}
                }
            }
            TermKind::Pipe(pipe) => self.pipe(pipe, dot, false),
            TermKind::Chain(inner, _) => self.term(inner, dot, false),
            _ => {}
        }
    }
}

fn is_labels(term: &Term, dot: bool) -> bool {
    match &term.kind {
        TermKind::Variable(names) => names[..] == ["$labels"] || names[..] == ["$", "Labels"],
        TermKind::Field(names) => dot && names[..] == ["Labels"],
        _ => false,
    }
}

fn is_external(term: &Term, dot: bool) -> bool {
    match &term.kind {
        TermKind::Variable(names) => {
            names[..] == ["$externalLabels"] || names[..] == ["$", "ExternalLabels"]
        }
        TermKind::Field(names) => dot && names[..] == ["ExternalLabels"],
        _ => false,
    }
}

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
    fn what_a_template_uses_is_found_where_it_stands() {
        let check = |text: &str, labels: &[(&str, usize)], values: &[(usize, bool)]| {
            let uses = Template::parse_alert("A", text).unwrap().uses();
            let found: Vec<_> = uses
                .labels
                .iter()
                .map(|(name, at)| (name.as_str(), at + text[*at..].find(name.as_str()).unwrap()))
                .collect();
            let of_value: Vec<_> = uses.values.iter().map(|v| (v.offset, v.plain)).collect();
            assert_eq!((&found[..], &of_value[..]), (labels, values), "{text}");
        };
        check("plain $labels.a", &[], &[]);
        check("{{ $labels.a }} {{ .Labels.b }}", &[("a", 11), ("b", 27)], &[]);
        check("{{ $value }} {{ $value | humanize }}", &[], &[(3, true), (16, false)]);
        check("{{ printf \"%f\" .Value }}", &[], &[(15, false)]);
        check(r#"{{ index $labels "a.b" }}"#, &[("a.b", 18)], &[]);
        check("{{ if $labels.a }}{{ .Labels.b }}{{ end }}", &[("a", 14), ("b", 29)], &[]);
        check(
            r#"{{ range query "up" }}{{ .Labels.x }}{{ $.Labels.y }}{{ .Value }}{{ end }}"#,
            &[("y", 49)],
            &[],
        );
        check("{{ $labels := .X }}{{ $labels.a }}", &[], &[]);
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
