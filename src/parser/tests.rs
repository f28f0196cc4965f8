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
        chain("1", "+1", 4_000),
        chain("2", "^2", 4_000),
        chain("x", " unless x", 5_000),
        chain("", "-", 4_000) + "x",
        chain("x", "[5m:]", 1),
        chain("x[1", "+1", 4_000) + "]",
        chain("x[2", "^2", 4_000) + "]",
        chain("x[", "-", 4_000) + "step()]",
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
    assert_eq!(accepted(&(chain("", "-", 4_000) + "1")).to_string(), "1");
}

/// Rules made by machines hold thousands of alternatives.
#[test]
fn long_runs_of_or_are_accepted_and_print_unchanged() {
    for link in [" or b", " and b", " or on (l) b"] {
        let text = format!("a{}", link.repeat(4_000));
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
        let options = if next(2) == 0 { ParserOptions::all() } else { ParserOptions::default() };
        let plain = syntax::without_comments(&text);
        let built = syntax::parse(Rule::query, &plain)
            .and_then(|pair| build::query(pair, &text, &options).ok());
        let walked = diagnose::query(&text, &options);
        let gap = walked.to_string().contains("not a PromQL expression");
        match built {
            None => assert!(!gap, "{text:?} is refused: {walked}"),
            Some(built) if built.syntax.is_empty() => assert!(gap, "{text:?}: {walked}"),
            Some(built) => assert_eq!(built.syntax, walked.errors, "{text:?}"),
        }
    }
}

