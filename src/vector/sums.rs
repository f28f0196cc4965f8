//! Compensated sums, which live in `model` because histograms add with them too.

pub use crate::model::sums::kahan_inc;
