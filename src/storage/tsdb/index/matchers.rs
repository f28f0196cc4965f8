//! Matchers to series.
//!
//! A matcher that refuses the empty value needs the label: its postings are intersected.
//! One that accepts it also accepts series without the label: the postings of the values
//! it refuses are subtracted. The shortest list goes first, and an expression over many
//! values is asked of the few candidates instead when those are fewer.

use std::borrow::Cow;
use std::convert::Infallible;

use super::MemPostings;
use super::ops::{intersect, subtract, union_disjoint};
use crate::model::{MatchOp, Matcher};

/// Sorted lists of series by label, wherever they are kept.
pub(crate) trait Lists {
    /// Why a list could not be read.
    type Error;

    /// Every series.
    fn all(&self) -> Result<Cow<'_, [u64]>, Self::Error>;

    /// How many those are.
    fn all_len(&self) -> Result<usize, Self::Error>;

    /// The series that carry a label with exactly this value.
    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u64]>, Self::Error>;

    /// How many those are.
    fn len(&self, name: &str, value: &str) -> Result<usize, Self::Error>;

    /// How many values a label has.
    fn value_count(&self, name: &str) -> usize;

    /// The series that carry a label with an accepted value.
    fn union(&self, name: &str, accepts: &dyn Fn(&str) -> bool) -> Result<Vec<u64>, Self::Error>;

    /// The series that carry a label with one of these values.
    fn union_of(&self, name: &str, values: &[String]) -> Result<Vec<u64>, Self::Error>;

    /// Whether a series satisfies a matcher, asked of its labels.
    fn satisfies(&self, series: u64, matcher: &Matcher) -> Result<bool, Self::Error>;
}

/// The series that satisfy all matchers, sorted.
pub(crate) fn select<L: Lists>(lists: &L, matchers: &[Matcher]) -> Result<Vec<u64>, L::Error> {
    let (mut subtracting, mut requiring) = (Vec::new(), Vec::new());
    for matcher in matchers {
        let group = if matcher.matches_empty() { &mut subtracting } else { &mut requiring };
        group.push((cost(lists, matcher)?, matcher));
    }
    requiring.sort_by_key(|(cost, _)| *cost);
    let mut kept: Option<Vec<u64>> = None;
    for (cost, matcher) in requiring {
        match &mut kept {
            None => kept = Some(satisfying(lists, matcher)?),
            Some(kept) => restrict(lists, kept, matcher, cost)?,
        }
        if kept.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
    }
    let mut kept = match kept {
        Some(kept) => kept,
        None => lists.all()?.into_owned(),
    };
    for (cost, matcher) in subtracting {
        if cost > kept.len() {
            ask_each(lists, &mut kept, matcher)?;
        } else {
            subtract(&mut kept, &refused(lists, matcher)?);
        }
    }
    Ok(kept)
}

/// Steps that finding the series takes, at the most: values tried and references looked at.
/// What a short list leaves is all that the other matchers are asked of.
pub(crate) fn effort<L: Lists>(lists: &L, matchers: &[Matcher]) -> Result<usize, L::Error> {
    let mut least = None;
    let mut all = 0usize;
    for matcher in matchers {
        let cost = cost(lists, matcher)?;
        all = all.saturating_add(cost);
        if !matcher.matches_empty() {
            least = Some(least.map_or(cost, |least: usize| least.min(cost)));
        }
    }
    let least = match least {
        Some(least) => least,
        None => lists.all_len()?,
    };
    Ok(all.clamp(least, least.saturating_mul(1 + matchers.len())))
}

/// Estimated effort of a matcher: list length, or values to test.
fn cost<L: Lists>(lists: &L, matcher: &Matcher) -> Result<usize, L::Error> {
    let name = &matcher.name;
    Ok(match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual if !matcher.value.is_empty() => {
            lists.len(name, &matcher.value)?
        }
        // `.*` refuses nothing.
        MatchOp::Regex if matcher.regex().is_some_and(|r| r.matches_all()) => 0,
        // A set of literals costs what it finds; a pattern is tried on every value.
        _ => match literals(matcher) {
            Some(set) => {
                let mut sum = 0;
                for value in set {
                    sum += lists.len(name, value)? + 1;
                }
                sum
            }
            None => lists.value_count(name).saturating_mul(4),
        },
    })
}