/// First errors that the conformance data does not have.
#[test]
fn errors_are_those_of_prometheus() {
    for (text, message) in [
        ("", "1:1: parse error: no expression found in input"),
        ("# only a comment", "1:1: parse error: no expression found in input"),
        ("a\u{b}", "1:2: parse error: unexpected character: '\\v'"),
        ("\u{c}a", "1:1: parse error: unexpected character: '\\f'"),
        ("a +\u{1f}\"\u{b}\"", "1:4: parse error: unexpected character: '\\x1f'"),
        ("foo / count())", "1:15: parse error: unexpected right parenthesis ')'"),
        (
            "sum(foo[5m)",
            "1:11: parse error: unexpected \")\" in subquery or range, expected \":\" or \"]\"",
        ),
        ("sum(a b)", "1:7: parse error: unexpected identifier \"b\" in aggregation"),
        (
            "sum by a (b)",
            "1:8: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"",
        ),
        (
            "sum by (a b) (c)",
            "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
        ),
        ("a:b(c)", "1:4: parse error: unexpected \"(\""),
        ("foo[5m:1m", "1:10: parse error: unclosed left bracket"),
        ("foo[:1m]", "1:6: parse error: unexpected colon before duration in duration expression"),
        ("foo[5m::1m]", "1:8: parse error: unexpected colon ':'"),
        (
            "foo[5m] offset bar",
            "1:16: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()",
        ),
        // What was wrong before comes first, but for what only the next token completes.
        ("foo[0s] x", "1:5: parse error: duration must be greater than 0"),
        ("foo[0s x]", "1:8: parse error: unexpected character: 'x', expected ':'"),
        (
            "foo[5m +]",
            "1:9: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        (
            "foo[5m:1m * (2]",
            "1:15: parse error: unexpected \"]\" in subquery selector, expected number, duration, step(), range(), or \"]\"",
        ),
        (
            "foo[5m 1m]",
            "1:8: parse error: unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\"",
        ),
        ("foo[5m / 0] x", "1:8: parse error: division by zero"),
        ("(foo)[5m] x", "1:6: parse error: ranges only allowed for vector selectors"),
        ("a offset 1m[5m] x", "1:12: parse error: no offset modifiers allowed before range"),
        ("a @ 1 @ 2 x", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        (
            "1 offset 5m x",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a{b=~\"(\"} x", "1:3: parse error: error parsing regexp: missing closing ): `(`"),
        ("sum by (\"\") (a) x", "1:9: parse error: invalid label name for grouping: \"\""),
        (
            "a[5m:] anchored x",
            "1:1: parse error: anchored modifier is not supported for subqueries",
        ),
        (
            "a{b=~\"x\" =~}",
            "1:10: parse error: unexpected <op:=~> in label matching, expected \",\" or \"}\"",
        ),
        (
            "a + on (b) group_left (NaN)",
            "1:24: parse error: unexpected number \"NaN\" in grouping opts, expected label",
        ),
        (
            "a + on (b) group_left , c",
            "1:23: parse error: unexpected \",\" in grouping opts, expected \"(\"",
        ),
        ("a @@ 1", "1:4: parse error: unexpected \"<Item 57400>\" <op:@> in @, expected timestamp"),
        ("foo @ bar", "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp"),
        ("foo\n  bar", "2:3: parse error: unexpected identifier \"bar\""),
        (
            "{a=\"b\",,}",
            "1:8: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        ("{a=~\"(\"}", "1:2: parse error: error parsing regexp: missing closing ): `(`"),
        (
            "1e400",
            "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
        ),
        ("'a", "1:1: parse error: unterminated quoted string"),
        ("a ! b", "1:3: parse error: unexpected character after '!': ' '"),
        ("Rate(a[5m])", "1:1: parse error: unknown function with name \"Rate\""),
        (
            "sum(a, b) c",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
        ),
        (
            "a anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        ("a[5m:] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries"),
        (
            "a + fill(1) 1",
            "1:1: parse error: filling in missing series only allowed between instant vectors",
        ),
        (
            "a and fill(1) b",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        ("a @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        (
            "-'a'",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
    let plain = ParserOptions::default();
    for (text, message) in [
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("step()", "1:1: parse error: function \"step\" is not enabled"),
        ("a anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
        ("a anchored b", "1:1: parse error: anchored modifier is experimental and not enabled"),
        (
            "a + fill(1) b c",
            "1:5: parse error: binop fill modifiers are experimental and not enabled",
        ),
        ("step() b", "1:1: parse error: function \"step\" is not enabled"),
        (
            "a + fill(1) b",
            "1:5: parse error: binop fill modifiers are experimental and not enabled",
        ),
    ] {
        let errors = parse(text, &plain).expect_err(text);
        assert_eq!(errors.to_string(), message, "{text}");
    }
}

/// Where precedence and keywords are easily got wrong.
#[test]
fn trees_are_shaped_as_by_prometheus() {
    for (text, shape) in [
        ("-1^2", "(-(1 ^ 2))"),
        ("2^3^4", "(2 ^ (3 ^ 4))"),
        ("2^-3^4*5", "((2 ^ (-(3 ^ 4))) * 5)"),
        ("-a*b", "((-a) * b)"),
        ("-a^b", "(-(a ^ b))"),
        ("a-b-c", "((a - b) - c)"),
        ("a+b*c^d", "(a + (b * (c ^ d)))"),
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a atan2 b * c", "((a atan2 b) * c)"),
        ("a > b + 1", "(a > (b + 1))"),
        ("a </ b >/ c", "((a </ b) >/ c)"),
        ("foo offset -2^2", "(foo offset -2s ^ 2)"),
        ("foo offset 5m - 1m", "(foo offset 5m - 60)"),
        ("or or or or or", "((or or or) or or)"),
        ("sum + by", "(sum + by)"),
        ("a and on (x) and", "(a and on (x) and)"),
        ("fill + fill_left", "(fill + fill_left)"),
        ("0x1F + 0755 + 1_000", "((31 + 493) + 1000)"),
    ] {
        assert_eq!(shape_of(&accepted(text)), shape, "{text}");
    }
}

/// The tree with every operator in parentheses.
fn shape_of(expr: &Expr) -> String {
    match &expr.kind {
        ast::ExprKind::Binary(b) => {
            format!("({} {} {})", shape_of(&b.lhs), print::BinaryHead(b), shape_of(&b.rhs))
        }
        ast::ExprKind::Unary { op, expr } => format!("({}{})", op.as_str(), shape_of(expr)),
        ast::ExprKind::Number(n) => n.value.to_string(),
        _ => expr.to_string(),
    }
}
