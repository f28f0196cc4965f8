//! Hostile input, and the agreement of the grammar with the walk that explains errors.

use super::*;

/// The first error of a text that must be refused.
fn refused(text: &str) -> String {
    match parse(text, &ParserOptions::all()) {
        Err(errors) => errors.to_string(),
        Ok(_) => panic!("accepted: {}", &text[..text.len().min(80)]),
    }
}

fn accepted(text: &str) -> Expr {
    parse(text, &ParserOptions::all()).unwrap_or_else(|e| panic!("{e}"))
}

fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let mut pending = vec![(expr, 1)];
    while let Some((expr, depth)) = pending.pop() {
        deepest = deepest.max(depth);
        pending.extend(expr.children().map(|child| (child, depth + 1)));
    }
    deepest
}

const TOO_DEEP: &str = "expression is nested too deeply: at most 500 levels are allowed";

#[test]
fn unclosed_calls_are_refused_in_linear_time() {
    assert_eq!(refused(&"sum(".repeat(200)), "1:801: parse error: unclosed left parenthesis");
    assert_eq!(refused(&"a(".repeat(499)), "1:999: parse error: unclosed left parenthesis");
    assert!(refused(&"sum by (a) (".repeat(400)).ends_with("unclosed left parenthesis"));
    assert!(refused(&"-(".repeat(400)).ends_with("unclosed left parenthesis"));
    assert!(refused(&"x[1m:".repeat(100)).contains("unexpected"));
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    for (open, close) in [("(", ")"), ("sum(", ")"), ("abs(", ")"), ("-(", ")"), ("x[(", ")]")] {
        let text = format!("{}1{}", open.repeat(5_000), close.repeat(5_000));
        assert!(refused(&text).contains(TOO_DEEP));
        assert!(refused(&open.repeat(5_000)).contains(TOO_DEEP));
    }
    let durations = format!("x[{}1{}]", "(".repeat(5_000), ")".repeat(5_000));
    assert!(refused(&durations).contains(TOO_DEEP));
    // Brackets in strings and comments do not count.
    let quoted = format!("\"{0}\" # {0}", "(".repeat(5_000));
    assert_eq!(depth(&accepted(&quoted)), 1);
}

#[test]
fn nesting_up_to_the_limit_is_accepted() {
    let parens = format!("{}1{}", "(".repeat(499), ")".repeat(499));
    assert_eq!(depth(&accepted(&parens)), 500);
    let calls = format!("{}x{}", "sum(abs(".repeat(249), "))".repeat(249));
    assert_eq!(depth(&accepted(&calls)), 499);
    assert_eq!(accepted(&calls).to_string(), calls);
    let durations = format!("x[{}5m{}]", "(".repeat(490), ")".repeat(490));
    assert_eq!(accepted(&durations).to_string(), durations);
}

/// Chains cost no native stack to build; the tree they make may still be too deep.
#[test]
fn chains_are_bounded_without_recursion() {
    let chain = |first: &str, link: &str, n: usize| format!("{first}{}", link.repeat(n));
    for text in [
        chain("1", "+1", 20_000),
        chain("2", "^2", 20_000),
        chain("x", " unless x", 5_000),
        chain("", "-", 20_000) + "x",
        chain("x", "[5m:]", 1),
        chain("x[1", "+1", 20_000) + "]",
        chain("x[2", "^2", 20_000) + "]",
        chain("x[", "-", 20_000) + "step()]",
    ] {
        match parse(&text, &ParserOptions::all()) {
            Ok(expr) => assert!(depth(&expr) <= NESTING_MAX),
            Err(errors) => assert!(errors.to_string().contains(TOO_DEEP), "{errors}"),
        }
    }
    let subqueries = chain("x", "[5m:]", 5_000);
    assert!(refused(&subqueries).contains("subquery is only allowed on instant vector"));
    assert_eq!(accepted(&chain("1", "+1", 400)).to_string(), chain("1", " + 1", 400));
    // Signs on a number are part of the number.
    assert_eq!(accepted(&(chain("", "-", 20_000) + "1")).to_string(), "1");
}

/// Rules made by machines hold thousands of alternatives.
#[test]
fn long_runs_of_or_are_accepted_and_print_unchanged() {
    for link in [" or b", " and b", " or on (l) b"] {
        let text = format!("a{}", link.repeat(20_000));
        let expr = accepted(&text);
        assert!(depth(&expr) < 20, "{}", depth(&expr));
        assert_eq!(expr.to_string(), text);
        assert_eq!(expr.span, 0..text.len() as u32);
    }
    // Short runs lean left, as Prometheus has them.
    let expr = accepted("a or b or c");
    let ast::ExprKind::Binary(top) = &expr.kind else { panic!("{expr:?}") };
    assert_eq!((top.lhs.to_string().as_str(), top.rhs.to_string().as_str()), ("a or b", "c"));
    // Runs of different matching stay apart.
    let mixed = format!("a{}", " or on (l) b or on (m) c".repeat(200));
    assert_eq!(accepted(&mixed).to_string(), mixed);
}

#[test]
fn the_walk_and_the_grammar_know_one_language() {
    let words = [
        "a",
        "sum",
        "by",
        "(",
        ")",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "5m",
        "1",
        "+",
        "-",
        "^",
        "or",
        "on",
        "group_left",
        "bool",
        ",",
        ":",
        "offset",
        "@",
        "start",
        "step",
        "min_of",
        "\"s\"",
        "=",
        "=~",
        "==",
        "fill",
        "anchored",
        "rate",
        "without",
        "a:b",
        "nan",
        "0x",
        "1m1",
        "#",
        "\n",
        "l=\"v\"",
        "atan2",
        "fill_left",
        "ignoring",
        ">/",
        "unless",
        "count_values",
    ];
    // A small generator of our own keeps the cases the same everywhere.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % n
    };
    for _ in 0..30_000 {
        let len = 1 + next(9);
        let text: Vec<&str> = (0..len).map(|_| words[next(words.len())]).collect();
        let text = text.join(if next(4) == 0 { "" } else { " " });
        if let Err(errors) = parse(&text, &ParserOptions::all()) {
            let message = errors.to_string();
            assert!(!message.contains("not a PromQL expression"), "{text:?}: {message}");
        } else {
            let walked = diagnose::query(&text);
            assert!(walked.to_string().contains("not a PromQL expression"), "{text:?}: {walked}");
        }
    }
}
