//! `watchfire check service-discovery`: what a scrape job discovers, before and after
//! relabelling.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::cli::{fail, say, small_runtime};
use crate::config;
use crate::discovery::{Discovery, DiscoveryMetrics, DiscoveryUser, Surroundings};
use crate::model::Labels;
use crate::model::duration::parse_duration;
use crate::scrape::ScrapeConfig;
use crate::scrape::target::Targets;
use crate::telemetry::Registry;
use crate::telemetry::clock::SystemClock;

#[derive(Debug, Args)]
pub(crate) struct ServiceDiscoveryArgs {
    /// The configuration file.
    config: PathBuf,
    /// The name of the scrape job.
    job: String,
    /// How long to listen to discovery.
    #[arg(long, default_value = "30s")]
    timeout: String,
}

/// Runs `watchfire check service-discovery`.
pub(super) fn run(args: &ServiceDiscoveryArgs) -> ExitCode {
    let timeout = match parse_duration(&args.timeout) {
        Ok(ms) => Duration::from_millis(ms.unsigned_abs()),
        Err(error) => return fail(&format!("--timeout: {error}")),
    };
    let config = match config::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(error) => return fail(&format!("cannot load config: {error}")),
    };
    let Some(job) = config.all_scrape_configs().find(|c| c.job_name == args.job) else {
        eprintln!("Job {} not found. Select one of:", args.job);
        for config in config.all_scrape_configs() {
            eprintln!("\t{}", config.job_name);
        }
        return ExitCode::from(1);
    };
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(discover(job, timeout)) {
        Ok(targets) => {
            say(&format_args!("{:#}", Json::from(results(&targets))));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Listens until the time is over; static lists need no time.
async fn discover(job: &ScrapeConfig, timeout: Duration) -> Result<Targets, String> {
    if job.discovery.is_static() {
        return Ok(Targets::of(job, &[]));
    }
    let around = Surroundings {
        user: DiscoveryUser::Scrape,
        clock: Arc::new(SystemClock::default()),
        metrics: DiscoveryMetrics::new(&mut Registry::default()),
        user_agent: concat!("watchfire/", env!("CARGO_PKG_VERSION")).to_owned(),
        name_server: None,
    };
    let discovery = Discovery::start(&job.discovery, &job.job_name, &around)
        .await
        .map_err(|e| e.to_string())?;
    tokio::time::sleep(timeout).await;
    Ok(Targets::of(job, &discovery.groups()))
}

fn results(targets: &Targets) -> Vec<Json> {
    let object = |labels: &Labels| -> Json {
        labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect::<Map<_, _>>().into()
    };
    let active = targets.active.iter().map(|target| {
        json!({"discoveredLabels": object(&target.discovered), "labels": object(&target.labels)})
    });
    let dropped = targets
        .dropped
        .iter()
        .map(|labels| json!({"discoveredLabels": object(labels), "labels": {}}));
    let wrong = targets.errors.iter().map(|(labels, error)| {
        let error = error.to_string();
        json!({"discoveredLabels": object(labels), "labels": {}, "error": error})
    });
    active.chain(dropped).chain(wrong).collect()
}
