//! The aggregator registry: one row per aggregation operator, the same pattern as
//! `functions`.

use crate::functions::{Flags, Stability};
use crate::model::value::ValueType;
use crate::vector::SeriesBlock;

/// One aggregator.
#[derive(Debug)]
pub struct AggregatorSpec {
    /// Name in lower case; matched case-insensitively.
    pub name: &'static str,
    /// Type of the parameter before the vector, if it takes one.
    pub param: Option<ValueType>,
    pub stability: Stability,
    pub kernel: AggregatorKernel,
    /// One paragraph for the reference page.
    pub doc: &'static str,
    /// An expression that uses it.
    pub example: &'static str,
}

impl AggregatorSpec {
    /// `topk [by|without (labels)] (scalar, instant vector) -> instant vector`.
    pub fn signature(&self) -> String {
        let param = self.param.map(|kind| format!("{}, ", kind.documented())).unwrap_or_default();
        let name = self.name;
        format!("{name} [by|without (labels)] ({param}instant vector) -> instant vector")
    }
}

impl PartialEq for AggregatorSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The code behind an aggregator.
#[derive(Clone, Copy, Debug)]
pub enum AggregatorKernel {
    /// Folds series into groups; `new(groups, steps, param per step)`.
    Fold(fn(u32, u32, &[f64]) -> Box<dyn Accumulator>),
    /// Chooses some of the input series per group and step.
    Select(Selection),
    /// One output series per distinct value: an operator of its own.
    CountValues,
}

/// Aggregators that pass samples through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    TopK,
    BottomK,
    LimitK,
    LimitRatio,
}

/// Folds rows of blocks into groups: into some of an aggregation's, numbered from 0, so that
/// no accumulator is large. Rows arrive in series order; with parallel input, each range of
/// series has its own accumulators and they are merged in range order, so the result does
/// not depend on timing.
pub trait Accumulator: Send {
    /// Adds one series to a group, all steps at once.
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32);

    /// Adds what `later` gathered from the series after this one's; same groups and steps,
    /// same concrete type. `go_on` is asked before whatever takes longer than a pass over
    /// the slots; once it says no, what is here is unfinished and of no use.
    fn merge(&mut self, later: Box<dyn Accumulator>, go_on: &dyn Fn() -> bool);

    /// For `merge`: gives up the concrete type.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;

    /// One row per group; a slot without input is absent. Flags are per group. `go_on` is
    /// asked often; once it says no, what comes back is unfinished and of no use.
    fn finish(self: Box<Self>, go_on: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>);
}

mod fold;
mod rows;
mod simple;
mod spread;
mod sum;

/// The row of an aggregator; any case.
pub fn find(name: &str) -> Option<&'static AggregatorSpec> {
    all().find(|spec| spec.name.eq_ignore_ascii_case(name))
}

/// Every row.
pub fn all() -> impl Iterator<Item = &'static AggregatorSpec> {
    rows::ALL.iter()
}

#[cfg(test)]
mod tests;
