//! The edits of `reload`, made under a real Prometheus: it keeps the state of the same
//! alerts. Debian's is 2.42, which does not know all fields yet.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::reload::{CASES, Case, RULES};
use crate::support::{Program, free_address, http_get, http_post, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the alert at the first evaluation after the edit.
fn expected(case: &Case) -> &'static str {
    let posted = |part: &str| case.posted.iter().any(|p| p.contains(part));
    match () {
        () if case.posted.is_empty() || posted("30..40") => "gone",
        () if posted(" 60..") => "anew",
        () => "kept",
    }
}

/// In a two-hundredth of the time, and with the data that `reload` stores.
fn quick(rules: &str) -> String {
    let rules = ["10", "20", "50", "70"].iter().fold(rules.to_owned(), |text, seconds| {
        let ms = 5 * seconds.parse::<u32>().unwrap();
        text.replace(&format!(" {seconds}s"), &format!(" {ms}ms"))
    });
    format!("{rules}\n- {{name: data, rules: [{{record: x, expr: '5'}}]}}\n")
}

struct Prometheus {
    base: String,
    _program: Program,
}

impl Prometheus {
    fn start(dir: &Path) -> Option<Self> {
        let config = "global: {evaluation_interval: 50ms}\nrule_files: ['rules/*.yml']\n";
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        std::fs::create_dir(dir.join("rules")).unwrap();
        let address = free_address();
        let args = [
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address={address}"),
            "--web.enable-lifecycle".to_owned(),
        ];
        let mut program = Program::start("prometheus", &args)?;
        let base = format!("http://{address}");
        program.wait_ready(&format!("{base}/-/ready"));
        Some(Self { base, _program: program })
    }

    fn groups(&self) -> Vec<Json> {
        let (_, text) = http_get(&format!("{}/api/v1/rules", self.base)).unwrap();
        let answer: Json = serde_json::from_str(&text).unwrap();
        answer["data"]["groups"].as_array().unwrap().clone()
    }

    /// The alert, when it is active: its state and since when.
    fn alert(&self) -> Option<(String, String)> {
        let rules = self.groups().into_iter().flat_map(|g| g["rules"].as_array().unwrap().clone());
        let alert = rules.into_iter().find_map(|rule| rule["alerts"].get(0).cloned())?;
        let text = |name: &str| alert[name].as_str().unwrap().to_owned();
        Some((text("state"), text("activeAt")))
    }

    /// Puts rules in place and waits until all of them were evaluated twice since: what
    /// they read may come from the first time.
    fn load(&self, dir: &Path, file: &str, rules: &str) {
        for entry in std::fs::read_dir(dir.join("rules")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(dir.join("rules").join(file), rules).unwrap();
        let (status, text) = http_post(&format!("{}/-/reload", self.base)).unwrap();
        assert_eq!(status, 200, "{text}\n{rules}");
        for _ in 0..2 {
            let times = || -> Vec<String> {
                let groups = self.groups();
                groups.iter().map(|g| g["lastEvaluation"].as_str().unwrap().to_owned()).collect()
            };
            let before = times();
            let all = || {
                let now = times();
                now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
            };
            until(PATIENCE, all).expect("evaluations");
        }
    }
}

#[test]
fn a_real_prometheus_keeps_the_state_of_the_same_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(dir.path()) else { return };
    let unknown = ["query_offset", "labels: {g"];
    for case in CASES.iter().filter(|c| !unknown.iter().any(|field| c.to.contains(field))) {
        // Without the group first: every case begins anew.
        prometheus.load(dir.path(), "f.yml", &quick("groups:"));
        prometheus.load(dir.path(), "f.yml", &quick(RULES));
        let firing = || prometheus.alert().filter(|(state, _)| state == "firing");
        let (_, since) = until(PATIENCE, firing).expect(case.edit);
        prometheus.load(dir.path(), case.file(), &quick(&case.changed()));
        let got = match prometheus.alert() {
            None => "gone",
            Some((_, now)) if now == since => "kept",
            Some(_) => "anew",
        };
        assert_eq!(got, expected(case), "{}", case.edit);
    }
}
