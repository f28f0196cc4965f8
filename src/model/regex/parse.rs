//! RE2 syntax, with Go's `Perl` flags, to the intermediate form of `regex-syntax`. That
//! crate's own parser will not do: it has no `\Q..\E`, takes `a**` and `x{1001}`, reads
//! `[a[b]]`, `&&` and `--` as set operations, and its `\d \w \s \b` know all of Unicode.

use std::collections::HashSet;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use super::{RegexError, class};

/// Largest count in `{n,m}`, and largest product of nested counts.
const REPEAT_MAX: u32 = 1000;
/// Deepest nesting of groups. Go allows 1,000; the engine recurses over them.
const GROUP_DEPTH_MAX: usize = 250;

/// An error as Go words it: what, then the offending text.
pub(super) fn error(what: &str, text: &str) -> RegexError {
    RegexError(format!("{what}: `{text}`"))
}

#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
    ungreedy: bool,
}

/// A part of a concatenation, with the product of the counts nested in it.
struct Node {
    hir: Hir,
    repeats: u32,
}

/// A group that is still open; the outermost is the expression itself.
#[derive(Default)]
struct Group {
    /// `None`: a group that captures nothing.
    capture: Option<(u32, Option<Box<str>>)>,
    /// What to restore when it closes.
    outer_flags: Option<Flags>,
    branches: Vec<Hir>,
    branch: Vec<Node>,
    repeats: u32,
}

impl Group {
    fn end_branch(&mut self) {
        let nodes = std::mem::take(&mut self.branch);
        self.repeats = nodes.iter().map(|n| n.repeats).fold(self.repeats, u32::max);
        self.branches.push(Hir::concat(nodes.into_iter().map(|n| n.hir).collect()));
    }

    fn close(mut self) -> Node {
        self.end_branch();
        let repeats = self.repeats.max(1);
        let hir = Hir::alternation(self.branches);
        let hir = match self.capture {
            Some((index, name)) => Hir::capture(Capture { index, name, sub: Box::new(hir) }),
            None => hir,
        };
        Node { hir, repeats }
    }
}

/// Parses an expression; `dot_newline` as if it stood in `(?s:...)`.
pub(super) fn parse(source: &str, dot_newline: bool) -> Result<Hir, RegexError> {
    let flags = Flags { fold_case: false, multi_line: false, dot_newline, ungreedy: false };
    let mut parser = Parser {
        source,
        rest: source,
        flags,
        groups: vec![Group::default()],
        captures: 0,
        names: HashSet::new(),
        last_repeat: None,
    };
    while let Some(c) = parser.rest.chars().next() {
        parser.step(c)?;
    }
    let outermost = parser.groups.pop().expect("BUG: the outermost group is never closed");
    if !parser.groups.is_empty() {
        return Err(error("missing closing )", source));
    }
    Ok(outermost.close().hir)
}

struct Parser<'a> {
    source: &'a str,
    rest: &'a str,
    flags: Flags,
    groups: Vec<Group>,
    captures: u32,
    names: HashSet<&'a str>,
    /// The text from the repetition operator just read, if the last thing read was one.
    last_repeat: Option<&'a str>,
}

