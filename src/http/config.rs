//! HTTP client options as Prometheus' configuration spells them, and their validation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

pub use super::oauth2::OAuth2;
pub use super::secret::Secret;

/// Names of the options that stand inline in a scrape or Alertmanager configuration.
pub const FIELDS: &[&str] = &[
    "basic_auth",
    "authorization",
    "oauth2",
    "bearer_token",
    "bearer_token_file",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
    "http_headers",
];

/// Options of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<Box<OAuth2>>,
    /// Legacy; becomes `authorization` in `normalize`.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub bearer_token: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bearer_token_file: String,
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls_config: TlsConfig,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    #[serde(flatten, skip_deserializing)]
    pub proxy: ProxyConfig,
    // The proxy options stand inline; they are read here and moved to `proxy`.
    #[serde(skip_serializing)]
    proxy_url: String,
    #[serde(skip_serializing)]
    no_proxy: String,
    #[serde(skip_serializing)]
    proxy_from_environment: bool,
    #[serde(skip_serializing)]
    proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_headers: Option<Headers>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy: ProxyConfig::default(),
            proxy_url: String::new(),
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            http_headers: None,
        }
    }
}

/// HTTP basic authentication. A file is read again for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username_ref: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password_ref: String,
}

/// An `Authorization` header. A file is read again for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub credentials: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials_ref: String,
}

/// A TLS version as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

/// TLS options. Files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    pub insecure_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
}

impl TlsConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Through which proxy requests go.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProxyConfig {
    #[serde(skip_serializing_if = "String::is_empty", serialize_with = "without_password")]
    pub proxy_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

/// Prints a URL with its password replaced, as Prometheus does.
pub(crate) fn without_password<S: Serializer>(text: &str, s: S) -> Result<S::Ok, S::Error> {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("xxxxx"));
            s.serialize_str(url.as_str())
        }
        _ => s.serialize_str(text),
    }
}

/// Headers added to each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, Header>);

/// Values of one added header, in the order they are sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Header {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Headers that the program sets itself or that change the connection.
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Why the options were refused; the texts are Prometheus' own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientConfigError {
    #[error("at most one of {0} must be configured")]
    AtMostOne(&'static str),
    #[error("authorization is not compatible with bearer_token & bearer_token_file")]
    BearerBesideAuthorization,
    #[error(r#"authorization type cannot be set to "basic", use "basic_auth" instead"#)]
    BasicAuthorization,
    #[error("oauth2 {0} must be configured")]
    OAuth2Missing(&'static str),
    #[error("valid signature algorithms are RS256, RS384 and RS512")]
    OAuth2Algorithm,
    #[error("exactly one of {0} must be configured when a client {1} is configured")]
    HalfIdentity(&'static str, &'static str),
    #[error("if proxy_from_environment is configured, {0} must not be configured")]
    ProxyFromEnvironmentBeside(&'static str),
    #[error("if no_proxy is configured, proxy_url must also be configured")]
    NoProxyAlone,
    #[error(
        "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be \
         configured"
    )]
    ConnectHeaderAlone,
    #[error("setting header {} is not allowed", crate::model::labels::quote(.0))]
    ReservedHeader(String),
    #[error("header {} has a name or value that HTTP does not allow", crate::model::labels::quote(.0))]
    InvalidHeader(String),
    #[error("proxy_url {url} cannot be used: {why}")]
    ProxyUrl { url: String, why: String },
    #[error(
        "{0} names a secret of a secret manager, and none exists here: give the value itself or a file"
    )]
    SecretRef(&'static str),
}

