//! One request, one answer, one connection: plain, or TLS on ring with the roots of this host.
//!
//! Invariants: a connection, an answer's headers and its body have bounds of time and size; certificates are always
//! checked; redirects are not followed.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The headers of an answer, octets.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The headers of an answer.
const HEADERS_MAX: usize = 100;

/// Somebody who is asked: a URL without a query. Shown, it is as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    is_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Host, and port where it is given: the header `Host`.
    pub(crate) authority: String,
    /// Before every path; without a slash at its end.
    prefix: String,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a URL such as http://127.0.0.1:5000 or https://example.org")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(invalid)?;
        let (is_tls, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(invalid()),
        };
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(invalid());
        }
        Ok(Self {
            is_tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(usual),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Endpoint {
    /// The same, for a service whose questions are signed for the path `/`.
    pub(crate) fn without_path(self) -> Result<Self, InvalidEndpoint> {
        if self.prefix.is_empty() { Ok(self) } else { Err(InvalidEndpoint(self.to_string())) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// What is asked of an endpoint. It does not show itself, since its headers hold tokens.
pub(crate) struct Question<'a> {
    pub(crate) method: &'a str,
    /// Below the endpoint's own.
    pub(crate) path: &'a str,
    /// Beside `host`.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// How much is waited for and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    /// From the beginning to the last octet.
    pub(crate) whole: Duration,
    pub(crate) body_bytes: usize,
}

/// What was answered. It does not show itself either: it may be the keys.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    #[error("nobody at {0}: {1}")]
    Nobody(Endpoint, std::io::Error),
    #[error("no connection to {0} within {1:?}")]
    NoConnection(Endpoint, Duration),
    #[error("no whole answer from {0} within {1:?}")]
    Late(Endpoint, Duration),
    #[error("no answer from {0}: {1}")]
    Broken(Endpoint, String),
}

/// Asks, and reads the whole answer.
pub(crate) async fn ask(endpoint: &Endpoint, question: Question<'_>, limits: Limits) -> Result<Answer, Silence> {
    let late = |_| Silence::Late(endpoint.clone(), limits.whole);
    tokio::time::timeout(limits.whole, exchange(endpoint, question, limits)).await.map_err(late)?
}

async fn exchange(endpoint: &Endpoint, question: Question<'_>, limits: Limits) -> Result<Answer, Silence> {
    let broken = |error: &dyn fmt::Display| Silence::Broken(endpoint.clone(), error.to_string());
    let request = request(endpoint, question).map_err(|error| broken(&error))?;
    let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let stream = tokio::time::timeout(limits.connect, connecting).await;
    let stream = stream.map_err(|_| Silence::NoConnection(endpoint.clone(), limits.connect))?;
    let stream = stream.map_err(|error| Silence::Nobody(endpoint.clone(), error))?;
    if !endpoint.is_tls {
        return over(stream, request, limits).await.map_err(|error| broken(&error));
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| broken(&error))?;
    let connector = TlsConnector::from(tls().map_err(|error| broken(&error))?);
    let stream = connector.connect(name, stream).await.map_err(|error| broken(&error))?;
    over(stream, request, limits).await.map_err(|error| broken(&error))
}

fn request(endpoint: &Endpoint, question: Question<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let path = format!("{}{}", endpoint.prefix, question.path);
    let builder = Request::builder().method(question.method).uri(path).header("host", &endpoint.authority);
    let builder = question.headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
    builder.body(Full::new(question.body))
}

/// An error of the exchange itself.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

async fn over<S>(stream: S, request: Request<Full<Bytes>>, limits: Limits) -> Result<Answer, Wrong>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or when nobody reads that any more.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, limits.body_bytes).collect().await?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// Reads the roots of this host once. `SSL_CERT_FILE` names others.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static READ: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    READ.get_or_init(with_roots_of_this_host).clone()
}

fn with_roots_of_this_host() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this host trusts nobody; install ca-certificates".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_a_query() {
        let endpoint: Endpoint = "http://[fd00:ec2::254]/imds/".parse().unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.prefix.as_str()), ("fd00:ec2::254", 80, "/imds"));
        assert_eq!(endpoint.to_string(), "http://[fd00:ec2::254]/imds");
        for bad in ["", "x", "/x", "ftp://x", "http://", "http://x?y", "http://user@x", "https://a b"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_read(text in "(https?://)?.{0,40}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
