//! Names: given, taken away, listed, looked up; and where they are served.

use std::net::IpAddr;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use weave_mesh::dns::folded;

use super::{Context, Refusal};
use crate::attach::{AttachError, Container, Subject};
use crate::naming::{NameError, Pattern};
use crate::request::Request;
use crate::status::DnsMaterial;

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    fqdn: Option<String>,
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        let status = if matches!(error, NameError::NoDns) { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
        Self(status, error.to_string())
    }
}

fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("`{text}` is no IP address")))
}

/// The container of this name; a text that names none stands for itself, as in the original.
async fn container(context: &Context, text: &str) -> Result<Container, Refusal> {
    let literal = || Container { label: text.to_owned(), ..Container::default() };
    match text.parse::<Subject>() {
        _ if text.starts_with("weave:") => Ok(literal()),
        Ok(subject) => match subject.resolve(&context.docker).await {
            Ok(container) => Ok(container),
            Err(AttachError::Docker(_)) => Ok(literal()),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

async fn add(context: &Context, text: &str, addresses: Vec<IpAddr>, name: Option<String>) -> Result<Response, Refusal> {
    let container = container(context, text).await?;
    let remark = context.requester.ask(|reply| Request::AddName { container, addresses, name, reply }).await??;
    Ok(remark.map_or_else(|| StatusCode::NO_CONTENT.into_response(), IntoResponse::into_response))
}

/// All addresses of the container.
pub(super) async fn put_all(
    State(context): State<Context>,
    Path(text): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Refusal> {
    add(&context, &text, Vec::new(), parameters.fqdn).await
}

pub(super) async fn put(
    State(context): State<Context>,
    Path((text, ip)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Refusal> {
    add(&context, &text, vec![address(&ip)?], parameters.fqdn).await
}

async fn remove(
    context: &Context,
    text: Option<&str>,
    address: Option<IpAddr>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let container = match text {
        Some(text) => Some(container(context, text).await?.label),
        None => None,
    };
    let pattern = Pattern::new(container, address, parameters.fqdn.as_deref()).map_err(NameError::from)?;
    context.requester.ask(|reply| Request::RemoveNames { pattern, reply }).await??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete_any(
    State(context): State<Context>,
    Query(parameters): Query<Parameters>,
) -> Result<StatusCode, Refusal> {
    remove(&context, None, None, parameters).await
}

pub(super) async fn delete_all(
    State(context): State<Context>,
    Path(text): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<StatusCode, Refusal> {
    remove(&context, Some(&text), None, parameters).await
}

pub(super) async fn delete(
    State(context): State<Context>,
    Path((text, ip)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<StatusCode, Refusal> {
    remove(&context, Some(&text), Some(address(&ip)?), parameters).await
}

/// The entries as JSON, which the asker must want: 405 as in the original otherwise.
pub(super) async fn list(State(context): State<Context>, headers: HeaderMap) -> Result<Response, Refusal> {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accepts.is_some_and(|accepts| accepts.contains("application/json")) {
        let why = "names are listed as JSON: ask with `Accept: application/json`";
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, why.to_owned()));
    }
    let dns = super::status::snapshot(&context).await?.dns.ok_or(NameError::NoDns)?;
    super::status::json(&dns.entries)
}

/// The addresses of a name, one on a line, whether or not it ends in the domain.
pub(super) async fn look_up(State(context): State<Context>, Path(name): Path<String>) -> Result<String, Refusal> {
    let DnsMaterial { config, names, .. } = material(&context).await?;
    let name = folded(&name).map_err(NameError::from)?;
    let name = if config.domain.host(&name).is_some() { name } else { format!("{name}.{}", config.domain.folded()) };
    let entry = names.find(&name);
    let v4 = entry.iter().flat_map(|entry| entry.v4()).map(|address| format!("{address}\n"));
    let v6 = entry.iter().flat_map(|entry| entry.v6()).map(|address| format!("{address}\n"));
    Ok(v4.chain(v6).collect())
}

/// What there is to say about the name that attaching gives `container`: that it has none although it is called
/// something.
pub(super) async fn nameless(context: &Context, container: &Container) -> Result<Option<String>, Refusal> {
    let material = context.requester.ask(Request::Dns).await?;
    let nameless = material.and_then(|material| container.called.nameless(&material.config.domain));
    Ok(nameless.map(|nameless| nameless.to_string()))
}

/// What there is to say about a name that somebody gives: that nobody is answered it.
pub(super) async fn outside(context: &Context, name: &str) -> Result<Option<String>, Refusal> {
    let folded = folded(name).map_err(NameError::from)?;
    let Some(material) = context.requester.ask(Request::Dns).await? else { return Ok(None) };
    let domain = material.config.domain;
    let is_outside = domain.host(&folded).is_none();
    Ok(is_outside.then(|| format!("{name} does not lie in {domain} and is not answered here")))
}

async fn material(context: &Context) -> Result<DnsMaterial, Refusal> {
    Ok(context.requester.ask(Request::Dns).await?.ok_or(NameError::NoDns)?)
}

pub(super) async fn domain(State(context): State<Context>) -> Result<String, Refusal> {
    Ok(material(&context).await?.config.domain.to_string())
}

pub(super) async fn dns_address(State(context): State<Context>) -> Result<String, Refusal> {
    Ok(material(&context).await?.address().ip().to_string())
}

pub(super) async fn dns_address_port(State(context): State<Context>) -> Result<String, Refusal> {
    Ok(material(&context).await?.address().to_string())
}
