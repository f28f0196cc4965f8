//! What `watchfire serve` runs without a configuration file: it watches itself.

use std::net::SocketAddr;

use rust_embed::RustEmbed;

use crate::rules::RuleSource;

/// The rule files that ship, without their unit tests.
#[derive(RustEmbed)]
#[folder = "rules/"]
#[include = "*.yml"]
#[exclude = "tests/*"]
struct ShippedRules;

/// The configuration: scrape this process every 15 seconds, which serves TLS or does not.
pub(super) fn config_text(listening: SocketAddr, route_prefix: &str, tls: bool) -> String {
    let host = match listening.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => "[::1]".to_owned(),
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip if ip.is_ipv6() => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let prefix = route_prefix.trim_end_matches('/');
    // Its certificate is for a name that others know it by, and nobody stands in between.
    let scheme = match tls {
        true => "\n    scheme: https\n    tls_config: {insecure_skip_verify: true}",
        false => "",
    };
    format!(
        "global:
  scrape_interval: 15s
  evaluation_interval: 15s
scrape_configs:
  - job_name: watchfire{scheme}
    metrics_path: {prefix}/metrics
    static_configs:
      - targets: ['{host}:{port}']
",
        port = listening.port()
    )
}

/// The rules that ship, by the name they have in the repository.
pub(super) fn rules() -> Vec<RuleSource> {
    let mut names: Vec<_> = ShippedRules::iter().collect();
    names.sort();
    names
        .into_iter()
        .filter_map(|name| {
            let file = ShippedRules::get(&name)?;
            let source = String::from_utf8_lossy(&file.data).into_owned();
            Some(RuleSource::Text { file: format!("rules/{name}"), source })
        })
        .collect()
}
