//! The control API: HTTP on the unix socket, and on a loopback address if `--http-addr` asks for it; the routes marked R
//! also where they can only be read. A handler parses, asks control, renders.
//!
//! | method and path | parameters | answer |
//! |---|---|---|
//! | R GET /status | | summary; 503 until ready |
//! | R GET /status/{connections,peers,targets,paths,endpoints,ipam,dns} | | one table |
//! | R GET /report | no `format` | JSON under the original's field names |
//! | R GET /metrics | | what Prometheus scrapes |
//! | GET /ps | query `target`… | attached containers, or these of them |
//! | GET /why/{peer} | | prose |
//! | POST /connect | form `peer`…, `replace=true` | 200, or 400 with one line per unusable peer |
//! | POST /forget | form `peer`… | 200 |
//! | POST /attach, /detach | form `target`, `address`… | the addresses on one line |
//! | POST /containers/{id}/prepare | form `hostname`, `cidr`, `wait` | JSON: what a container's files are to say; 204 when it is left alone |
//! | POST /containers/{id}/plug | the same, `pid` | the addresses on one line; 204 when it is left alone |
//! | POST /expose | form `address`…, `fqdn`, `skipNAT=true` | the addresses on one line |
//! | POST /expose/{ip}/{len} | `fqdn`, `skipNAT=true` | 204 |
//! | DELETE /expose | form `address`… | the addresses on one line; without any all of them |
//! | DELETE /expose/{ip}/{len} | | the address |
//! | POST /ip/{id} | `check-alive`, `wait` | an address with its prefix length, of the default subnet |
//! | POST /ip/{id}/{ip}/{len} | the same | one of that subnet |
//! | PUT /ip/{id}/{ip}/{len} | the same, `noErrorOnUnknown` | 204 when the address is the container's |
//! | GET /ip/{id}\[/{ip}/{len}\] | | its addresses on one line |
//! | GET /ip | | all of them, as JSON |
//! | DELETE /ip/{id}\[/{ip}\] | | 204 when it is free |
//! | GET /ipinfo/{defaultsubnet,tracker,waiting} | | a line; what is waited for |
//! | GET /ring | `wait` | 200 once this host can give addresses |
//! | PUT /name/{container}[/{ip}] | `fqdn` | 204, or 200 with a remark |
//! | DELETE /name[/{container}[/{ip}]] | `fqdn` | 204; what is left out stands for any: bare, it is all names of this host |
//! | GET /name | | the entries, JSON only |
//! | GET /dns-lookup/{name} | | one address on a line |
//! | GET /domain, /dns-address, /dns-address-port | | the domain; where names are served |
//! | POST /stop | | 204 after the last messages have left; the daemon ends, and the kernel keeps its tables |
//! | DELETE /peer | | 204 after everything is removed; the daemon ends |
//! | DELETE /peer/{peer} | `wait` | `N IPs taken over from …`, once the dead peer owns none |
//!
//! A remark about what was done all the same is in the header `weave-remark`. Every GET renders JSON when asked by `Accept: application/json`. Errors are text that says what to do. Nobody but
//! this host's root is meant to ask: the socket's mode sees to that on the unix socket, and `access.rs` keeps browsers
//! from being used against the loopback address. No client costs others anything by being slow: `serve.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use weave_docker::Docker;

use crate::attach::AttachError;
use crate::config::ContainerConfig;
use crate::request::{Requester, Stopping};
use crate::shown;
use crate::starts::Starts;

mod access;
mod attach;
mod expose;
mod gone;
mod ip;
mod listen;
mod names;
mod network;
mod peers;
mod plug;
mod serve;
mod status;
mod unix;

pub use self::access::Listener;
pub use self::listen::Listeners;
pub use self::unix::{ListenError, UnixSocket};

/// The longest request body: a form with a thousand peers.
const BODY_MAX_BYTES: usize = 512 * 1024;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What every handler has.
#[derive(Clone, Debug)]
pub struct Context {
    pub requester: Requester,
    pub docker: Docker,
    pub containers: Arc<ContainerConfig>,
    pub starts: Arc<Starts>,
    /// Where Docker's API is passed on, if it is.
    pub docker_proxy: Option<PathBuf>,
}

