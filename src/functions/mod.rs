//! The function registry: one row per PromQL function, one file per family. The parser
//! reads signatures, `exec` runs kernels, the reference page and completion read the rest.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::model::histogram::FoldOutcome;
use crate::model::value::ValueType;
use crate::model::{FloatHistogram, Sample, TimestampMs};
use crate::vector::{Window, Windows};

mod calendar;
mod convert;
mod counters;
mod families;
pub mod histogram;
mod labels;
mod math;
pub(crate) mod over_time;
mod regression;
#[cfg(test)]
pub(crate) mod testing;
mod trig;
mod window;

pub use counters::{edged_floats, smoothed_instant};
pub use labels::natural_cmp;

/// One function.
#[derive(Debug)]
pub struct FunctionSpec {
    /// Name, case-sensitive.
    pub name: &'static str,
    /// Types of the arguments; the last repeats when `arity` allows more.
    pub args: &'static [ValueType],
    pub arity: Arity,
    pub returns: ValueType,
    pub labels: LabelEffect,
    pub histograms: HistogramPolicy,
    pub stability: Stability,
    pub kernel: Kernel,
    /// One paragraph for the reference page.
    pub doc: &'static str,
    /// An expression that uses it.
    pub example: &'static str,
}

impl FunctionSpec {
    /// `round(instant vector, [scalar]) -> instant vector`.
    pub fn signature(&self) -> String {
        let required = match self.arity {
            Arity::Exact => self.args.len(),
            Arity::Optional(n) => self.args.len().saturating_sub(n),
            Arity::Variadic { min, .. } => min,
        };
        let mut args: Vec<String> = Vec::new();
        for (i, arg) in self.args.iter().enumerate() {
            let name = arg.documented();
            args.push(if i < required { name.to_owned() } else { format!("[{name}]") });
        }
        if let Arity::Variadic { max, .. } = self.arity
            && max.is_none_or(|max| max > self.args.len())
        {
            args.push("...".to_owned());
        }
        format!("{}({}) -> {}", self.name, args.join(", "), self.returns.documented())
    }
}

impl PartialEq for FunctionSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// How many arguments a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly `args.len()`.
    Exact,
    /// The last `n` of `args` may be left out.
    Optional(usize),
    /// At least `min`; the last of `args` repeats, up to `max` arguments in all when given.
    Variadic { min: usize, max: Option<usize> },
}

/// What happens to the metric name and other labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelEffect {
    /// Labels pass unchanged.
    Keep,
    /// `__name__`, `__type__` and `__unit__` are dropped.
    DropMetadata,
    /// Only `__name__` is dropped.
    DropName,
    /// The function makes its own labels.
    Own,
}

/// What happens to histogram samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramPolicy {
    /// Dropped without a word.
    Drop,
    /// Passed through or counted like floats.
    Accept,
    /// The function is about histograms; floats are dropped.
    Only,
    /// The kernel decides, per window.
    Kernel,
}

/// Stable, or behind `promql-experimental-functions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    Stable,
    Experimental,
}

/// What range kernels get beside the window.
#[derive(Clone, Copy, Debug)]
pub struct RangeArgs<'a> {
    /// Scalar arguments at this step, in signature order without the range vector.
    pub scalars: &'a [f64],
    /// Length of the range in ms.
    pub range_ms: i64,
    pub mode: WindowMode,
    /// `use-start-timestamps` is on and the storage knows them.
    pub use_start_timestamps: bool,
}

/// How a window was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowMode {
    #[default]
    Plain,
    /// Also holds samples up to the lookback before its start.
    Anchored,
    /// Also holds samples up to the lookback on both sides.
    Smoothed,
}

/// A range function at one step of one series; `None` is "no sample".
pub type RangeKernel = fn(&Window<'_>, &RangeArgs<'_>, &mut Flags) -> Option<Sample>;

/// The fast way of a range function: all windows of a series at once. It holds for plain
/// windows over floats alone, without start timestamps that count, and gives what the
/// `RangeKernel` beside it gives, bit for bit.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// A kernel for the series of one operator.
    pub new: fn() -> Box<dyn ColumnKernel>,
    /// Samples without which a window has no result.
    pub samples_min: u32,
    /// Raised for every series with a result.
    pub flags: Flags,
}

