//! How targets come to be: `scrape_pools/config`, `targets/relabel_steps`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::super::error::ApiError;
use super::super::params::Params;
use super::super::response::{ApiResult, LabelMap, Success};
use super::super::state::ApiState;
use crate::model::Labels;
use crate::relabel::{RelabelConfig, apply_to};
use crate::scrape::ScrapeConfig;

/// The configuration of the pool that is asked for.
fn pool(state: &ApiState, params: &Params) -> Result<ScrapeConfig, ApiError> {
    let name = params.get("scrapePool");
    if name.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    state.status.scrape_config(name).ok_or_else(|| {
        let why = format!("scrape pool {name:?} not found");
        ApiError::bad_data(format!("error retrieving scrape config: {why}"))
    })
}

#[derive(Serialize)]
struct Yaml {
    yaml: String,
}

/// The section of a scrape pool, with all defaults.
pub(super) async fn config(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let config = pool(&state, &params)?;
    let yaml = serde_yaml::to_string(&config);
    let yaml = yaml.expect("BUG: a scrape configuration can always be printed");
    Ok(Success::new(&Yaml { yaml }))
}

#[derive(Serialize)]
struct Steps<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    rule: Rule<'a>,
    output: LabelMap<'a>,
    keep: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    source_labels: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    separator: &'a str,
    regex: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    modulus: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_label: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    replacement: &'a str,
    action: &'static str,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl<'a> From<&'a RelabelConfig> for Rule<'a> {
    fn from(rule: &'a RelabelConfig) -> Self {
        Self {
            source_labels: &rule.source_labels,
            separator: &rule.separator,
            regex: rule.regex.as_str(),
            modulus: rule.modulus,
            target_label: &rule.target_label,
            replacement: &rule.replacement,
            action: rule.action.as_str(),
        }
    }
}

/// What each relabelling rule of a pool makes of a target's labels.
pub(super) async fn relabel_steps(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let config = pool(&state, &params)?;
    let text = params.get("labels");
    if text.is_empty() {
        return Err(ApiError::bad_data("no labels parameter provided"));
    }
    let pairs: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?;
    let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)));
    let rules = &config.relabel_configs;
    let outputs: Vec<Option<Labels>> =
        (1..=rules.len()).map(|count| apply_to(&rules[..count], &labels)).collect();
    let empty = Labels::default();
    let steps = rules.iter().zip(&outputs).map(|(rule, output)| Step {
        rule: rule.into(),
        output: LabelMap(output.as_ref().unwrap_or(&empty)),
        keep: output.is_some(),
    });
    Ok(Success::new(&Steps { steps: steps.collect() }))
}
