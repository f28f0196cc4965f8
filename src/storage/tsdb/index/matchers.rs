//! Matchers to series.
//!
//! A matcher that refuses the empty value needs the label: its postings are intersected.
//! One that accepts it also accepts series without the label: the postings of the values
//! it refuses are subtracted. The shortest list goes first, and an expression over many
//! values is asked of the few candidates instead when those are fewer.

use super::MemPostings;
use super::ops::{intersect, subtract, union_disjoint};
use crate::model::{MatchOp, Matcher};

impl MemPostings {
    /// The series that satisfy all matchers, sorted. `label` gives a label's value of a
    /// series ("" when absent); it is asked only where that is cheaper than the index.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        value_satisfies: &dyn Fn(u64, &Matcher) -> bool,
    ) -> Vec<u64> {
        let (subtracting, mut requiring): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.matches_empty());
        requiring.sort_by_cached_key(|m| self.cost(m));
        let mut kept: Option<Vec<u64>> = None;
        for matcher in requiring {
            match &mut kept {
                None => kept = Some(self.satisfying(matcher)),
                Some(kept) => self.restrict(kept, matcher, value_satisfies),
            }
            if kept.as_ref().is_some_and(Vec::is_empty) {
                return Vec::new();
            }
        }
        let mut kept = kept.unwrap_or_else(|| self.all().to_vec());
        for matcher in subtracting {
            if self.cost(matcher) > kept.len() {
                kept.retain(|series| value_satisfies(*series, matcher));
            } else {
                subtract(&mut kept, &self.refused(matcher));
            }
        }
        kept
    }

    /// Estimated effort of a matcher: list length, or values to test.
    fn cost(&self, matcher: &Matcher) -> usize {
        match matcher.op {
            MatchOp::Equal if !matcher.value.is_empty() => {
                self.get(&matcher.name, &matcher.value).len()
            }
            // `.*` refuses nothing.
            MatchOp::Regex if matcher.regex().is_some_and(|r| r.matches_all()) => 0,
            // A set of literals costs what it finds; a pattern is tried on every value.
            _ => match literals(matcher) {
                Some(set) => set.iter().map(|v| self.get(&matcher.name, v).len() + 1).sum(),
                None => self
                    .by_name
                    .get(&*matcher.name)
                    .map_or(0, |v| v.by_value.len().saturating_mul(4)),
            },
        }
    }

    /// Series that carry the label with a value the matcher accepts.
    fn satisfying(&self, matcher: &Matcher) -> Vec<u64> {
        if matcher.op == MatchOp::Equal {
            return self.get(&matcher.name, &matcher.value).to_vec();
        }
        if let Some(set) = literals(matcher)
            && matcher.op == MatchOp::Regex
        {
            return union_disjoint(set.iter().map(|v| self.get(&matcher.name, v)));
        }
        let same = answer_for_all(matcher);
        let accepts = |v: &str| same.unwrap_or_else(|| matcher.matches(v));
        union_disjoint(self.values(&matcher.name).filter(|(v, _)| accepts(v)).map(|(_, l)| l))
    }

    /// Series that carry the label with a value the matcher refuses.
    fn refused(&self, matcher: &Matcher) -> Vec<u64> {
        if matcher.op == MatchOp::NotEqual {
            return self.get(&matcher.name, &matcher.value).to_vec();
        }
        if let Some(set) = literals(matcher)
            && matcher.op == MatchOp::NotRegex
        {
            return union_disjoint(set.iter().map(|v| self.get(&matcher.name, v)));
        }
        let same = answer_for_all(matcher);
        let refuses = |v: &str| !same.unwrap_or_else(|| matcher.matches(v));
        union_disjoint(self.values(&matcher.name).filter(|(v, _)| refuses(v)).map(|(_, l)| l))
    }

    fn restrict(
        &self,
        kept: &mut Vec<u64>,
        matcher: &Matcher,
        value_satisfies: &dyn Fn(u64, &Matcher) -> bool,
    ) {
        if matcher.op == MatchOp::Equal {
            intersect(kept, self.get(&matcher.name, &matcher.value));
        } else if self.cost(matcher) > kept.len() {
            kept.retain(|series| value_satisfies(*series, matcher));
        } else {
            intersect(kept, &self.satisfying(matcher));
        }
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
