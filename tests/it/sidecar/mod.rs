//! `watchfire sidecar` as an operator meets it, and what several processes that run the same
//! rules are to each other.

mod handover;
mod pair;
mod real;
mod sources;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Program, http_get};

const PATIENCE: Duration = Duration::from_secs(60);

/// A Watchfire over its own folder, whatever its command.
struct Server {
    program: Program,
    address: SocketAddr,
}

impl Server {
    fn start(dir: &Path, address: SocketAddr, args: &[String]) -> Self {
        let mut all = args.to_vec();
        all.push(format!("--web.listen-address={address}"));
        let mut program = Program::watchfire(&all, dir);
        program.wait_ready(&format!("http://{address}/-/ready"));
        Self { program, address }
    }

    fn get(&self, path: &str) -> Json {
        get(&format!("http://{}{path}", self.address))
    }

    /// The alerts of a name.
    fn alerts(&self, name: &str) -> Vec<Json> {
        let answer = self.get("/api/v1/alerts");
        let all = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|a| a["labels"]["alertname"] == name).collect()
    }

    /// Names of the groups that run, with the file each is of.
    fn groups(&self) -> Vec<(String, String)> {
        let answer = self.get("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
        groups.iter().map(|g| (text(&g["file"]), text(&g["name"]))).collect()
    }
}

fn get(url: &str) -> Json {
    let (_, body) = http_get(url).expect("an answer");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{url}: {e}: {body}"))
}

/// The result of an instant query.
fn query(base: &str, expr: &str) -> Vec<Json> {
    let expr: String = url::form_urlencoded::byte_serialize(expr.as_bytes()).collect();
    let answer = get(&format!("{base}/api/v1/query?query={expr}"));
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// Times in ms of the samples of a series over the last ten minutes.
fn times(base: &str, selector: &str) -> Vec<i64> {
    let found = query(base, &format!("{selector}[10m]"));
    let values = found.first().and_then(|s| s["values"].as_array().cloned()).unwrap_or_default();
    values.iter().map(|v| (v[0].as_f64().expect("a time") * 1000.0).round() as i64).collect()
}