impl ClientConfig {
    /// Checks the options against each other and turns the legacy `bearer_token` into
    /// `authorization`. Call it once after reading.
    pub fn normalize(&mut self) -> Result<(), ClientConfigError> {
        use ClientConfigError::*;
        self.proxy = ProxyConfig {
            proxy_url: std::mem::take(&mut self.proxy_url),
            no_proxy: std::mem::take(&mut self.no_proxy),
            proxy_from_environment: std::mem::take(&mut self.proxy_from_environment),
            proxy_connect_header: std::mem::take(&mut self.proxy_connect_header),
        };
        let bearer = !self.bearer_token.is_empty() || !self.bearer_token_file.is_empty();
        if !self.bearer_token.is_empty() && !self.bearer_token_file.is_empty() {
            return Err(AtMostOne("bearer_token & bearer_token_file"));
        }
        if (self.basic_auth.is_some() || self.oauth2.is_some()) && bearer {
            return Err(AtMostOne("basic_auth, oauth2, bearer_token & bearer_token_file"));
        }
        if let Some(basic) = &self.basic_auth {
            basic.validate()?;
        }
        match &mut self.authorization {
            Some(_) if bearer => return Err(BearerBesideAuthorization),
            Some(authorization) => {
                authorization.normalize()?;
                if self.basic_auth.is_some() || self.oauth2.is_some() {
                    return Err(AtMostOne("basic_auth, oauth2 & authorization"));
                }
            }
            None if bearer => {
                self.authorization = Some(Authorization {
                    kind: "Bearer".into(),
                    credentials: std::mem::take(&mut self.bearer_token),
                    credentials_file: std::mem::take(&mut self.bearer_token_file),
                    credentials_ref: String::new(),
                });
            }
            None => {}
        }
        if let Some(oauth2) = &self.oauth2 {
            if self.basic_auth.is_some() {
                return Err(AtMostOne("basic_auth, oauth2 & authorization"));
            }
            oauth2.validate()?;
        }
        self.tls_config.validate()?;
        self.proxy.validate()?;
        self.http_headers.as_ref().map_or(Ok(()), Headers::validate)
    }

    /// Resolves relative file names against the configuration's directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        self.tls_config.resolve_paths(dir);
        if let Some(basic) = &mut self.basic_auth {
            join(dir, &mut basic.username_file);
            join(dir, &mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            join(dir, &mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            oauth2.resolve_paths(dir);
        }
        for header in self.http_headers.iter_mut().flat_map(|h| h.0.values_mut()) {
            header.files.iter_mut().for_each(|file| join(dir, file));
        }
        join(dir, &mut self.bearer_token_file);
    }

    /// Files the options name, with the words `check config` uses for them.
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = Vec::new();
        if let Some(authorization) = &self.authorization {
            files.push((
                "authorization credentials or bearer token file",
                authorization.credentials_file.as_str(),
            ));
        }
        files.push(("client cert file", &self.tls_config.cert_file));
        files.push(("client key file", &self.tls_config.key_file));
        files.push(("CA file", &self.tls_config.ca_file));
        if let Some(basic) = &self.basic_auth {
            files.push(("basic auth username file", &basic.username_file));
            files.push(("basic auth password file", &basic.password_file));
        }
        files.retain(|(_, file)| !file.is_empty());
        files
    }
}

/// Joins a relative, non-empty file name to the directory.
pub fn join(dir: &Path, file: &mut String) {
    if !file.is_empty() && Path::new(file.as_str()).is_relative() {
        *file = dir.join(file.as_str()).to_string_lossy().into_owned();
    }
}

pub(super) fn at_most_one(set: &[bool], what: &'static str) -> Result<(), ClientConfigError> {
    if set.iter().filter(|s| **s).count() > 1 {
        return Err(ClientConfigError::AtMostOne(what));
    }
    Ok(())
}

pub(super) fn no_ref(name: &str, what: &'static str) -> Result<(), ClientConfigError> {
    if name.is_empty() { Ok(()) } else { Err(ClientConfigError::SecretRef(what)) }
}

impl BasicAuth {
    fn validate(&self) -> Result<(), ClientConfigError> {
        let set = |s: &str| !s.is_empty();
        at_most_one(
            &[set(&self.username), set(&self.username_file), set(&self.username_ref)],
            "basic_auth username, username_file & username_ref",
        )?;
        at_most_one(
            &[!self.password.is_empty(), set(&self.password_file), set(&self.password_ref)],
            "basic_auth password, password_file & password_ref",
        )?;
        no_ref(&self.username_ref, "basic_auth username_ref")?;
        no_ref(&self.password_ref, "basic_auth password_ref")
    }
}

