//! Tokens of Go's `text/template`: plain text, and what stands between `{{` and `}}`.
//!
//! The lexer yields one token a call and never fails: a fault is a token of its own,
//! because where it is met decides how Go words the error.

use std::borrow::Cow;

use super::number::go_quote;

/// What a token is. Everything after `Keyword` is a word of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Keyword,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub kind: Kind,
    /// Byte offset in the template.
    pub pos: usize,
    pub val: Cow<'t, str>,
    /// 1-based line of the token's start; 0 for "no token yet".
    pub line: usize,
}

impl Token<'_> {
    /// A placeholder before anything was read.
    pub(super) fn none() -> Self {
        Token { kind: Kind::Eof, pos: 0, val: Cow::Borrowed(""), line: 0 }
    }

    /// As error texts show it: keywords in `<>`, long values cut to ten characters.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.val.clone().into_owned(),
            kind if kind > Kind::Keyword => format!("<{}>", self.val),
            _ if self.val.len() > 10 => {
                let head: String = self.val.chars().take(10).collect();
                format!("{}...", go_quote(&head))
            }
            _ => go_quote(&self.val),
        }
    }
}

pub(super) struct Lexer<'t> {
    input: &'t str,
    pos: usize,
    start: usize,
    line: usize,
    inside_action: bool,
    paren_depth: usize,
    failed: bool,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    // Go counts letters and decimal digits; Rust's numeric class is wider, so letters
    // and the Nd class are approximated by alphabetic or to_digit-able characters.
    c == '_' || c.is_alphabetic() || c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())
}

/// How Go's `%#U` prints a character: `U+007D '}'`.
fn unicode_point(c: Option<char>) -> String {
    match c {
        None => "U+FFFFFFFFFFFFFFFF".to_owned(),
        Some(c) if c.is_control() => format!("U+{:04X}", c as u32),
        Some(c) => format!("U+{:04X} '{c}'", c as u32),
    }
}

impl<'t> Lexer<'t> {
    pub(super) fn new(input: &'t str) -> Self {
        Self {
            input,
            pos: 0,
            start: 0,
            line: 1,
            inside_action: false,
            paren_depth: 0,
            failed: false,
        }
    }

    /// The next token; after the end or a fault, the end.
    pub(super) fn next(&mut self) -> Token<'t> {
        if self.failed {
            return self.token_of(Kind::Eof, Cow::Borrowed("EOF"));
        }
        loop {
            let token = if self.inside_action { self.action() } else { self.text() };
            if let Some(token) = token {
                return token;
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.bump();
        }
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek().is_some_and(|c| set.contains(c));
        if found {
            self.bump();
        }
        found
    }

    fn token_of(&self, kind: Kind, val: Cow<'t, str>) -> Token<'t> {
        Token { kind, pos: self.start, val, line: self.line }
    }

    fn ignore(&mut self) {
        let skipped = &self.input.as_bytes()[self.start..self.pos];
        self.line += skipped.iter().filter(|b| **b == b'\n').count();
        self.start = self.pos;
    }

    fn emit(&mut self, kind: Kind) -> Option<Token<'t>> {
        let token = self.token_of(kind, Cow::Borrowed(&self.input[self.start..self.pos]));
        self.ignore();
        Some(token)
    }

