//! Nodes and their places, and what Go would accept or refuse.

use super::*;
use crate::model::lines::Lines;

fn root(source: &str) -> Arc<Node> {
    parse(source).unwrap().remove(0).root.unwrap()
}

/// `path: line:col text` of every scalar value.
fn dump(source: &str) -> Vec<String> {
    fn walk(node: &Node, path: &str, out: &mut Vec<String>) {
        match &node.content {
            Content::Scalar { text, .. } => out.push(format!("{path} {} {text:?}", node.at)),
            Content::Sequence(items) => {
                for (i, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}[{i}]"), out);
                }
            }
            Content::Mapping(_) => {
                let mut decoder = Decoder::default();
                for (key, value) in decoder.entries(node, "map").unwrap() {
                    walk(&value, &format!("{path}.{}", key.scalar().unwrap()), out);
                }
                out.extend(decoder.errors.iter().map(|e| format!("{} {}", e.at, e.message)));
            }
        }
    }
    let mut out = Vec::new();
    match parse(source) {
        Err(e) => out.push(e.to_string()),
        Ok(documents) => {
            for document in documents {
                if let Some(root) = document.root {
                    walk(&root, "", &mut out);
                }
            }
        }
    }
    out
}

fn check(source: &str, expected: &[&str]) {
    assert_eq!(dump(source), expected, "{source}");
}

#[test]
fn scalars_keep_their_text_and_place() {
    check(
        "a: yes\nb: 1.10\nc: 'it''s'\nd: |\n  x\n   y\ne: >-\n  p\n  q\nf:\n",
        &[
            ".a 1:4 \"yes\"",
            ".b 2:4 \"1.10\"",
            ".c 3:4 \"it's\"",
            ".d 4:4 \"x\\n y\\n\"",
            ".e 7:4 \"p q\"",
            ".f 10:3 \"\"",
        ],
    );
    // A quoted scalar may go on at any indentation, as Go's readers have it.
    check(
        "a:\n  b: \"x\ny\"\n  c: \"x\n  y\n z\"\nd: 1\n",
        &[".a.b 2:6 \"x y\"", ".a.c 4:6 \"x y z\"", ".d 7:4 \"1\""],
    );
    // Whatever ends the line.
    check(
        "a:\n  b: \"x\ry\"\n  c: 'x\r\ny'\nd: 1\n",
        &[".a.b 2:6 \"x y\"", ".a.c 4:6 \"x y\"", ".d 6:4 \"1\""],
    );
    check("", &[]);
    check("# only a comment\n", &[]);
    check("é: ü\n", &[".é 1:4 \"ü\""]);
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    check(
        "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nboth:\n  <<: [*b, {z: 4, x: 9}]\n",
        &[
            ".base.x 1:14 \"1\"",
            ".base.y 1:20 \"2\"",
            ".use.y 4:6 \"3\"",
            ".use.x 1:14 \"1\"",
            ".both.x 1:14 \"1\"",
            ".both.y 1:20 \"2\"",
            ".both.z 6:16 \"4\"",
        ],
    );
    check("a:\n  <<: 1\n", &["2:7 map merge requires map or sequence of maps as the value"]);
    check("a: *nope\n", &["yaml: line 1: unknown anchor referenced"]);
    check("a: &x [*x]\n", &["yaml: line 1: anchor value contains itself"]);
}

#[test]
fn duplicate_keys_are_errors() {
    check(
        "a: 1\nb: 2\na: 3\n",
        &[".a 1:4 \"1\"", ".b 2:4 \"2\"", "3:1 mapping key \"a\" already defined at line 1"],
    );
}

#[test]
fn tabs_do_not_indent() {
    let tab = |line| {
        format!(
            "yaml: line {line}: found character that cannot start any token (a tab indents; use spaces)"
        )
    };
    for (source, line) in [("a:\n\tb: 1\n", 2), ("-\ta: 1\n", 1), ("a:\n  b: 1\n \tc: 2\n", 2)] {
        assert_eq!(dump(source), [tab(line)], "{source:?}");
    }
    check("a:\t1\n", &[".a 1:4 \"1\""]);
    check("a: |\n  x\n  \ty\n\t# c\n", &[".a 1:4 \"x\\n\\ty\\n\""]);
    check("a: 1\n\t# comment\n\t\nb: 2\n", &[".a 1:4 \"1\"", ".b 4:4 \"2\""]);
}

#[test]
fn a_stream_has_several_documents() {
    let documents = parse("---\na: 1\n---\n---\nb: 2\n...\n").unwrap();
    assert_eq!(documents.len(), 3);
    assert!(documents[1].root.as_ref().is_none_or(|n| n.is_null()));
    assert_eq!(documents[2].root.as_ref().unwrap().get("b").unwrap().scalar(), Some("2"));
}

