//! Who may ask: on a loopback address any local program can, and so could a web page in a local browser.
//!
//! A page is told apart by what its browser sends: the name it used for us in `Host` (against rebound DNS names), and
//! `Origin` or `Sec-Fetch-Site` on anything that changes state.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Refusal;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The unix socket: file permissions say who may ask.
    Unix,
    Loopback,
    /// A loopback address where nothing can be changed.
    LoopbackStatus,
    /// The same on an address that others reach, as the operator wished.
    OpenStatus,
}

impl Listener {
    /// Where status can be read, and nothing else.
    pub const fn read_only(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::LoopbackStatus } else { Self::OpenStatus }
    }

    /// Whether something can be changed here.
    pub const fn controls(self) -> bool {
        matches!(self, Self::Unix | Self::Loopback)
    }
}

/// Lets a request through or answers it.
pub(super) async fn check(State(listener): State<Listener>, request: Request, next: Next) -> Response {
    match listener {
        Listener::Loopback | Listener::LoopbackStatus => match judge(request.method(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        },
        Listener::Unix | Listener::OpenStatus => next.run(request).await,
    }
}

fn judge(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback_name(host) {
        let why = format!("`{host}` is not this host's loopback address; ask http://127.0.0.1 or the unix socket");
        return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, why));
    }
    let is_harmless = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_own = text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    let is_same_site = text(header::HeaderName::from_static("sec-fetch-site"))
        .is_none_or(|site| matches!(site, "same-origin" | "none"));
    if is_harmless || (is_own && is_same_site) {
        return Ok(());
    }
    Err(Refusal(StatusCode::FORBIDDEN, "a web page of another site may not change anything here".to_owned()))
}

fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: Method, headers: &[(&'static str, &str)]) -> Result<(), StatusCode> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        judge(&method, &headers.collect::<HeaderMap>()).map_err(|refusal| refusal.0)
    }

    #[test]
    fn only_the_loopback_names_are_answered() {
        for host in ["127.0.0.1:6784", "localhost", "[::1]:6784", "127.1.2.3"] {
            assert_eq!(judged(Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:6784", "192.0.2.1", "", "localhost.evil.example", "a@b@c"] {
            assert_eq!(judged(Method::GET, &[("host", host)]), Err(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let host = ("host", "127.0.0.1:6784");

        assert_eq!(judged(Method::POST, &[host]), Ok(()));
        assert_eq!(judged(Method::POST, &[host, ("origin", "http://127.0.0.1:6784")]), Ok(()));
        for foreign in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(judged(Method::POST, &[host, foreign]), Err(StatusCode::FORBIDDEN));
            assert_eq!(judged(Method::DELETE, &[host, foreign]), Err(StatusCode::FORBIDDEN));
            assert_eq!(judged(Method::GET, &[host, foreign]), Ok(()));
        }
    }
}
