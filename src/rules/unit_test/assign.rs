//! Whether things expected and things that came can be paired off, each with one of its
//! own.

use crate::model::Labels;
use crate::model::regex::AnchoredRegex;

use super::schema::Match;

/// True when there are as many of both, and each that is expected has one of its own that
/// `fits` it.
pub(super) fn paired<E, G>(expected: &[E], got: &[G], fits: impl Fn(&E, &G) -> bool) -> bool {
    if expected.len() != got.len() {
        return false;
    }
    // Which expected one each that came belongs to.
    let mut owners: Vec<Option<usize>> = vec![None; got.len()];
    (0..expected.len()).all(|e| {
        let mut tried = vec![false; got.len()];
        place(e, expected, got, &fits, &mut owners, &mut tried)
    })
}

/// Finds a place for one, moving others if need be.
fn place<E, G>(
    e: usize,
    expected: &[E],
    got: &[G],
    fits: &impl Fn(&E, &G) -> bool,
    owners: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for g in 0..got.len() {
        if tried[g] || !fits(&expected[e], &got[g]) {
            continue;
        }
        tried[g] = true;
        let free = match owners[g] {
            None => true,
            Some(owner) => place(owner, expected, got, fits, owners, tried),
        };
        if free {
            owners[g] = Some(e);
            return true;
        }
    }
    false
}

/// Whether labels or annotations are as expected.
pub(super) fn pairs_fit(expected: &Labels, got: &Labels, matching: Match) -> bool {
    let one = |(name, value): (&str, &str)| match matching {
        Match::Regex => AnchoredRegex::new(value).is_ok_and(|r| r.is_match(got.get_or_empty(name))),
        _ => got.get_or_empty(name) == value,
    };
    match matching {
        Match::Exact => expected == got,
        Match::Subset | Match::Regex => expected.iter().all(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_one_of_its_own() {
        let fits = |e: &&str, g: &&str| g.starts_with(*e);
        for (expected, got, outcome) in [
            (vec!["a", "ab"], vec!["ab", "ac"], true),
            (vec!["ab", "a"], vec!["ab", "ac"], true),
            (vec!["ab", "ab"], vec!["ab", "ac"], false),
            (vec!["a"], vec!["ab", "ac"], false),
            (vec![], vec![], true),
        ] {
            assert_eq!(paired(&expected, &got, fits), outcome, "{expected:?} {got:?}");
        }
    }

    #[test]
    fn labels_fit_whole_in_part_or_by_pattern() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let got = labels(&[("a", "one"), ("b", "two")]);
        for (expected, exact, subset, regex) in [
            (labels(&[("a", "one"), ("b", "two")]), true, true, true),
            (labels(&[("a", "one")]), false, true, true),
            (labels(&[("a", "o.e")]), false, false, true),
            (labels(&[("a", "on")]), false, false, false),
            (labels(&[("c", ".+")]), false, false, false),
        ] {
            let outcomes = [(Match::Exact, exact), (Match::Subset, subset), (Match::Regex, regex)];
            for (matching, outcome) in outcomes {
                assert_eq!(
                    pairs_fit(&expected, &got, matching),
                    outcome,
                    "{expected} {matching:?}"
                );
            }
        }
    }
}
