//! Character classes and escapes of RE2 syntax.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::RegexError;
use super::parse::error;

const INVALID_RANGE: &str = "invalid character class range";

/// POSIX classes, `[:name:]`.
const POSIX: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7f')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1f'), ('\x7f', '\x7f')]),
    ("digit", &[('0', '9')]),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", &[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')]),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

fn class_of(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(lo, hi)| ClassUnicodeRange::new(*lo, *hi)))
}

/// Folds first and negates then, as Go does.
fn finish(mut class: ClassUnicode, fold: bool, negate: bool) -> ClassUnicode {
    if fold {
        class.case_fold_simple();
    }
    if negate {
        class.negate();
    }
    class
}

/// A class at the start of `text`, which begins with `[`; and what follows.
pub(super) fn bracketed(text: &str, fold: bool) -> Result<(ClassUnicode, &str), RegexError> {
    let mut class = ClassUnicode::empty();
    let mut rest = &text[1..];
    let negate = rest.starts_with('^');
    if negate {
        rest = &rest[1..];
    }
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some((posix, after)) = posix(rest, fold)? {
            class.union(&posix);
            rest = after;
            continue;
        }
        if let Some((escaped, after)) = escaped(rest, fold)? {
            class.union(&escaped);
            rest = after;
            continue;
        }
        let start = rest;
        let (lo, after) = class_char(rest, text)?;
        rest = after;
        let mut hi = lo;
        if let Some(after) = rest.strip_prefix('-')
            && !after.is_empty()
            && !after.starts_with(']')
        {
            (hi, rest) = class_char(after, text)?;
            if hi < lo {
                return Err(error(INVALID_RANGE, &start[..start.len() - rest.len()]));
            }
        }
        let mut range = ClassUnicode::new([ClassUnicodeRange::new(lo, hi)]);
        if fold {
            range.case_fold_simple();
        }
        class.union(&range);
    }
    Ok((finish(class, false, negate), &rest[1..]))
}

/// One character inside brackets.
fn class_char<'t>(text: &'t str, whole: &str) -> Result<(char, &'t str), RegexError> {
    match text.chars().next() {
        None => Err(error("missing closing ]", whole)),
        Some('\\') => escaped_char(text),
        Some(c) => Ok((c, &text[c.len_utf8()..])),
    }
}

type Found<'t> = Option<(ClassUnicode, &'t str)>;

/// `[:name:]` or `[:^name:]` at the start of `text`.
fn posix(text: &str, fold: bool) -> Result<Found<'_>, RegexError> {
    let Some(inner) = text.strip_prefix("[:") else { return Ok(None) };
    let Some(end) = inner.find(":]") else { return Ok(None) };
    let (name, after) = (&inner[..end], &inner[end + 2..]);
    let negate = name.starts_with('^');
    let bare = name.strip_prefix('^').unwrap_or(name);
    match POSIX.iter().find(|(known, _)| *known == bare) {
        Some((_, ranges)) => Ok(Some((finish(class_of(ranges), fold, negate), after))),
        None => Err(error(INVALID_RANGE, &text[..end + 4])),
    }
}

/// `\d`, `\pL`, `\p{Greek}` and their like at the start of `text`.
pub(super) fn escaped(text: &str, fold: bool) -> Result<Found<'_>, RegexError> {
    let mut chars = text.chars();
    if chars.next() != Some('\\') {
        return Ok(None);
    }
    let Some(kind) = chars.next() else { return Ok(None) };
    let ranges: &[(char, char)] = match kind {
        'd' | 'D' => &[('0', '9')],
        's' | 'S' => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' | 'W' => &[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
        'p' | 'P' => return unicode(text, kind == 'P', fold).map(Some),
        _ => return Ok(None),
    };
    let class = finish(class_of(ranges), fold, kind.is_ascii_uppercase());
    Ok(Some((class, chars.as_str())))
}

/// A Unicode category or script.
fn unicode(text: &str, negate: bool, fold: bool) -> Result<(ClassUnicode, &str), RegexError> {
    let rest = &text[2..];
    let (name, after) = match (rest.strip_prefix('{'), rest.chars().next()) {
        (Some(braced), _) => {
            let Some(end) = braced.find('}') else { return Err(error(INVALID_RANGE, text)) };
            (&braced[..end], &braced[end + 1..])
        }
        (None, Some(c)) => rest.split_at(c.len_utf8()),
        (None, None) => return Err(error(INVALID_RANGE, text)),
    };
    let inverted = name.starts_with('^');
    let bare = name.strip_prefix('^').unwrap_or(name);
    // Go knows categories and scripts by their exact names; other properties it does not.
    let plausible = bare.starts_with(|c: char| c.is_ascii_uppercase())
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let class = if plausible { lookup(bare) } else { None };
    let class = class.ok_or_else(|| error(INVALID_RANGE, &text[..text.len() - after.len()]))?;
    Ok((finish(class, fold, negate != inverted), after))
}

fn lookup(name: &str) -> Option<ClassUnicode> {
    let hir = regex_syntax::parse(&format!("\\p{{{name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Class(Class::Bytes(class)) => class.to_unicode_class(),
        _ => None,
    }
}

/// An escape that stands for one character, at the start of `text`.
pub(super) fn escaped_char(text: &str) -> Result<(char, &str), RegexError> {
    let mut chars = text[1..].chars();
    let Some(kind) = chars.next() else {
        return Err(error("trailing backslash at end of expression", ""));
    };
    let c = match kind {
        'a' => Some('\x07'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        'x' => hexadecimal(&mut chars),
        // A lone non-zero digit would be a back-reference.
        '1'..='7' if !chars.as_str().starts_with(|c: char| c.is_digit(8)) => None,
        '0'..='7' => octal(kind, &mut chars),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    };
    let rest = chars.as_str();
    c.map(|c| (c, rest))
        .ok_or_else(|| error("invalid escape sequence", &text[..text.len() - rest.len()]))
}

/// Up to two more octal digits.
fn octal(first: char, chars: &mut std::str::Chars<'_>) -> Option<char> {
    let mut value = first.to_digit(8)?;
    for _ in 0..2 {
        let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(8)) else { break };
        chars.next();
        value = value * 8 + digit;
    }
    char::from_u32(value)
}

/// `x41` or `x{1F600}`, after the `x`.
fn hexadecimal(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let first = chars.next()?;
    if first != '{' {
        let high = first.to_digit(16)?;
        let low = chars.next()?.to_digit(16)?;
        return char::from_u32(high * 16 + low);
    }
    let mut value = None;
    loop {
        match chars.next()? {
            '}' => return char::from_u32(value?),
            c => {
                let next = value.unwrap_or(0) * 16 + c.to_digit(16)?;
                if next > char::MAX as u32 {
                    return None;
                }
                value = Some(next);
            }
        }
    }
}
