//! What Go accepts, refuses and matches; outcomes are those of Go 1.26's `regexp`.

use super::*;

#[test]
fn matches_are_those_of_go() {
    for (expr, yes, no) in [
        ("foo", &["foo"][..], &["foobar", "xfoo", ""][..]),
        ("foo|bar|", &["foo", "bar", ""], &["baz"]),
        ("a.c", &["abc", "a\nc", "aéc"], &["ac"]),
        (".*", &["", "x\ny"], &[]),
        (".+", &["x\ny"], &[""]),
        ("foo.*", &["foo", "foo\nbar"], &["fo"]),
        (".*foo", &["foo", "barfoo"], &["foob"]),
        (".*foo.*", &["foo", "afoob"], &["fo"]),
        ("(?i)foo", &["FoO"], &["bar"]),
        (r"\d+\w\s", &["12a "], &["٣a ", "1é ", "1a\u{b}"]),
        (r"\Qa.b*\E+", &["a.b*", "a.b**"], &["aXb*"]),
        ("[a[b]]", &["a]", "[]", "b]"], &["a", "b"]),
        ("[a&&b]", &["a", "&", "b"], &["c"]),
        ("[+--]", &["+", ",", "-"], &["a"]),
        ("(?P<n>a)|(?P<n>b)", &["a", "b"], &["ab"]),
        ("[]a]", &["]", "a"], &[]),
        ("[^a]", &["\n", "é"], &["a"]),
        ("[[:alpha:][:^space:]]", &["x", "1"], &[" "]),
        (r"\pL\p{Greek}\P{Lu}\p{^Lu}", &["éααα"], &["1ααα"]),
        (r"\x41\x{1F600}\101\0", &["A😀A\0"], &["A"]),
        (r"\a\f\t\n\r\v\.", &["\x07\x0c\t\n\r\x0b."], &[]),
        ("a{2}b{1,2}c{1,}", &["aabc", "aabbccc"], &["abc"]),
        ("a{,2}", &["a{,2}"], &["a"]),
        ("a{01}", &["a{01}"], &["a"]),
        ("^foo$", &["foo"], &["foo\n"]),
        ("^a$|^b$", &["a", "b"], &["ab"]),
        (r"\Aa\z", &["a"], &["b"]),
        (r"a\b-\Bb?", &["a-"], &["a-b"]),
        ("(?P<x>a)(?<y>b)(?:c)(?i:d)e", &["abcDe"], &["abcDE"]),
        ("(?i)a(?-i)b", &["Ab"], &["AB"]),
        ("(?s-i:.)", &["\n"], &[]),
        ("(?-s).", &["x"], &["\n"]),
        ("(?U)a+", &["aaa"], &[]),
        ("foo|(?:bar|b(a|o)z)", &["foo", "bar", "boz"], &["bz"]),
        ("x{0}", &[""], &["x"]),
        ("()|^*", &[""], &["a"]),
    ] {
        let regex = AnchoredRegex::new(expr).unwrap_or_else(|e| panic!("{expr}: {e}"));
        let engine = GoRegex::anchored(expr).unwrap_or_else(|e| panic!("{expr}: {e}"));
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(regex.is_match(text), expected, "{expr} on {text:?}");
                assert_eq!(engine.is_match(text), expected, "{expr} on {text:?}, by the engine");
            }
        }
    }
}