impl Authorization {
    fn normalize(&mut self) -> Result<(), ClientConfigError> {
        at_most_one(
            &[
                !self.credentials.is_empty(),
                !self.credentials_file.is_empty(),
                !self.credentials_ref.is_empty(),
            ],
            "authorization credentials & credentials_file",
        )?;
        self.kind = self.kind.trim().to_owned();
        if self.kind.is_empty() {
            self.kind = "Bearer".into();
        }
        if self.kind.eq_ignore_ascii_case("basic") {
            return Err(ClientConfigError::BasicAuthorization);
        }
        no_ref(&self.credentials_ref, "authorization credentials_ref")
    }
}

impl TlsConfig {
    pub(super) fn validate(&self) -> Result<(), ClientConfigError> {
        let set = |s: &str| !s.is_empty();
        let ca = [set(&self.ca), set(&self.ca_file), set(&self.ca_ref)];
        let cert = [set(&self.cert), set(&self.cert_file), set(&self.cert_ref)];
        let key = [!self.key.is_empty(), set(&self.key_file), set(&self.key_ref)];
        at_most_one(&ca, "ca, ca_file & ca_ref")?;
        at_most_one(&cert, "cert, cert_file & cert_ref")?;
        at_most_one(&key, "key and key_file")?;
        match (cert.contains(&true), key.contains(&true)) {
            (true, false) => Err(ClientConfigError::HalfIdentity("key or key_file", "certificate")),
            (false, true) => Err(ClientConfigError::HalfIdentity("cert or cert_file", "key")),
            _ => no_ref(&self.ca_ref, "tls_config ca_ref")
                .and(no_ref(&self.cert_ref, "tls_config cert_ref"))
                .and(no_ref(&self.key_ref, "tls_config key_ref")),
        }
    }

    pub(super) fn resolve_paths(&mut self, dir: &Path) {
        join(dir, &mut self.ca_file);
        join(dir, &mut self.cert_file);
        join(dir, &mut self.key_file);
    }
}

impl ProxyConfig {
    fn validate(&self) -> Result<(), ClientConfigError> {
        use ClientConfigError::*;
        let has_url = !self.proxy_url.is_empty();
        if !self.proxy_connect_header.is_empty() && !has_url && !self.proxy_from_environment {
            return Err(ConnectHeaderAlone);
        }
        if self.proxy_from_environment && has_url {
            return Err(ProxyFromEnvironmentBeside("proxy_url"));
        }
        if self.proxy_from_environment && !self.no_proxy.is_empty() {
            return Err(ProxyFromEnvironmentBeside("no_proxy"));
        }
        if !has_url && !self.no_proxy.is_empty() {
            return Err(NoProxyAlone);
        }
        match url::Url::parse(&self.proxy_url) {
            Err(e) if has_url => Err(ProxyUrl { url: self.proxy_url.clone(), why: e.to_string() }),
            _ => Ok(()),
        }
    }
}

impl Headers {
    fn validate(&self) -> Result<(), ClientConfigError> {
        let mut seen = BTreeSet::new();
        for (name, header) in &self.0 {
            let lower = name.to_lowercase();
            if RESERVED_HEADERS.contains(&lower.as_str()) || !seen.insert(lower) {
                return Err(ClientConfigError::ReservedHeader(canonical(name)));
            }
            let values = header.values.iter().map(String::as_str);
            let mut values = values.chain(header.secrets.iter().map(Secret::expose));
            let name_ok = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !name_ok || !values.all(|v| reqwest::header::HeaderValue::from_str(v).is_ok()) {
                return Err(ClientConfigError::InvalidHeader(name.clone()));
            }
        }
        Ok(())
    }
}

