//! The section `tls_server_config` as the settings of a TLS server.

use std::fs;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, NamedGroup, ProtocolVersion, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};

use super::{TlsServerConfig, WebConfigError};

/// `None` for plain HTTP.
pub(super) fn server_config(
    tls: &TlsServerConfig,
    http2: bool,
) -> Result<Option<ServerConfig>, WebConfigError> {
    if !tls.is_given() {
        return Ok(None);
    }
    let unserved = |key, why: String| WebConfigError::Unserved { key, why };
    if !tls.client_allowed_sans.is_empty() {
        let why = "names of client certificates are not looked at; have clients' certificates \
                   signed by a CA of their own instead";
        return Err(unserved("client_allowed_sans", why.to_owned()));
    }
    let provider = Arc::new(provider(tls)?);
    let versions = versions(tls)?;
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| unserved("cipher_suites", e.to_string()))?;
    let resolver = Arc::new(SingleCertAndKey::from(key_pair(tls)?));
    let mut config =
        config.with_client_cert_verifier(verifier(tls, &provider)?).with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(Some(config))
}

/// The suites and curves that are wanted, of those there are.
fn provider(tls: &TlsServerConfig) -> Result<CryptoProvider, WebConfigError> {
    let mut provider = rustls::crypto::ring::default_provider();
    let none = |key, why: &str| WebConfigError::Unserved { key, why: why.to_owned() };
    if !tls.cipher_suites.is_empty() {
        // As in Go, those of TLS 1.3 cannot be chosen.
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            suite.version() == &TLS13 || tls.cipher_suites.contains(&name)
        });
        let is_old = tls.max_version == "TLS12";
        if is_old && provider.cipher_suites.iter().all(|suite| suite.version() == &TLS13) {
            return Err(none(
                "cipher_suites",
                "none of them is served: name an AEAD suite (GCM, CHACHA20)",
            ));
        }
    }
    if !tls.curve_preferences.is_empty() {
        let group = |name: &String| match name.as_str() {
            "CurveP256" => Some(NamedGroup::secp256r1),
            "CurveP384" => Some(NamedGroup::secp384r1),
            "X25519" => Some(NamedGroup::X25519),
            _ => None,
        };
        let wanted: Vec<NamedGroup> = tls.curve_preferences.iter().filter_map(group).collect();
        let known = std::mem::take(&mut provider.kx_groups);
        let of = |wanted: &NamedGroup| known.iter().find(|group| group.name() == *wanted).copied();
        provider.kx_groups = wanted.iter().filter_map(of).collect();
        if provider.kx_groups.is_empty() {
            return Err(none(
                "curve_preferences",
                "none of them is served: name X25519, CurveP256 or CurveP384",
            ));
        }
    }
    Ok(provider)
}

/// TLS 1.2 and 1.3; older versions are not served, whatever is the least that is allowed.
fn versions(
    tls: &TlsServerConfig,
) -> Result<Vec<&'static SupportedProtocolVersion>, WebConfigError> {
    let number = |name: &str, default| match name {
        "TLS10" | "TLS11" => 11,
        "TLS12" => 12,
        "TLS13" => 13,
        _ => default,
    };
    let (least, most) = (number(&tls.min_version, 12), number(&tls.max_version, 13));
    let known = [&TLS12, &TLS13].into_iter();
    let found: Vec<_> = known
        .filter(|version| {
            let number = if version.version == ProtocolVersion::TLSv1_2 { 12 } else { 13 };
            (least..=most).contains(&number)
        })
        .collect();
    match found.is_empty() {
        true => Err(WebConfigError::Unserved {
            key: "max_version",
            why: "TLS 1.2 and 1.3 are served, and none of them is allowed".to_owned(),
        }),
        false => Ok(found),
    }
}

/// Who is asked for a certificate, and which are good.
fn verifier(
    tls: &TlsServerConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, WebConfigError> {
    let any = |is_needed| -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyCertificate { is_needed, provider: Arc::clone(provider) })
    };
    let is_needed = match tls.client_auth_type.as_str() {
        "RequestClientCert" => return Ok(any(false)),
        "RequireAnyClientCert" | "RequireClientCert" => return Ok(any(true)),
        "VerifyClientCertIfGiven" => false,
        "RequireAndVerifyClientCert" => true,
        _ => return Ok(Arc::new(NoClientAuth)),
    };
    let mut roots = RootCertStore::empty();
    let source = if tls.client_ca.is_empty() { &*tls.client_ca_file } else { "client_ca" };
    let bad = |_| WebConfigError::Ca(source.to_owned());
    let text = text_or_file(&tls.client_ca, &tls.client_ca_file).map_err(bad)?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate.map(|certificate| roots.add(certificate));
        if !matches!(added, Ok(Ok(()))) {
            return Err(bad(String::new()));
        }
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if is_needed { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|e| bad(e.to_string()))?;
    Ok(verifier)
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    is_needed: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.is_needed
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn text_or_file(text: &str, file: &str) -> Result<Vec<u8>, String> {
    if file.is_empty() {
        return Ok(text.as_bytes().to_vec());
    }
    fs::read(file).map_err(|e| format!("open {file}: {e}"))
}

/// The certificate and its key; they must be readable and belong together.
pub(super) fn key_pair(tls: &TlsServerConfig) -> Result<CertifiedKey, WebConfigError> {
    let failed = |why: String| WebConfigError::KeyPair(why);
    let cert = text_or_file(&tls.cert, &tls.cert_file).map_err(failed)?;
    let key = text_or_file(tls.key.expose(), &tls.key_file).map_err(failed)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
    let chain = chain.map_err(|e| failed(format!("the certificate: {e}")))?;
    if chain.is_empty() {
        return Err(failed("the certificate holds no PEM certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| failed(format!("the key: {e}")))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            failed("private key does not match public key".to_owned())
        }
        e => failed(e.to_string()),
    })
}
