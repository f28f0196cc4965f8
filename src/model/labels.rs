//! Label sets: immutable, sorted by name, one allocation, cheap to clone.
//!
//! The bytes of a set are `(len, name)(len, value)` repeated in name order, where a
//! length is one byte, or `0xFF` and three little-endian bytes from 255 on. Equality is
//! a `memcmp`, and the hash (xxh64 of those bytes, seed 0) equals what Prometheus'
//! default build computes, so group slots and `limit_ratio` choices agree with it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;
use xxhash_rust::xxh64::xxh64;

use super::effort::effort;
use super::{METRIC_NAME, is_metadata_label};

/// An immutable label set. Labels with an empty value do not exist, as in Prometheus.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    data: Arc<[u8]>,
}

static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels { data: Arc::from([]) });

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        EMPTY.clone()
    }

    /// Builds a set from pairs in any order. Empty values are left out; of a repeated
    /// name the last value wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs that are already sorted by name, unique and non-empty in
    /// value. This is the fast path of decoders that have checked the order.
    pub fn from_sorted_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let size = pairs.clone().map(|(n, v)| encoded_len(n) + encoded_len(v)).sum();
        let mut data = Vec::with_capacity(size);
        for (name, value) in pairs {
            push_str(&mut data, name);
            push_str(&mut data, value);
        }
        Self { data: data.into() }
    }

    /// Reads what [`Labels::as_bytes`] gave. `None` when the bytes are not that: names in
    /// order and once each, every text UTF-8.
    pub fn from_encoded(bytes: &[u8]) -> Option<Self> {
        let (mut rest, mut last) = (bytes, None);
        while !rest.is_empty() {
            let (name, after) = checked_text(rest)?;
            let (_, after) = checked_text(after)?;
            if last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            rest = after;
        }
        Some(Self { data: bytes.into() })
    }

    /// True when there is no label.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Number of labels; walks the set.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Bytes of the encoded set: what it costs in memory beside the `Arc` header.
    pub fn encoded_size(&self) -> usize {
        self.data.len()
    }

    /// Names and values in name order.
    pub fn iter(&self) -> LabelIter<'_> {
        effort(4);
        LabelIter { rest: &self.data }
    }

    /// Each name in name order, with the encoded bytes of its whole pair. For keys and
    /// searches, which need no text and so no check that the bytes are one.
    pub(crate) fn encoded_pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        effort(4);
        let mut rest = &*self.data;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (name, after) = split_text(rest);
            let (_, after) = split_text(after);
            let pair = &rest[..rest.len() - after.len()];
            rest = after;
            Some((name, pair))
        })
    }

    /// True when both are one set in one place in memory; equal sets need not be. Sets that
    /// come from the same series of a store are.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.data, &other.data)
    }

    /// The value of a label, or `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        effort(2);
        let mut rest = &*self.data;
        while !rest.is_empty() {
            let (found, value) = split_text(rest);
            match found.cmp(name.as_bytes()) {
                Ordering::Less => rest = split_text(value).1,
                Ordering::Equal => return Some(text(split_text(value).0)),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of a label, with absent and empty being the same, as matchers see it.
    pub fn get_or_empty(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric name, or "" when the set has none.
    pub fn metric_name(&self) -> &str {
        self.get_or_empty(METRIC_NAME)
    }

    /// xxh64 over the encoded bytes: the hash of Prometheus' default build.
    pub fn hash64(&self) -> u64 {
        effort(4);
        xxh64(&self.data, 0)
    }

    /// The set without `__name__`, `__type__` and `__unit__`.
    pub fn without_metadata(&self) -> Self {
        if self.encoded_pairs().any(|(n, _)| is_metadata_label(text(n))) {
            self.retain(|n| !is_metadata_label(n))
        } else {
            self.clone()
        }
    }

    /// The set with only the labels whose name satisfies `keep`.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.retain_encoded(|name, _| keep(text(name)))
    }

    /// As `retain`, from the bytes of name and encoded pair; called in name order.
    pub(crate) fn retain_encoded(&self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Self {
        let mut data: SmallVec<[u8; 256]> = SmallVec::new();
        for (name, pair) in self.encoded_pairs() {
            if keep(name, pair) {
                data.extend_from_slice(pair);
            }
        }
        Self { data: data.as_slice().into() }
    }

    /// The set with labels set or, where the value is empty, deleted. `changes` are sorted by
    /// name, each name once.
    pub fn with<'c>(&self, changes: impl Iterator<Item = (&'c str, &'c str)>) -> Self {
        let mut data: SmallVec<[u8; 256]> = SmallVec::new();
        let mut changes = changes.peekable();
        for (name, pair) in self.encoded_pairs() {
            let before = |c: &(&str, &str)| c.0.as_bytes() < name;
            while let Some(change) = changes.next_if(before) {
                push_pair(&mut data, change);
            }
            match changes.next_if(|c| c.0.as_bytes() == name) {
                Some(change) => push_pair(&mut data, change),
                None => data.extend_from_slice(pair),
            }
        }
        changes.for_each(|change| push_pair(&mut data, change));
        Self { data: data.as_slice().into() }
    }

    /// A builder that starts from this set.
    pub fn builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.into(), v.into())).collect() }
    }

    /// The encoded bytes, a unique key of the set.
    pub fn as_bytes(&self) -> &[u8] {
        effort(2);
        &self.data
    }
}

