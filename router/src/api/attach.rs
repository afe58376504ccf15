//! Attaching a container to the network, detaching it, and what is attached: parsed here, carried out by control as one
//! operation each.

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use weave_mesh::card::Subnet;
use weave_mesh::ipam::Cidr;

use super::status::{Format, snapshot};
use super::{Context, Refusal, gone, ip, names, remarked, values};
use crate::attach::{AttachError, Subject, Wanted};
use crate::expose::HOST_LABEL;
use crate::request::Request;
use crate::status::ps;

type Fields = Form<Vec<(String, String)>>;

/// The target and the addresses that a form names.
fn parse(form: &[(String, String)]) -> Result<(&str, Vec<Wanted>), Refusal> {
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let target = values(form, "target").next().ok_or_else(|| bad("the form has no `target`".to_owned()))?;
    Ok((target, values(form, "address").map(str::parse).collect::<Result<Vec<Wanted>, _>>()?))
}

/// Addresses without their prefix lengths, space-separated on one line.
pub(super) fn line(addresses: &[Subnet]) -> String {
    let texts: Vec<_> = addresses.iter().map(|subnet| subnet.address.to_string()).collect();
    texts.join(" ") + "\n"
}

pub(super) fn subnet(address: Cidr) -> Subnet {
    Subnet { address: address.address().into(), prefix_len: address.prefix_len() }
}

pub(super) async fn attach(State(context): State<Context>, Form(form): Fields) -> Result<Response, Refusal> {
    let (target, wanted) = parse(&form)?;
    let container = target.parse::<Subject>()?.resolve(&context.docker).await?;
    for wanted in &wanted {
        if let Wanted::This(subnet) = wanted {
            gone::make_room(&context, &container.label, subnet.address).await?;
        }
    }
    let is_set = |field| values(&form, field).any(|value| value == "true");
    let (named, multicast_route) = (!is_set("without-dns"), !is_set("no-multicast-route"));
    let remark = if named { names::nameless(&context, &container).await? } else { None };
    let by_hand = true;
    let request = |ticket, reply| Request::Attach { ticket, container, wanted, named, multicast_route, by_hand, reply };
    Ok(remarked(line(&context.requester.commit(ip::patience(&form)?, request).await?), remark))
}

/// The bridge comes first, as the original's does; whoever is asked for by name is shown by that name.
pub(super) async fn list(
    State(context): State<Context>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut wanted = Vec::new();
    for target in values(&query, "target") {
        let label = if target == HOST_LABEL {
            HOST_LABEL.to_owned()
        } else {
            target.parse::<Subject>()?.resolve(&context.docker).await?.label
        };
        wanted.push((target.to_owned(), label));
    }
    let attached = ps::attached(&snapshot(&context).await?, &wanted);
    Format::wanted(&headers).render(|| ps::text(&attached), &attached)
}

pub(super) async fn detach(State(context): State<Context>, Form(form): Fields) -> Result<String, Refusal> {
    let (target, wanted) = parse(&form)?;
    let container = gone::find(&context, target).await?;
    let mut addresses = Vec::new();
    for wanted in &wanted {
        match wanted {
            Wanted::This(address) => addresses.push(*address),
            Wanted::In(within) => addresses.extend(in_subnet(&context, &container.label, *within).await?),
        }
    }
    // No address at all would mean every address.
    if addresses.is_empty() && !wanted.is_empty() {
        return Ok(line(&[]));
    }
    if gone::is_gone(&container) {
        return Ok(line(&gone::detach(&context, &container.label, &addresses).await?));
    }
    let request = |ticket, reply| Request::Detach { ticket, container, addresses, reply };
    Ok(line(&context.requester.commit(None, request).await?))
}

/// What a container has of a subnet, or of the default one.
async fn in_subnet(context: &Context, container: &str, within: Option<Cidr>) -> Result<Vec<Subnet>, Refusal> {
    let within = network_of(context, within).await?;
    Ok(ip::held(context, container, None).await?.into_iter().map(subnet).filter(|it| it.network() == within).collect())
}

/// A subnet, or the default one.
pub(super) async fn network_of(context: &Context, wanted: Option<Cidr>) -> Result<Subnet, Refusal> {
    let network = match wanted {
        Some(network) => network.subnet(),
        None => context.requester.ask(Request::Allocation).await?.ok_or(AttachError::NoAddress)?.default_subnet,
    };
    Ok(subnet(network))
}
