//! `watchfire sidecar`: rules beside a server that has the samples. It is `serve` with
//! another backend and a configuration that is made from flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Command};
use serde_json::{Value as Json, json};
use url::Url;

use super::features::FeatureFlags;
use super::flags::ServeFlags;
use super::serve::{self, Backend, Given, MadeConfig, server_client, server_url};
use crate::config::{self, Loaded};
use crate::http::config::BasicAuth;
use crate::storage::remote::{DatasourceConfig, DatasourceKind, Evaluation};

/// Flags of `watchfire sidecar`.
#[derive(Debug, Args)]
pub(crate) struct SidecarArgs {
    /// The server that has the samples: Prometheus, Thanos, Mimir (its URL ends in
    /// /prometheus), VictoriaMetrics; whatever speaks Prometheus' query API. With
    /// --storage.tsdb.read-only samples are read from a data directory instead, and this is
    /// only where results are written.
    #[arg(
        long = "prometheus.url",
        value_name = "URL",
        required_unless_present = "storage_read_only"
    )]
    url: Option<String>,
    /// What the server is: its language and what can be left to it follow. "auto" asks it:
    /// VictoriaMetrics is known by its language; of a Prometheus samples are fetched by remote
    /// read (api/v1/read of the URL), which costs it least, unless it has external labels;
    /// everything else is asked by the query API ("prometheus").
    #[arg(long = "prometheus.type", value_name = "TYPE", default_value = "auto", value_parser = ["auto", "prometheus", "victoriametrics", "remote-read"])]
    kind: String,
    /// Where expressions are evaluated: "push-down" leaves to the server what it answers as
    /// it would be answered here, "here" fetches samples, "auto" decides by what the server
    /// says of its version.
    #[arg(long = "prometheus.evaluate", value_name = "WHERE", default_value = "auto", value_parser = ["auto", "push-down", "here"])]
    evaluate: String,
    /// HTTP client options (TLS, credentials, proxy) for asking and writing to the server, in
    /// a file of their own.
    #[arg(long = "prometheus.http.config.file", value_name = "FILE")]
    http_config: Option<PathBuf>,
    /// A header of each request to the server, as NAME=VALUE (X-Scope-OrgID=tenant);
    /// repeatable.
    #[arg(long = "prometheus.header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// A parameter of each query, as NAME=VALUE (dedup=true); repeatable.
    #[arg(long = "prometheus.parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,

    /// How many bytes of samples are kept from one evaluation of the rules to the next, so that
    /// only newer ones are fetched; 0 for none.
    #[arg(long = "prometheus.keep-bytes", value_name = "BYTES", default_value = "512MB", value_parser = super::flags::bytes)]
    keep_bytes: u64,
    /// After how long all that is kept of a selector is fetched anew, or up to twice that: what
    /// was deleted at the server, or came to it much too late, is seen then.
    #[arg(long = "prometheus.refresh-kept", value_name = "DURATION", default_value = "10m", value_parser = super::flags::duration)]
    refresh_kept: Duration,

    /// Write a line of JSON for every finished query to this file; opened anew with each
    /// reload.
    #[arg(long = "query.log-file", value_name = "FILE")]
    query_log_file: Option<PathBuf>,

    /// Rule files: paths, glob patterns, directories, http:// or https:// URLs; repeatable.
    #[arg(long = "rules", value_name = "GLOB", required = true)]
    rules: Vec<String>,
    /// How often rules are evaluated whose group does not say.
    #[arg(long = "rules.evaluation-interval", value_name = "DURATION", default_value = "1m")]
    interval: String,
    /// How far in the past rules are evaluated unless their group says, for samples that come
    /// late to the server.
    #[arg(long = "rules.query-offset", value_name = "DURATION", default_value = "0s")]
    query_offset: String,

    /// An Alertmanager; repeatable. Credentials in the URL are used for basic authentication.
    #[arg(long = "alertmanager", value_name = "URL")]
    alertmanagers: Vec<String>,
    /// HTTP client options for the Alertmanagers, in a file of their own.
    #[arg(long = "alertmanager.http.config.file", value_name = "FILE")]
    alertmanager_http_config: Option<PathBuf>,

    /// Where results of rules are written by remote write; "none" for nowhere. Default:
    /// api/v1/write of the server.
    #[arg(long = "remote-write.url", value_name = "URL")]
    write_url: Option<String>,
    /// The message to write with.
    #[arg(long = "remote-write.protobuf-message", value_name = "MESSAGE", default_value = "prometheus.WriteRequest", value_parser = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"])]
    message: String,
    /// HTTP client options for writing, in a file of their own. Default: those of the server.
    #[arg(long = "remote-write.http.config.file", value_name = "FILE")]
    write_http_config: Option<PathBuf>,
    /// A label of all alerts and of everything written, as NAME=VALUE; repeatable. A label
    /// that the server itself does not give back cannot be used.
    #[arg(long = "external-label", value_name = "NAME=VALUE", value_parser = pair)]
    external_labels: Vec<(String, String)>,

    #[command(flatten)]
    pub serve: ServeFlags,
}

