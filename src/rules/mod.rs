//! Rule groups: loading, evaluating, alert state, templates.

pub mod alert;
pub mod config;
pub mod template;
pub mod view;
mod yaml;