impl<'a> Parser<'a> {
    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().expect("BUG: the outermost group is never closed")
    }

    fn push(&mut self, hir: Hir) {
        self.group().branch.push(Node { hir, repeats: 1 });
    }

    fn step(&mut self, c: char) -> Result<(), RegexError> {
        let last_repeat = self.last_repeat.take();
        let after = &self.rest[c.len_utf8()..];
        match c {
            '(' if after.starts_with('?') => self.perl_group()?,
            '(' => {
                self.captures += 1;
                let capture = Some((self.captures, None));
                self.open(capture)?;
                self.rest = after;
            }
            ')' => {
                if self.groups.len() == 1 {
                    return Err(error("unexpected )", self.source));
                }
                let closed = self.groups.pop().expect("BUG: at least two groups are open");
                if let Some(flags) = closed.outer_flags {
                    self.flags = flags;
                }
                let node = closed.close();
                self.group().branch.push(node);
                self.rest = after;
            }
            '|' => {
                self.group().end_branch();
                self.rest = after;
            }
            '*' => self.repeat(0, None, after, last_repeat)?,
            '+' => self.repeat(1, None, after, last_repeat)?,
            '?' => self.repeat(0, Some(1), after, last_repeat)?,
            '{' => match counts(after) {
                Some(Counts { min, max, after }) => {
                    if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                        let text = &self.rest[..self.rest.len() - after.len()];
                        return Err(error("invalid repeat count", text));
                    }
                    self.repeat(min, max, after, last_repeat)?;
                }
                None => self.literal('{', after),
            },
            '[' => {
                let (class, after) = class::bracketed(self.rest, self.flags.fold_case)?;
                self.push(Hir::class(Class::Unicode(class)));
                self.rest = after;
            }
            '.' => {
                let mut any = ClassUnicode::empty();
                if !self.flags.dot_newline {
                    any.push(ClassUnicodeRange::new('\n', '\n'));
                }
                any.negate();
                self.push(Hir::class(Class::Unicode(any)));
                self.rest = after;
            }
            '^' => {
                let look = if self.flags.multi_line { Look::StartLF } else { Look::Start };
                self.push(Hir::look(look));
                self.rest = after;
            }
            '$' => {
                let look = if self.flags.multi_line { Look::EndLF } else { Look::End };
                self.push(Hir::look(look));
                self.rest = after;
            }
            '\\' => self.backslash()?,
            c => self.literal(c, after),
        }
        Ok(())
    }

    /// Adds a character, in both cases when cases are folded.
    fn literal(&mut self, c: char, after: &'a str) {
        let hir = if self.flags.fold_case {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.case_fold_simple();
            Hir::class(Class::Unicode(class))
        } else {
            Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes())
        };
        self.push(hir);
        self.rest = after;
    }

    fn open(&mut self, capture: Option<(u32, Option<Box<str>>)>) -> Result<(), RegexError> {
        if self.groups.len() > GROUP_DEPTH_MAX {
            return Err(error("expression nests too deeply", self.source));
        }
        let outer_flags = Some(self.flags);
        self.groups.push(Group { capture, outer_flags, ..Group::default() });
        Ok(())
    }

    /// Applies a repetition operator, which ends where `after` begins, to the last part.
    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        mut after: &'a str,
        last_repeat: Option<&'a str>,
    ) -> Result<(), RegexError> {
        let before = self.rest;
        let counted = before.starts_with('{');
        let mut greedy = !self.flags.ungreedy;
        if let Some(rest) = after.strip_prefix('?') {
            greedy = !greedy;
            after = rest;
        }
        let text = &before[..before.len() - after.len()];
        if let Some(last) = last_repeat {
            let stacked = &last[..last.len() - after.len()];
            return Err(error("invalid nested repetition operator", stacked));
        }
        let Some(node) = self.group().branch.pop() else {
            return Err(error("missing argument to repetition operator", text));
        };
        let mut repeats = node.repeats;
        if counted {
            let count = max.unwrap_or(min);
            repeats = repeats.saturating_mul(count.max(1));
            if repeats > REPEAT_MAX && (min >= 2 || max.is_some_and(|max| max >= 2)) {
                return Err(error("invalid repeat count", text));
            }
        }
        let sub = Box::new(node.hir);
        let hir = Hir::repetition(Repetition { min, max, greedy, sub });
        self.group().branch.push(Node { hir, repeats });
        self.last_repeat = Some(before);
        self.rest = after;
        Ok(())
    }

    /// What starts with `(?`: a named group, flags, or a group with flags.
    fn perl_group(&mut self) -> Result<(), RegexError> {
        let whole = self.rest;
        let name_at = if whole.starts_with("(?P<") && whole.len() > 4 {
            Some(4)
        } else if whole.starts_with("(?<") && whole.len() > 3 {
            Some(3)
        } else {
            None
        };
        if let Some(at) = name_at {
            return self.named_group(whole, at);
        }
        let mut flags = self.flags;
        let mut on = true;
        let mut saw_flag = false;
        let mut rest = &whole[2..];
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.ungreedy = on,
                '-' if on => {
                    on = false;
                    saw_flag = false;
                    continue;
                }
                ':' | ')' if on || saw_flag => {
                    if c == ':' {
                        self.open(None)?;
                    }
                    self.flags = flags;
                    self.rest = rest;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = true;
        }
        if rest.is_empty() && !whole[2..].ends_with(')') {
            // Go reports the group as unclosed when the flags run to the end.
            let known = whole[2..].chars().all(|c| "imsU-".contains(c));
            if known {
                return Err(error("missing closing )", self.source));
            }
        }
        let text = &whole[..whole.len() - rest.len()];
        Err(error("invalid or unsupported Perl syntax", text))
    }

    fn named_group(&mut self, whole: &'a str, name_at: usize) -> Result<(), RegexError> {
        const INVALID: &str = "invalid named capture";
        let Some(end) = whole.find('>') else { return Err(error(INVALID, whole)) };
        let name = &whole[name_at..end];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(error(INVALID, &whole[..=end]));
        }
        // Go lets a name repeat, the engine does not: the first group keeps it.
        let fresh = self.names.insert(name);
        self.captures += 1;
        let capture = Some((self.captures, fresh.then(|| name.into())));
        self.open(capture)?;
        self.rest = &whole[end + 1..];
        Ok(())
    }

    fn backslash(&mut self) -> Result<(), RegexError> {
        let whole = self.rest;
        let look = match whole.as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            _ => None,
        };
        if let Some(look) = look {
            self.push(Hir::look(look));
            self.rest = &whole[2..];
            return Ok(());
        }
        if let Some(quoted) = whole.strip_prefix("\\Q") {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            for c in text.chars() {
                self.literal(c, after);
            }
            self.rest = after;
            return Ok(());
        }
        if let Some((class, after)) = class::escaped(whole, self.flags.fold_case)? {
            self.push(Hir::class(Class::Unicode(class)));
            self.rest = after;
            return Ok(());
        }
        let (c, after) = class::escaped_char(whole)?;
        self.literal(c, after);
        Ok(())
    }
}

struct Counts<'a> {
    min: u32,
    max: Option<u32>,
    after: &'a str,
}

/// Reads `n}`, `n,}` or `n,m}`; anything else is not a repetition.
fn counts(text: &str) -> Option<Counts<'_>> {
    let (min, rest) = count(text)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some(Counts { min, max: Some(min), after });
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some(Counts { min, max: None, after });
    }
    let (max, rest) = count(rest)?;
    Some(Counts { min, max: Some(max), after: rest.strip_prefix('}')? })
}

/// Reads a decimal without leading zeros; one too large reads as larger than allowed.
fn count(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}
