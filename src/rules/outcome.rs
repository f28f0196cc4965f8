//! How an evaluation came out: more than whether it failed.

use super::alert::Absence;
use super::error::RuleError;
use super::recording::vector;
use crate::model::value::VectorSample;
use crate::query::QueryResult;

/// Outcome of a rule's evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The result holds something.
    Matched,
    /// Empty: what the expression looks at is there, its conditions are false.
    FilterFalse,
    /// Empty: a selector that the result needs found no samples.
    NoData,
    /// Part of the sources did not answer; the result, whatever it is, may lack something.
    Partial,
    /// The evaluation failed.
    Error,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Matched, Self::FilterFalse, Self::NoData, Self::Partial, Self::Error];

    /// `matched`, `filter_false`, `no_data`, `partial` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::FilterFalse => Absence::FilterFalse.as_str(),
            Self::NoData => Absence::NoData.as_str(),
            Self::Partial => Absence::Partial.as_str(),
            Self::Error => Absence::Error.as_str(),
        }
    }
}

/// The successful result of a rule's query.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub samples: Vec<VectorSample>,
    pub outcome: Outcome,
}

impl Answer {
    /// A query's result as a rule sees it.
    pub(super) fn new(result: QueryResult) -> Result<Self, RuleError> {
        let (partial, input_missing) = (result.is_partial(), result.stats.input_missing);
        let samples = vector(result.value)?;
        let outcome = match samples.is_empty() {
            _ if partial => Outcome::Partial,
            false => Outcome::Matched,
            true if input_missing => Outcome::NoData,
            true => Outcome::FilterFalse,
        };
        Ok(Self { samples, outcome })
    }
}
