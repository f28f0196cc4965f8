//! What this binary is: version, revision, tool chain.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Registry;

/// The Prometheus release whose behaviour this build follows. Clients such as Grafana and
/// `promtool` read it from `prometheus_build_info` and `/api/v1/status/buildinfo` to
/// decide what a server can do.
pub const PROMETHEUS_VERSION: &str = "3.14.0";

/// This program's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the binary was made. Fields a build does not set are "unknown".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    pub version: &'static str,
    pub revision: &'static str,
    pub branch: &'static str,
    pub build_user: &'static str,
    pub build_date: &'static str,
    /// The compiler's minimum version, in the place of Prometheus' Go version.
    pub toolchain: &'static str,
}

const fn or_unknown(value: Option<&'static str>) -> &'static str {
    match value {
        Some(value) => value,
        None => "unknown",
    }
}

/// The running binary's build. The environment variables are read when compiling.
pub const BUILD_INFO: BuildInfo = BuildInfo {
    version: VERSION,
    revision: or_unknown(option_env!("WATCHFIRE_REVISION")),
    branch: or_unknown(option_env!("WATCHFIRE_BRANCH")),
    build_user: or_unknown(option_env!("WATCHFIRE_BUILD_USER")),
    build_date: or_unknown(option_env!("WATCHFIRE_BUILD_DATE")),
    toolchain: concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
};

/// Adds `watchfire_build_info`, and `prometheus_build_info` for what looks for that.
pub(super) fn register(registry: &mut Registry) {
    for (name, help, version) in [
        (
            "watchfire_build_info",
            "A metric with a constant '1' value labeled by how watchfire was built",
            VERSION,
        ),
        (
            "prometheus_build_info",
            "A metric with a constant '1' value labeled by the version of Prometheus that \
             watchfire follows and how watchfire was built",
            PROMETHEUS_VERSION,
        ),
    ] {
        let family = Family::<Vec<(&str, &str)>, Gauge<i64, AtomicI64>>::default();
        let labels = vec![
            ("branch", BUILD_INFO.branch),
            ("goarch", std::env::consts::ARCH),
            ("goos", std::env::consts::OS),
            ("goversion", BUILD_INFO.toolchain),
            ("revision", BUILD_INFO.revision),
            ("version", version),
        ];
        family.get_or_create(&labels).set(1);
        registry.register(name, help, family);
    }
}
