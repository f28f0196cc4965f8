//! `watchfire promql label-matchers`: sets or deletes a matcher in every selector.

use clap::Subcommand;

use super::QueryArg;
use crate::cli::FeatureFlags;
use crate::model::labels::is_legacy_metric_name;
use crate::model::{MatchOp, Matcher};
use crate::parser;
use crate::parser::ast::VectorSelector;

const METRIC_NAME: &str = "__name__";

#[derive(Debug, Subcommand)]
pub(crate) enum MatchersCommand {
    /// Replace the matchers of a label in every selector, or add one where there is none.
    Set {
        /// How the label is matched.
        #[arg(short = 't', long = "type", default_value = "=", value_parser = match_op)]
        op: MatchOp,
        #[command(flatten)]
        query: QueryArg,
        /// The label.
        name: String,
        /// What it is matched against.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remove the matchers of a label from every selector.
    Delete {
        #[command(flatten)]
        query: QueryArg,
        /// The label.
        name: String,
    },
}

fn match_op(text: &str) -> Result<MatchOp, String> {
    [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
        .into_iter()
        .find(|op| op.as_str() == text)
        .ok_or_else(|| "want one of =, !=, =~, !~".to_owned())
}

impl MatchersCommand {
    /// The changed expression in the standard layout.
    pub(super) fn rewritten(&self, features: &FeatureFlags) -> Result<String, String> {
        match self {
            Self::Set { op, query, name, value } => {
                let mut expr = query.parse(features)?;
                let matcher = Matcher::new(*op, name, value).map_err(|e| e.to_string())?;
                expr.change_selectors(&mut |selector| set(selector, &matcher));
                Ok(parser::pretty(&expr))
            }
            Self::Delete { query, name } => {
                let mut expr = query.parse(features)?;
                expr.change_selectors(&mut |selector| {
                    // The name before the braces is no matcher that can be deleted.
                    let keep = |m: &Matcher| *m.name != **name || written_before(selector, m);
                    let kept = selector.matchers.iter().filter(|m| keep(m)).cloned().collect();
                    selector.matchers = kept;
                });
                Ok(parser::pretty(&expr))
            }
        }
    }
}

fn written_before(selector: &VectorSelector, matcher: &Matcher) -> bool {
    *matcher.name == *METRIC_NAME && selector.name.is_some()
}

fn set(selector: &mut VectorSelector, matcher: &Matcher) {
    let mut found = false;
    for old in selector.matchers.iter_mut().filter(|m| m.name == matcher.name) {
        *old = matcher.clone();
        found = true;
    }
    if !found {
        // The matcher of the name before the braces stays last, where printing expects it.
        let last = selector.matchers.len() - usize::from(selector.name.is_some());
        selector.matchers.insert(last, matcher.clone());
    }
    if *matcher.name == *METRIC_NAME {
        // What stood before the braces is replaced as well.
        let plain = matcher.op == MatchOp::Equal && is_legacy_metric_name(&matcher.value);
        selector.name = (plain && selector.name.is_some()).then(|| matcher.value.to_string());
    }
}
