//! Signed assertions for the JWT bearer grant (RFC 7519, RFC 7523).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::model::TimestampMs;

/// How long an assertion holds.
const LIFETIME_SECONDS: i64 = 30 * 60;

/// Why there is no assertion.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JwtError {
    #[error("client_certificate_key is no RSA key in PEM form: {0}")]
    Key(String),
    #[error("signing with client_certificate_key failed")]
    Sign,
}

/// How assertions are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Algorithm {
    #[default]
    Rs256,
    Rs384,
    Rs512,
}

impl Algorithm {
    /// By its name; `None` when it is none of the three.
    pub(super) fn new(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "RS384" => Some(Self::Rs384),
            "RS512" => Some(Self::Rs512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

/// What an assertion says.
pub(super) struct Statement<'a> {
    pub algorithm: Algorithm,
    /// Not said when empty.
    pub key_id: &'a str,
    pub issuer: String,
    pub subject: String,
    pub audience: String,
    /// Not said when empty.
    pub scope: String,
    /// Said last: they may replace any of the others.
    pub claims: &'a BTreeMap<String, String>,
    pub now_ms: TimestampMs,
}

/// The assertion, signed with an RSA key in PEM form (PKCS #1 or #8).
pub(super) fn assertion(key: &str, says: &Statement<'_>) -> Result<String, JwtError> {
    let pem = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let pair = match pem.map_err(|e| JwtError::Key(e.to_string()))? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(JwtError::Key("it is a key of another kind".to_owned())),
    };
    let pair = pair.map_err(|e| JwtError::Key(e.to_string()))?;
    let mut header = Map::new();
    header.insert("alg".to_owned(), says.algorithm.name().into());
    header.insert("typ".to_owned(), "JWT".into());
    if !says.key_id.is_empty() {
        header.insert("kid".to_owned(), says.key_id.into());
    }
    let now = says.now_ms.div_euclid(1000);
    let mut claims = Map::new();
    for (name, value) in [
        ("iss", json!(says.issuer)),
        ("sub", json!(says.subject)),
        ("aud", json!(says.audience)),
        ("jti", json!(format!("{:032x}", rand::random::<u128>()))),
        ("iat", json!(now)),
        ("exp", json!(now + LIFETIME_SECONDS)),
    ] {
        claims.insert(name.to_owned(), value);
    }
    if !says.scope.is_empty() {
        claims.insert("scope".to_owned(), json!(says.scope));
    }
    claims.extend(says.claims.iter().map(|(name, value)| (name.clone(), json!(value))));
    let part =
        |object: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(object).to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let padding: &dyn ring::signature::RsaEncoding = match says.algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
    };
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| JwtError::Sign)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
