//! Tokens as Prometheus' lexer cuts them. Only for texts the grammar refused, and for the
//! notation of series: the lexer's errors and the names of tokens appear in messages.

use super::ast::Span;
use super::literal;
use crate::model::labels::quote;

mod number;

pub(super) use number::cut_number;

/// Kinds of token. Words are told apart by [`Token::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    /// The lexer gave up here; the message is in [`Scan::error`].
    Error,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    /// An operator, symbol or word, and `@`.
    Operator,
    /// `=`, `=~`, `!~` and `!=` inside braces, and `=` anywhere.
    Equal,
    Aggregator,
    Keyword,
    /// `start`, `end`, `step`, `range`, `min_of`, `max_of`.
    Preprocessor,
    Number,
    Duration,
    String,
    /// `( ) [ ] { } , :`.
    Punctuation,
}

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub start: u32,
}

impl Token<'_> {
    pub fn span(&self) -> Span {
        self.start..self.start + self.text.len() as u32
    }

    /// True for punctuation, operators and words of that text (words in any case).
    pub fn is(&self, text: &str) -> bool {
        !matches!(self.kind, Kind::String | Kind::Identifier | Kind::MetricIdentifier)
            && self.text.eq_ignore_ascii_case(text)
    }

    pub fn is_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.is(text))
    }

    /// The token as messages name it.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(self.text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(self.text)),
            // Prometheus has no name for this one and shows the number of its token.
            Kind::Operator if self.text == "@" => "\"<Item 57400>\" <op:@>".to_owned(),
            Kind::Operator => format!("<op:{}>", self.text),
            Kind::Equal if self.text != "=" => format!("<op:{}>", self.text),
            Kind::Aggregator => format!("<aggr:{}>", self.text),
            Kind::Keyword => format!("<{}>", self.text),
            Kind::Number => format!("number {}", self.shortened()),
            Kind::Duration => format!("duration {}", self.shortened()),
            Kind::String => format!("string {}", self.shortened()),
            Kind::Error | Kind::Equal | Kind::Preprocessor | Kind::Punctuation => self.shortened(),
        }
    }

    /// Quoted, with at most ten characters.
    fn shortened(&self) -> String {
        if self.text.len() <= 10 {
            return quote(self.text);
        }
        let head: String = self.text.chars().take(10).collect();
        format!("{}...", quote(&head))
    }
}

/// The tokens of a text up to its end or the first error, which is the last token.
pub(super) struct Scan<'a> {
    pub tokens: Vec<Token<'a>>,
    /// Where and why the lexer gave up. The span runs to the end of the text.
    pub error: Option<(Span, String)>,
}

/// Cuts a text into tokens.
pub(super) fn scan(text: &str) -> Scan<'_> {
    let mut scanner = Scanner {
        text,
        start: 0,
        pos: 0,
        parens: 0,
        in_braces: false,
        bracket: None,
        tokens: Vec::new(),
    };
    let error = loop {
        match scanner.next() {
            Ok(true) => {}
            Ok(false) => break None,
            Err(message) => {
                let start = scanner.start as u32;
                scanner.tokens.push(Token { kind: Kind::Error, text: "", start });
                break Some((start..text.len() as u32, message));
            }
        }
    };
    Scan { tokens: scanner.tokens, error }
}

/// How far a range in brackets has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bracket {
    got_number: bool,
    got_colon: bool,
    /// Before the first number only the tokens of durations are known.
    strict: bool,
}

struct Scanner<'a> {
    text: &'a str,
    start: usize,
    pos: usize,
    parens: i64,
    in_braces: bool,
    bracket: Option<Bracket>,
    tokens: Vec<Token<'a>>,
}