/// Orders as Prometheus' `labels.Compare`: pair by pair, name first, a shorter prefix first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        effort(2);
        let (mut a, mut b) = (&*self.data, &*other.data);
        while !a.is_empty() && !b.is_empty() {
            let (text_a, rest_a) = split_text(a);
            let (text_b, rest_b) = split_text(b);
            match text_a.cmp(text_b) {
                Ordering::Equal => (a, b) = (rest_a, rest_b),
                order => return order,
            }
        }
        a.len().cmp(&b.len())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `{__name__="up", job="x"}`: the brace-only form of error texts.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}={}", quote_label_name(name), quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Iterator over `(name, value)` in name order.
#[derive(Clone)]
pub struct LabelIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, rest) = split_text(self.rest);
        let (value, rest) = split_text(rest);
        self.rest = rest;
        Some((text(name), text(value)))
    }
}

/// The first text of encoded ones, and the rest.
#[inline]
fn split_text(encoded: &[u8]) -> (&[u8], &[u8]) {
    match encoded[0] {
        255 => {
            let b = &encoded[1..4];
            let len = usize::from(b[0]) | usize::from(b[1]) << 8 | usize::from(b[2]) << 16;
            encoded[4..].split_at(len)
        }
        len => encoded[1..].split_at(usize::from(len)),
    }
}

#[inline]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("BUG: a label set holds only UTF-8")
}

/// The first text of bytes that may be anything, and the rest.
fn checked_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (len, rest) = match first {
        255 => {
            let (b, rest) = rest.split_first_chunk::<3>()?;
            let len = usize::from(b[0]) | usize::from(b[1]) << 8 | usize::from(b[2]) << 16;
            (Some(len).filter(|len| *len >= 255)?, rest)
        }
        len => (usize::from(*len), rest),
    };
    let (text, rest) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// A mutable label set. Setting an empty value deletes the label.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(Box<str>, Box<str>)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value deletes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.find(name) {
            Ok(i) if value.is_empty() => {
                self.pairs.remove(i);
            }
            Ok(i) => self.pairs[i].1 = value.into(),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.into(), value.into())),
        }
        self
    }

    /// Deletes a label if it is there.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// The current value, "" when absent.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |i| &self.pairs[i].1)
    }

    /// True when the label is set.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Keeps only the labels for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// Names and values in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// True when no label is set.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The immutable set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted_pairs(self.iter())
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(n, _)| (**n).cmp(name))
    }
}

/// True for `[a-zA-Z_][a-zA-Z0-9_]*`: a label name that needs no quotes in PromQL.
pub fn is_legacy_label_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .enumerate()
            .all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || (i > 0 && b.is_ascii_digit()))
}

/// True for `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name that needs no quotes in PromQL.
pub fn is_legacy_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| {
            b.is_ascii_alphabetic() || b == b'_' || b == b':' || (i > 0 && b.is_ascii_digit())
        })
}

/// A label name as it is printed: quoted unless it is a legacy name.
pub fn quote_label_name(name: &str) -> Cow<'_, str> {
    if is_legacy_label_name(name) { Cow::Borrowed(name) } else { Cow::Owned(quote(name)) }
}

/// Quotes as Go's `strconv.Quote`: the escaping Prometheus prints label values with.
pub fn quote(text: &str) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                write!(out, "\\x{:02x}", c as u32).expect("BUG: writing to a String cannot fail");
            }
            c if is_go_printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => {
                write!(out, "\\u{:04x}", c as u32).expect("BUG: writing to a String cannot fail");
            }
            c => write!(out, "\\U{:08x}", c as u32).expect("BUG: writing to a String cannot fail"),
        }
    }
    out.push('"');
    out
}

