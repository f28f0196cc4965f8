//! Sorting with looks at the interrupt.

use std::cmp::Ordering;

use super::cx::{CHECK_EVERY, Cx, Result};
use crate::model::sorted;

/// Sorts by `order`; equal elements keep their order.
pub(crate) fn sorted<T>(
    cx: &Cx,
    items: Vec<T>,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>> {
    sorted::sorted(items, order, CHECK_EVERY, || cx.check())
}
