//! Set operations on sorted, duplicate-free lists of series references.

/// First position in `list[from..]` whose element is at least `target`: doubling steps,
/// then a binary search, so that skipping far costs the logarithm of the distance.
#[inline]
fn gallop(list: &[u64], from: usize, target: u64) -> usize {
    let mut step = 1;
    let mut low = from;
    let mut high = from;
    while high < list.len() && list[high] < target {
        low = high + 1;
        high += step;
        step *= 2;
    }
    let end = high.min(list.len());
    low + list[low..end].partition_point(|x| *x < target)
}

/// Keeps in `kept` what `other` holds too.
pub(crate) fn intersect(kept: &mut Vec<u64>, other: &[u64]) {
    let (mut write, mut i, mut j) = (0, 0, 0);
    while i < kept.len() && j < other.len() {
        let (a, b) = (kept[i], other[j]);
        if a == b {
            kept[write] = a;
            write += 1;
            i += 1;
            j += 1;
        } else if a < b {
            i = gallop(kept, i + 1, b);
        } else {
            j = gallop(other, j + 1, a);
        }
    }
    kept.truncate(write);
}

/// True when the lists share an element.
pub(crate) fn intersects(a: &[u64], b: &[u64]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => i = gallop(a, i + 1, b[j]),
            std::cmp::Ordering::Greater => j = gallop(b, j + 1, a[i]),
        }
    }
    false
}

/// Removes from `kept` what `other` holds.
pub(crate) fn subtract(kept: &mut Vec<u64>, other: &[u64]) {
    if other.is_empty() {
        return;
    }
    let mut j = 0;
    kept.retain(|a| {
        j = gallop(other, j, *a);
        other.get(j) != Some(a)
    });
}

/// The sorted union of lists that share no element: what the values of one label are.
pub(crate) fn union_disjoint<'a>(lists: impl Iterator<Item = &'a [u64]>) -> Vec<u64> {
    let mut all: Vec<u64> = Vec::new();
    let mut sorted = true;
    for list in lists {
        sorted &= all.last() < list.first() || list.is_empty();
        all.extend_from_slice(list);
    }
    if !sorted {
        // The stable sort recognises runs: merging few long lists is nearly linear.
        all.sort();
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn operations_agree_with_sets(
            a in prop::collection::btree_set(0u64..300, 0..150),
            b in prop::collection::btree_set(0u64..300, 0..150),
        ) {
            let list = |s: &BTreeSet<u64>| s.iter().copied().collect::<Vec<_>>();
            let (va, vb) = (list(&a), list(&b));
            let mut both = va.clone();
            intersect(&mut both, &vb);
            prop_assert_eq!(intersects(&va, &vb), !both.is_empty());
            prop_assert_eq!(both, list(&(&a & &b)));
            let mut less = va.clone();
            subtract(&mut less, &vb);
            let only_a = list(&(&a - &b));
            prop_assert_eq!(&less, &only_a);
            let union = union_disjoint([only_a.as_slice(), &[], &vb].into_iter());
            prop_assert_eq!(union, list(&(&a | &b)));
        }
    }
}
