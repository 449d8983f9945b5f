//! Requests over HTTP, on behalf of agents.
//!
//! Who may ask whom is decided elsewhere, by policy; here it is made sure that a request goes where
//! its URL says and to no network that is not public.
//!
//! # What holds
//!
//! - A connection goes to an address that was looked at: a name that leads to this machine, to its
//!   network or to a cloud's metadata is refused, whatever it led to a moment ago, unless the
//!   configuration lists the address.
//! - Nothing is followed, remembered or shared: no redirects, no cookies, no proxies, no connection
//!   that is used twice. Who wants to follow a redirect asks again, and is decided again.
//! - Every phase ends at the request's deadline, and what is read is bounded.
//!
//! # What is not here
//!
//! HTTP/2: one request is one connection, so that nothing could share it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use symbiont_dsl::url::Url;
use symbiont_types::ConfigurationError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// The longest that a request may take, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long one address may take to answer to a connection, before the next one is tried.
const CONNECTING: Duration = Duration::from_secs(10);
/// The most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;
/// Bytes, and number, of the headers of an answer.
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 128;

/// Settings of requests over HTTP.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Addresses that may be asked although they are not public: of this machine, of its network.
    pub allowed_private: Vec<AddressRange>,
    /// Certificates, as DER, of authorities that are trusted besides the public ones.
    pub extra_roots: Vec<Vec<u8>>,
    /// Whether `verify_tls: false` is heeded; otherwise such a request is refused.
    pub allow_unverified_tls: bool,
    /// How long a request may take that does not say.
    pub timeout: Duration,
    /// Bytes of an answer's body that are read; the rest is cut off.
    pub max_response_bytes: usize,
}

impl Default for HttpConfig {
    /// Public addresses and authorities only, 30 s, 8 MiB.
    fn default() -> Self {
        Self {
            allowed_private: Vec::new(),
            extra_roots: Vec::new(),
            allow_unverified_tls: false,
            timeout: Duration::from_secs(30),
            max_response_bytes: 8 << 20,
        }
    }
}

/// A range of addresses: `10.0.0.0/8`, `127.0.0.1`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u32,
}

impl AddressRange {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.leading_zeros() >= self.prefix
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = || format!("`{text}` is no address and no range such as `10.0.0.0/8`");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| none())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => {
                prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(none)?
            }
            None => most,
        };
        Ok(Self { address, prefix })
    }
}

/// Whether an address is one of the public network.
fn is_public(address: IpAddr) -> bool {
    /// What belongs to machines, their networks, documents and nobody.
    const SPECIAL: &[(Ipv4Addr, u32)] = &[
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    /// Of the one range of the public network, what is no public address either: among it those
    /// that stand for addresses of the other kind.
    const SPECIAL_6: &[(Ipv6Addr, u32)] = &[
        (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
        (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
        (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    ];
    let within = |address: IpAddr, prefix: u32| AddressRange { address, prefix };
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL.iter().any(|(special, prefix)| {
            within(IpAddr::V4(*special), *prefix).contains(IpAddr::V4(address))
        }),
        IpAddr::V6(address) => {
            let public = within(IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), 3);
            public.contains(IpAddr::V6(address))
                && !SPECIAL_6.iter().any(|(special, prefix)| {
                    within(IpAddr::V6(*special), *prefix).contains(IpAddr::V6(address))
                })
        }
    }
}

/// A request.
#[derive(Clone)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// Whom it asks, and for what.
    pub url: Url,
    /// Its headers, but for those that are the connection's own.
    pub headers: Vec<(String, String)>,
    /// What is sent along.
    pub body: Vec<u8>,
    /// How long it may take, if it says.
    pub timeout: Option<Duration>,
    /// Bytes of the answer's body that are read, if it says; no more than the configuration has.
    pub max_bytes: Option<usize>,
    /// Whether the host has to show a certificate that is good.
    pub verify_tls: bool,
}

impl fmt::Debug for HttpRequest {
    /// Without headers and body, in which secrets may be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.method, self.url, self.body.len())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Its status.
    pub status: u16,
    /// Its headers, the names in lowercase, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether the body went on.
    pub truncated: bool,
    /// Who answered.
    pub address: SocketAddr,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// It was not sent, and would not be another time.
    #[error("{0}")]
    Refused(String),
    /// It was not sent: nobody was there.
    #[error("{0}")]
    Unreachable(String),
    /// It was sent, or a part of it, and what became of it is not known.
    #[error("{0}")]
    Interrupted(String),
    /// Its time was over.
    #[error("{0}")]
    Timeout(String),
}

/// Who sends requests.
#[async_trait::async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync {
    /// Sends a request, and gives its answer whatever its status.
    ///
    /// # Errors
    ///
    /// As [`HttpError`] says.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// A client over the machine's own network.
#[derive(Debug)]
pub struct DefaultHttpClient {
    config: HttpConfig,
    verified: TlsSettings,
    unverified: Option<TlsSettings>,
}

type TlsSettings = Arc<ClientConfig>;

impl DefaultHttpClient {
    /// A client with these settings.
    ///
    /// # Errors
    ///
    /// `Invalid` for a certificate that can't be read.
    pub fn new(config: HttpConfig) -> Result<Self, ConfigurationError> {
        let invalid = |key: &str, reason: String| ConfigurationError::Invalid {
            key: format!("http.{key}"),
            reason,
        };
        if config.timeout.is_zero() {
            return Err(invalid("timeout", "must not be zero".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for root in &config.extra_roots {
            roots
                .add(CertificateDer::from(root.clone()))
                .map_err(|error| invalid("extra_roots", error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| invalid("extra_roots", error.to_string()))
        };
        let mut verified = builder()?.with_root_certificates(roots).with_no_client_auth();
        verified.alpn_protocols = vec![b"http/1.1".to_vec()];
        let unverified = match config.allow_unverified_tls {
            false => None,
            true => {
                let anyone = Arc::new(Anyone(Arc::clone(&provider)));
                let mut settings = builder()?
                    .dangerous()
                    .with_custom_certificate_verifier(anyone)
                    .with_no_client_auth();
                settings.alpn_protocols.clone_from(&verified.alpn_protocols);
                Some(Arc::new(settings))
            }
        };
        Ok(Self { config, verified: Arc::new(verified), unverified })
    }

    /// The addresses that a host leads to and that may be asked.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, HttpError> {
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, url.port)],
            Err(_) => lookup_host((host, url.port))
                .await
                .map_err(|error| {
                    HttpError::Unreachable(format!("`{host}` leads nowhere: {error}"))
                })?
                .take(MOST_ADDRESSES)
                .collect(),
        };
        let listed = |address: IpAddr| {
            self.config.allowed_private.iter().any(|range| range.contains(address))
        };
        let may = |at: &SocketAddr| is_public(at.ip()) || listed(at.ip());
        match (found.first(), found.iter().copied().filter(may).collect::<Vec<_>>()) {
            (None, _) => Err(HttpError::Unreachable(format!("`{host}` leads nowhere"))),
            (Some(first), allowed) if allowed.is_empty() => Err(HttpError::Refused(format!(
                "`{host}` leads to {}, which is no public address and not among those that the \
                 runtime's configuration lists",
                first.ip()
            ))),
            (Some(_), allowed) => Ok(allowed),
        }
    }

    /// A connection to the first of them that answers.
    async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, HttpError> {
        let mut last = String::new();
        for address in addresses {
            match tokio::time::timeout(CONNECTING, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Only how soon small packets go out depends on it.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address} has not answered in {CONNECTING:?}"),
            }
        }
        Err(HttpError::Unreachable(last))
    }

    async fn made(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let tls = match (request.verify_tls, &self.unverified) {
            (true, _) => &self.verified,
            (false, Some(settings)) => settings,
            (false, None) => {
                let words = "`verify_tls: false` is not allowed by the runtime's configuration";
                return Err(HttpError::Refused(words.to_owned()));
            }
        };
        let message = message(&request)?;
        let most = request.max_bytes.unwrap_or(usize::MAX).min(self.config.max_response_bytes);
        let addresses = self.addresses(&request.url).await?;
        let stream = Self::connect(&addresses).await?;
        let address =
            stream.peer_addr().map_err(|error| HttpError::Unreachable(error.to_string()))?;
        if !request.url.secure {
            return exchange(stream, message, most, address).await;
        }
        let host = request.url.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| HttpError::Refused(format!("`{host}`: {error}")))?;
        let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let stream = secured.map_err(|error| match is_certificate(&error) {
            true => HttpError::Refused(format!("`{host}` is not trusted: {error}")),
            false => HttpError::Unreachable(format!("`{host}`: {error}")),
        })?;
        exchange(stream, message, most, address).await
    }
}

