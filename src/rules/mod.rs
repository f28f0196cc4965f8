//! Rule groups: loading, evaluating, alert state, templates.

pub mod template;
pub mod view;
mod yaml;
