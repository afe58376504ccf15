//! Attaching a container to the network, and detaching it.

use axum::extract::{Form, State};
use axum::http::StatusCode;
use weave_mesh::card::Subnet;

use super::{Context, Refusal, values};
use crate::attach::{Container, Subject};
use crate::config::value::parse_subnet;
use crate::request::Request;

type Fields = Form<Vec<(String, String)>>;

/// The container and the addresses that a form names.
async fn parse(context: &Context, form: &[(String, String)]) -> Result<(Container, Vec<Subnet>), Refusal> {
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let target = values(form, "target").next().ok_or_else(|| bad("the form has no `target`".to_owned()))?;
    let subject: Subject = target.parse()?;
    let addresses = values(form, "address").map(parse_subnet).collect::<Result<Vec<_>, _>>();
    let addresses = addresses.map_err(|error| bad(error.to_string()))?;
    Ok((subject.resolve(&context.docker).await?, addresses))
}

/// Addresses without their prefix lengths, space-separated on one line.
pub(super) fn line(addresses: &[Subnet]) -> String {
    let texts: Vec<_> = addresses.iter().map(|subnet| subnet.address.to_string()).collect();
    texts.join(" ") + "\n"
}

pub(super) async fn attach(State(context): State<Context>, Form(form): Fields) -> Result<String, Refusal> {
    let (container, addresses) = parse(&context, &form).await?;
    let attached = context.requester.ask(|reply| Request::Attach { container, addresses, reply }).await??;
    Ok(line(&attached))
}

pub(super) async fn detach(State(context): State<Context>, Form(form): Fields) -> Result<String, Refusal> {
    let (container, addresses) = parse(&context, &form).await?;
    let detached = context.requester.ask(|reply| Request::Detach { container, addresses, reply }).await??;
    Ok(line(&detached))
}
