//! The control API: HTTP on the unix socket and on a loopback address. A handler parses, asks control, renders.
//!
//! | method and path | parameters | answer |
//! |---|---|---|
//! | GET /status | | summary; 503 until ready |
//! | GET /status/{connections,peers,targets,paths,endpoints} | | one table |
//! | GET /report | | JSON under the original's field names |
//! | GET /why/{peer} | | prose |
//! | POST /connect | form `peer`…, `replace=true` | 200, or 400 with one line per unusable peer |
//! | POST /forget | form `peer`… | 200 |
//! | POST /attach, /detach | form `target`, `address`… | the addresses on one line |
//! | POST /expose | form `address`…, `fqdn`, `skipNAT=true` | the addresses on one line |
//! | POST /expose/{ip}/{len} | `fqdn`, `skipNAT=true` | 204 |
//! | DELETE /expose, /expose/{ip}/{len} | | the addresses on one line |
//! | DELETE /peer | | 204 after everything is removed; the daemon ends |
//!
//! Every GET renders JSON when asked by `Accept: application/json`. Errors are text that says what to do. Nobody but
//! this host's root is meant to ask: the socket's mode sees to that on the unix socket, and `access.rs` keeps browsers
//! from being used against the loopback address.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::attach::AttachError;
use crate::docker::Docker;
use crate::request::{Requester, Stopping};

mod access;
mod attach;
mod expose;
mod listen;
mod peers;
mod status;

pub use self::access::Listener;
pub use self::listen::{ListenError, Listeners};

/// The longest request body: a form with a thousand peers.
const BODY_MAX_BYTES: usize = 512 * 1024;

/// What every handler has.
#[derive(Clone, Debug)]
pub struct Context {
    pub requester: Requester,
    pub docker: Docker,
}

/// The routes, as one kind of listener serves them.
pub fn routes(context: Context, listener: Listener) -> Router {
    Router::new()
        .route("/status", get(status::summary))
        .route("/status/{table}", get(status::table))
        .route("/report", get(status::report))
        .route("/why/{peer}", get(status::why))
        .route("/connect", post(peers::connect))
        .route("/forget", post(peers::forget))
        .route("/attach", post(attach::attach))
        .route("/detach", post(attach::detach))
        .route("/expose", post(expose::expose).delete(expose::hide))
        .route("/expose/{address}/{length}", post(expose::expose_one).delete(expose::hide_one))
        .route("/peer", delete(peers::reset))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(listener, access::check))
        .with_state(context)
}

/// A refusal, as status and text.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

impl From<Stopping> for Refusal {
    fn from(stopping: Stopping) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, stopping.to_string())
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// The values of `name` in a form.
fn values<'a>(form: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    form.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}
