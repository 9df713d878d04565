//! A mail server: where it is, how connections to it are encrypted, and the login.

use percent_encoding::percent_decode_str;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use url::Url;

/// The default ports: for mail between servers, for mail of a user, and for TLS from the first byte.
const SMTP_PORT: u16 = 25;
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;

/// How connections to a mail server are encrypted.
pub(super) enum Encryption {
    /// Not at all.
    None,
    /// With STARTTLS if the server offers it; the certificate is not verified.
    Opportunistic(Tls),
    /// With STARTTLS, or nothing is sent.
    Required(Tls),
    /// With TLS from the first byte.
    Wrapped(Tls),
}

/// A TLS configuration for one server.
pub(super) struct Tls {
    pub connector: TlsConnector,
    pub name: ServerName<'static>,
}

/// A user and a password.
pub(super) struct Login {
    pub user: String,
    pub password: String,
}

/// A mail server.
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    pub login: Option<Login>,
}

impl Server {
    /// Parses `smtp://[user:password@]host[:port][?tls=required|opportunistic|none]` or `smtps://…`.
    ///
    /// # Errors
    /// A message that continues the name of the setting and does not contain the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("is not a URL: {error}; use smtp://host:port"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("has no host; use smtp://host:port".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("contains more than a host and a port; use smtp://host:port".to_owned());
        }
        let login = login(&url)?;
        let wish = wish(&url)?;
        let encryption = encryption(&url, &host, wish.as_deref(), login.is_some())?;
        let port = url.port().unwrap_or(match (url.scheme(), &login) {
            ("smtps", _) => SUBMISSIONS_PORT,
            (_, Some(_)) => SUBMISSION_PORT,
            (_, None) => SMTP_PORT,
        });
        Ok(Self { host, port, encryption, login })
    }
}

fn login(url: &Url) -> Result<Option<Login>, String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => match (decode(user), decode(password)) {
            (Ok(user), Ok(password)) => Ok(Some(Login { user, password })),
            _ => Err("has a user or password that is not UTF-8 after percent-decoding".to_owned()),
        },
        _ => Err("needs a user and a password, or neither: smtp://user:password@host:port".to_owned()),
    }
}

/// Returns the value of `?tls=` in the URL.
fn wish(url: &Url) -> Result<Option<String>, String> {
    let mut wish = None;
    for (key, value) in url.query_pairs() {
        if key != "tls" || wish.is_some() {
            return Err(format!(
                "has \"{key}\" in its query; only tls=required, opportunistic or none is allowed, and only once"
            ));
        }
        wish = Some(value.into_owned());
    }
    Ok(wish)
}

fn encryption(url: &Url, host: &str, wish: Option<&str>, has_login: bool) -> Result<Encryption, String> {
    let is_here =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match (url.scheme(), wish) {
        ("smtps", None | Some("required")) => Ok(Encryption::Wrapped(Tls::verified(host)?)),
        ("smtp", Some("required")) => Ok(Encryption::Required(Tls::verified(host)?)),
        ("smtp", None) if has_login && !is_here => Ok(Encryption::Required(Tls::verified(host)?)),
        ("smtp", None | Some("opportunistic")) => Ok(Encryption::Opportunistic(Tls::unverified(host)?)),
        ("smtp", Some("none")) => Ok(Encryption::None),
        ("smtp", Some(other)) => {
            Err(format!("has tls={other}; valid values are required, opportunistic and none"))
        }
        ("smtps", Some(other)) => Err(format!("has tls={other}, but smtps is always encrypted")),
        (scheme, _) => Err(format!("begins with {scheme}:; use smtp://host:port or smtps://host:port")),
    }
}

impl Tls {
    /// The certificate must be valid for the host, and issued by an authority that the machine trusts.
    fn verified(host: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with(host, |provider| {
            let config =
                ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            Ok(config.with_root_certificates(roots).with_no_client_auth())
        })
    }

    fn unverified(host: &str) -> Result<Self, String> {
        Self::with(host, |provider| {
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?;
            let any = config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
            Ok(any.with_no_client_auth())
        })
    }

    fn with(
        host: &str,
        config: impl FnOnce(Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error>,
    ) -> Result<Self, String> {
        let unusable = |error: String| format!("has a host that TLS cannot use: {error}");
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(error.to_string()))?;
        let config =
            config(Arc::new(ring::default_provider())).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// Accepts any certificate, for encryption that an attacker could have suppressed altogether.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
