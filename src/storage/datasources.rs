//! The `datasources` section: servers, and what is made of several of them. Sources are made
//! anew from it at each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Source;
use super::by_age::{AgeRoute, ByAge};
use super::remote::{self, DatasourceConfig, DatasourceError, OpenError, Surroundings};
use super::router::LOCAL;
use super::shards::{PartialResponse, Shards};
use crate::model::duration::as_text;

/// `shards`: several datasources that only together hold everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardsConfig {
    pub shards: Vec<String>,
    /// Labels in which the series of replicas differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replica_labels: Vec<String>,
    pub partial_response: PartialResponse,
}

/// `routes`: which datasource is asked for samples of which age.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutesConfig {
    pub routes: Vec<RouteConfig>,
}

/// A datasource and the age of samples up to which it is asked; 0 for any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    pub source: String,
    #[serde(rename = "max_age", with = "as_text", skip_serializing_if = "is_zero")]
    pub max_age_ms: i64,
}

fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

/// One entry of `datasources`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Datasource {
    Server(Box<DatasourceConfig>),
    Shards(ShardsConfig),
    Routes(RoutesConfig),
}

/// Entries by name.
pub type Datasources = BTreeMap<String, Datasource>;

/// Why the section was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DatasourcesError {
    #[error("datasources: the name {LOCAL} is that of the local storage; choose another one")]
    Local,
    #[error("datasources: {0:?} is no name: use letters, digits, '_', '-' and '.'")]
    Name(String),
    #[error("datasources.{name}: {cause}")]
    Server { name: String, cause: DatasourceError },
    #[error("datasources.{0}: name at least one datasource")]
    Empty(String),
    #[error("datasources.{name}: there is no datasource {wanted:?}")]
    Unknown { name: String, wanted: String },
    #[error("datasources.{0} is made of itself")]
    Circle(String),
    #[error("datasources.{0}: routes stand in order of max_age; only the last may have none")]
    Order(String),
}

impl Datasource {
    /// The entries this one is made of.
    fn parts(&self) -> Vec<&str> {
        match self {
            Self::Server(_) => Vec::new(),
            Self::Shards(shards) => shards.shards.iter().map(String::as_str).collect(),
            Self::Routes(routes) => routes.routes.iter().map(|r| r.source.as_str()).collect(),
        }
    }

    fn validate(&self, name: &str) -> Result<(), DatasourcesError> {
        match self {
            Self::Server(server) => server
                .validate()
                .map_err(|cause| DatasourcesError::Server { name: name.to_owned(), cause }),
            _ if self.parts().is_empty() => Err(DatasourcesError::Empty(name.to_owned())),
            Self::Shards(_) => Ok(()),
            Self::Routes(config) => {
                let (last, first) = config.routes.split_last().expect("BUG: it is not empty");
                let ages = |routes: &[RouteConfig]| {
                    routes.is_sorted_by(|a, b| a.max_age_ms < b.max_age_ms)
                };
                let sorted = if last.max_age_ms == 0 { ages(first) } else { ages(&config.routes) };
                let aged = first.iter().all(|route| route.max_age_ms > 0);
                if sorted && aged { Ok(()) } else { Err(DatasourcesError::Order(name.to_owned())) }
            }
        }
    }
}

/// Checks the entries, and that they lead to each other without going in circles.
pub fn validate(all: &Datasources) -> Result<(), DatasourcesError> {
    for (name, datasource) in all {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name == LOCAL {
            return Err(DatasourcesError::Local);
        }
        if name.is_empty() || !name.chars().all(fits) {
            return Err(DatasourcesError::Name(name.clone()));
        }
        datasource.validate(name)?;
        for wanted in datasource.parts() {
            if wanted != LOCAL && !all.contains_key(wanted) {
                let (name, wanted) = (name.clone(), wanted.to_owned());
                return Err(DatasourcesError::Unknown { name, wanted });
            }
        }
    }
    in_order(all).map(|_| ())
}