/// Series that carry the label with a value the matcher accepts.
fn satisfying<L: Lists>(lists: &L, matcher: &Matcher) -> Result<Vec<u64>, L::Error> {
    if matcher.op == MatchOp::Equal {
        return lists.list(&matcher.name, &matcher.value).map(Cow::into_owned);
    }
    if let Some(set) = literals(matcher)
        && matcher.op == MatchOp::Regex
    {
        return lists.union_of(&matcher.name, set);
    }
    let same = answer_for_all(matcher);
    lists.union(&matcher.name, &|v| same.unwrap_or_else(|| matcher.matches(v)))
}

/// Series that carry the label with a value the matcher refuses.
fn refused<L: Lists>(lists: &L, matcher: &Matcher) -> Result<Vec<u64>, L::Error> {
    if matcher.op == MatchOp::NotEqual {
        return lists.list(&matcher.name, &matcher.value).map(Cow::into_owned);
    }
    if let Some(set) = literals(matcher)
        && matcher.op == MatchOp::NotRegex
    {
        return lists.union_of(&matcher.name, set);
    }
    let same = answer_for_all(matcher);
    lists.union(&matcher.name, &|v| !same.unwrap_or_else(|| matcher.matches(v)))
}

fn restrict<L: Lists>(
    lists: &L,
    kept: &mut Vec<u64>,
    matcher: &Matcher,
    cost: usize,
) -> Result<(), L::Error> {
    if matcher.op == MatchOp::Equal {
        intersect(kept, &lists.list(&matcher.name, &matcher.value)?);
    } else if cost > kept.len() {
        ask_each(lists, kept, matcher)?;
    } else {
        intersect(kept, &satisfying(lists, matcher)?);
    }
    Ok(())
}

fn ask_each<L: Lists>(lists: &L, kept: &mut Vec<u64>, matcher: &Matcher) -> Result<(), L::Error> {
    let mut failed = None;
    kept.retain(|series| match lists.satisfies(*series, matcher) {
        Ok(satisfies) => satisfies,
        Err(e) => {
            failed.get_or_insert(e);
            false
        }
    });
    failed.map_or(Ok(()), Err)
}

impl MemPostings {
    /// See [`effort`].
    pub(crate) fn effort(&self, matchers: &[Matcher]) -> usize {
        let Ok(effort) =
            effort(&InMemory { postings: self, value_satisfies: &|_, _| true }, matchers);
        effort
    }

    /// The series that satisfy all matchers, sorted. `value_satisfies` tells of one series;
    /// it is asked only where that is cheaper than the index.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        value_satisfies: &dyn Fn(u64, &Matcher) -> bool,
    ) -> Vec<u64> {
        let Ok(found) = select(&InMemory { postings: self, value_satisfies }, matchers);
        found
    }
}

/// The lists of a head, which are at hand.
struct InMemory<'a> {
    postings: &'a MemPostings,
    value_satisfies: &'a dyn Fn(u64, &Matcher) -> bool,
}

impl Lists for InMemory<'_> {
    type Error = Infallible;

    fn all(&self) -> Result<Cow<'_, [u64]>, Infallible> {
        Ok(self.postings.all().into())
    }

    fn all_len(&self) -> Result<usize, Infallible> {
        Ok(self.postings.all().len())
    }

    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u64]>, Infallible> {
        Ok(self.postings.get(name, value).into())
    }

    fn len(&self, name: &str, value: &str) -> Result<usize, Infallible> {
        Ok(self.postings.get(name, value).len())
    }

    fn value_count(&self, name: &str) -> usize {
        self.postings.by_name.get(name).map_or(0, |values| values.by_value.len())
    }

    fn union(&self, name: &str, accepts: &dyn Fn(&str) -> bool) -> Result<Vec<u64>, Infallible> {
        let values = self.postings.values(name).filter(|(value, _)| accepts(value));
        Ok(union_disjoint(values.map(|(_, list)| list)))
    }

    fn union_of(&self, name: &str, values: &[String]) -> Result<Vec<u64>, Infallible> {
        Ok(union_disjoint(values.iter().map(|value| self.postings.get(name, value))))
    }

    fn satisfies(&self, series: u64, matcher: &Matcher) -> Result<bool, Infallible> {
        Ok((self.value_satisfies)(series, matcher))
    }
}

