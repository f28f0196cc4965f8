//! Alerts by their labels, a million of them if need be.
//!
//! A hash map from labels to alerts would hold the labels twice and, as it grows by
//! doubling, room for up to twice as many alerts as there are. Here the room that is not in
//! use is that of a pointer.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::alert::Alert;
use crate::model::Labels;

/// Alerts with different labels.
#[derive(Clone, Debug, Default)]
pub(super) struct AlertTable {
    alerts: HashTable<Box<Alert>>,
}

impl AlertTable {
    pub(super) fn get(&self, labels: &Labels) -> Option<&Alert> {
        self.alerts.find(hash(labels), |alert| alert.labels == *labels).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, labels: &Labels) -> Option<&mut Alert> {
        self.alerts.find_mut(hash(labels), |alert| alert.labels == *labels).map(Box::as_mut)
    }

    /// Adds the alert with these labels, in place of the one that has them.
    pub(super) fn insert(&mut self, labels: Labels, alert: Alert) {
        match self.alerts.entry(hash(&labels), |a| a.labels == labels, |a| hash(&a.labels)) {
            Entry::Occupied(mut found) => **found.get_mut() = alert,
            Entry::Vacant(room) => {
                room.insert(Box::new(alert));
            }
        }
    }

    #[allow(dead_code, reason = "part of what a table of alerts can do")]
    pub(super) fn remove(&mut self, labels: &Labels) {
        let found = self.alerts.find_entry(hash(labels), |alert| alert.labels == *labels);
        if let Ok(found) = found {
            found.remove();
        }
    }

    /// Drops the alerts that `keep`, which must not change their labels, does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Labels, &mut Alert) -> bool) {
        self.alerts.retain(|alert| {
            let labels = alert.labels.clone();
            keep(&labels, alert)
        });
        if self.alerts.capacity() > 64 + 4 * self.alerts.len() {
            self.alerts.shrink_to_fit(|alert| hash(&alert.labels));
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.alerts.iter_mut().map(Box::as_mut)
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = Alert> {
        self.alerts.into_iter().map(|alert| *alert)
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }
}

/// Equal when both hold the same alerts.
impl PartialEq for AlertTable {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.values().all(|alert| other.get(&alert.labels) == Some(alert))
    }
}

fn hash(labels: &Labels) -> u64 {
    labels.hash64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::alert::AlertSample;

    fn alert(name: usize, value: f64) -> Alert {
        let labels = Labels::from_pairs([("i", name.to_string())]);
        Alert::new(AlertSample { labels, annotations: Labels::empty(), value }, 0)
    }

    #[test]
    fn alerts_are_found_replaced_and_dropped_by_their_labels() {
        let mut table = AlertTable::default();
        let mut insert = |i, value| table.insert(alert(i, value).labels, alert(i, value));
        (0..1000).for_each(|i| insert(i, 1.0));
        insert(7, 2.0);
        assert_eq!(table.len(), 1000);
        let seven = alert(7, 0.0).labels;
        assert_eq!(table.get(&seven).map(|a| a.value), Some(2.0));
        table.get_mut(&seven).unwrap().value = 3.0;
        let same = table.clone();
        assert!(same == table);
        table.retain(|_, alert| alert.value > 1.0);
        assert!(same != table);
        assert!(table.get(&alert(8, 0.0).labels).is_none());
        assert!(table.alerts.capacity() < 100, "room that is not needed is given back");
        table.remove(&alert(8, 0.0).labels);
        assert_eq!(table.clone().into_values().map(|a| a.value).collect::<Vec<_>>(), [3.0]);
        table.remove(&seven);
        assert_eq!(table.len(), 0);
    }
}