/// Flags of `serve` that mean nothing here.
const HIDDEN: &[&str] = &[
    "config_file",
    "enable_admin_api",
    "enable_remote_write_receiver",
    "remote_write_messages",
    "retention_time",
    "retention_size",
    "wal_compression",
    "wal_compression_type",
];

/// Runs the service until it is told to stop.
pub(crate) fn run(
    args: SidecarArgs,
    features: &FeatureFlags,
    effective: BTreeMap<String, String>,
) -> ExitCode {
    let backend = match args.backend() {
        Ok(backend) => backend,
        Err(error) => return super::fail(&error),
    };
    let args = Arc::new(args);
    let maker = args.clone();
    // Again at each reload: files that flags name may have changed.
    let made: MadeConfig = Box::new(move || maker.make());
    let given = Given {
        flags: &args.serve,
        features,
        effective,
        unserved: Vec::new(),
        backend,
        made: Some(made),
    };
    serve::run(given)
}

/// Where `sidecar` listens: Prometheus itself is on 9090 of the same host.
const LISTEN_ADDRESS: &str = "127.0.0.1:9095";
const STATE_DIR: &str = "watchfire-sidecar";

/// The command with the flags it shares with `serve` made its own.
pub(crate) fn command(command: Command) -> Command {
    let command = command
        .mut_arg("listen_addresses", |arg| arg.default_value(LISTEN_ADDRESS))
        .mut_arg("rules_watch_files", |arg| arg.default_value("true"))
        .mut_arg("storage_path", |arg| {
            arg.long("storage.path")
                .alias("storage.tsdb.path")
                .default_value(STATE_DIR)
                .help(
                    "Directory of what must survive a restart: alerts, the queue of remote \
                     write, copies of rules",
                )
                .long_help(None)
        });
    HIDDEN.iter().fold(command, |command, id| command.mut_arg(*id, |arg| arg.hide(true)))
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

impl SidecarArgs {
    /// The server as a source.
    pub fn backend(&self) -> Result<Backend, String> {
        let text = match &self.url {
            Some(text) if self.serve.storage_read_only.is_none() => text,
            _ => return Ok(Backend::Embedded),
        };
        let (mut url, auth) = server_url("prometheus.url", text)?;
        if self.kind == "remote-read" {
            url.set_path(&format!("{}/api/v1/read", url.path().trim_end_matches('/')));
        }
        let config = DatasourceConfig {
            url: url.to_string(),
            name: "prometheus".to_owned(),
            kind: match self.kind.as_str() {
                "victoriametrics" => DatasourceKind::VictoriaMetrics,
                "remote-read" => DatasourceKind::RemoteRead,
                "prometheus" => DatasourceKind::Prometheus,
                _ => DatasourceKind::Auto,
            },
            evaluate: match self.evaluate.as_str() {
                "here" => Evaluation::Here,
                "push-down" => Evaluation::PushDown,
                _ => Evaluation::Auto,
            },
            headers: self.headers.iter().cloned().collect(),
            parameters: self.parameters.iter().cloned().collect(),
            keep_bytes: self.keep_bytes,
            refresh_kept_ms: i64::try_from(self.refresh_kept.as_millis()).unwrap_or(i64::MAX),
            http: server_client(self.http_config.as_deref(), auth)?,
            ..DatasourceConfig::default()
        };
        config.validate().map_err(|e| format!("--prometheus.url: {e}"))?;
        Ok(Backend::Server(Box::new(config)))
    }

    /// The configuration that the flags mean.
    fn make(&self) -> Result<Loaded, String> {
        let mut alertmanagers = Vec::new();
        let mut credentials = Vec::new();
        for text in &self.alertmanagers {
            let (url, auth) = server_url("alertmanager", text)?;
            credentials.push(auth);
            let port = url.port_or_known_default().unwrap_or(9093);
            let target = format!("{}:{port}", url.host_str().unwrap_or_default());
            alertmanagers.push(json!({
                "scheme": url.scheme(),
                "path_prefix": url.path(),
                "static_configs": [{"targets": [target]}],
            }));
        }
        let labels: BTreeMap<_, _> = self.external_labels.iter().cloned().collect();
        let mut text = json!({
            "global": {
                "evaluation_interval": self.interval,
                "rule_query_offset": self.query_offset,
                "external_labels": labels,
            },
            "alerting": {"alertmanagers": alertmanagers},
            "rule_files": self.rules,
        });
        if let Some(file) = &self.query_log_file {
            text["global"]["query_log_file"] = json!(file);
        }
        let write = self.write()?;
        if let Some((url, _)) = &write {
            let headers: BTreeMap<_, _> = self.headers.iter().cloned().collect();
            text["remote_write"] = json!([{
                "name": "results",
                "url": url.as_str(),
                "headers": headers,
                "protobuf_message": self.message,
                "send_native_histograms": true,
                "metadata_config": {"send": false},
                "queue_config": {"batch_send_deadline": "1s", "retry_on_http_429": true},
            }]);
        }
        let mut loaded = parse(&text)?;
        let file = self.alertmanager_http_config.as_deref();
        let sets = loaded.config.alerting.alertmanagers.iter_mut();
        for (set, auth) in sets.zip(credentials) {
            set.http = server_client(file, auth)?;
        }
        if let (Some(target), Some((_, auth))) = (loaded.config.remote_write.first_mut(), write) {
            let own = self.write_http_config.as_deref();
            target.http = server_client(own.or(self.http_config.as_deref()), auth)?;
            target.http.enable_http2 = false;
        }
        Ok(loaded)
    }

    /// Where results are written.
    fn write(&self) -> Result<Option<(Url, Option<BasicAuth>)>, String> {
        match (self.write_url.as_deref(), &self.url) {
            (Some("none"), _) | (None, None) => Ok(None),
            (Some(text), _) => server_url("remote-write.url", text).map(Some),
            (None, Some(server)) => {
                let (mut url, auth) = server_url("prometheus.url", server)?;
                url.set_path(&format!("{}/api/v1/write", url.path().trim_end_matches('/')));
                Ok(Some((url, auth)))
            }
        }
    }
}

fn parse(text: &Json) -> Result<Loaded, String> {
    // What YAML has, JSON has.
    config::parse(&text.to_string(), Path::new("")).map_err(|e| format!("flags: {e}"))
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: SidecarArgs,
    }

    fn args(words: &[&str]) -> SidecarArgs {
        use clap::CommandFactory;
        let command = super::command(Cli::command());
        let matches = command.try_get_matches_from([&["sidecar"], words].concat());
        Cli::from_arg_matches(&matches.expect("flags")).expect("flags").args
    }

    #[test]
    fn flags_make_a_configuration() {
        let args = args(&[
            "--prometheus.url=http://u:p%40@prom:9090/base/",
            "--prometheus.header=X-Scope-OrgID=a=b",
            "--rules=/rules/*.yml",
            "--rules=https://rules/all.yml",
            "--alertmanager=https://am/path",
            "--alertmanager=http://am:9093",
            "--external-label=replica=a",
            "--rules.evaluation-interval=30s",
        ]);
        assert_eq!(args.serve.listen_addresses, [LISTEN_ADDRESS]);
        assert_eq!(args.serve.storage_path, PathBuf::from(STATE_DIR));
        assert!(args.serve.rules_watch_files);
        let Ok(Backend::Server(server)) = args.backend() else { panic!("no server") };
        assert_eq!(server.url, "http://prom:9090/base/");
        assert_eq!(server.headers["X-Scope-OrgID"], "a=b");
        assert_eq!(server.http.basic_auth.as_ref().map(|a| a.password.expose()), Some("p@"));
        let config = args.make().expect("a configuration").config;
        assert_eq!(config.global.evaluation_interval_ms, 30_000);
        assert_eq!(config.global.external_labels.get("replica"), Some("a"));
        assert_eq!(config.rule_files, ["/rules/*.yml", "https://rules/all.yml"]);
        let sets: Vec<_> = config.alerting.alertmanagers.iter().collect();
        assert_eq!(sets[0].static_configs[0].targets, ["am:443"]);
        assert_eq!((sets[0].scheme.as_str(), sets[0].path_prefix.as_str()), ("https", "/path"));
        assert_eq!(sets[1].static_configs[0].targets, ["am:9093"]);
        let write = &config.remote_write[0];
        assert_eq!(write.url, "http://prom:9090/base/api/v1/write");
        assert_eq!(write.headers["X-Scope-OrgID"], "a=b");
        assert_eq!(write.http.basic_auth.as_ref().map(|a| &*a.username), Some("u"));
    }

    #[test]
    fn bad_flags_are_named() {
        let base = ["--prometheus.url=http://p", "--rules=r"];
        for (more, expected) in [
            ("--alertmanager=am:9093", "--alertmanager=am:9093: want http://"),
            ("--remote-write.url=ftp://x", "--remote-write.url=ftp://x: want http://"),
            ("--rules.evaluation-interval=soon", "flags: "),
            ("--prometheus.http.config.file=/none", "cannot read /none"),
        ] {
            let args = args(&[&base[..], &[more]].concat());
            let error = args.make().expect_err(more);
            assert!(error.starts_with(expected), "{more}: {error}");
        }
        let args = args(&[&base[..], &["--remote-write.url=none"]].concat());
        assert!(args.make().expect("a configuration").config.remote_write.is_empty());
    }
}