#[test]
fn refusals_are_worded_as_by_go() {
    for (expr, message) in [
        ("(", "missing closing ): `(`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)", "unexpected ): `a)`"),
        ("a)(b", "unexpected ): `a)(b`"),
        ("[a", "missing closing ]: `[a`"),
        ("[", "missing closing ]: `[`"),
        ("[]", "missing closing ]: `[]`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("a|{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?*", "invalid nested repetition operator: `+?*`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{500}){3}", "invalid repeat count: `{3}`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<n", "invalid named capture: `(?<n`"),
        ("(?P<n!>a)", "invalid named capture: `(?P<n!>`"),
    ] {
        let error = AnchoredRegex::new(expr).expect_err(expr);
        assert_eq!(error.to_string(), format!("error parsing regexp: {message}"));
    }
    let error = GoRegex::anchored("a(b").expect_err("unclosed");
    assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `^(?s:a(b)$`");
}

#[test]
fn hostile_expressions_are_limited() {
    let nested = format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000));
    let error = AnchoredRegex::new(&nested).expect_err("deep");
    assert!(error.to_string().contains("expression nests too deeply"));
    let flat = AnchoredRegex::new(&"(a)".repeat(10_000)).expect("wide is not deep");
    assert!(flat.is_match(&"a".repeat(10_000)));
    assert!(!flat.is_match("a"));
    let large = r"[\pL\pN]{1000}|".repeat(500);
    let error = AnchoredRegex::new(&large).expect_err("large");
    assert!(error.to_string().contains("expression too large"), "{}", error.to_string().len());
    // Exponential for a backtracking engine.
    let evil = AnchoredRegex::new("(a*)*b").expect("sound");
    assert!(!evil.is_match(&"a".repeat(50_000)));
}

#[test]
fn simple_shapes_are_recognised() {
    for (expr, set, prefix) in [
        ("foo", Some(&["foo"][..]), Some("foo")),
        ("foo|bar", Some(&["bar", "foo"]), None),
        ("^(?:foo|bar)$", Some(&["bar", "foo"]), None),
        ("a(b|c)d?", Some(&["ab", "abd", "ac", "acd"]), Some("a")),
        ("[ab]1", Some(&["a1", "b1"]), None),
        ("(?i)ab", Some(&["AB", "Ab", "aB", "ab"]), None),
        ("", Some(&[""]), None),
        ("x{2}", Some(&["xx"]), Some("x")),
        ("foo.*", None, Some("foo")),
        ("foo(bar|baz).+", None, Some("fooba")),
        ("(foo)+", None, Some("foo")),
        (".*foo", None, None),
        ("é.*|è.*", None, None),
        ("[0-9]{3,4}", None, None),
    ] {
        let regex = AnchoredRegex::new(expr).expect(expr);
        let got: Option<Vec<&str>> =
            regex.set_matches().map(|set| set.iter().map(String::as_str).collect());
        assert_eq!(got.as_deref(), set, "{expr}");
        assert_eq!(regex.prefix(), prefix, "{expr}");
    }
    assert!(AnchoredRegex::new(".*").expect("sound").matches_all());
    assert!(AnchoredRegex::new("(.+)").expect("sound").matches_non_empty());
}

#[test]
fn templates_expand_as_in_go() {
    for (expr, text, template, expected) in [
        ("(.*):(.*)", "a:b", "$2-$1", "b-a"),
        ("(.*):(.*)", "a:b", "$1x$2", "b"),
        ("(.*):(.*)", "a:b", "${1}x$$$2", "ax$b"),
        ("(?P<n>.*):.*", "a:b", "${n}!$n", "a!a"),
        ("(.*)", "a", "$9$", "$"),
        ("(.*)", "a", "$-$ {1}${1$01", "$-$ {1}${1"),
        ("(a)|(b)", "b", "<$1$2>", "<b>"),
    ] {
        let regex = GoRegex::anchored(expr).expect(expr);
        let found = regex.find(text).expect(expr);
        assert_eq!(regex.expand(template, text, &found), expected, "{expr} {template}");
    }
    for (expr, text, template, expected) in [
        ("a+", "baaac", "<$0>", "b<aaa>c"),
        ("", "ab", "-", "-a-b-"),
        ("a*", "baac", "x", "xbxcx"),
        (r"(\w)(\w*)", "ab cd", "$2$1", "ba dc"),
        ("z", "ab", "-", "ab"),
        ("", "é", "-", "-é-"),
    ] {
        let regex = GoRegex::new(expr).expect(expr);
        assert_eq!(regex.replace_all(text, template), expected, "{expr} on {text}");
    }
    let regex = GoRegex::new("(b)(x)?").expect("sound");
    let found = regex.find("abc").expect("a match");
    assert_eq!(
        (found.range(), found.group(1, "abc"), found.group(2, "abc")),
        (1..2, Some("b"), None)
    );
}
