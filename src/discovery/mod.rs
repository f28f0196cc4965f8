//! Service discovery: where targets come from. Static lists, files, DNS and HTTP are
//! served; the other kinds are read from the configuration and named in a warning.
//!
//! A [`Discovery`] runs beside its user, who takes the groups it knows and waits for
//! changes. What is made of targets is the user's business.

mod config;
mod dns;
mod file;
mod http;
mod metrics;
mod run;
pub mod static_;

use std::collections::BTreeMap;

use crate::model::{Labels, LabelsBuilder};

pub use config::{DiscoveryConfig, DiscoveryConfigError, DnsConfig, FileConfig, HttpConfig};
pub use metrics::{DiscoveryMetrics, DiscoveryUser};
pub use run::{Discovery, Groups, Surroundings};
pub use static_::StaticConfig;

/// Least time between two changes that a user of discovery makes because of it.
pub const CHANGE_PAUSE_MS: i64 = 1000;

/// Most targets of one file, answer or name.
const TARGETS_MAX: usize = 1_000_000;

/// Label of the URL that `http_sd_configs` asked.
const META_URL: &str = "__meta_url";

/// Targets that came from one place and share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// What the group is known by: file, URL or name.
    pub source: String,
    pub labels: BTreeMap<String, String>,
    /// Each with at least `__address__`.
    pub targets: Vec<BTreeMap<String, String>>,
}

/// How many targets there are, listed and found.
pub fn count_targets(listed: &[StaticConfig], found: &[TargetGroup]) -> usize {
    let listed: usize = listed.iter().map(|group| group.targets.len()).sum();
    listed + found.iter().map(|group| group.targets.len()).sum::<usize>()
}

impl TargetGroup {
    /// The label sets of the targets; a target's own labels win.
    pub fn label_sets(&self) -> impl Iterator<Item = Labels> + '_ {
        self.targets.iter().map(|target| {
            let mut labels = LabelsBuilder::default();
            for (name, value) in self.labels.iter().chain(target) {
                labels.set(name, value);
            }
            labels.build()
        })
    }
}

/// Keys of the discovery kinds that [`DiscoveryConfig`] reads.
pub const SERVED_KINDS: &[&str] = &["dns_sd_configs", "file_sd_configs", "http_sd_configs"];

/// Keys of the discovery kinds Prometheus has beside those and `static_configs`.
pub const OTHER_KINDS: &[&str] = &[
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Key of the static lists.
pub const STATIC: &str = "static_configs";
