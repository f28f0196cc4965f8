//! A stable sort that can be told to stop: stretches are sorted by the standard library and
//! merged with looks at the interrupt in between.

use std::cmp::Ordering;

use super::cx::{CHECK_EVERY, Cx, Pace, Result};

/// Elements sorted without a look: some dozen comparisons each.
const STRETCH: usize = CHECK_EVERY / 16;

/// What one comparison counts for: label sets lie scattered in memory.
const COMPARISON_WORK: usize = 8;

/// Sorts by `order`; equal elements keep their order.
pub(crate) fn sorted<T>(
    cx: &Cx,
    items: Vec<T>,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>> {
    let mut items = items;
    for stretch in items.chunks_mut(STRETCH) {
        cx.check()?;
        stretch.sort_by(&order);
    }
    // Most inputs come in order already.
    let ordered = |i: usize| order(&items[i - 1], &items[i]).is_le();
    if (STRETCH..items.len()).step_by(STRETCH).all(ordered) {
        return Ok(items);
    }
    // Positions are merged, the elements moved once.
    let mut ranks: Vec<u32> = (0..items.len() as u32).collect();
    let mut merged: Vec<u32> = Vec::with_capacity(items.len());
    let mut pace = Pace::new(cx);
    let mut width = STRETCH;
    while width < ranks.len() {
        merged.clear();
        for pair in ranks.chunks(width * 2) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
                pace.work(COMPARISON_WORK)?;
                if order(&items[*x as usize], &items[*y as usize]).is_le() {
                    merged.push(*x);
                    a = a_rest;
                } else {
                    merged.push(*y);
                    b = b_rest;
                }
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(&mut ranks, &mut merged);
        width *= 2;
    }
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(slots.len());
    for rank in ranks {
        pace.work(1)?;
        out.extend(slots[rank as usize].take());
    }
    Ok(out)
}
