//! A stable sort that can be told to stop: stretches are sorted by the standard library and
//! merged with looks in between at whether to go on.

use std::cmp::Ordering;

/// What one comparison counts for: label sets lie scattered in memory.
const COMPARISON_WORK: usize = 8;

/// Sorts by `order`; equal elements keep their order. `look` is called about every `every`
/// units of work, each of some nanoseconds; its error ends the sort.
pub(crate) fn sorted<T, E>(
    items: Vec<T>,
    order: impl Fn(&T, &T) -> Ordering,
    every: usize,
    mut look: impl FnMut() -> Result<(), E>,
) -> Result<Vec<T>, E> {
    let mut items = items;
    // Some dozen comparisons for each element.
    let shortest = (every / 16).max(2);
    for stretch in items.chunks_mut(shortest) {
        look()?;
        stretch.sort_by(&order);
    }
    // Most inputs come in order already.
    let ordered = |i: usize| order(&items[i - 1], &items[i]).is_le();
    if (shortest..items.len()).step_by(shortest).all(ordered) {
        return Ok(items);
    }
    let mut left = every;
    let mut work = |units: usize| {
        if units < left {
            left -= units;
            return Ok(());
        }
        left = every;
        look()
    };
    // Positions are merged, the elements moved once.
    let mut ranks: Vec<u32> = (0..items.len() as u32).collect();
    let mut merged: Vec<u32> = Vec::with_capacity(items.len());
    let mut width = shortest;
    while width < ranks.len() {
        merged.clear();
        for pair in ranks.chunks(width * 2) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
                work(COMPARISON_WORK)?;
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
        work(1)?;
        out.extend(slots[rank as usize].take());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stable_and_stops_at_the_first_no() {
        let items: Vec<(u32, u32)> = (0..1_000).map(|i| (i * 7919 % 101, i)).collect();
        let mut expected = items.clone();
        expected.sort_by_key(|(key, _)| *key);
        let mut looks = 0;
        let mut sort = |allowed: usize| {
            looks = 0;
            sorted(
                items.clone(),
                |a, b| a.0.cmp(&b.0),
                64,
                || {
                    looks += 1;
                    if looks <= allowed { Ok(()) } else { Err(looks) }
                },
            )
        };
        assert_eq!(sort(usize::MAX), Ok(expected));
        for allowed in [0, 100, 300, 900] {
            assert_eq!(sort(allowed), Err(allowed + 1));
        }
    }
}