/// Approximates Go's `unicode.IsPrint` with what the standard library knows: control,
/// private-use, surrogate and non-ASCII space characters are escaped.
fn is_go_printable(c: char) -> bool {
    if c == ' ' {
        return true;
    }
    !c.is_control()
        && !c.is_whitespace()
        && !matches!(c as u32,
            0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x180E | 0x200B..=0x200F
            | 0x202A..=0x202E | 0x2060..=0x206F | 0xE000..=0xF8FF | 0xFEFF | 0xFFF0..=0xFFFB
            | 0xFFFE | 0xFFFF | 0xE0000..=0xE0FFF | 0xF0000..=0x10FFFF)
}

fn encoded_len(text: &str) -> usize {
    text.len() + if text.len() < 255 { 1 } else { 4 }
}

/// Longest label name or value that can be stored; ingestion limits lie far below.
pub const LABEL_LEN_MAX: usize = (1 << 24) - 1;

/// A label, unless its value is empty: then there is none.
fn push_pair(data: &mut SmallVec<[u8; 256]>, (name, value): (&str, &str)) {
    if !value.is_empty() {
        push_str(data, name);
        push_str(data, value);
    }
}

fn push_str(data: &mut impl Bytes, text: &str) {
    // A longer text cannot be encoded. Decoders refuse such labels; cutting at a character
    // boundary keeps the set well-formed should one slip through.
    let mut len = text.len().min(LABEL_LEN_MAX);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    if len < 255 {
        data.put(&[len as u8]);
    } else {
        data.put(&[255, len as u8, (len >> 8) as u8, (len >> 16) as u8]);
    }
    data.put(&text.as_bytes()[..len]);
}

/// What encoded labels are written to.
trait Bytes {
    fn put(&mut self, bytes: &[u8]);
}

impl Bytes for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Bytes for SmallVec<[u8; 256]> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_is_sorted_without_empty_values_and_the_last_value_wins() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(l.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!((l.get("b"), l.get("c"), l.len()), (Some("3"), None, 2));
    }

    #[test]
    fn long_values_round_trip() {
        for len in [254, 255, 256, 70_000] {
            let value = "x".repeat(len);
            let l = Labels::from_pairs([("a", value.as_str()), ("b", "y")]);
            assert_eq!((l.get("a"), l.get("b")), (Some(value.as_str()), Some("y")));
        }
    }

    #[test]
    fn encoded_bytes_are_checked_before_they_are_labels() {
        let long = "x".repeat(300);
        for pairs in [vec![], vec![("a", "1"), ("b", long.as_str())], vec![("é", "")]] {
            let l = Labels::from_sorted_pairs(pairs.into_iter());
            assert_eq!(Labels::from_encoded(l.as_bytes()), Some(l));
        }
        let bad: [&[u8]; 7] = [
            b"\x01a",
            b"\x01a\x02b",
            b"\x01b\x01x\x01a\x01y",
            b"\x01a\x01x\x01a\x01y",
            b"\x01a\x01\xff",
            b"\xff\x01\0\0a\x01x",
            b"\xff\x01",
        ];
        for bytes in bad {
            assert_eq!(Labels::from_encoded(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn order_is_by_pairs_then_length() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let b = Labels::from_pairs([("b", "1")]);
        assert!(a < ab && ab < b && Labels::empty() < a);
    }

    proptest! {
        #[test]
        fn encoded_pairs_and_order_are_those_of_the_texts(
            a in prop::collection::vec(("[a-c]{1,2}", "[a-c]{0,3}|x{300}"), 0..4),
            b in prop::collection::vec(("[a-c]{1,2}", "[a-c]{0,3}|x{300}"), 0..4),
        ) {
            let (a, b) = (Labels::from_pairs(a), Labels::from_pairs(b));
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
            prop_assert_eq!(a.encoded_pairs().flat_map(|(_, p)| p).copied().collect::<Vec<_>>(), a.as_bytes());
            for (name, value) in a.iter() {
                prop_assert_eq!(a.get(name), Some(value));
            }
        }
    }

    proptest! {
        #[test]
        fn changes_are_those_a_builder_makes(
            set in prop::collection::vec(("[a-d]", "[a-c]{0,2}"), 0..5),
            changes in prop::collection::btree_map("[a-d]", "[a-c]{0,2}", 0..4),
        ) {
            let set = Labels::from_pairs(set);
            let mut builder = set.builder();
            changes.iter().for_each(|(name, value)| { builder.set(name, value); });
            let changed = set.with(changes.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            prop_assert_eq!(changed, builder.build());
        }
    }

    #[test]
    fn names_outside_the_legacy_alphabet_are_quoted() {
        let l = Labels::from_pairs([("a.b", "x\n\"é\u{7f}")]);
        assert_eq!(l.to_string(), r#"{"a.b"="x\n\"é\x7f"}"#);
    }
}
