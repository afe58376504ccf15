//! Containers that Docker is about to start: asked for by the runtime that it runs in the place of its own.
//!
//! ```text
//!   prepare   is it to be on the network? ─► addresses under its id ─► what its files are to say
//!   plug      its namespaces are there, its program does not run yet ─► attached as by `attach`
//! ```
//!
//! Neither rests on the other, so a daemon that restarts between them answers as if it had not. While a container starts,
//! Docker does not answer questions about it but in a list.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weave_datapath::plan::RESOLVER;
use weave_docker::DockerError;
use weave_mesh::dns::folded;

use super::attach::line;
use super::{Context, Refusal, gone, ip, values};
use crate::attach::{Container, Wanted, process_netns};
use crate::config::DnsDomain;
use crate::naming::Called;
use crate::node::cidr;
use crate::plug::{Starting, Verdict};
use crate::request::{Question, Request, Unknown};
use crate::status::DnsMaterial;

/// How long Docker may take to say what a container is.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(2);

type Fields = Form<Vec<(String, String)>>;

/// What a container's files are to say.
#[derive(Debug, Serialize)]
struct Prepared {
    address: String,
    names: Vec<String>,
    resolver: Option<Resolver>,
}

#[derive(Debug, Serialize)]
struct Resolver {
    server: String,
    domain: String,
}

/// 204 when it is to be left alone.
pub(super) async fn prepare(
    State(context): State<Context>,
    Path(id): Path<String>,
    Form(form): Fields,
) -> Result<Response, Refusal> {
    let Verdict::Attach { called, wanted } = look(&context, &id, &form).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut addresses = Vec::new();
    for wanted in wanted {
        addresses.push(reserve(&context, &id, wanted, ip::patience(&form)?).await?);
    }
    let dns = context.requester.ask(Request::Dns).await?;
    let prepared = Prepared {
        address: addresses.first().map(IpAddr::to_string).unwrap_or_default(),
        names: dns.iter().flat_map(|dns| names(&called, &dns.config.domain)).collect(),
        resolver: dns.as_ref().map(Resolver::of),
    };
    Ok(Json(prepared).into_response())
}

/// An address that is the container's from now on.
async fn reserve(context: &Context, id: &str, wanted: Wanted, patience: Option<Duration>) -> Result<IpAddr, Refusal> {
    let container = id.to_owned();
    let question = match wanted {
        Wanted::In(subnet) => Question::Allocate { container, subnet },
        Wanted::This(subnet) => {
            gone::make_room(context, id, subnet.address).await?;
            // IPv6 has no ring: it is the container's once it is attached.
            let Some(address) = cidr(subnet) else { return Ok(subnet.address) };
            Question::Claim { container, address, unknown: Unknown::Awaited }
        }
    };
    Ok(ip::obtain(&context.requester, question, patience).await?.address().into())
}

/// The addresses on one line, or 204 when it is to be left alone.
pub(super) async fn plug(
    State(context): State<Context>,
    Path(id): Path<String>,
    Form(form): Fields,
) -> Result<Response, Refusal> {
    let bad = || Refusal(StatusCode::BAD_REQUEST, "the form has no `pid`".to_owned());
    let process = values(&form, "pid").next().and_then(|pid| pid.parse().ok()).ok_or_else(bad)?;
    let Verdict::Attach { called, wanted } = look(&context, &id, &form).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let container = Container { label: id, netns: process_netns(process), called };
    let request =
        |ticket, reply| Request::Attach { ticket, container, wanted, named: true, multicast_route: true, reply };
    Ok(line(&context.requester.commit(ip::patience(&form)?, request).await?).into_response())
}

/// What is to become of a container of Docker's.
async fn look(context: &Context, id: &str, form: &[(String, String)]) -> Result<Verdict, Refusal> {
    if !weave_docker::is_id(id) {
        return Err(Refusal(StatusCode::BAD_REQUEST, format!("`{id}` is not the whole id of a container")));
    }
    let listed = tokio::time::timeout(DOCKER_TIMEOUT, context.docker.listed(id)).await;
    let listed = listed.unwrap_or(Err(DockerError::Timeout));
    let text = |name| values(form, name).next().map(str::to_owned);
    let starting = Starting { hostname: text("hostname").unwrap_or_default(), cidr: text("cidr") };
    match listed {
        Ok(listed) => Ok(starting.verdict(&listed)?),
        // An engine that boots starts its containers before it answers.
        Err(_) if !ip::held(context, id, None).await?.is_empty() => Ok(starting.known()?),
        Err(error) => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// What it is called in the domain: in full, and in short.
fn names(called: &Called, domain: &DnsDomain) -> Vec<String> {
    let Some(full) = called.within(domain) else { return Vec::new() };
    let full = full.trim_end_matches('.');
    let short = folded(full).ok().and_then(|folded| domain.host(&folded).map(str::to_owned));
    [full.to_owned()].into_iter().chain(short).collect()
}

impl Resolver {
    fn of(dns: &DnsMaterial) -> Self {
        let is_ours = dns.listening.iter().any(|open| open.ip() == RESOLVER);
        let server = if is_ours { RESOLVER.into() } else { dns.address().ip() };
        Self { server: server.to_string(), domain: dns.config.domain.folded().to_owned() }
    }
}
