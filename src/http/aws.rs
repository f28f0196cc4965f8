//! Signing requests for AWS: the options, and where the credentials come from.
//!
//! Credentials are looked for as AWS' own programs do: in the options, in the named
//! profile, in the environment, in the token file of a web identity, in the default
//! profile. With `role_arn` they are what the role is assumed with. Metadata services of
//! containers and machines are not asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::client::{Client, HttpError, read_secret};
use super::config::ClientConfig;
use super::secret::Secret;
use super::sigv4::{Credentials, Scope, sign};
use crate::model::{Clock, TimestampMs};

/// Assumed credentials that expire within this time are asked for anew.
const EXPIRY_MARGIN_MS: i64 = 30_000;
/// Most bytes of an answer of the security token service.
const ANSWER_MAX: usize = 64 << 10;
/// Name of sessions that have none.
const SESSION_NAME: &str = "watchfire";

/// The `sigv4` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigV4Config {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_key: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub secret_key: Secret,
    /// Of the shared credentials file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub profile: String,
    /// A role to assume with the credentials.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role_arn: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_fips_sts_endpoint: bool,
    /// `aps` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_name: String,
}

/// Why the section was refused; texts are Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SigV4ConfigError {
    #[error(
        "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the \
         SigV4 config"
    )]
    HalfKeys,
    #[error("external_id can only be used with role_arn")]
    ExternalId,
}

impl SigV4Config {
    /// Checks the options against each other.
    pub fn validate(&self) -> Result<(), SigV4ConfigError> {
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(SigV4ConfigError::HalfKeys);
        }
        if !self.external_id.is_empty() && self.role_arn.is_empty() {
            return Err(SigV4ConfigError::ExternalId);
        }
        Ok(())
    }
}

/// Why a request cannot be signed.
#[derive(Debug, Error)]
pub enum SigV4Error {
    #[error("region not configured in sigv4 or in default credentials chain")]
    NoRegion,
    #[error(
        "could not get SigV4 credentials: {0}; give access_key and secret_key, \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a profile with them \
         (metadata services of containers and machines are not asked)"
    )]
    NoCredentials(String),
    #[error("could not get SigV4 credentials: {what} at {url}: {why}")]
    Sts { what: &'static str, url: String, why: String },
}

/// Variables of the process, or of a test.
pub(super) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The variables of the process.
pub(super) fn process_environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Signs the requests of one client.
pub(super) struct Signer {
    config: SigV4Config,
    region: String,
    environment: Environment,
    clock: Arc<dyn Clock>,
    /// For the security token service.
    client: Client,
    assumed: tokio::sync::Mutex<Option<Assumed>>,
}

/// Credentials that hold for a while, and those they were got with.
struct Assumed {
    from: Source,
    credentials: Credentials,
    expires_ms: TimestampMs,
}

/// Where credentials come from.
#[derive(Clone, PartialEq)]
enum Source {
    Keys(Credentials),
    WebIdentity { role_arn: String, session_name: String, token: String },
}

impl Signer {
    /// Finds the region, and credentials as far as nobody has to be asked for them.
    pub(super) async fn new(
        config: &SigV4Config,
        user_agent: &str,
        environment: Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpError> {
        let client = Client::new(&ClientConfig::default(), user_agent, clock.clone()).await?;
        let mut signer = Self {
            config: config.clone(),
            region: config.region.clone(),
            environment,
            clock,
            client,
            assumed: tokio::sync::Mutex::default(),
        };
        if signer.region.is_empty() {
            signer.region = signer.default_region().await.ok_or(SigV4Error::NoRegion)?;
        }
        signer.source().await?;
        Ok(signer)
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    async fn default_region(&self) -> Option<String> {
        if let Some(region) =
            self.variable("AWS_REGION").or_else(|| self.variable("AWS_DEFAULT_REGION"))
        {
            return Some(region);
        }
        let profile = self.profile();
        let heading = if profile == "default" { profile } else { format!("profile {profile}") };
        let text = self.shared_file("AWS_CONFIG_FILE", "config").await.ok()?;
        section(&text, &heading)?.remove("region")
    }

    fn profile(&self) -> String {
        let named = Some(self.config.profile.clone()).filter(|name| !name.is_empty());
        named.or_else(|| self.variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
    }

    /// A file of AWS' own programs.
    async fn shared_file(&self, variable: &str, name: &str) -> Result<String, String> {
        let path = match self.variable(variable) {
            Some(path) => path,
            None => {
                let home = self.variable("HOME").ok_or("there is no HOME directory")?;
                format!("{home}/.aws/{name}")
            }
        };
        tokio::fs::read_to_string(&path).await.map_err(|e| format!("cannot read {path}: {e}"))
    }

    /// Signs a request whose headers are complete.
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), HttpError> {
        let credentials = self.credentials().await?;
        let service = match self.config.service_name.as_str() {
            "" => "aps",
            name => name,
        };
        let scope = Scope { region: &self.region, service };
        sign(request, &credentials, scope, self.clock.now_ms())
    }

    async fn credentials(&self) -> Result<Credentials, HttpError> {
        let source = self.source().await?;
        if let (Source::Keys(keys), true) = (&source, self.config.role_arn.is_empty()) {
            return Ok(keys.clone());
        }
        let mut assumed = self.assumed.lock().await;
        if let Some(known) = assumed.as_ref()
            && known.from == source
            && known.expires_ms - EXPIRY_MARGIN_MS > self.clock.now_ms()
        {
            return Ok(known.credentials.clone());
        }
        *assumed = None;
        let (mut credentials, mut expires_ms) = match &source {
            Source::Keys(keys) => (keys.clone(), TimestampMs::MAX),
            Source::WebIdentity { role_arn, session_name, token } => {
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("RoleArn", role_arn),
                    ("RoleSessionName", session_name),
                    ("WebIdentityToken", token),
                ];
                self.assume(&form, None).await?
            }
        };
        if !self.config.role_arn.is_empty() {
            let mut form = vec![
                ("Action", "AssumeRole"),
                ("RoleArn", self.config.role_arn.as_str()),
                ("RoleSessionName", SESSION_NAME),
            ];
            if !self.config.external_id.is_empty() {
                form.push(("ExternalId", &self.config.external_id));
            }
            let (role, until_ms) = self.assume(&form, Some(&credentials)).await?;
            (credentials, expires_ms) = (role, until_ms.min(expires_ms));
        }
        *assumed = Some(Assumed { from: source, credentials: credentials.clone(), expires_ms });
        Ok(credentials)
    }

    async fn source(&self) -> Result<Source, HttpError> {
        let config = &self.config;
        if !config.access_key.is_empty() {
            return Ok(Source::Keys(Credentials {
                access_key: config.access_key.clone(),
                secret_key: config.secret_key.expose().to_owned(),
                session_token: String::new(),
            }));
        }
        if config.profile.is_empty() {
            let keys =
                ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| self.variable(name));
            if let [Some(access_key), Some(secret_key)] = keys {
                let session_token = self.variable("AWS_SESSION_TOKEN").unwrap_or_default();
                return Ok(Source::Keys(Credentials { access_key, secret_key, session_token }));
            }
            let identity =
                ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"].map(|name| self.variable(name));
            if let [Some(file), Some(role_arn)] = identity {
                let token = read_secret("web identity token file", &file).await?;
                let session_name = self.variable("AWS_ROLE_SESSION_NAME");
                let session_name = session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
                return Ok(Source::WebIdentity { role_arn, session_name, token });
            }
        }
        let keys = self.profile_keys().await.map_err(SigV4Error::NoCredentials)?;
        Ok(Source::Keys(keys))
    }