/// The distinct texts an expression accepts, when it is in effect a list of them.
fn literals(matcher: &Matcher) -> Option<&[String]> {
    matcher.regex()?.set_matches()
}

/// What a matcher says of every value that is not empty, when it says the same of all.
fn answer_for_all(matcher: &Matcher) -> Option<bool> {
    let any = |m: &Matcher| m.regex().is_some_and(|r| r.matches_all() || r.matches_non_empty());
    match matcher.op {
        MatchOp::Regex if any(matcher) => Some(true),
        MatchOp::NotRegex if any(matcher) => Some(false),
        MatchOp::Equal if matcher.value.is_empty() => Some(false),
        MatchOp::NotEqual if matcher.value.is_empty() => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Labels;

    fn check(series: &[Labels], matchers: &[Matcher]) {
        let mut p = MemPostings::default();
        for (i, labels) in series.iter().enumerate() {
            p.add(i as u64, labels);
        }
        let ask = |s: u64, m: &Matcher| m.matches_labels(&series[s as usize]);
        let expected: Vec<u64> = (0..series.len() as u64)
            .filter(|s| matchers.iter().all(|m| m.matches_labels(&series[*s as usize])))
            .collect();
        assert_eq!(p.select(matchers, &ask), expected, "{matchers:?}");
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let ops = prop::sample::select(vec![
            MatchOp::Equal,
            MatchOp::NotEqual,
            MatchOp::Regex,
            MatchOp::NotRegex,
        ]);
        let values = prop::sample::select(vec![
            "", "1", "2", "12", "nope", "1|2", "1.*", ".*", ".+", "(1|2|)", "[12]", "1?2", "|",
            "(1)|(2)", "1|1|12", "x\\.y", "\\d", "(?i)1", "()", "x|\\|",
        ]);
        (ops, prop::sample::select(vec!["a", "b", "c", "z"]), values)
            .prop_map(|(op, name, value)| Matcher::new(op, name, value).expect("a valid pattern"))
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let pair = (
            prop::sample::select(vec!["a", "b", "c"]),
            prop::sample::select(vec!["", "1", "2", "12", "x\ny"]),
        );
        prop::collection::vec(pair, 0..4).prop_map(Labels::from_pairs)
    }

    #[test]
    fn the_effort_is_what_the_shortest_list_leaves_to_do() {
        let mut p = MemPostings::default();
        for i in 0..1000u64 {
            let i = i.to_string();
            p.add(p.all().len() as u64, &Labels::from_pairs([("n", "m"), ("i", i.as_str())]));
        }
        let equal = Matcher::equal;
        let regex = |value| Matcher::new(MatchOp::Regex, "i", value).expect("a pattern");
        for (matchers, expected) in [
            (vec![equal("i", "5")], 1),
            (vec![equal("n", "m")], 1000),
            (vec![equal("n", "m"), equal("i", "5")], 3),
            (vec![regex(".*5.*")], 4000),
            (vec![regex(".*5.*"), equal("i", "5")], 3),
            (vec![regex("5|6|7")], 6),
            (vec![], 1000),
            (vec![Matcher::new(MatchOp::NotEqual, "i", "5").expect("a matcher")], 1000),
        ] {
            assert_eq!(p.effort(&matchers), expected, "{matchers:?}");
        }
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_asking_every_series(
            series in prop::collection::vec(labels(), 0..60),
            matchers in prop::collection::vec(matcher(), 0..4),
        ) {
            check(&series, &matchers);
        }
    }
}