#[test]
fn bombs_are_refused() {
    let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        source.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(parse(&source).unwrap_err().message.contains("excessive aliasing"));
    let deep = "[".repeat(100_000);
    assert!(parse(&deep).is_err());
    let deep = "- ".repeat(5_000);
    assert!(parse(&deep).is_err());
    // Aliases nest too, though nothing is written deeply.
    let mut deep = String::from("a0: &a0 [x]\n");
    for i in 1..300 {
        deep.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(parse(&deep).unwrap_err().message.contains("exceeded max depth"));
}

#[test]
fn only_numbers_are_numbers() {
    for (text, tag) in [
        ("1_000", "!!int"),
        ("0x1f", "!!int"),
        ("18446744073709551615", "!!int"),
        ("18446744073709551616", "!!float"),
        ("-1.5e3", "!!float"),
        ("-.inf", "!!float"),
        ("+inf", "!!str"),
        ("-nan", "!!str"),
        ("1.2.3", "!!str"),
        ("1d", "!!str"),
    ] {
        assert_eq!(root(text).tag(), tag, "{text}");
    }
}

#[test]
fn the_first_document_can_be_read_alone() {
    let (first, second) = parse_first("a: 1\n---\nb: [\n\t: x\n").unwrap();
    assert_eq!(first.unwrap().root.unwrap().get("a").unwrap().scalar(), Some("1"));
    assert_eq!(second, Some(Position { line: 2, column: 1 }));
    assert!(parse_first("").unwrap().0.is_none());
}

#[test]
fn places_inside_a_scalar_are_found_in_the_file() {
    // Each `^` of the text is looked for: its offset must map to the `^` of the source.
    for source in [
        "expr: a + ^b\n",
        "expr: |\n  sum(\n\n    ^x)\n",
        "expr: |2-  # note\n    sum(\n    ^x)\n",
        "expr: >\n  sum by (a)\n    (^x)\n  + y\n",
        "expr: >-\n\n  sum\n  by (a) (^x)\n",
        "expr: 'it''s ''^x'''\n",
        "expr: \"a\\\"b \\u00e9 \\n c\\\n   ^d\"\n",
        "expr: sum by (a)\n  (^x)\n",
        "- expr: &anchor |\n    é + ^x\n",
    ] {
        let node = root(source);
        let node = match &node.content {
            Content::Sequence(items) => items[0].get("expr").unwrap().clone(),
            _ => node.get("expr").unwrap().clone(),
        };
        let offset = node.scalar().unwrap().find('^').unwrap();
        let (line, text) = source
            .lines()
            .enumerate()
            .find(|(_, l)| l.contains('^'))
            .map(|(i, l)| (i + 1, l))
            .unwrap();
        let column = text.chars().position(|c| c == '^').unwrap() + 1;
        assert_eq!(
            locate(&Lines::new(source), &node, offset),
            Position { line, column },
            "{source:?}"
        );
    }
    let source = "expr: |\n  rate(\n  x\n";
    let node = root(source).get("expr").unwrap().clone();
    assert_eq!(locate(&Lines::new(source), &node, 100), Position { line: 3, column: 4 });
}

#[test]
fn spans_cover_what_was_written() {
    let check = |source: &str, text_range: Option<std::ops::Range<usize>>, expected: &str| {
        let node = root(source).get("a").unwrap().clone();
        let lines = Lines::new(source);
        let span = match text_range {
            Some(range) => locate_span(&lines, &node, range),
            None => node_span(&lines, &node),
        };
        assert_eq!(&source[span], expected, "{source:?}");
    };
    check("a: up > 1 # c\n", None, "up > 1");
    check("a: 'it''s' # c\n", None, "'it''s'");
    check("a: \"x \\\"y\\n\"\nb: 1\n", None, "\"x \\\"y\\n\"");
    check("a: |\n  x\n   y\n\nb: 1\n", None, "|\n  x\n   y");
    check("a:\nb: 1\n", None, "");
    check("a: ''\nb: 1\n", None, "''");
    check("a: [1, 2]\nb: 1\n", None, "[1, 2]");
    check("a: |\n  sum(\n    xyz)\n", Some(7..10), "xyz");
    check("a: >\n  sum\n  (xyz)\n", Some(5..8), "xyz");
    check("a: 'x{a=''b''}'\n", Some(4..7), "''b''");
    check("a: x + \n", Some(3..3), "");
    check("a: &b sum(xyz)\n", Some(4..7), "xyz");
    check("a: !!str &b 'x' # c\n", None, "!!str &b 'x'");
}
