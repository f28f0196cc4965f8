//! Rule groups: loading, evaluating, alert state, templates.
//!
//! `config` reads files; `manager` runs what they hold, a `group` at a time when the
//! `scheduler` says so; `alert` is the state machine everything that evaluates shares;
//! `input` and `outcome` tell missing data from a false condition, `catch_up` makes up for
//! what was missed, `reach` and `gap` tell what a restart cost; `unit_test` runs the same
//! groups over given series. Evaluation asks a `Source`, feeds a `Sink` and a `Notifier`, and
//! takes the time from a `Clock`: it knows none of them by name.

pub mod alert;
mod alerting;
mod budget;
mod catch_up;
pub mod config;
pub mod convert;
pub mod cost;
pub mod diff;
mod error;
mod expand;
pub mod fmt;
mod gap;
pub mod graph;
mod group;
mod input;
mod last_good;
mod manager;
mod mates;
mod metrics;
pub mod notice;
mod order;
pub mod outcome;
pub mod policy;
mod quarantine;
mod reach;
mod recording;
mod restore;
mod scheduler;
pub mod state;
mod table;
pub mod template;
mod tick;
pub mod unit_test;
pub mod view;
mod waves;
mod write;

pub use error::RuleError;
pub use group::External;
pub use manager::{
    Manager, ManagerOptions, RuleSettings, RuleSource, Shard, UpdateError, load_all,
};
pub use metrics::Metrics;
pub use policy::RulePolicyDefaults;
pub(crate) use scheduler::tick_before;
pub use waves::EvaluationOptions;