    /// The keys of the profile, read again each time.
    async fn profile_keys(&self) -> Result<Credentials, String> {
        let profile = self.profile();
        let text = self.shared_file("AWS_SHARED_CREDENTIALS_FILE", "credentials").await?;
        let mut keys =
            section(&text, &profile).ok_or_else(|| format!("there is no profile {profile}"))?;
        let mut take = |name: &str| keys.remove(name).filter(|value| !value.is_empty());
        let (Some(access_key), Some(secret_key)) =
            (take("aws_access_key_id"), take("aws_secret_access_key"))
        else {
            return Err(format!("profile {profile} has no keys"));
        };
        let session_token = take("aws_session_token").unwrap_or_default();
        Ok(Credentials { access_key, secret_key, session_token })
    }

    /// Asks the security token service for a role's credentials and until when they hold.
    async fn assume(
        &self,
        form: &[(&str, &str)],
        with: Option<&Credentials>,
    ) -> Result<(Credentials, TimestampMs), HttpError> {
        let fips = if self.config.use_fips_sts_endpoint { "-fips" } else { "" };
        let text = self
            .variable("AWS_ENDPOINT_URL_STS")
            .or_else(|| self.variable("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://sts{fips}.{}.amazonaws.com/", self.region));
        let what = if with.is_some() { "AssumeRole" } else { "AssumeRoleWithWebIdentity" };
        let failed = |why: String| SigV4Error::Sts { what, url: text.clone(), why };
        let url = Url::parse(&text).map_err(|e| failed(e.to_string()))?;
        let mut request = self.client.request(Method::POST, url);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let body: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .append_pair("Version", "2011-06-15")
            .finish();
        *request.body_mut() = Some(body.into());
        if let Some(credentials) = with {
            let scope = Scope { region: &self.region, service: "sts" };
            sign(&mut request, credentials, scope, self.clock.now_ms())?;
        }
        // A client without signer: the recursion ends here.
        let mut response = Box::pin(self.client.execute(request)).await?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(HttpError::Request)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_MAX {
                return Err(failed(format!("the answer is longer than {ANSWER_MAX} bytes")).into());
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        if !status.is_success() {
            let code = element(&answer, "Code").unwrap_or_default();
            let message = element(&answer, "Message").unwrap_or_default();
            return Err(failed(format!("{status} {code} {message}").trim().to_owned()).into());
        }
        let take = |name: &str| {
            element(&answer, name).ok_or_else(|| failed(format!("the answer has no {name}")))
        };
        let credentials = Credentials {
            access_key: take("AccessKeyId")?,
            secret_key: take("SecretAccessKey")?,
            session_token: take("SessionToken")?,
        };
        let expires = take("Expiration")?;
        let expires = chrono::DateTime::parse_from_rfc3339(&expires)
            .map_err(|e| failed(format!("Expiration {expires}: {e}")))?;
        Ok((credentials, expires.timestamp_millis()))
    }
}

/// The keys of one section of an INI file; of several with the name, the last value holds.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = heading.split_whitespace().eq(name.split_whitespace());
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
            && let Some(keys) = &mut found
        {
            keys.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// The text of the first element with that name. What AWS puts into these holds no markup.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