/// The code behind [`Columns`]. Keeps what depends on times alone from series to series.
pub trait ColumnKernel: Send {
    /// Takes note of other windows: before the first `run`, and when they have changed.
    /// False when they are so many that they had better be visited one by one.
    fn lay(&mut self, windows: &Windows<'_>) -> bool;

    /// Writes a result per step. `vs` are the values at the times of the windows, at least
    /// one; what is written for a window of fewer than `samples_min` samples is not read.
    fn run(&mut self, windows: &Windows<'_>, vs: &[f64], out: &mut [f64]);
}

/// Refuses scalar arguments a function cannot work with; the text is the query's error.
pub type ScalarCheck = fn(&[f64]) -> Result<(), String>;

/// The code behind a function. Kernels know neither labels nor steps.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// `f(x)` on every float.
    Map(fn(f64) -> f64),
    /// `f(x, scalars)` on every float; `None` drops the sample.
    MapWith(fn(f64, &[f64]) -> Option<f64>),
    /// Over a window; errors in scalar arguments are found by `check` once per step.
    Range { kernel: RangeKernel, check: Option<ScalarCheck>, columns: Option<Columns> },
    /// A float from a native histogram.
    FromHistogram(fn(&FloatHistogram) -> f64),
    /// A calendar field of a time in seconds (UTC); `vector(time())` when no argument is given.
    Calendar(fn(i64) -> f64),
    /// Scalars to a scalar.
    Scalar(fn(&[f64]) -> f64),
    /// Needs labels, other series or the grid: an operator of its own, in `exec`.
    Operator(Operator),
}

/// Functions that are operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Absent,
    AbsentOverTime,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    Info,
    LabelJoin,
    LabelReplace,
    Scalar,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    StartTimestamp,
    Time,
    Timestamp,
    Vector,
    /// `start()`, `end()`, `range()`, `step()`: folded into literals when the grid is known.
    QueryStart,
    QueryEnd,
    QueryRange,
    QueryStep,
}

/// What kernels report; operators turn set bits into annotations with span and series name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Floats and histograms in one window.
    pub const MIXED: Flags = Flags(1);
    /// A native histogram with gauge hint met a counter function.
    pub const NOT_COUNTER: Flags = Flags(1 << 1);
    /// A native histogram without gauge hint met a gauge function.
    pub const NOT_GAUGE: Flags = Flags(1 << 2);
    /// Exponential and custom-bucket histograms in one window.
    pub const MIXED_SCHEMAS: Flags = Flags(1 << 3);
    /// Custom bounds differed and were intersected while adding.
    pub const BOUNDS_RECONCILED_ADD: Flags = Flags(1 << 4);
    /// The same while subtracting.
    pub const BOUNDS_RECONCILED_SUB: Flags = Flags(1 << 5);
    /// The same while aggregating.
    pub const BOUNDS_RECONCILED_AGG: Flags = Flags(1 << 6);
    /// Counter-reset hints contradicted each other while adding.
    pub const RESET_COLLISION_ADD: Flags = Flags(1 << 7);
    /// The same while subtracting.
    pub const RESET_COLLISION_SUB: Flags = Flags(1 << 8);
    /// The same while aggregating.
    pub const RESET_COLLISION_AGG: Flags = Flags(1 << 9);
    /// A float function ignored histograms of a mixed window.
    pub const HISTOGRAMS_IGNORED: Flags = Flags(1 << 10);
    /// A start timestamp lies before the previous sample.
    pub const START_TIME_OVERLAP: Flags = Flags(1 << 11);
    /// A quantile outside 0..=1, or NaN.
    pub const QUANTILE_OUT_OF_RANGE: Flags = Flags(1 << 12);
    /// Floats went through a counter function: the name check applies.
    pub const COUNTER_FLOATS: Flags = Flags(1 << 13);
    /// Histograms were ignored by an aggregation of floats.
    pub const HISTOGRAMS_IGNORED_AGG: Flags = Flags(1 << 14);
    /// Floats and histograms in one group of an aggregation.
    pub const MIXED_AGG: Flags = Flags(1 << 15);

    /// Sets the bits of `other`.
    pub fn raise(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    /// What a fold of histograms has to tell.
    pub fn of_fold(outcome: &FoldOutcome) -> Flags {
        let mut flags = Flags::default();
        if outcome.histogram.is_none() {
            flags.raise(Flags::MIXED_SCHEMAS);
        }
        if outcome.bounds_reconciled {
            flags.raise(Flags::BOUNDS_RECONCILED_AGG);
        }
        if outcome.reset_collision {
            flags.raise(Flags::RESET_COLLISION_AGG);
        }
        flags
    }

    /// True when a bit of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static FunctionSpec>> =
    LazyLock::new(|| all().map(|spec| (spec.name, spec)).collect());

/// The row of a function.
pub fn find(name: &str) -> Option<&'static FunctionSpec> {
    BY_NAME.get(name).copied()
}

/// Every row, family by family.
pub fn all() -> impl Iterator<Item = &'static FunctionSpec> {
    families::FAMILIES.iter().flat_map(|family| family.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_73_stable_and_17_experimental_functions_all_documented() {
        let stable = all().filter(|spec| spec.stability == Stability::Stable).count();
        assert_eq!((stable, all().count()), (73, 90));
        assert_eq!(BY_NAME.len(), 90, "names are unique");
        for spec in all() {
            assert!(spec.doc.len() > 12 && spec.doc.ends_with('.'), "{}", spec.name);
            assert!(spec.example.contains(spec.name), "{}", spec.name);
        }
    }
}
