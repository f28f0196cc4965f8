//! The in-memory index: which series carry which label, and how matchers become a list of
//! series. Knows references and labels; nothing of samples or time.

mod matchers;
mod ops;
mod postings;

pub(crate) use matchers::{Lists, effort, select};
pub(crate) use ops::{intersect, intersects};
pub(crate) use postings::MemPostings;
pub use postings::PostingsStats;
#[cfg(test)]
pub(crate) use postings::RefSet;