fn is_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

#[async_trait::async_trait]
impl HttpClient for DefaultHttpClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = request.timeout.unwrap_or(self.config.timeout).min(LONGEST);
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.made(request)).await.unwrap_or_else(|_| {
            Err(HttpError::Timeout(format!("there was no answer in {limit:?}")))
        })
    }
}

/// The request as it is sent.
fn message(request: &HttpRequest) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let mut builder = hyper::Request::builder()
        .method(request.method.as_str())
        .uri(request.url.target.as_str())
        .header(HOST, request.url.authority());
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let body = Full::new(Bytes::from(request.body.clone()));
    // Names and values in which a line could end are errors here.
    builder.body(body).map_err(|error| HttpError::Refused(error.to_string()))
}

/// Sends a request over a connection that nothing else is sent over.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    message: hyper::Request<Full<Bytes>>,
    most: usize,
    address: SocketAddr,
) -> Result<HttpResponse, HttpError> {
    let interrupted = |error: hyper::Error| HttpError::Interrupted(told(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| HttpError::Unreachable(told(&error)))?;
    let asked = async {
        let response = sender.send_request(message).await.map_err(interrupted)?;
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut truncated) = (Vec::new(), false);
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(interrupted)?;
            let Some(data) = frame.data_ref() else { continue };
            let room = most - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                truncated = true;
                break;
            }
        }
        let status = head.status.as_u16();
        Ok(HttpResponse { status, headers: headers(&head.headers), body, truncated, address })
    };
    let (mut asked, connection) = (pin!(asked), pin!(connection));
    tokio::select! {
        answer = &mut asked => answer,
        // What it has received is still to be read.
        _ended = connection => asked.await,
    }
}

fn headers(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// An error with what led to it.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Takes any certificate: who asked for it wants to talk to whoever is there.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_network_is_public() {
        for (address, want) in [
            ("93.184.216.34", true),
            ("1.1.1.1", true),
            ("172.32.0.1", true),
            ("2606:4700::1111", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("192.168.0.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:1.1.1.1", true),
            ("::7f00:1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:0:7f00:1::", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().expect("an address")), want, "{address}");
        }
    }

    #[test]
    fn ranges_contain_addresses() {
        for (range, address, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "10.0.0.1", false),
        ] {
            let range: AddressRange = range.parse().expect("a range");
            assert_eq!(range.contains(address.parse().expect("an address")), want, "{range:?}");
        }
        for text in ["", "10.0.0.0/33", "x", "10.0.0.0/", "::/129"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }
}