type Step = Result<bool, String>;

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, kind: Kind) -> Step {
        let text = &self.text[self.start..self.pos];
        self.tokens.push(Token { kind, text, start: self.start as u32 });
        self.start = self.pos;
        Ok(true)
    }

    /// Cuts one token. `Ok(false)` after the end.
    fn next(&mut self) -> Step {
        let strict = self.bracket.is_some_and(|b| b.strict);
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' => self.pos += 1,
                '#' if !strict => {
                    let rest = &self.text[self.pos..];
                    self.pos += rest.find(['\n', '\r']).unwrap_or(rest.len());
                }
                _ => break,
            }
        }
        self.start = self.pos;
        if self.in_braces {
            self.inside_braces()
        } else if strict {
            self.duration_expression()
        } else {
            self.statement()
        }
    }

    fn statement(&mut self) -> Step {
        let Some(c) = self.bump() else {
            if self.parens > 0 {
                return Err("unclosed left parenthesis".into());
            }
            if self.bracket.is_some() {
                return Err("unclosed left bracket".into());
            }
            self.emit(Kind::End)?;
            return Ok(false);
        };
        match c {
            ',' => self.emit(Kind::Punctuation),
            '*' | '/' | '%' | '+' | '-' | '^' | '@' => self.emit(Kind::Operator),
            '=' => match self.peek() {
                Some('=') => {
                    self.pos += 1;
                    self.emit(Kind::Operator)
                }
                Some('~') => Err("unexpected character after '=': '~'".into()),
                _ => self.emit(Kind::Equal),
            },
            '!' => match self.bump() {
                Some('=') => self.emit(Kind::Operator),
                other => Err(format!("unexpected character after '!': {}", go_char(other))),
            },
            '<' | '>' => {
                if matches!(self.peek(), Some('=' | '/')) {
                    self.pos += 1;
                }
                self.emit(Kind::Operator)
            }
            '(' => {
                self.parens += 1;
                self.emit(Kind::Punctuation)
            }
            ')' => self.right_paren(),
            '{' => {
                self.in_braces = true;
                self.emit(Kind::Punctuation)
            }
            '[' if self.bracket.is_some() => Err("unexpected left bracket '['".into()),
            '[' => {
                self.bracket = Some(Bracket { got_number: false, got_colon: false, strict: true });
                self.emit(Kind::Punctuation)
            }
            ']' if self.bracket.is_none() => Err("unexpected right bracket ']'".into()),
            ']' => {
                self.bracket = None;
                self.emit(Kind::Punctuation)
            }
            '"' | '\'' | '`' => self.string(),
            c if c.is_ascii_digit()
                || (c == '.' && self.peek().is_some_and(|n| n.is_ascii_digit())) =>
            {
                self.number()
            }
            c if is_alpha(c) || c == ':' => match self.bracket {
                None => self.word(),
                Some(_) => self.word_in_brackets(c),
            },
            c => Err(format!("unexpected character: {}", go_char(Some(c)))),
        }
    }

    fn right_paren(&mut self) -> Step {
        self.parens -= 1;
        if self.parens < 0 {
            self.start = self.pos;
            return Err("unexpected right parenthesis ')'".into());
        }
        self.emit(Kind::Punctuation)
    }

    /// Right after `[` and the operators that follow it.
    fn duration_expression(&mut self) -> Step {
        let Some(bracket) = self.bracket else { return self.statement() };
        let Some(c) = self.bump() else {
            return Err("unexpected end of input in duration expression".into());
        };
        match c {
            ']' => {
                self.bracket = None;
                self.emit(Kind::Punctuation)
            }
            ':' => {
                let message = if !bracket.got_number {
                    "unexpected colon before duration in duration expression"
                } else if bracket.got_colon {
                    "unexpected repeated colon in duration expression"
                } else {
                    self.bracket = Some(Bracket { got_colon: true, ..bracket });
                    return self.emit(Kind::Punctuation);
                };
                self.start = self.pos;
                Err(message.into())
            }
            '(' => {
                self.parens += 1;
                self.emit(Kind::Punctuation)
            }
            ')' => self.right_paren(),
            ',' => self.emit(Kind::Punctuation),
            '+' | '-' | '*' | '/' | '%' | '^' => self.emit(Kind::Operator),
            c if c.is_ascii_digit()
                || (c == '.' && self.peek().is_some_and(|n| n.is_ascii_digit())) =>
            {
                self.bracket = Some(Bracket { got_number: true, strict: false, ..bracket });
                self.number()
            }
            c => {
                if self.duration_word() {
                    self.bracket = Some(Bracket { got_number: true, ..bracket });
                    return self.emit(Kind::Preprocessor);
                }
                Err(format!("unexpected character in duration expression: {}", go_char(Some(c))))
            }
        }
    }

    fn word_in_brackets(&mut self, c: char) -> Step {
        let Some(bracket) = self.bracket else { return self.word() };
        if c == ':' {
            if bracket.got_colon {
                return Err("unexpected colon ':'".into());
            }
            self.bracket = Some(Bracket { got_colon: true, ..bracket });
            return self.emit(Kind::Punctuation);
        }
        if self.duration_word() {
            return self.emit(Kind::Preprocessor);
        }
        Err(format!("unexpected character: {}, expected ':'", go_char(Some(c))))
    }

    /// Takes `step`, `range`, `min_of` or `max_of` when it stands at the start of the token.
    fn duration_word(&mut self) -> bool {
        let rest = &self.text[self.start..];
        let len = rest.find(|c: char| !is_alnum(c)).unwrap_or(rest.len());
        let word = &rest[..len];
        let known = ["step", "range", "min_of", "max_of"];
        if known.iter().any(|k| k.eq_ignore_ascii_case(word)) {
            self.pos = self.start + len;
            return true;
        }
        false
    }

    fn inside_braces(&mut self) -> Step {
        let Some(c) = self.bump() else {
            return Err("unexpected end of input inside braces".into());
        };
        match c {
            ',' => self.emit(Kind::Punctuation),
            '"' | '\'' | '`' => self.string(),
            '=' => {
                if self.peek() == Some('~') {
                    self.pos += 1;
                }
                self.emit(Kind::Equal)
            }
            '!' => match self.bump() {
                Some('=' | '~') => self.emit(Kind::Equal),
                other => {
                    Err(format!("unexpected character after '!' inside braces: {}", go_char(other)))
                }
            },
            '{' => Err("unexpected left brace '{'".into()),
            '}' => {
                self.in_braces = false;
                self.emit(Kind::Punctuation)
            }
            c if is_alpha(c) => {
                while self.peek().is_some_and(is_alnum) {
                    self.pos += 1;
                }
                self.emit(Kind::Identifier)
            }
            c => Err(format!("unexpected character inside braces: {}", go_char(Some(c)))),
        }
    }

    fn string(&mut self) -> Step {
        let rest = &self.text[self.start..];
        literal::unquote(rest)?;
        self.pos = self.start + string_len(rest);
        self.emit(Kind::String)
    }

    fn number(&mut self) -> Step {
        self.pos = self.start;
        match cut_number(&self.text[self.start..], false) {
            Ok((kind, len)) => {
                self.pos += len;
                self.emit(kind)
            }
            Err(len) => {
                let cut = quote(&self.text[self.start..self.start + len]);
                Err(format!("bad number or duration syntax: {cut}"))
            }
        }
    }

    fn word(&mut self) -> Step {
        while self.peek().is_some_and(|c| is_alnum(c) || c == ':') {
            self.pos += 1;
        }
        let word = &self.text[self.start..self.pos];
        let opens =
            self.text[self.pos..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(');
        self.emit(classify(word, opens))
    }
}

/// What a word outside braces is.
fn classify(word: &str, before_parenthesis: bool) -> Kind {
    const FILLS: [&str; 3] = ["fill", "fill_left", "fill_right"];
    const OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
    const KEYWORDS: [&str; 10] = [
        "offset",
        "smoothed",
        "anchored",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
    ];
    const PREPROCESSORS: [&str; 6] = ["start", "end", "step", "range", "min_of", "max_of"];
    let is_in = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    if is_in(&["inf", "nan"]) {
        Kind::Number
    } else if is_in(&OPERATORS) {
        Kind::Operator
    } else if is_in(&KEYWORDS) || (before_parenthesis && is_in(&FILLS)) {
        Kind::Keyword
    } else if is_in(&PREPROCESSORS) {
        Kind::Preprocessor
    } else if crate::aggregations::find(word).is_some() {
        Kind::Aggregator
    } else if word.contains(':') {
        Kind::MetricIdentifier
    } else {
        Kind::Identifier
    }
}

pub(super) fn is_alpha(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

pub(super) fn is_alnum(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// Length of the string token at the start of `text`, which is known to be sound.
pub(super) fn string_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, open)) = chars.next() else { return 0 };
    while let Some((at, c)) = chars.next() {
        if c == open {
            return at + 1;
        }
        if c == '\\' && open != '`' {
            chars.next();
        }
    }
    text.len()
}

/// A character as Go's `%q` prints it.
pub(super) fn go_char(c: Option<char>) -> String {
    match c {
        // The end of the text is the rune -1, which Go prints as U+FFFD.
        None => "'\u{FFFD}'".to_owned(),
        Some('\'') => r"'\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(c) => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}
