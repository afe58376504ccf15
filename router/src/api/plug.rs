//! Containers that Docker is about to start: asked for by the runtime that it runs in the place of its own.
//!
//! ```text
//!   prepare   is it to be on the network? ─► addresses under its id ─► what its files are to say
//!   plug      its namespaces are there, its program does not run yet ─► attached as by `attach`
//! ```
//!
//! Neither rests on the other, so a daemon that restarts between them answers as if it had not. While a container starts,
//! Docker does not answer questions about it but in a list.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::warn;
use weave_datapath::plan::RESOLVER;
use weave_docker::DockerError;
use weave_docker::engine::Listed;
use weave_docker::wish::{Declined, Network, Rules, Traits, Wish, with_domain};
use weave_mesh::dns::folded;

use super::attach::line;
use super::{Context, Refusal, gone, ip, values};
use crate::attach::{Container, Wanted, process_netns};
use crate::config::DnsDomain;
use crate::naming::Called;
use crate::node::cidr;
use crate::request::{Question, Request, Unknown};
use crate::status::{DnsMaterial, titles};

/// How long Docker may take to say what a container is.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(2);

type Fields = Form<Vec<(String, String)>>;

/// What a container's files are to say.
#[derive(Debug, Serialize)]
struct Prepared {
    /// The first in `/etc/hosts`, unless that is Docker's alone.
    address: Option<IpAddr>,
    names: Vec<String>,
    resolver: Option<Resolver>,
}

#[derive(Debug, Serialize)]
struct Resolver {
    server: String,
    domain: String,
}

/// A container that is to be on the network.
#[derive(Debug)]
struct Guest {
    container: Container,
    wanted: Vec<Wanted>,
}

/// 204 when it is to be left alone.
pub(super) async fn prepare(
    State(context): State<Context>,
    Path(id): Path<String>,
    Form(form): Fields,
) -> Result<Response, Refusal> {
    let _waiting = context.starts.wait();
    let prepared = noted(&context, &id, prepared(&context, &id, &form).await).await?;
    Ok(or_left_alone(prepared.map(Json)))
}

/// The addresses on one line, or 204 when it is to be left alone.
pub(super) async fn plug(
    State(context): State<Context>,
    Path(id): Path<String>,
    Form(form): Fields,
) -> Result<Response, Refusal> {
    let _waiting = context.starts.wait();
    let plugged = noted(&context, &id, plugged(&context, &id, &form).await).await?;
    Ok(or_left_alone(plugged))
}

fn or_left_alone(answer: Option<impl IntoResponse>) -> Response {
    answer.map_or_else(|| StatusCode::NO_CONTENT.into_response(), IntoResponse::into_response)
}

/// A refusal is shown by `status`, too.
async fn noted<T>(context: &Context, id: &str, answer: Result<T, Refusal>) -> Result<T, Refusal> {
    if let Err(Refusal(_, why)) = &answer {
        let listed = listed(context, id).await.ok();
        let name = listed.as_ref().and_then(Listed::name);
        context.starts.note_failure(&titles::container(id, name), why);
    }
    answer
}

async fn listed(context: &Context, id: &str) -> Result<Listed, DockerError> {
    let listed = tokio::time::timeout(DOCKER_TIMEOUT, context.docker.listed(id)).await;
    listed.unwrap_or(Err(DockerError::Timeout))
}

async fn prepared(context: &Context, id: &str, form: &[(String, String)]) -> Result<Option<Prepared>, Refusal> {
    let Some(Guest { container, wanted }) = look(context, id, form).await? else { return Ok(None) };
    let mut addresses = Vec::new();
    for wanted in wanted {
        addresses.push(reserve(context, id, wanted, ip::patience(form)?).await?);
    }
    let config = &context.containers;
    let dns = context.requester.ask(Request::Dns).await?.filter(|_| !config.without_dns);
    if let Some(nameless) = dns.as_ref().and_then(|dns| container.called.nameless(&dns.config.domain)) {
        warn!(container = id, reason = %nameless, "a container starts without a name");
        let name = container.called.name.as_deref();
        context.starts.note_failure(&titles::container(id, name), &nameless.to_string());
    }
    Ok(Some(Prepared {
        address: addresses.first().copied().filter(|_| !config.no_rewrite_hosts),
        names: dns.iter().flat_map(|dns| names(&container.called, &dns.config.domain)).collect(),
        resolver: dns.as_ref().map(Resolver::of),
    }))
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

async fn plugged(context: &Context, id: &str, form: &[(String, String)]) -> Result<Option<String>, Refusal> {
    let bad = || Refusal(StatusCode::BAD_REQUEST, "the form has no `pid`".to_owned());
    let process = values(form, "pid").next().and_then(|pid| pid.parse().ok()).ok_or_else(bad)?;
    let Some(Guest { container, wanted }) = look(context, id, form).await? else { return Ok(None) };
    let container = Container { netns: process_netns(process), ..container };
    let config = &context.containers;
    let (named, multicast_route, by_hand) = (!config.without_dns, !config.no_multicast_route, false);
    let request = |ticket, reply| Request::Attach { ticket, container, wanted, named, multicast_route, by_hand, reply };
    Ok(Some(line(&context.requester.commit(ip::patience(form)?, request).await?)))
}

/// What is to become of a container of Docker's; nothing when it is left alone.
async fn look(context: &Context, id: &str, form: &[(String, String)]) -> Result<Option<Guest>, Refusal> {
    if !weave_docker::is_id(id) {
        return Err(Refusal(StatusCode::BAD_REQUEST, format!("`{id}` is not the whole id of a container")));
    }
    let listed = listed(context, id).await;
    let cidr = values(form, "cidr").next();
    let (wish, provisional) = match &listed {
        Ok(listed) => (read(&context.containers.rules, listed, cidr), false),
        // An engine that boots starts its containers before it answers.
        Err(_) if !ip::held(context, id, None).await?.is_empty() => (known(cidr), true),
        Err(error) => return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    };
    let hostname = values(form, "hostname").next().and_then(|hostname| with_domain(hostname, ""));
    match wish {
        Ok(Wish { addresses, name }) => {
            let called = Called { hostname, name, ..Called::default() };
            let container = Container { label: id.to_owned(), called, provisional, ..Container::default() };
            Ok(Some(Guest { container, wanted: Wanted::of(&addresses)? }))
        }
        Err(declined) if declined.is_refusal() => Err(Refusal(StatusCode::BAD_REQUEST, declined.to_string())),
        Err(_) => Ok(None),
    }
}

fn read(rules: &Rules, listed: &Listed, cidr: Option<&str>) -> Result<Wish, Declined> {
    rules.read(&listed.traits(cidr)?)
}

/// One that had an address before, so it is to have one; what else it is, its engine will tell.
fn known(cidr: Option<&str>) -> Result<Wish, Declined> {
    let labels = BTreeMap::new();
    Rules::default().read(&Traits { network: Network::Bridge, labels: &labels, cidr, name: None })
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
