//! Several selectors as fewer ones that find the same series together and no others: those
//! that differ in the value of one label alone are one with either value.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::labels::{quote, quote_label_name};
use crate::model::{METRIC_NAME, MatchOp, Matcher};

/// One selector in the place of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// `{name="value",...}`
    pub text: String,
    /// The numbers of those it stands for.
    pub of: Vec<usize>,
}

/// Selectors on their way to become one.
struct Wide {
    /// Labels that are to have one of some values.
    values: BTreeMap<String, BTreeSet<String>>,
    /// All other matchers, as texts.
    rest: BTreeSet<String>,
    of: Vec<usize>,
}

/// Joins selectors, at most so many to one.
pub(super) fn join(selectors: &[&[Matcher]], most: usize) -> Vec<Joined> {
    let mut all: Vec<Wide> = selectors.iter().enumerate().map(|(n, m)| wide(n, m)).collect();
    let names: BTreeSet<String> = all.iter().flat_map(|w| w.values.keys().cloned()).collect();
    let others = names.iter().filter(|name| *name != METRIC_NAME);
    for name in [METRIC_NAME].into_iter().chain(others.map(String::as_str)) {
        all = joined_by(name, all, most);
    }
    let mut joined: Vec<Joined> =
        all.into_iter().map(|wide| Joined { text: text(&wide), of: wide.of }).collect();
    joined.iter_mut().for_each(|joined| joined.of.sort_unstable());
    joined.sort_by_key(|joined| joined.of.first().copied());
    joined
}

fn wide(number: usize, matchers: &[Matcher]) -> Wide {
    let mut wide = Wide { values: BTreeMap::new(), rest: BTreeSet::new(), of: vec![number] };
    for matcher in matchers {
        let alone = matchers.iter().filter(|m| m.name == matcher.name).count() == 1;
        // A label that is to be empty may be missing: that stays as it was asked.
        if alone && matcher.op == MatchOp::Equal && !matcher.value.is_empty() {
            let value = BTreeSet::from([matcher.value.to_string()]);
            wide.values.insert(matcher.name.to_string(), value);
        } else {
            wide.rest.insert(matcher.to_string());
        }
    }
    wide
}

/// Joins those that differ in the values of this label alone.
fn joined_by(name: &str, all: Vec<Wide>, most: usize) -> Vec<Wide> {
    type Key = (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>);
    let mut out = Vec::new();
    // Of each kind the one that takes more.
    let mut open: BTreeMap<Key, (BTreeSet<String>, Vec<usize>)> = BTreeMap::new();
    let closed = |(mut values, rest): Key, (own, of): (BTreeSet<String>, Vec<usize>)| {
        values.insert(name.to_owned(), own);
        Wide { values, rest, of }
    };
    for mut one in all {
        let Some(own) = one.values.remove(name) else {
            out.push(one);
            continue;
        };
        let mut entry = match open.entry((one.values, one.rest)) {
            Entry::Vacant(entry) => {
                entry.insert((own, one.of));
                continue;
            }
            Entry::Occupied(entry) => entry,
        };
        if entry.get().1.len() + one.of.len() > most {
            let full = std::mem::take(entry.get_mut());
            out.push(closed(entry.key().clone(), full));
        }
        let (values, of) = entry.get_mut();
        values.extend(own);
        of.extend(one.of);
    }
    out.extend(open.into_iter().map(|(key, taken)| closed(key, taken)));
    out
}

fn text(wide: &Wide) -> String {
    let values = wide.values.iter().map(|(name, values)| match values.len() {
        0 | 1 => Matcher::equal(name, values.first().map_or("", String::as_str)).to_string(),
        _ => {
            let each: Vec<String> = values.iter().map(|value| literal(value)).collect();
            format!("{}=~{}", quote_label_name(name), quote(&each.join("|")))
        }
    });
    let texts: Vec<String> = values.chain(wide.rest.iter().cloned()).collect();
    format!("{{{}}}", texts.join(","))
}