/// `x-my-header` as `X-My-Header`, the way Go prints header names.
fn canonical(name: &str) -> String {
    name.split('-')
        .map(|part| match part.split_at_checked(1) {
            Some((head, tail)) => head.to_uppercase() + &tail.to_lowercase(),
            None => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &str) {
        let mut config: ClientConfig = serde_yaml::from_str(yaml).unwrap();
        let got = config.normalize().map_or_else(|e| e.to_string(), |()| "ok".into());
        assert_eq!(got, expected, "{yaml}");
    }

    #[test]
    fn contradictions_are_refused_in_the_words_of_prometheus() {
        check("{}", "ok");
        check("{bearer_token: a}", "ok");
        check(
            "{bearer_token: a, bearer_token_file: b}",
            "at most one of bearer_token & bearer_token_file must be configured",
        );
        check(
            "{bearer_token: a, basic_auth: {username: u}}",
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        );
        check(
            "{authorization: {type: Basic}}",
            r#"authorization type cannot be set to "basic", use "basic_auth" instead"#,
        );
        check(
            "{authorization: {credentials: a}, basic_auth: {username: u}}",
            "at most one of basic_auth, oauth2 & authorization must be configured",
        );
        check(
            "{basic_auth: {password: a, password_file: b}}",
            "at most one of basic_auth password, password_file & password_ref must be configured",
        );
        check(
            "{tls_config: {cert_file: a}}",
            "exactly one of key or key_file must be configured when a client certificate is \
             configured",
        );
        check("{no_proxy: a}", "if no_proxy is configured, proxy_url must also be configured");
        check(
            "{proxy_from_environment: true, proxy_url: 'http://p'}",
            "if proxy_from_environment is configured, proxy_url must not be configured",
        );
        check(
            "{http_headers: {user-agent: {values: [x]}}}",
            "setting header \"User-Agent\" is not allowed",
        );
        check("{oauth2: {token_url: 'http://t'}}", "oauth2 client_id must be configured");
        check("{oauth2: {client_id: a}}", "oauth2 token_url must be configured");
        check(
            "{oauth2: {client_id: a, token_url: 'http://t'}, basic_auth: {username: u}}",
            "at most one of basic_auth, oauth2 & authorization must be configured",
        );
        check(
            "{oauth2: {client_id: a, token_url: 'http://t', client_secret: s, client_secret_file: f}}",
            "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be \
             configured",
        );
        check(
            "{oauth2: {client_id: a, token_url: 'http://t', tls_config: {key_file: k}}}",
            "exactly one of cert or cert_file must be configured when a client key is configured",
        );
        let jwt = "client_id: a, token_url: 'http://t', \
                   grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'";
        check(
            &format!("{{oauth2: {{{jwt}, signature_algorithm: HS256}}}}"),
            "valid signature algorithms are RS256, RS384 and RS512",
        );
        check(
            &format!(
                "{{oauth2: {{{jwt}, client_certificate_key: a, client_certificate_key_file: b}}}}"
            ),
            "at most one of oauth2 client_certificate_key, client_certificate_key_file & \
             client_certificate_key_ref must be configured",
        );
        check(&format!("{{oauth2: {{{jwt}, signature_algorithm: RS512}}}}"), "ok");
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config: ClientConfig =
            serde_yaml::from_str("{bearer_token: hunter2, proxy_url: 'http://u:hunter2@p:1/'}")
                .unwrap();
        config.oauth2 = serde_yaml::from_str(
            "{client_id: a, client_secret: hunter2, client_certificate_key: hunter2,
              token_url: 'http://t', proxy_url: 'http://u:hunter2@p:1/'}",
        )
        .unwrap();
        let yaml = serde_yaml::to_string(&config.oauth2).unwrap();
        assert!(!yaml.contains("hunter2") && yaml.contains("<secret>"), "{yaml}");
        config.oauth2 = None;
        config.normalize().unwrap();
        let yaml = serde_yaml::to_string(&config).unwrap();
        assert!(!yaml.contains("hunter2") && yaml.contains("<secret>"), "{yaml}");
        assert!(!format!("{config:?}").contains("credentials: hunter2"));
    }
}
