//! Tokens of the values of a series, as Prometheus' lexer cuts them.

use crate::model::labels::quote;
use crate::parser::ast::Span;
use crate::parser::scan::{self, go_char, is_alnum, is_alpha};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    Error,
    Space,
    /// `_`
    Blank,
    /// `x`
    Times,
    /// `+` or `-`
    Sign,
    Number,
    Duration,
    Identifier,
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `[`, `]` and `:` inside a histogram.
    Punctuation,
    /// A histogram's key.
    Key,
    /// `unknown`, `reset`, `not_reset`, `gauge`.
    Hint,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub start: u32,
}

/// Keys of histograms and the numbers Prometheus' messages show for them.
const KEYS: [(&str, u32); 11] = [
    ("sum", 57370),
    ("count", 57371),
    ("schema", 57372),
    ("offset", 57373),
    ("n_offset", 57374),
    ("buckets", 57375),
    ("n_buckets", 57376),
    ("z_bucket", 57377),
    ("z_bucket_w", 57378),
    ("custom_values", 57379),
    ("counter_reset_hint", 57380),
];

impl Token<'_> {
    pub fn span(&self) -> Span {
        self.start..self.start + self.text.len() as u32
    }

    /// The token as messages name it.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(self.text)),
            Kind::Number => format!("number {}", quote(self.text)),
            Kind::Duration => format!("duration {}", quote(self.text)),
            Kind::Sign => format!("<op:{}>", self.text),
            Kind::Key => {
                let number = KEYS.iter().find(|(key, _)| *key == self.text).map_or(0, |k| k.1);
                format!("\"<Item {number}>\" {}", quote(self.text))
            }
            _ => quote(self.text),
        }
    }
}

/// The tokens up to the end or an error, which is the last token; the error's message.
pub(super) fn tokens(text: &str, start: usize) -> (Vec<Token<'_>>, Option<String>) {
    let mut lexer = Lexer { text, start, pos: start, in_histogram: false };
    let mut tokens = Vec::new();
    loop {
        let kind = lexer.next();
        let (kind, error) = match kind {
            Ok(kind) => (kind, None),
            Err(message) => (Kind::Error, Some(message)),
        };
        let cut = &text[lexer.start..lexer.pos];
        tokens.push(Token { kind, text: cut, start: lexer.start as u32 });
        if matches!(kind, Kind::End | Kind::Error) {
            return (tokens, error);
        }
        lexer.start = lexer.pos;
    }
}

struct Lexer<'a> {
    text: &'a str,
    start: usize,
    pos: usize,
    in_histogram: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.pos..]
    }

    fn take_while(&mut self, pred: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.pos += rest.find(|c| !pred(c)).unwrap_or(rest.len());
    }

    fn next(&mut self) -> Result<Kind, String> {
        let Some(c) = self.rest().chars().next() else { return Ok(Kind::End) };
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            return Ok(Kind::Space);
        }
        let digit_next = self.rest()[c.len_utf8()..].starts_with(|n: char| n.is_ascii_digit());
        if c.is_ascii_digit() || (c == '.' && digit_next) {
            return self.number();
        }
        if self.in_histogram { self.in_histogram(c) } else { self.in_sequence(c) }
    }

    fn number(&mut self) -> Result<Kind, String> {
        match scan::cut_number(self.rest(), true) {
            Ok((kind, len)) => {
                self.pos += len;
                Ok(if kind == scan::Kind::Number { Kind::Number } else { Kind::Duration })
            }
            Err(len) => {
                let cut = quote(&self.rest()[..len]);
                Err(format!("bad number or duration syntax: {cut}"))
            }
        }
    }

    fn in_sequence(&mut self, c: char) -> Result<Kind, String> {
        if self.rest().starts_with("{{") {
            self.pos += 2;
            self.in_histogram = true;
            return Ok(Kind::Open);
        }
        let single = match c {
            '+' | '-' => Some(Kind::Sign),
            'x' => Some(Kind::Times),
            '_' => Some(Kind::Blank),
            _ => None,
        };
        if let Some(kind) = single {
            self.pos += 1;
            return Ok(kind);
        }
        if is_alpha(c) {
            self.take_while(is_alnum);
            return Ok(word(&self.text[self.start..self.pos]).unwrap_or(Kind::Identifier));
        }
        Err(format!("unexpected character in series sequence: {}", go_char(Some(c))))
    }

    fn in_histogram(&mut self, c: char) -> Result<Kind, String> {
        if self.rest().starts_with("}}") {
            self.pos += 2;
            self.in_histogram = false;
            return Ok(Kind::Close);
        }
        match c {
            '-' | '+' => {
                self.pos += 1;
                Ok(Kind::Sign)
            }
            '[' | ']' | ':' => {
                self.pos += 1;
                Ok(Kind::Punctuation)
            }
            c if is_alpha(c) => {
                self.take_while(is_alnum);
                let text = &self.text[self.start..self.pos];
                if let Some(number) = word(text) {
                    return Ok(number);
                }
                if KEYS.iter().any(|(key, _)| *key == text) {
                    return if self.rest().starts_with(':') {
                        Ok(Kind::Key)
                    } else {
                        Err("missing `:` for histogram descriptor".into())
                    };
                }
                if matches!(text, "unknown" | "reset" | "not_reset" | "gauge") {
                    return Ok(Kind::Hint);
                }
                Err(format!("bad histogram descriptor found: {}", quote(text)))
            }
            c => Err(format!("histogram description incomplete unexpected: {}", go_char(Some(c)))),
        }
    }
}

/// Numbers that are words.
fn word(text: &str) -> Option<Kind> {
    let number = text.eq_ignore_ascii_case("inf") || text.eq_ignore_ascii_case("nan");
    number.then_some(Kind::Number)
}
