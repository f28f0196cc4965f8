//! Regular expressions as Go's `regexp` (RE2 syntax) understands them: accepted syntax,
//! meaning and error texts are Go's, the engine is `regex-automata`. Matching is linear in
//! the text; expressions are limited in nesting and size.
//!
//! `parse` reads the syntax, `class` its character classes; `shape` recognises the simple
//! forms that need no engine; `expand` fills replacement templates.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_syntax::hir::{Hir, Look};
use thiserror::Error;

mod class;
mod expand;
mod known;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use known::Known;
use shape::Shape;

/// Largest compiled program, in bytes.
const PROGRAM_MAX: usize = 32 << 20;

/// Why an expression was refused: `error parsing regexp: ...` as Go words it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

fn compile(hir: &Hir, source: &str) -> Result<meta::Regex, RegexError> {
    let config = meta::Config::new().nfa_size_limit(Some(PROGRAM_MAX));
    meta::Builder::new()
        .configure(config)
        .build_from_hir(hir)
        .map_err(|_| RegexError(format!("expression too large: `{source}`")))
}

/// An expression that must match the whole text, with `.` matching newlines:
/// `^(?s:EXPR)$`, as label matchers use it. Cheap to clone.
#[derive(Clone)]
pub struct AnchoredRegex {
    inner: Arc<Anchored>,
}

struct Anchored {
    source: Box<str>,
    shape: Shape,
    prefix: Option<Box<str>>,
    /// Only where the shape needs an engine.
    engine: Option<meta::Regex>,
}

impl Anchored {
    fn new(source: &str) -> Result<Self, RegexError> {
        let hir = parse::parse(source, true)?;
        let shape = shape::shape(&hir);
        let prefix = shape::prefix(&hir);
        let engine = match shape {
            Shape::General => {
                let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
                Some(compile(&whole, source)?)
            }
            _ => None,
        };
        Ok(Self { source: source.into(), shape, prefix, engine })
    }
}

/// Thousands of rules use few different expressions, and an engine takes kilobytes.
static ANCHORED: Known<Anchored> = Known::new();

impl AnchoredRegex {
    /// Compiles an expression, unless the same one is in use already.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let inner = ANCHORED.get_or_make(source, || Anchored::new(source))?;
        Ok(Self { inner })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.inner.source
    }

    /// True when the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.inner.shape {
            Shape::All => true,
            Shape::NonEmpty => !text.is_empty(),
            Shape::Set(set) => set.binary_search_by(|s| s.as_str().cmp(text)).is_ok(),
            Shape::Prefix(prefix) => text.starts_with(&**prefix),
            Shape::Suffix(suffix) => text.ends_with(&**suffix),
            Shape::Contains(part) => text.contains(&**part),
            Shape::General => {
                let engine = self.inner.engine.as_ref();
                engine.expect("BUG: a general expression has its engine").is_match(text)
            }
        }
    }

    /// The texts that match, sorted, when they are finitely many and not too many: an
    /// index looks these up instead of trying every value.
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.inner.shape {
            Shape::Set(set) => Some(set),
            _ => None,
        }
    }

    /// What every matching text begins with, if anything: an index need try only values
    /// in that range.
    pub fn prefix(&self) -> Option<&str> {
        self.inner.prefix.as_deref()
    }

    /// True when every text matches (`.*`).
    pub fn matches_all(&self) -> bool {
        matches!(self.inner.shape, Shape::All)
    }

    /// True when every text but the empty one matches (`.+`).
    pub fn matches_non_empty(&self) -> bool {
        matches!(self.inner.shape, Shape::NonEmpty)
    }
}

/// Equal when the texts are.
impl PartialEq for AnchoredRegex {
    fn eq(&self, other: &Self) -> bool {
        self.inner.source == other.inner.source
    }
}

impl fmt::Debug for AnchoredRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.inner.source)
    }
}

/// An expression that is searched for, with captures. Cheap to clone.
#[derive(Clone)]
pub struct GoRegex {
    inner: Arc<Searched>,
}

struct Searched {
    source: Box<str>,
    engine: meta::Regex,
}

/// Where a match and its groups lie.
pub struct Match(Captures);

impl Match {
    /// The text of a group (0 is the whole match), or `None` when it took no part.
    pub fn group<'t>(&self, index: usize, text: &'t str) -> Option<&'t str> {
        self.0.get_group(index).map(|span| &text[span.start..span.end])
    }

    /// Byte range of the whole match.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.0.get_match().map_or(0..0, |m| m.range())
    }
}

impl GoRegex {
    /// Compiles an expression, as Go's `regexp.Compile`.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let engine = compile(&parse::parse(source, false)?, source)?;
        Ok(Self { inner: Arc::new(Searched { source: source.into(), engine }) })
    }

    /// Compiles `^(?s:EXPR)$`, as relabelling and `label_replace` do. Errors show that
    /// whole expression.
    pub fn anchored(source: &str) -> Result<Self, RegexError> {
        Self::new(&format!("^(?s:{source})$"))
    }

    /// The expression as compiled.
    pub fn as_str(&self) -> &str {
        &self.inner.source
    }

    /// True when the text holds a match.
    pub fn is_match(&self, text: &str) -> bool {
        self.inner.engine.is_match(text)
    }

    /// The leftmost match.
    pub fn find(&self, text: &str) -> Option<Match> {
        let mut captures = self.inner.engine.create_captures();
        self.inner.engine.captures(text, &mut captures);
        captures.is_match().then_some(Match(captures))
    }

    /// Fills a template from a match of `text`, as Go's `Regexp.Expand`: `$1`, `$name`,
    /// `${name}` and `$$`; the longest name counts (`$1x` is group `1x`), an unknown group
    /// is empty, and a `$` that starts no name stands for itself.
    pub fn expand(&self, template: &str, text: &str, found: &Match) -> String {
        let mut out = String::with_capacity(template.len());
        expand::expand(template, text, &found.0, &mut out);
        out
    }

    /// Replaces every match by the filled template, as Go's `ReplaceAllString`.
    pub fn replace_all<'t>(&self, text: &'t str, template: &str) -> Cow<'t, str> {
        let mut out = String::new();
        let mut last = None;
        for captures in self.inner.engine.captures_iter(text) {
            let Some(found) = captures.get_match() else { continue };
            out.push_str(&text[last.unwrap_or(0)..found.start()]);
            expand::expand(template, text, &captures, &mut out);
            last = Some(found.end());
        }
        match last {
            None => Cow::Borrowed(text),
            Some(last) => {
                out.push_str(&text[last..]);
                Cow::Owned(out)
            }
        }
    }
}

/// Equal when the texts are.
impl PartialEq for GoRegex {
    fn eq(&self, other: &Self) -> bool {
        self.inner.source == other.inner.source
    }
}

impl fmt::Debug for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.inner.source)
    }
}
