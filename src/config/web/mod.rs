//! The file that says how to serve HTTP (`--web.config.file`), in the format that
//! Prometheus and its exporters share: TLS, users, response headers. Here it is read and
//! checked; the API serves by it.

mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use serde::Deserialize;
use thiserror::Error;

use super::decode::from_node;
use super::yaml::parse;
use super::{ConfigError, read};
use crate::http::Secret;
use crate::http::config::join;

/// Why a web configuration was refused; the texts are Prometheus' where it has one.
#[derive(Debug, Error)]
pub enum WebConfigError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("unknown {what}: {name}")]
    Unknown { what: &'static str, name: String },
    #[error("missing one of {0} or {0}_file")]
    MissingPart(&'static str),
    #[error("at most one of {0} and {0}_file must be configured")]
    Both(&'static str),
    #[error("Invalid ClientAuth: {0}")]
    ClientAuth(String),
    #[error("Client CA's have been configured without a Client Auth Policy")]
    CaWithoutPolicy,
    #[error("open {file}: {cause}")]
    Open { file: String, cause: String },
    #[error("failed to load X509KeyPair: {0}")]
    KeyPair(String),
    #[error("cannot parse the CA certificates of {0}")]
    Ca(String),
    #[error("{key}: {why}")]
    Unserved { key: &'static str, why: String },
    #[error("HTTP header {0:?} can not be configured")]
    Header(String),
    #[error("invalid value for {name}. Expected one of: {allowed}, but got: {value:?}")]
    HeaderValue { name: String, allowed: String, value: String },
    #[error("password of user {user:?}: {why}")]
    Password { user: String, why: String },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebConfig {
    tls_server_config: TlsServerConfig,
    http_server_config: HttpServerConfig,
    basic_auth_users: BTreeMap<String, Secret>,
    rate_limit: RateLimit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsServerConfig {
    cert: String,
    key: Secret,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca: String,
    client_ca_file: String,
    client_allowed_sans: Vec<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: String,
    max_version: String,
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpServerConfig {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServerConfig {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateLimit {
    burst: i64,
    #[serde(rename = "interval")]
    _interval: String,
}

/// How HTTP is served.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Names of users and the bcrypt hashes of their passwords; empty when nobody is asked.
    pub users: BTreeMap<String, String>,
    /// What every answer carries.
    pub headers: BTreeMap<String, String>,
    /// The file, and those it names: when one changes, it is to be read again.
    pub files: Vec<PathBuf>,
}

impl TlsServerConfig {
    fn has_ca(&self) -> bool {
        !self.client_ca.is_empty() || !self.client_ca_file.is_empty()
    }

    /// Whether HTTPS is to be served.
    fn is_given(&self) -> bool {
        let key = self.key.expose();
        let parts = [&*self.cert, &self.cert_file, key, &self.key_file, &self.client_auth_type];
        parts.iter().any(|part| !part.is_empty()) || self.has_ca()
    }
}

const VERSIONS: &[&str] = &["TLS10", "TLS11", "TLS12", "TLS13"];
const CURVES: &[&str] = &["CurveP256", "CurveP384", "CurveP521", "X25519", "X25519MLKEM768"];
/// The suites Go calls secure, by its names.
const CIPHERS: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];
const CLIENT_AUTH_TYPES: &[&str] = &[
    "",
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
];
/// Headers that may be set, and the values that are allowed; none means any.
const HEADERS: &[(&str, &[&str])] = &[
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Checks a file and what it refers to, relative to its own directory, as promtool does.
pub fn check(path: &Path) -> Result<(), WebConfigError> {
    read_checked(path).map(|_| ())
}

/// How to serve by a file. What cannot be served is an error here: leaving out a part of
/// who is let in would let in others.
pub fn load(path: &Path) -> Result<Web, WebConfigError> {
    let mut files = vec![path.to_owned()];
    let Some(config) = read_checked(path)? else { return Ok(Web { files, ..Web::default() }) };
    if config.rate_limit.burst > 0 {
        let why = "limits on the rate of requests are not served; leave it out".to_owned();
        return Err(WebConfigError::Unserved { key: "rate_limit", why });
    }
    let tls = &config.tls_server_config;
    let named = [&tls.cert_file, &tls.key_file, &tls.client_ca_file];
    files.extend(named.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from));
    let server = tls::server_config(tls, config.http_server_config.http2)?;
    let users = config.basic_auth_users.iter();
    Ok(Web {
        tls: server.map(Arc::new),
        users: users.map(|(user, hash)| (user.clone(), hash.expose().to_owned())).collect(),
        headers: config.http_server_config.headers,
        files,
    })
}

/// `None` of an empty file.
fn read_checked(path: &Path) -> Result<Option<WebConfig>, WebConfigError> {
    let text = read(path)?;
    let invalid = |problem| ConfigError::Invalid {
        file: path.display().to_string(),
        problems: vec![problem],
    };
    let root = parse(&text).map_err(invalid)?.root;
    if root.is_null() {
        return Ok(None);
    }
    let mut config: WebConfig = from_node(&root).map_err(invalid)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let tls = &mut config.tls_server_config;
    for file in [&mut tls.cert_file, &mut tls.key_file, &mut tls.client_ca_file] {
        join(dir, file);
    }
    check_names(tls)?;
    check_headers(&config.http_server_config.headers)?;
    check_tls(&config.tls_server_config)?;
    for (user, hash) in &config.basic_auth_users {
        check_bcrypt(hash.expose())
            .map_err(|why| WebConfigError::Password { user: user.clone(), why })?;
    }
    Ok(Some(config))
}

fn check_names(tls: &TlsServerConfig) -> Result<(), WebConfigError> {
    let known = |what, known: &[&str], name: &String| {
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        Err(WebConfigError::Unknown { what, name: name.clone() })
    };
    tls.cipher_suites.iter().try_for_each(|name| known("cipher", CIPHERS, name))?;
    tls.curve_preferences.iter().try_for_each(|name| known("curve", CURVES, name))?;
    let versions = [&tls.min_version, &tls.max_version].into_iter().filter(|v| !v.is_empty());
    versions.into_iter().try_for_each(|name| known("TLS version", VERSIONS, name))
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), WebConfigError> {
    for (name, value) in headers {
        let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| known == name) else {
            return Err(WebConfigError::Header(name.clone()));
        };
        if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
            let allowed: Vec<String> = allowed.iter().map(|v| format!("{v:?}")).collect();
            let allowed = format!("[{}]", allowed.join(" "));
            let (name, value) = (name.clone(), value.clone());
            return Err(WebConfigError::HeaderValue { name, allowed, value });
        }
    }
    Ok(())
}

fn check_tls(tls: &TlsServerConfig) -> Result<(), WebConfigError> {
    let key = tls.key.expose();
    if !tls.is_given() {
        return Ok(());
    }
    let has_ca = tls.has_ca();
    let one = |what, text: &str, file: &str| match (text.is_empty(), file.is_empty()) {
        (true, true) => Err(WebConfigError::MissingPart(what)),
        (false, false) => Err(WebConfigError::Both(what)),
        _ => Ok(()),
    };
    one("cert", &tls.cert, &tls.cert_file)?;
    one("key", key, &tls.key_file)?;
    tls::key_pair(tls)?;
    if !tls.client_ca.is_empty() && !tls.client_ca_file.is_empty() {
        return Err(WebConfigError::Both("client_ca"));
    }
    if !tls.client_ca_file.is_empty() {
        fs::read(&tls.client_ca_file).map_err(|e| WebConfigError::Open {
            file: tls.client_ca_file.clone(),
            cause: e.to_string(),
        })?;
    }
    if !CLIENT_AUTH_TYPES.contains(&tls.client_auth_type.as_str()) {
        return Err(WebConfigError::ClientAuth(tls.client_auth_type.clone()));
    }
    if has_ca && matches!(tls.client_auth_type.as_str(), "" | "NoClientCert") {
        return Err(WebConfigError::CaWithoutPolicy);
    }
    Ok(())
}

/// Checks the form of a bcrypt hash: `$2y$10$` and 53 characters of salt and hash.
fn check_bcrypt(hash: &str) -> Result<(), String> {
    let said = |text: String| Err(format!("crypto/bcrypt: {text}"));
    let mut chars = hash.chars();
    let (first, version) = (chars.next(), chars.next().unwrap_or(' '));
    if hash.len() < 59 {
        return said("hashedSecret too short to be a bcrypted password".to_owned());
    }
    if let Some(first) = first.filter(|c| *c != '$') {
        return said(format!(
            "bcrypt hashes must start with '$', but hashedSecret started with '{first}'"
        ));
    }
    if version > '2' {
        return said(format!(
            "bcrypt algorithm version '{version}' requested is newer than current version '2'"
        ));
    }
    let cost = hash.split('$').nth(2).unwrap_or("");
    match cost.parse::<u32>() {
        Ok(4..=31) => Ok(()),
        Ok(cost) => said(format!("cost {cost} is outside allowed range (4,31)")),
        Err(_) => said(format!("the cost {cost:?} is not a number")),
    }
}