/// The names so that each comes after those it is made of.
fn in_order(all: &Datasources) -> Result<Vec<&str>, DatasourcesError> {
    let mut done: BTreeSet<&str> = BTreeSet::from([LOCAL]);
    let mut order = Vec::new();
    while order.len() < all.len() {
        let before = order.len();
        for (name, datasource) in all {
            let ready = datasource.parts().iter().all(|part| done.contains(part));
            if ready && done.insert(name) {
                order.push(name.as_str());
            }
        }
        if order.len() == before {
            let stuck = all.keys().find(|name| !done.contains(name.as_str()));
            return Err(DatasourcesError::Circle(stuck.cloned().unwrap_or_default()));
        }
    }
    Ok(order)
}

/// The sources of a section that was validated. `local` is what stands for the local storage.
pub async fn open_all(
    all: &Datasources,
    local: &Arc<dyn Source>,
    around: &Surroundings,
) -> Result<BTreeMap<String, Arc<dyn Source>>, OpenError> {
    let mut open: BTreeMap<String, Arc<dyn Source>> = BTreeMap::new();
    // Some are asked who they are, and may be down: all at the same time.
    let servers = all.iter().filter_map(|(name, datasource)| match datasource {
        Datasource::Server(server) => Some((name, server)),
        _ => None,
    });
    let servers = servers.map(|(name, server)| async move {
        let server = DatasourceConfig { name: name.clone(), ..(**server).clone() };
        Ok::<_, OpenError>((name.clone(), remote::open(&server, around).await?))
    });
    open.extend(try_join_all(servers).await?);
    for name in in_order(all).unwrap_or_default() {
        let part = |open: &BTreeMap<String, Arc<dyn Source>>, name: &str| match name {
            LOCAL => local.clone(),
            name => open.get(name).expect("BUG: parts come first").clone(),
        };
        let source: Arc<dyn Source> = match &all[name] {
            Datasource::Server(_) => continue,
            Datasource::Shards(config) => {
                let members = config.shards.iter().map(|name| part(&open, name)).collect();
                let labels = config.replica_labels.clone();
                Arc::new(Shards::new(members, labels, config.partial_response))
            }
            Datasource::Routes(config) => {
                let route = |route: &RouteConfig| AgeRoute {
                    source: part(&open, &route.source),
                    max_age_ms: (route.max_age_ms > 0).then_some(route.max_age_ms),
                };
                let routes = config.routes.iter().map(route).collect();
                Arc::new(ByAge::new(routes, around.clock.clone()))
            }
        };
        open.insert(name.to_owned(), source);
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Datasource {
        let url = "http://a:9090".to_owned();
        Datasource::Server(Box::new(DatasourceConfig { url, ..DatasourceConfig::default() }))
    }

    fn shards(names: &[&str]) -> Datasource {
        let shards = names.iter().map(|n| (*n).to_owned()).collect();
        Datasource::Shards(ShardsConfig { shards, ..ShardsConfig::default() })
    }

    fn routes(all: &[(&str, i64)]) -> Datasource {
        let route = |(source, age): &(&str, i64)| RouteConfig {
            source: (*source).to_owned(),
            max_age_ms: *age,
        };
        Datasource::Routes(RoutesConfig { routes: all.iter().map(route).collect() })
    }

    #[test]
    fn entries_lead_to_each_other() {
        let check = |entries: &[(&str, Datasource)], expected: &str| {
            let all = entries.iter().map(|(n, d)| ((*n).to_owned(), d.clone())).collect();
            let said = validate(&all).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check(
            &[
                ("b", server()),
                ("a", shards(&["b", "local"])),
                ("c", routes(&[("a", 5), ("b", 0)])),
            ],
            "",
        );
        check(&[("local", server())], "name local is that of the local storage");
        check(&[("a b", server())], "\"a b\" is no name");
        check(&[("a", shards(&[]))], "datasources.a: name at least one");
        check(&[("a", shards(&["x"]))], "there is no datasource \"x\"");
        check(&[("a", shards(&["b"])), ("b", shards(&["a"]))], "datasources.a is made of itself");
        check(&[("a", routes(&[("local", 0), ("local", 5)]))], "in order of max_age");
        check(&[("a", routes(&[("local", 9), ("local", 5)]))], "in order of max_age");
        let no_url = Datasource::Server(Box::default());
        check(&[("a", no_url)], "datasources.a: url");
    }
}
