//! TLS of the HTTP client: certificates from files or inline, a name to check instead of
//! the host, the versions allowed.

use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme};

use super::client::HttpError;
use super::config::{TlsConfig, TlsVersion};

/// The PEM texts a configuration resolves to, read from its files. Two equal ones give
/// equal clients, which is how a changed file is noticed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Material {
    /// Reads what the configuration names.
    pub(super) async fn read(config: &TlsConfig) -> Result<Self, HttpError> {
        Ok(Self {
            ca: text_or_file("CA cert", &config.ca, &config.ca_file).await?,
            cert: text_or_file("client cert", &config.cert, &config.cert_file).await?,
            key: text_or_file("client key", config.key.expose(), &config.key_file).await?,
        })
    }

    /// True when nothing comes from a file, so that nothing can change.
    pub(super) fn is_static(config: &TlsConfig) -> bool {
        [&config.ca_file, &config.cert_file, &config.key_file].iter().all(|f| f.is_empty())
    }
}

async fn text_or_file(what: &'static str, text: &str, file: &str) -> Result<Vec<u8>, HttpError> {
    if file.is_empty() {
        return Ok(text.as_bytes().to_vec());
    }
    tokio::fs::read(file).await.map_err(|e| HttpError::ReadFile {
        what,
        file: file.to_owned(),
        cause: e.to_string(),
    })
}

/// Applies the options to a client under construction.
pub(super) fn configure(
    builder: ClientBuilder,
    config: &TlsConfig,
    material: &Material,
) -> Result<ClientBuilder, HttpError> {
    if config.server_name.is_empty() {
        return through_reqwest(builder, config, material);
    }
    Ok(builder.tls_backend_preconfigured(with_server_name(config, material)?))
}

fn invalid(what: &'static str, why: impl ToString) -> HttpError {
    HttpError::Tls { what, why: why.to_string() }
}

fn through_reqwest(
    mut builder: ClientBuilder,
    config: &TlsConfig,
    material: &Material,
) -> Result<ClientBuilder, HttpError> {
    if !material.ca.is_empty() {
        let certs = reqwest::Certificate::from_pem_bundle(&material.ca)
            .map_err(|e| invalid("CA certificate", e))?;
        if certs.is_empty() {
            return Err(invalid("CA certificate", "it holds no PEM certificate"));
        }
        builder = builder.tls_certs_only(certs);
    }
    if !material.cert.is_empty() {
        let pem = [&material.cert[..], b"\n", &material.key[..]].concat();
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|e| invalid("client certificate and key", e))?;
        builder = builder.identity(identity);
    }
    let (min, max) = versions(config);
    builder = builder.tls_version_min(match min {
        TlsVersion::Tls13 => reqwest::tls::Version::TLS_1_3,
        _ => reqwest::tls::Version::TLS_1_2,
    });
    if max == TlsVersion::Tls12 {
        builder = builder.tls_version_max(reqwest::tls::Version::TLS_1_2);
    }
    Ok(builder.tls_danger_accept_invalid_certs(config.insecure_skip_verify))
}

/// Lowest and highest version to offer. TLS 1.0 and 1.1 are not implemented by the TLS
/// library; asking for them as a minimum leaves 1.2 as the lowest.
fn versions(config: &TlsConfig) -> (TlsVersion, TlsVersion) {
    let min = config.min_version.filter(|v| *v == TlsVersion::Tls13);
    let max = config.max_version.filter(|v| *v != TlsVersion::Tls13);
    (min.unwrap_or(TlsVersion::Tls12), max.map_or(TlsVersion::Tls13, |_| TlsVersion::Tls12))
}

/// A TLS configuration that checks the certificate against `server_name`.
fn with_server_name(
    config: &TlsConfig,
    material: &Material,
) -> Result<rustls::ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (min, max) = versions(config);
    let mut offered: Vec<&rustls::SupportedProtocolVersion> = Vec::new();
    if min == TlsVersion::Tls12 {
        offered.push(&rustls::version::TLS12);
    }
    if max == TlsVersion::Tls13 {
        offered.push(&rustls::version::TLS13);
    }
    let name =
        ServerName::try_from(config.server_name.clone()).map_err(|e| invalid("server_name", e))?;
    let verifier = Arc::new(FixedName {
        name: (!config.insecure_skip_verify).then_some(name),
        inner: verifier(material, &provider)?,
    });
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&offered)
        .map_err(|e| invalid("TLS versions", e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    if material.cert.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = CertificateDer::pem_slice_iter(&material.cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| invalid("client certificate", e))?;
    let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|e| invalid("client key", e))?;
    builder.with_client_auth_cert(chain, key).map_err(|e| invalid("client certificate and key", e))
}

fn verifier(
    material: &Material,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, HttpError> {
    if material.ca.is_empty() {
        let platform = rustls_platform_verifier::Verifier::new(provider.clone())
            .map_err(|e| invalid("system certificates", e))?;
        return Ok(Arc::new(platform));
    }
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&material.ca) {
        let cert = cert.map_err(|e| invalid("CA certificate", e))?;
        roots.add(cert).map_err(|e| invalid("CA certificate", e))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| invalid("CA certificate", e))?;
    Ok(verifier)
}

/// Checks a certificate against a fixed name, or against nothing.
#[derive(Debug)]
struct FixedName {
    /// `None` when verification is off.
    name: Option<ServerName<'static>>,
    inner: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for FixedName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        match &self.name {
            Some(name) => {
                self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
