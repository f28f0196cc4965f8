//! Simple forms of anchored expressions, told from their structure: most matchers in
//! practice are alternatives of plain words or a word and `.*`, and need no engine.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Most texts a set may hold; more are left to the engine.
const SET_MAX: usize = 4096;

/// What texts an anchored expression matches.
pub(super) enum Shape {
    All,
    NonEmpty,
    /// Exactly these, sorted.
    Set(Vec<String>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    General,
}

/// The shape of an expression that has to match a whole text.
pub(super) fn shape(hir: &Hir) -> Shape {
    if let Some(mut set) = texts(hir, true, true) {
        set.sort_unstable();
        set.dedup();
        return Shape::Set(set);
    }
    let hir = bare(hir);
    match any_repeat(hir) {
        Some(0) => return Shape::All,
        Some(1) => return Shape::NonEmpty,
        _ => {}
    }
    let HirKind::Concat(parts) = hir.kind() else { return Shape::General };
    let any: Vec<bool> = parts.iter().map(|p| any_repeat(bare(p)) == Some(0)).collect();
    let word = |i: usize| literal(bare(&parts[i]));
    match any[..] {
        [false, true] => word(0).map_or(Shape::General, Shape::Prefix),
        [true, false] => word(1).map_or(Shape::General, Shape::Suffix),
        [true, false, true] => word(1).map_or(Shape::General, Shape::Contains),
        _ => Shape::General,
    }
}

/// What every matching text begins with.
pub(super) fn prefix(hir: &Hir) -> Option<Box<str>> {
    let mut out = Vec::new();
    let _ = push_prefix(hir, true, &mut out);
    valid_start(&out).filter(|s| !s.is_empty()).map(Into::into)
}

/// The expression inside captures, which do not matter to whether it matches.
fn bare(mut hir: &Hir) -> &Hir {
    while let HirKind::Capture(capture) = hir.kind() {
        hir = &capture.sub;
    }
    hir
}

/// The minimum of an unbounded repetition of any character at all.
fn any_repeat(hir: &Hir) -> Option<u32> {
    let HirKind::Repetition(Repetition { min, max: None, sub, .. }) = hir.kind() else {
        return None;
    };
    match bare(sub).kind() {
        HirKind::Class(Class::Unicode(class)) => match class.ranges() {
            [all] if all.start() == '\0' && all.end() == char::MAX => Some(*min),
            _ => None,
        },
        _ => None,
    }
}

fn literal(hir: &Hir) -> Option<Box<str>> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(Into::into),
        _ => None,
    }
}

/// Every text the expression matches, if they are few. Anchors match nothing but the
/// edges of the text, where they match the empty text.
fn texts(hir: &Hir, at_start: bool, at_end: bool) -> Option<Vec<String>> {
    let empty = || Some(vec![String::new()]);
    match hir.kind() {
        HirKind::Empty => empty(),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize = class.ranges().iter().map(|r| r.len()).sum();
            if count > SET_MAX {
                return None;
            }
            let chars = class.ranges().iter().flat_map(|r| r.start()..=r.end());
            Some(chars.map(String::from).collect())
        }
        HirKind::Class(Class::Bytes(_)) => None,
        HirKind::Look(Look::Start) if at_start => empty(),
        HirKind::Look(Look::End) if at_end => empty(),
        HirKind::Look(_) => None,
        HirKind::Capture(capture) => texts(&capture.sub, at_start, at_end),
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut set = texts(sub, at_start, at_end)?;
            set.push(String::new());
            Some(set)
        }
        HirKind::Repetition(Repetition { min, max: Some(max), sub, .. }) if min == max => {
            let set = texts(sub, false, false)?;
            (0..*min).try_fold(vec![String::new()], |all, _| product(all, &set))
        }
        HirKind::Repetition(_) => None,
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for (i, part) in parts.iter().enumerate() {
                let first = at_start && all.iter().all(String::is_empty);
                let last = at_end && parts[i + 1..].iter().all(is_edge);
                all = product(all, &texts(part, first, last)?)?;
            }
            Some(all)
        }
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(texts(branch, at_start, at_end)?);
                if all.len() > SET_MAX {
                    return None;
                }
            }
            Some(all)
        }
    }
}

/// Whether a part takes no text.
fn is_edge(hir: &Hir) -> bool {
    hir.properties().maximum_len() == Some(0)
}

/// Every text of `all` followed by every text of `set`.
fn product(all: Vec<String>, set: &[String]) -> Option<Vec<String>> {
    if all.len().checked_mul(set.len())? > SET_MAX {
        return None;
    }
    if let [only] = set {
        return Some(all.into_iter().map(|text| text + only).collect());
    }
    Some(all.iter().flat_map(|a| set.iter().map(move |b| format!("{a}{b}"))).collect())
}

/// Appends what every match begins with; `Some` when that is all there is to the part.
fn push_prefix(hir: &Hir, at_start: bool, out: &mut Vec<u8>) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => Some(()),
        HirKind::Look(Look::Start) if at_start => Some(()),
        HirKind::Literal(literal) => {
            out.extend_from_slice(&literal.0);
            Some(())
        }
        HirKind::Capture(capture) => push_prefix(&capture.sub, at_start, out),
        HirKind::Concat(parts) => {
            for part in parts {
                push_prefix(part, at_start && out.is_empty(), out)?;
            }
            Some(())
        }
        HirKind::Alternation(branches) => {
            let mut common: Option<Vec<u8>> = None;
            for branch in branches {
                let mut of_branch = Vec::new();
                let _ = push_prefix(branch, at_start, &mut of_branch);
                common = Some(match common {
                    None => of_branch,
                    Some(common) => {
                        let same = common.iter().zip(&of_branch).take_while(|(a, b)| a == b);
                        let len = same.count();
                        common[..len].to_vec()
                    }
                });
            }
            out.extend(common.unwrap_or_default());
            None
        }
        HirKind::Repetition(Repetition { min, sub, .. }) if *min > 0 => {
            let _ = push_prefix(sub, at_start, out);
            None
        }
        _ => None,
    }
}

/// The longest start of the bytes that is text.
fn valid_start(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok(),
    }
}
