//! The disk that holds the state log is full for a while: alerts go on and are told, and
//! what could not be written is there after all when the process is killed later.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::{PATIENCE, World, metric, now_ms, push, receive, write_files};
use crate::support::{Program, free_address, http_get, until, watchfire};

/// `watchfire serve` with the state log on a disk of 64 KiB of its own, which nobody else
/// sees. `None` where the system does not allow that, after saying so.
fn serve_on_small_disk(dir: &Path, args: &[String]) -> Option<Program> {
    let allowed = Command::new("unshare").args(["-Urm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: unshare -Urm is not allowed here; no disk can be made full");
        return None;
    }
    let script = "mount -t tmpfs -o size=64k none disk && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]).arg(watchfire()).args(args).current_dir(dir);
    Some(Program::spawn("watchfire on a small disk", &mut command))
}

fn args(address: std::net::SocketAddr, state_dir: &str) -> Vec<String> {
    [
        "serve",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--rules.alert.resend-delay=500ms",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
        &format!("--rules.state-dir={state_dir}"),
        &format!("--web.listen-address={address}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Since when the alerts of a rule are active, by instance.
fn active(address: std::net::SocketAddr, name: &str) -> Vec<(usize, i64)> {
    let (_, body) = http_get(&format!("http://{address}/api/v1/alerts")).expect("an answer");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    let of_rule = alerts.iter().filter(|alert| alert["labels"]["alertname"] == name);
    let mut found: Vec<_> =
        of_rule.map(|alert| (super::instance(alert), super::time(&alert["activeAt"]))).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_full_disk_stops_no_alert_and_costs_no_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = Arc::new(World::default());
    write_files(dir.path(), receive(&world));
    std::fs::create_dir(dir.path().join("disk")).expect("a folder");
    let address = free_address();
    let Some(mut program) = serve_on_small_disk(dir.path(), &args(address, "disk/state")) else {
        return;
    };
    program.wait_ready(&format!("http://{address}/-/ready"));
    let pushed = world.clone();
    std::thread::spawn(move || push(&pushed));
    *world.process.lock().unwrap() = Some(address);
    let failing = || metric(address, "watchfire_alert_state_failing");
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        until(PATIENCE, || done().then_some(())).unwrap_or_else(|| panic!("{what}"));
    };

    // The process sees its disk; others see it by way of the process.
    let disk = PathBuf::from(format!("/proc/{}/root", program.pid()));
    let disk = disk.join(dir.path().strip_prefix("/").expect("a whole path")).join("disk");
    let ballast = disk.join("ballast");
    // What cannot be written any more is what does not fit.
    _ = std::fs::write(&ballast, vec![0; 64 << 10]);
    world.conditions.lock().unwrap()[0] = true;
    wait("the disk is full", &|| failing() > 0.0);
    world.conditions.lock().unwrap()[1] = true;
    let told = |name: &str, instance: usize| {
        let told = world.told.lock().unwrap();
        told.iter().any(|t| t.alert == name && t.instance == instance && !t.is_resolved())
    };
    wait("alerts are told", &|| told("Plain", 1) && told("Wait", 1));
    assert!(failing() > 0.0, "nothing could be written meanwhile");

    std::fs::remove_file(&ballast).expect("room again");
    wait("the log is written again", &|| failing() == 0.0);
    let before = now_ms();
    wait("a second has passed", &|| now_ms() > before + 1000);
    let names = super::ALERTS.map(|rule| rule.name);
    let seen = names.map(|name| active(address, name));
    assert!(seen.iter().all(|alerts| alerts.len() == 2), "{seen:?}");

    // What is on that disk now is what the next process finds.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    *world.process.lock().unwrap() = None;
    for file in std::fs::read_dir(disk.join("state")).expect("the state directory") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name");
        // One that nothing needs any more may be deleted meanwhile.
        _ = std::fs::copy(&path, copy.join(name));
    }
    program.kill();
    let address = free_address();
    let mut program = Program::watchfire(&args(address, "copy"), dir.path());
    program.wait_ready(&format!("http://{address}/-/ready"));
    assert_eq!(names.map(|name| active(address, name)), seen);
    assert_eq!(metric(address, "watchfire_alert_state_damage_total"), 0.0);
    let log = program.log();
    assert!(!log.contains("damage") && !log.contains("BUG"), "{log}");
}