/// The routes, as one kind of listener serves them.
pub fn routes(context: Context, listener: Listener) -> Router {
    let router = if listener.controls() {
        readable().merge(control()).fallback(unknown).method_not_allowed_fallback(unfit)
    } else {
        readable().fallback(unchangeable).method_not_allowed_fallback(unchangeable)
    };
    router
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn_with_state(listener, access::check))
        .with_state(context)
}

/// Hands a request on when its body is there: no handler waits for its client.
async fn whole(request: Request, next: Next) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_MAX_BYTES)).await;
    let late = |_| Refusal(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIMEOUT:?}"));
    let long = |_| {
        let why = format!("the body is longer than {BODY_MAX_BYTES} octets, or did not come whole");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    let body = body.map_err(late)?.map_err(long)?;
    Ok(next.run(Request::from_parts(head, Body::from(body))).await)
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no {method} {}; is the daemon of another version?", uri.path()))
}

async fn unfit(method: Method, uri: Uri) -> Refusal {
    let why = match (method.as_str(), uri.path()) {
        ("PUT", "/name") => "which container? PUT /name/CONTAINER[/IP]?fqdn=NAME gives it a name".to_owned(),
        (method, path) => format!("{method} {path} means nothing; the header Allow says what does"),
    };
    Refusal(StatusCode::METHOD_NOT_ALLOWED, why)
}

async fn unchangeable(method: Method, uri: Uri) -> Refusal {
    let why = format!(
        "{method} {} is not served here, where status can be read only: ask the unix socket, or launch with --http-addr",
        uri.path()
    );
    let is_harmless = matches!(method, Method::GET | Method::HEAD);
    Refusal(if is_harmless { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED }, why)
}

/// What may be read wherever we listen.
fn readable() -> Router<Context> {
    Router::new()
        .route("/status", get(status::summary))
        .route("/status/{table}", get(status::table))
        .route("/report", get(status::report))
        .route("/metrics", get(status::metrics))
}

fn control() -> Router<Context> {
    Router::new()
        .route("/why/{peer}", get(status::why))
        .route("/ps", get(attach::list))
        .route("/connect", post(peers::connect))
        .route("/forget", post(peers::forget))
        .route("/attach", post(attach::attach))
        .route("/detach", post(attach::detach))
        .route("/containers/{id}/prepare", post(plug::prepare))
        .route("/containers/{id}/plug", post(plug::plug))
        .route("/expose", post(expose::expose).delete(expose::hide))
        .route("/expose/{address}/{length}", post(expose::expose_one).delete(expose::hide_one))
        .route("/ip", get(ip::list))
        .route("/ip/{id}", get(ip::lookup).post(ip::allocate).delete(ip::free_all))
        .route("/ip/{id}/{ip}", delete(ip::free))
        .route("/ip/{id}/{ip}/{len}", get(ip::lookup_in).post(ip::allocate_in).put(ip::claim))
        .route("/ipinfo/defaultsubnet", get(ip::default_subnet))
        .route("/ipinfo/tracker", get(ip::tracker))
        .route("/ipinfo/waiting", get(ip::waiting))
        .route("/ring", get(ip::ring))
        .route("/name", get(names::list).delete(names::delete_any))
        .route("/name/{container}", put(names::put_all).delete(names::delete_all))
        .route("/name/{container}/{ip}", put(names::put).delete(names::delete))
        .route("/dns-lookup/{name}", get(names::look_up))
        .route("/domain", get(names::domain))
        .route("/dns-address", get(names::dns_address))
        .route("/dns-address-port", get(names::dns_address_port))
        .route("/stop", post(peers::stop))
        .route("/peer", delete(peers::reset))
        .route("/peer/", delete(|| async { ip::nobody() }))
        .route("/peer/{peer}", delete(ip::take_over))
}

/// A refusal, as status and text.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, shown::lines(&self.1)).into_response()
    }
}

impl From<Stopping> for Refusal {
    fn from(stopping: Stopping) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, stopping.to_string())
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Address(error) => error.into(),
            error => Self(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

/// Where a remark is about something that was done.
const REMARK: &str = "weave-remark";

/// `answer`, with what there is to say about it.
fn remarked(answer: String, remark: Option<String>) -> Response {
    let mut response = answer.into_response();
    let remark = remark.and_then(|remark| HeaderValue::from_str(&shown::Shown(remark).to_string()).ok());
    if let Some(remark) = remark {
        response.headers_mut().insert(REMARK, remark);
    }
    response
}

/// The values of `name` in a form.
fn values<'a>(form: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    form.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}
