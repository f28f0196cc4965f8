//! Which blocks to compact, as Prometheus decides it: overlapping ones first; then what
//! fills a range of growing size; then a block of which much was deleted.

use crate::storage::tsdb::block::BlockMeta;

/// Ranges grow by this from one to the next.
const STEP: i64 = 3;
/// How many ranges there are at most.
const RANGES: usize = 10;
/// Share of deleted intervals per series from which a block is written anew.
const DELETED_SHARE: f64 = 0.05;

/// Lengths of blocks: the shortest, and its multiples by powers of three up to the longest.
pub(crate) fn ranges_of(min_ms: i64, max_ms: i64) -> Vec<i64> {
    let mut ranges = vec![min_ms];
    while ranges.len() < RANGES {
        let next = ranges[ranges.len() - 1].saturating_mul(STEP);
        if next > max_ms {
            break;
        }
        ranges.push(next);
    }
    ranges
}

/// Decides what is compacted next.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Growing.
    pub(crate) ranges_ms: Vec<i64>,
}

impl Plan {
    /// Places of the blocks to compact into one, or none. `blocks` are sorted by their
    /// beginning.
    pub(crate) fn next(&self, blocks: &[&BlockMeta]) -> Vec<usize> {
        let overlapping = overlapping(blocks);
        if !overlapping.is_empty() {
            return overlapping;
        }
        // The newest block is left alone for as long as it is: that leaves time to copy it.
        let Some((_, older)) = blocks.split_last() else { return Vec::new() };
        let fitting = self.fitting(older);
        if fitting.is_empty() { self.deleted(older) } else { fitting }
    }

    fn fitting(&self, blocks: &[&BlockMeta]) -> Vec<usize> {
        let Some(newest) = blocks.last() else { return Vec::new() };
        for range in self.ranges_ms.iter().skip(1) {
            for group in split(blocks, *range) {
                let all = &blocks[group.clone()];
                let [first, .., last] = all else { continue };
                if all.iter().any(|block| block.compaction.failed) {
                    continue;
                }
                // Not while another block of the range may come.
                let spans = last.max_time - first.min_time == *range;
                if spans || last.max_time <= newest.min_time {
                    return group.collect();
                }
            }
        }
        Vec::new()
    }

    fn deleted(&self, blocks: &[&BlockMeta]) -> Vec<usize> {
        let long = self.ranges_ms[self.ranges_ms.len() / 2];
        for (i, block) in blocks.iter().enumerate().rev() {
            let stats = &block.stats;
            if block.compaction.failed {
                continue;
            }
            if block.max_time - block.min_time < long {
                // Short ones will be compacted anyway, unless nothing is left of them.
                if stats.num_tombstones > 0 && stats.num_tombstones >= stats.num_series {
                    return vec![i];
                }
                break;
            }
            let share = stats.num_tombstones as f64 / (stats.num_series + 1) as f64;
            if share > DELETED_SHARE {
                return vec![i];
            }
        }
        Vec::new()
    }
}

/// The first blocks that overlap one after the other.
fn overlapping(blocks: &[&BlockMeta]) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    let Some(first) = blocks.first() else { return found };
    let mut end = first.max_time;
    for (i, block) in blocks.iter().enumerate().skip(1) {
        if block.min_time < end {
            if found.is_empty() {
                found.push(i - 1);
            }
            found.push(i);
        } else if !found.is_empty() {
            break;
        }
        end = end.max(block.max_time);
    }
    if found.iter().any(|i| blocks[*i].compaction.failed) { Vec::new() } else { found }
}

/// Runs of blocks that lie in the same range each. A block that crosses a border of ranges
/// is in none.
fn split(blocks: &[&BlockMeta], range_ms: i64) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut i = 0;
    while i < blocks.len() {
        let start = blocks[i].min_time.div_euclid(range_ms).saturating_mul(range_ms);
        let inside = |block: &&BlockMeta| block.max_time <= start.saturating_add(range_ms);
        let len = blocks[i..].iter().take_while(|block| inside(block)).count();
        if len > 0 {
            runs.push(i..i + len);
        }
        i += len.max(1);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tsdb::block::Ulid;

    /// Blocks given as `(from, to)`, the ranges being 20, 60, 180.
    fn check(blocks: &[(i64, i64)], expected: &[usize]) {
        check_with(blocks, |_| {}, expected);
    }

    fn check_with(blocks: &[(i64, i64)], change: impl Fn(&mut Vec<BlockMeta>), expected: &[usize]) {
        let new = |(from, to): &(i64, i64)| BlockMeta::new(Ulid::new(*from), *from, *to);
        let mut metas: Vec<BlockMeta> = blocks.iter().map(new).collect();
        metas.iter_mut().for_each(|m| m.stats.num_series = 10);
        change(&mut metas);
        let plan = Plan { ranges_ms: ranges_of(20, 200) };
        assert_eq!(plan.ranges_ms, [20, 60, 180]);
        assert_eq!(plan.next(&metas.iter().collect::<Vec<_>>()), expected, "{blocks:?}");
    }

    #[test]
    fn blocks_that_fill_a_range_are_compacted_and_the_newest_is_left_alone() {
        check(&[], &[]);
        check(&[(0, 20)], &[]);
        check(&[(0, 20), (20, 40), (40, 60)], &[]);
        check(&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
        // With a gap: once a block of the next range is there, and not the newest.
        check(&[(0, 20), (40, 60), (60, 80)], &[0, 1]);
        check(&[(0, 20), (20, 40), (60, 80)], &[]);
        check(&[(0, 20), (20, 40), (60, 80), (80, 100)], &[0, 1]);
        check(&[(0, 60), (60, 120), (120, 180), (180, 200)], &[0, 1, 2]);
        check(&[(0, 60), (60, 80), (80, 100), (100, 120), (120, 140)], &[1, 2, 3]);
        check(&[(-60, -40), (-40, -20), (-20, 0), (0, 20)], &[0, 1, 2]);
        // One that crosses a border is left.
        check(&[(0, 20), (30, 70), (80, 100), (100, 120), (120, 140), (140, 160)], &[2, 3]);
    }

    #[test]
    fn overlapping_blocks_come_first_the_newest_included() {
        check(&[(0, 20), (10, 30)], &[0, 1]);
        check(&[(0, 20), (20, 40), (30, 50), (45, 60), (60, 80), (70, 80)], &[1, 2, 3]);
        check(&[(0, 100), (20, 40), (90, 110), (110, 130)], &[0, 1, 2]);
    }

    #[test]
    fn what_failed_before_is_not_tried_again() {
        let fail = |metas: &mut Vec<BlockMeta>| metas[1].compaction.failed = true;
        check_with(&[(0, 20), (20, 40), (40, 60), (60, 80)], fail, &[]);
        check_with(&[(0, 20), (10, 30)], fail, &[]);
    }

    #[test]
    fn long_blocks_with_much_deleted_and_empty_ones_are_written_anew() {
        let stones = |n: u64| move |metas: &mut Vec<BlockMeta>| metas[0].stats.num_tombstones = n;
        check_with(&[(0, 60), (60, 120)], stones(1), &[0]);
        check_with(&[(0, 20), (20, 40)], stones(1), &[]);
        check_with(&[(0, 20), (20, 40)], stones(10), &[0]);
    }
}
