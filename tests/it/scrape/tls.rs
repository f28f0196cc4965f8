//! HTTPS targets, with certificates made by the openssl command.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use watchfire::scrape::ScrapeView;

use super::rig::Bench;
use crate::support::available;

/// A self-signed certificate for a name, as two PEM files.
fn certificate(dir: &Path, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_as_configured() {
    if !available("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "target.test");
    watchfire::http::install_crypto_provider();
    let config =
        RustlsConfig::from_pem_file(dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let config = config.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router =
        Router::new().fallback(get(|| async { ([(header::CONTENT_TYPE, "text/plain")], "a 1\n") }));
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));

    let ca = format!("ca_file: '{}'", dir.path().join("cert.pem").display());
    for (options, up) in [
        ("insecure_skip_verify: true".to_owned(), 1.0),
        (format!("{ca}, server_name: target.test"), 1.0),
        (format!("{ca}, server_name: other.test"), 0.0),
        // The address is no name the certificate is for.
        (ca, 0.0),
        ("server_name: target.test".to_owned(), 0.0),
        ("insecure_skip_verify: true, server_name: x, min_version: TLS13".to_owned(), 1.0),
    ] {
        let bench = Bench::new();
        bench
            .apply(&format!(
                "scrape_configs: [{{job_name: t, scheme: https, tls_config: {{{options}}}, \
                 static_configs: [{{targets: ['{address}']}}]}}]"
            ))
            .await;
        let got = bench.next_scrape("t").await.value;
        let error = bench.target("t").await.last_error;
        assert_eq!(got, up, "{options}: {error}");
        assert_eq!(error.is_empty(), up == 1.0);
        assert_eq!(bench.manager.active_targets().len(), 1);
        bench.manager.stop().await;
    }
}
