//! Bound plan and fetched series to blocks of results. Synchronous, clockless,
//! cancellable and budgeted; runs on a blocking thread or, for small inputs, in place.
//!
//! `open` turns each plan node into an [`Operator`](operator::Operator): it knows its
//! output series before the first block, and streams blocks of consecutive series over
//! all steps. `exchange` runs ranges of series in parallel and puts them back in order.

mod absent;
mod aggregate;
mod annotate;
mod binary;
#[cfg(test)]
mod cancel_tests;
mod choose;
mod column;
mod count_values;
mod cx;
mod exchange;
mod found;
mod group;
mod histogram;
mod info;
mod labels;
mod map;
mod memo;
mod merge;
mod open;
mod operator;
mod output;
mod range;
mod read;
mod repeat;
mod rows;
mod scalar;
mod select;
mod shared;
mod sort;
mod sorted;
mod stats;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod together;
mod window;

pub(crate) use cx::{Cx, ExecError, ExecOptions, Interrupt};
pub(crate) use exchange::PART_WORK;
pub(crate) use found::{About, Found};
pub(crate) use memo::Memo;
pub(crate) use output::{instant, range, sort};
pub(crate) use stats::ExecStats;
pub(crate) use together::{Member, Together, together};
