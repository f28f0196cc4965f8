//! Compaction: several blocks become one, which is smaller and faster to read.
//!
//! `plan` decides which, from descriptions alone; `merge` does it, series by series, so that
//! memory does not grow with the blocks; `recode` writes samples as new chunks where chunks
//! cannot be taken as they are. Nothing here knows which blocks are served.

pub(crate) mod merge;
pub(crate) mod plan;
pub(crate) mod recode;

pub(crate) use merge::compact;
pub(crate) use plan::{Plan, ranges_of};
pub(crate) use recode::{Recoder, Stop};
