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

/// Names and labels the samples of a result. An empty rule label deletes the sample's.
pub(super) fn record(
    result: Vec<VectorSample>,
    name: &str,
    labels: &BTreeMap<String, String>,
    limit: usize,
) -> Result<Vec<(Labels, Sample)>, RuleError> {
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
        out.push((labels, sample.sample));
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
        let out = record(input.iter().map(|p| sample(p)).collect(), "r", &rule, limit);
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
