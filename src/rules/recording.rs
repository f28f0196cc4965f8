//! Recording rules: a query's result to the samples that are stored.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use super::error::RuleError;
use crate::model::value::VectorSample;
use crate::model::{Labels, METRIC_NAME, Sample, Value};

/// A result as a vector: a scalar is one sample without labels.
pub(super) fn vector(value: Value) -> Result<Vec<VectorSample>, RuleError> {
    match value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar { ts, value } => {
            Ok(vec![VectorSample { labels: Labels::empty(), ts, sample: Sample::Float(value) }])
        }
        Value::String { .. } | Value::Matrix(_) => Err(RuleError::NotAVector),
    }
}

/// Series up to which a rule remembers what it made of their labels.
const REMEMBERED_MAX: usize = 100_000;

/// What a rule made of the labels of its last result. Evaluation after evaluation gives the
/// very same label sets, in the same order: then their names are those of the last time.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Labels, Labels)>);

impl Names {
    fn are_of(&self, result: &[VectorSample]) -> bool {
        self.0.len() == result.len()
            && self.0.iter().zip(result).all(|((from, _), sample)| from.is_same(&sample.labels))
    }
}

/// Names and labels the samples of a result. An empty rule label deletes the sample's.
/// `names` are those of the same rule.
pub(super) fn record(
    result: Vec<VectorSample>,
    name: &str,
    labels: &BTreeMap<String, String>,
    limit: usize,
    names: &mut Names,
) -> Result<Vec<(Labels, Sample)>, RuleError> {
    if limit > 0 && result.len() > limit && names.are_of(&result) {
        return Err(RuleError::Limit { limit, found: result.len() });
    }
    if names.are_of(&result) {
        let named = result.into_iter().zip(&names.0);
        return Ok(named.map(|(sample, (_, labels))| (labels.clone(), sample.sample)).collect());
    }
    names.0 = Vec::new();
    let mut given = Vec::with_capacity(result.len());
    let mut seen = FxHashSet::with_capacity_and_hasher(result.len(), Default::default());
    let mut out = Vec::with_capacity(result.len());
    // A label named as the metric name is overrides it, as it comes later.
    let mut changes: BTreeMap<&str, &str> = BTreeMap::from([(METRIC_NAME, name)]);
    changes.extend(labels.iter().map(|(label, value)| (label.as_str(), value.as_str())));
    for sample in result {
        let labels = sample.labels.with(changes.iter().map(|(label, value)| (*label, *value)));
        if !seen.insert(labels.clone()) {
            return Err(RuleError::Duplicate);
        }
        given.push(sample.labels);
        out.push((labels, sample.sample));
    }
    if out.len() <= REMEMBERED_MAX {
        names.0 = given.into_iter().zip(out.iter().map(|(labels, _)| labels.clone())).collect();
    }
    if limit > 0 && out.len() > limit {
        return Err(RuleError::Limit { limit, found: out.len() });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pairs: &[(&str, &str)]) -> VectorSample {
        let labels = Labels::from_pairs(pairs.iter().copied());
        VectorSample { labels, ts: 0, sample: Sample::Float(1.0) }
    }

    fn check(
        input: &[&[(&str, &str)]],
        rule: &[(&str, &str)],
        limit: usize,
        expected: Result<&[&str], &str>,
    ) {
        let rule = rule.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let input: Vec<VectorSample> = input.iter().map(|p| sample(p)).collect();
        let mut names = Names::default();
        let out = record(input.clone(), "r", &rule, limit, &mut names);
        // The next time, whether or not anything is remembered.
        let again = record(input, "r", &rule, limit, &mut names);
        assert_eq!(format!("{out:?}"), format!("{again:?}"));
        match (out, expected) {
            (Ok(out), Ok(expected)) => {
                let texts: Vec<String> = out.iter().map(|(l, _)| l.to_string()).collect();
                assert_eq!(texts, expected);
            }
            (Err(e), Err(expected)) => assert_eq!(e.to_string(), expected),
            (out, _) => panic!("{out:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn names_are_remembered_for_the_very_same_series_only() {
        let rule = BTreeMap::from([("t".to_owned(), "x".to_owned())]);
        let mut names = Names::default();
        let mut name = |result: &[VectorSample]| -> Vec<Labels> {
            let made = record(result.to_vec(), "r", &rule, 0, &mut names).unwrap();
            made.into_iter().map(|(labels, _)| labels).collect()
        };
        let (a, b) = (sample(&[("i", "1")]), sample(&[("i", "2")]));
        let first = name(&[a.clone(), b.clone()]);
        let same = |x: &[Labels], y: &[Labels]| x.iter().zip(y).all(|(x, y)| x.is_same(y));
        assert!(same(&name(&[a.clone(), b.clone()]), &first));
        // Equal sets of another allocation, another order, fewer: equal names, made anew.
        let equal = name(&[sample(&[("i", "1")]), b.clone()]);
        assert!(equal == first && !same(&equal, &first));
        assert_eq!(name(&[b.clone(), a.clone()]), [first[1].clone(), first[0].clone()]);
        assert_eq!(name(&[b]), [first[1].clone()]);
    }

    #[test]
    fn samples_are_named_labelled_and_unique() {
        let up: &[(&str, &str)] = &[("__name__", "up"), ("job", "a"), ("i", "1")];
        check(&[up], &[], 0, Ok(&[r#"{__name__="r", i="1", job="a"}"#]));
        check(&[up], &[("i", ""), ("t", "x")], 0, Ok(&[r#"{__name__="r", job="a", t="x"}"#]));
        let other: &[(&str, &str)] = &[("__name__", "up"), ("job", "a"), ("i", "2")];
        check(
            &[up, other],
            &[("i", "")],
            0,
            Err("vector contains metrics with the same labelset after applying rule labels"),
        );
        check(&[up, other], &[], 1, Err("exceeded limit of 1 with 2 series"));
        check(&[up], &[], 1, Ok(&[r#"{__name__="r", i="1", job="a"}"#]));
    }
}