/// A regular expression that matches this text alone.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(text: &str) -> Matcher {
        let (op, sign) =
            [("!~", MatchOp::NotRegex), ("=~", MatchOp::Regex), ("!=", MatchOp::NotEqual)]
                .into_iter()
                .find(|(sign, _)| text.contains(sign))
                .map_or((MatchOp::Equal, "="), |(sign, op)| (op, sign));
        let (name, value) = text.split_once(sign).unwrap();
        Matcher::new(op, name, value).unwrap()
    }

    fn selectors(texts: &[&str]) -> Vec<Vec<Matcher>> {
        texts.iter().map(|text| text.split(',').map(matcher).collect()).collect()
    }

    fn check(texts: &[&str], expected: &[&str]) {
        let all = selectors(texts);
        let all: Vec<&[Matcher]> = all.iter().map(Vec::as_slice).collect();
        let joined = join(&all, 64);
        let shown: Vec<&str> = joined.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(shown, expected, "{texts:?}");
        let mut of: Vec<usize> = joined.iter().flat_map(|one| one.of.iter().copied()).collect();
        of.sort_unstable();
        assert_eq!(of, (0..texts.len()).collect::<Vec<_>>());
    }

    #[test]
    fn those_that_differ_in_one_label_alone_are_one() {
        check(&["__name__=up"], &[r#"{__name__="up"}"#]);
        check(
            &["__name__=up,job=a", "__name__=down,job=a", "__name__=up,job=b"],
            &[r#"{__name__=~"down|up",job="a"}"#, r#"{__name__="up",job="b"}"#],
        );
        // All four corners are there, so nothing else is found.
        check(
            &[
                "__name__=up,job=a",
                "__name__=down,job=a",
                "__name__=up,job=b",
                "__name__=down,job=b",
            ],
            &[r#"{__name__=~"down|up",job=~"a|b"}"#],
        );
        check(
            &["__name__=x,job=a,code=~5..", "__name__=y,job=a,code=~5..", "__name__=x,job=a"],
            &[r#"{__name__=~"x|y",job="a",code=~"5.."}"#, r#"{__name__="x",job="a"}"#],
        );
        check(
            &["__name__=x,path=/a.b", "__name__=x,path=/a|b"],
            &[r#"{__name__="x",path=~"/a\\.b|/a\\|b"}"#],
        );
        // What may be missing, or has two matchers, stays as it is.
        check(
            &["__name__=x,job=", "__name__=x,job=a", "__name__=x,job=a,job!=b"],
            &[
                r#"{__name__="x",job=""}"#,
                r#"{__name__="x",job="a"}"#,
                r#"{__name__="x",job!="b",job="a"}"#,
            ],
        );
    }

    #[test]
    fn so_many_become_one_and_no_more() {
        let texts: Vec<String> = (0..9).map(|n| format!("__name__=m{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let all = selectors(&texts);
        let joined = join(&all.iter().map(Vec::as_slice).collect::<Vec<_>>(), 4);
        let sizes: Vec<usize> = joined.iter().map(|one| one.of.len()).collect();
        assert_eq!(sizes, [4, 4, 1]);
    }

    /// Whatever is joined finds what its parts find, of all series there can be.
    #[test]
    fn nothing_else_is_found_and_nothing_is_missing() {
        let values = ["", "a", "b", "c"];
        let mut seed = 7u64;
        let mut pick = |n: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        for _ in 0..300 {
            let count = 1 + pick(8);
            let all: Vec<Vec<Matcher>> = (0..count)
                .map(|_| {
                    let mut one = vec![Matcher::equal(METRIC_NAME, values[1 + pick(3)])];
                    for label in ["x", "y"] {
                        let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex][pick(3)];
                        if pick(3) > 0 {
                            one.push(Matcher::new(op, label, values[pick(4)]).unwrap());
                        }
                    }
                    one
                })
                .collect();
            let joined = join(&all.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1 + pick(8));
            let parsed: Vec<Vec<Matcher>> = joined.iter().map(|one| parse(&one.text)).collect();
            for name in values {
                for x in values {
                    for y in values {
                        let labels = crate::model::Labels::from_pairs([
                            (METRIC_NAME, name),
                            ("x", x),
                            ("y", y),
                        ]);
                        let found = |all: &[Vec<Matcher>]| {
                            all.iter().any(|one| one.iter().all(|m| m.matches_labels(&labels)))
                        };
                        assert_eq!(found(&parsed), found(&all), "{labels} {joined:?}");
                    }
                }
            }
        }
    }

    /// What `text` writes, read back: values have no commas here.
    fn parse(text: &str) -> Vec<Matcher> {
        let inside = text.trim_start_matches('{').trim_end_matches('}');
        inside.split(',').map(|one| matcher(&one.replace('"', ""))).collect()
    }
}
