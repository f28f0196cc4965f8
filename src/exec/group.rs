//! Grouping and matching keys. Worked out once per series, into a reused buffer.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::model::{Labels, METRIC_NAME};
use crate::parser::ast::Grouping;

/// Which labels make two series belong together.
#[derive(Clone, Debug)]
pub(crate) enum KeyLabels {
    /// Only these, sorted.
    Only(Vec<String>),
    /// All but these, sorted; `__name__` is among them.
    AllBut(Vec<String>),
}

impl KeyLabels {
    /// `on(labels)` or `by(labels)`
    pub(crate) fn only(labels: &[String]) -> Self {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        labels.dedup();
        Self::Only(labels)
    }

    /// `ignoring(labels)` or `without(labels)`: the metric name never counts.
    pub(crate) fn all_but(labels: &[String]) -> Self {
        let mut labels = labels.to_vec();
        labels.push(METRIC_NAME.to_owned());
        labels.sort_unstable();
        labels.dedup();
        Self::AllBut(labels)
    }

    /// The labels of a grouping clause.
    pub(crate) fn grouping(grouping: &Grouping) -> Self {
        match grouping {
            Grouping::By(labels) => Self::only(labels),
            Grouping::Without(labels) => Self::all_but(labels),
        }
    }

    /// True when the label is part of the key.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        let find = |labels: &[String]| labels.binary_search_by(|l| l.as_str().cmp(name)).is_ok();
        match self {
            Self::Only(labels) => find(labels),
            Self::AllBut(labels) => !find(labels),
        }
    }

    /// The labels of a set that are part of the key.
    pub(crate) fn apply(&self, labels: &Labels) -> Labels {
        labels.retain(|name| self.keeps(name))
    }

    /// Writes the key of a series: equal bytes, same group.
    fn write(&self, labels: &Labels, key: &mut Vec<u8>) {
        key.clear();
        let (listed, wanted) = match self {
            Self::Only(names) => (names, true),
            Self::AllBut(names) => (names, false),
        };
        // Both sides are sorted by name.
        let mut listed = listed.iter().map(String::as_bytes).peekable();
        for (name, pair) in labels.encoded_pairs() {
            while listed.next_if(|l| *l < name).is_some() {}
            if (listed.peek() == Some(&name)) == wanted {
                key.extend_from_slice(pair);
            }
        }
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Only(labels) if labels.is_empty())
    }
}

/// Numbers groups in the order they are first seen.
#[derive(Debug)]
pub(crate) struct Groups {
    labels: KeyLabels,
    numbers: HashMap<Box<[u8]>, u32, FxBuildHasher>,
    key: Vec<u8>,
}

impl Groups {
    pub(crate) fn new(labels: KeyLabels) -> Self {
        Self { labels, numbers: HashMap::default(), key: vec![] }
    }

    /// The group of a series, made when it is new.
    pub(crate) fn number(&mut self, labels: &Labels) -> u32 {
        if !self.labels.is_constant() {
            self.labels.write(labels, &mut self.key);
        }
        if let Some(number) = self.numbers.get(self.key.as_slice()) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(self.key.as_slice().into(), number);
        number
    }

    /// The group of a series, if there is one already.
    pub(crate) fn find(&mut self, labels: &Labels) -> Option<u32> {
        self.labels.write(labels, &mut self.key);
        self.numbers.get(self.key.as_slice()).copied()
    }

    pub(crate) fn len(&self) -> u32 {
        self.numbers.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ignore_the_metric_name_unless_it_is_listed() {
        let a = Labels::from_pairs([("__name__", "a"), ("job", "x"), ("le", "1")]);
        let b = Labels::from_pairs([("__name__", "b"), ("job", "x"), ("le", "2")]);
        let check = |labels: KeyLabels, same: bool| {
            let mut groups = Groups::new(labels);
            assert_eq!(groups.number(&a) == groups.number(&b), same);
        };
        check(KeyLabels::only(&["job".into()]), true);
        check(KeyLabels::only(&["__name__".into(), "job".into()]), false);
        check(KeyLabels::all_but(&["le".into()]), true);
        check(KeyLabels::all_but(&[]), false);
        check(KeyLabels::only(&[]), true);
    }
}