    fn fail(&mut self, text: impl Into<String>) -> Option<Token<'t>> {
        self.failed = true;
        Some(self.token_of(Kind::Error, Cow::Owned(text.into())))
    }

    /// `(found, with trim mark)`: whether the closing delimiter starts here.
    fn at_right_delim(&self) -> (bool, bool) {
        let rest = self.rest();
        let mut chars = rest.chars();
        let trims = chars.next().is_some_and(is_space) && chars.next() == Some('-');
        if trims && rest[2..].starts_with(RIGHT) {
            (true, true)
        } else {
            (rest.starts_with(RIGHT), false)
        }
    }

    fn text(&mut self) -> Option<Token<'t>> {
        let Some(at) = self.rest().find(LEFT) else {
            self.pos = self.input.len();
            if self.pos > self.start {
                return self.emit(Kind::Text);
            }
            return Some(self.token_of(Kind::Eof, Cow::Borrowed("EOF")));
        };
        let delim = self.pos + at;
        let after = &self.input[delim + LEFT.len()..];
        let mut chars = after.chars();
        let trims = chars.next() == Some('-') && chars.next().is_some_and(is_space);
        let body = &self.input[self.start..delim];
        let kept = if trims { body.trim_end_matches(is_space) } else { body };
        self.pos = self.start + kept.len();
        let text = if kept.is_empty() { None } else { self.emit(Kind::Text) };
        self.pos = delim;
        self.ignore();
        if text.is_some() {
            return text;
        }
        // The left delimiter, or a comment, which yields nothing.
        let mark = if trims { 2 } else { 0 };
        self.pos += LEFT.len();
        if self.input[self.pos + mark..].starts_with("/*") {
            self.pos += mark;
            return self.comment();
        }
        let token = self.emit(Kind::LeftDelim);
        self.pos += mark;
        self.ignore();
        self.inside_action = true;
        self.paren_depth = 0;
        token
    }

    fn comment(&mut self) -> Option<Token<'t>> {
        let Some(end) = self.rest()[2..].find("*/") else {
            return self.fail("unclosed comment");
        };
        self.pos += 2 + end + 2;
        let (found, trims) = self.at_right_delim();
        if !found {
            return self.fail("comment ends before closing delimiter");
        }
        self.close_delim(trims);
        self.ignore();
        None
    }

    /// Moves past the closing delimiter and the space it trims.
    fn close_delim(&mut self, trims: bool) {
        self.pos += RIGHT.len();
        if trims {
            self.pos += 2;
            self.skip_while(is_space);
        }
    }

    fn right_delim(&mut self, trims: bool) -> Option<Token<'t>> {
        if trims {
            self.pos += 2;
            self.ignore();
        }
        self.pos += RIGHT.len();
        let token = self.emit(Kind::RightDelim);
        if trims {
            self.skip_while(is_space);
            self.ignore();
        }
        self.inside_action = false;
        token
    }

    fn action(&mut self) -> Option<Token<'t>> {
        let (found, trims) = self.at_right_delim();
        if found {
            if self.paren_depth > 0 {
                return self.fail("unclosed left paren");
            }
            return self.right_delim(trims);
        }
        let Some(c) = self.bump() else { return self.fail("unclosed action") };
        match c {
            _ if is_space(c) => self.space(),
            '=' => self.emit(Kind::Assign),
            ':' => {
                if self.bump() == Some('=') {
                    self.emit(Kind::Declare)
                } else {
                    self.fail("expected :=")
                }
            }
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '`' => self.raw_string(),
            '$' => self.field_or_variable(Kind::Variable),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '.' if !self.rest().starts_with(|c: char| c.is_ascii_digit())
                && !self.rest().is_empty() =>
            {
                self.field_or_variable(Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = self.start;
                self.number()
            }
            _ if is_alphanumeric(c) => self.identifier(),
            '(' => {
                self.paren_depth += 1;
                self.emit(Kind::LeftParen)
            }
            ')' => match self.paren_depth.checked_sub(1) {
                Some(depth) => {
                    self.paren_depth = depth;
                    self.emit(Kind::RightParen)
                }
                None => self.fail("unexpected right paren"),
            },
            ' '..='~' => self.emit(Kind::Char),
            _ => {
                let what = unicode_point(Some(c));
                self.fail(format!("unrecognized character in action: {what}"))
            }
        }
    }

    /// A run of spaces, of which the last may belong to a trimming ` -}}`.
    fn space(&mut self) -> Option<Token<'t>> {
        self.skip_while(is_space);
        let last = self.pos - 1;
        let (found, trims) = {
            let back = Lexer { pos: last, ..Lexer::new(self.input) };
            back.at_right_delim()
        };
        if found && trims {
            self.pos = last;
            if self.pos == self.start {
                return None;
            }
        }
        self.emit(Kind::Space)
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) if is_space(c) => true,
            Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with(RIGHT),
        }
    }

    fn bad_character(&mut self) -> Option<Token<'t>> {
        let what = unicode_point(self.peek());
        self.fail(format!("bad character {what}"))
    }

    fn identifier(&mut self) -> Option<Token<'t>> {
        self.skip_while(is_alphanumeric);
        if !self.at_terminator() {
            return self.bad_character();
        }
        let kind = match &self.input[self.start..self.pos] {
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "nil" => Kind::Nil,
            "template" => Kind::Template,
            "with" => Kind::With,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.emit(kind)
    }

    fn field_or_variable(&mut self, kind: Kind) -> Option<Token<'t>> {
        if self.at_terminator() {
            return self.emit(if kind == Kind::Variable { kind } else { Kind::Dot });
        }
        self.skip_while(is_alphanumeric);
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.emit(kind)
    }

    fn quoted(&mut self, quote: char, kind: Kind, fault: &str) -> Option<Token<'t>> {
        loop {
            match self.bump() {
                Some('\\') => {
                    if matches!(self.bump(), None | Some('\n')) {
                        return self.fail(fault);
                    }
                }
                None | Some('\n') => return self.fail(fault),
                Some(c) if c == quote => return self.emit(kind),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Option<Token<'t>> {
        match self.rest().find('`') {
            Some(end) => {
                self.pos += end + 1;
                self.emit(Kind::RawString)
            }
            None => self.fail("unterminated raw quoted string"),
        }
    }

    fn number(&mut self) -> Option<Token<'t>> {
        if !self.scan_number() {
            return self.bad_number();
        }
        if matches!(self.peek(), Some('+' | '-')) {
            // A complex constant: `1+2i`, without spaces.
            if !self.scan_number() || !self.input[..self.pos].ends_with('i') {
                return self.bad_number();
            }
            return self.emit(Kind::Complex);
        }
        self.emit(Kind::Number)
    }

    fn bad_number(&mut self) -> Option<Token<'t>> {
        let text = go_quote(&self.input[self.start..self.pos]);
        self.fail(format!("bad number syntax: {text}"))
    }

    fn scan_number(&mut self) -> bool {
        const HEX: &str = "0123456789abcdefABCDEF_";
        const DECIMAL: &str = "0123456789_";
        self.accept("+-");
        let mut digits = DECIMAL;
        if self.accept("0") {
            if self.accept("xX") {
                digits = HEX;
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.skip_while(|c| digits.contains(c));
        if self.accept(".") {
            self.skip_while(|c| digits.contains(c));
        }
        let exponent = match digits {
            DECIMAL => self.accept("eE"),
            HEX => self.accept("pP"),
            _ => false,
        };
        if exponent {
            self.accept("+-");
            self.skip_while(|c| DECIMAL.contains(c));
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }
}
