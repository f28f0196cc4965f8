//! What `check config` looks at beyond the syntax: files that are named must exist, and
//! addresses must be addresses after relabelling too.

use std::fmt;

use super::Config;
use crate::discovery::DiscoveryConfig;
use crate::http::ClientConfig;
use crate::model::labels::quote;

/// Something the configuration names and that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckProblem {
    /// The service would not work: `check config` fails.
    Error(String),
    /// The file may appear later.
    Warning(String),
}

impl fmt::Display for CheckProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Error(text) | Self::Warning(text)) = self;
        f.write_str(text)
    }
}

/// Looks for every file the configuration names and at relabelled addresses. Texts are
/// those of promtool.
pub fn check_references(config: &Config) -> Vec<CheckProblem> {
    let mut problems = Vec::new();
    for pattern in &config.rule_files {
        let is_pattern = pattern.contains(['*', '?', '[']);
        if !is_pattern && !std::path::Path::new(pattern).exists() {
            let text = format!("{} does not point to an existing file", quote(pattern));
            problems.push(CheckProblem::Error(text));
        }
    }
    for scrape in config.all_scrape_configs() {
        check_client(&scrape.http, &mut problems);
        let place = format!("scrape job {}", quote(&scrape.job_name));
        check_file_discovery(&scrape.discovery, &place, &mut problems);
    }
    for set in &config.alerting.alertmanagers {
        check_client(&set.http, &mut problems);
        if let Err(e) = set.targets(&[]) {
            problems.push(CheckProblem::Error(e.to_string()));
        }
        check_file_discovery(&set.discovery, "alertmanager config", &mut problems);
    }
    problems
}

fn check_client(client: &ClientConfig, problems: &mut Vec<CheckProblem>) {
    for (what, file) in client.files() {
        if let Err(e) = std::fs::metadata(file) {
            let cause = match e.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => e.to_string(),
            };
            let text = format!("error checking {what} {}: stat {file}: {cause}", quote(file));
            problems.push(CheckProblem::Error(text));
        }
    }
}

fn check_file_discovery(
    discovery: &DiscoveryConfig,
    place: &str,
    problems: &mut Vec<CheckProblem>,
) {
    for file in discovery.file_sd_configs.iter().flat_map(|config| &config.files) {
        if !file.contains('*') && !std::path::Path::new(file).exists() {
            let text = format!("file {} for file_sd in {place} does not exist", quote(file));
            problems.push(CheckProblem::Warning(text));
        }
    }
}
