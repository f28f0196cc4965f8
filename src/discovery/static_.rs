//! Targets listed in the configuration itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Labels, LabelsBuilder};

/// A list of addresses that share labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    pub targets: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Label that carries a target's address before and during relabelling.
pub const ADDRESS: &str = "__address__";

impl StaticConfig {
    /// The label sets of the targets: the group's labels and `__address__`.
    pub fn label_sets(&self) -> impl Iterator<Item = Labels> + '_ {
        self.targets.iter().map(|address| {
            let mut labels = LabelsBuilder::default();
            for (name, value) in &self.labels {
                labels.set(name, value);
            }
            labels.set(ADDRESS, address).build()
        })
    }
}
