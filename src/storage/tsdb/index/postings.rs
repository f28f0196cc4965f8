//! Postings: for each label name and value the sorted references of the series that carry it.

use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

use crate::model::{Labels, METRIC_NAME};

/// References removed in one sweep.
pub(crate) type RefSet = HashSet<u64, FxBuildHasher>;

/// Series by value, for one label name.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) by_value: HashMap<Box<str>, Vec<u64>>,
}

/// The postings of a head.
#[derive(Debug, Default)]
pub(crate) struct MemPostings {
    /// All series.
    pub(super) all: Vec<u64>,
    pub(super) by_name: HashMap<Box<str>, Values>,
    /// Series added since the beginning, and times that some were removed.
    added: u64,
    removed: u64,
}

/// What an operator asks about the index: see `status/tsdb`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostingsStats {
    /// Distinct pairs of label name and value.
    pub label_pairs: usize,
    /// Series per metric name, most first.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values per label name, most first.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of the values of each label name over all series, most first.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series per `name=value`, most first.
    pub series_by_pair: Vec<(String, u64)>,
}

impl MemPostings {
    /// Adds a new series. References come nearly in order; parallel creation may swap a few.
    pub(crate) fn add(&mut self, series: u64, labels: &Labels) {
        self.added += 1;
        insert_sorted(&mut self.all, series);
        for (name, value) in labels.iter() {
            let values = match self.by_name.get_mut(name) {
                Some(values) => values,
                None => self.by_name.entry(name.into()).or_default(),
            };
            match values.by_value.get_mut(value) {
                Some(list) => insert_sorted(list, series),
                None => {
                    values.by_value.insert(value.into(), vec![series]);
                }
            }
        }
    }

    /// Removes series, given with their labels, and whatever nobody carries any more.
    pub(crate) fn remove(&mut self, gone: &RefSet, labels: &[Labels]) {
        if gone.is_empty() {
            return;
        }
        self.removed += 1;
        self.all.retain(|r| !gone.contains(r));
        let pairs: HashSet<(&str, &str)> = labels.iter().flat_map(Labels::iter).collect();
        for (name, value) in pairs {
            let Some(values) = self.by_name.get_mut(name) else { continue };
            if let Some(list) = values.by_value.get_mut(value) {
                list.retain(|r| !gone.contains(r));
                list.shrink_to_fit();
                if list.is_empty() {
                    values.by_value.remove(value);
                }
            }
            if values.by_value.is_empty() {
                self.by_name.remove(name);
            }
        }
        self.all.shrink_to_fit();
    }

    /// How many series were ever added.
    pub(crate) fn added(&self) -> u64 {
        self.added
    }

    /// How often series were removed. While it stays the same, lists only grow.
    pub(crate) fn removed(&self) -> u64 {
        self.removed
    }

    /// Every series.
    pub(crate) fn all(&self) -> &[u64] {
        &self.all
    }

    /// The series that carry a label with exactly this value.
    pub(crate) fn get(&self, name: &str, value: &str) -> &[u64] {
        self.by_name.get(name).and_then(|v| v.by_value.get(value)).map_or(&[], Vec::as_slice)
    }

    /// Label names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|n| &**n)
    }

    /// Values of a label with the series that carry each, in no order.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, &[u64])> {
        self.by_name
            .get(name)
            .into_iter()
            .flat_map(|v| v.by_value.iter().map(|(value, list)| (&**value, list.as_slice())))
    }

    /// Bytes the index takes, approximately: texts, lists and table slots.
    pub(crate) fn size_bytes(&self) -> usize {
        let mut bytes = self.all.capacity() * 8;
        for (name, values) in &self.by_name {
            bytes += name.len() + 64;
            for (value, list) in &values.by_value {
                bytes += value.len() + list.capacity() * 8 + 48;
            }
        }
        bytes
    }

    /// The `limit` biggest of everything.
    pub(crate) fn stats(&self, limit: usize) -> PostingsStats {
        let mut stats = PostingsStats::default();
        for (name, values) in &self.by_name {
            stats.label_pairs += values.by_value.len();
            stats.values_by_label.push((name.to_string(), values.by_value.len() as u64));
            let bytes = values.by_value.iter().map(|(v, l)| (v.len() * l.len()) as u64).sum();
            stats.bytes_by_label.push((name.to_string(), bytes));
            for (value, list) in &values.by_value {
                if &**name == METRIC_NAME {
                    stats.series_by_metric.push((value.to_string(), list.len() as u64));
                }
                stats.series_by_pair.push((format!("{name}={value}"), list.len() as u64));
            }
            keep_biggest(&mut stats.series_by_pair, limit);
        }
        for list in [
            &mut stats.series_by_metric,
            &mut stats.values_by_label,
            &mut stats.bytes_by_label,
            &mut stats.series_by_pair,
        ] {
            keep_biggest(list, limit);
        }
        stats
    }
}

fn keep_biggest(list: &mut Vec<(String, u64)>, limit: usize) {
    list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list.truncate(limit);
}

fn insert_sorted(list: &mut Vec<u64>, series: u64) {
    match list.last() {
        Some(last) if *last >= series => {
            if let Err(at) = list.binary_search(&series) {
                list.insert(at, series);
            }
        }
        _ => list.push(series),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_the_last_series_of_a_value_removes_value_and_name() {
        let mut p = MemPostings::default();
        let a = Labels::from_pairs([("__name__", "m"), ("x", "1")]);
        let b = Labels::from_pairs([("__name__", "m"), ("y", "1")]);
        p.add(2, &a);
        p.add(1, &b);
        assert_eq!(p.get("__name__", "m"), [1, 2]);
        p.remove(&RefSet::from_iter([2]), &[a]);
        assert_eq!((p.get("__name__", "m"), p.all()), (&[1][..], &[1][..]));
        let mut names: Vec<_> = p.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["__name__", "y"]);
        assert_eq!(p.stats(10).series_by_metric, [("m".to_owned(), 1)]);
    }
}
