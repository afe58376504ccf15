//! This host as a part of the overlay.
//!
//! Its addresses are allocated and claimed as a container's are, under an id of its own. The original's clients put one
//! address in the path and expect no body.

use std::time::Duration;

use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::attach::{line, network_of};
use super::{Context, Refusal, ip, names, remarked, values};
use crate::attach::Wanted;
use crate::expose::{Nat, Terms};
use crate::node::Manner;
use crate::request::Request;

type Fields = Vec<(String, String)>;

fn manner(fields: &Fields) -> Manner {
    let says = |name| values(fields, name).any(|value| value == "true");
    let nat = if says("skipNAT") { Nat::None } else { Nat::Masquerade };
    let terms = Terms { nat, allows_metadata: says("allow-metadata") };
    Manner { terms, name: values(fields, "fqdn").next().map(str::to_owned) }
}

async fn ask_expose(
    context: Context,
    wanted: Vec<Wanted>,
    manner: Manner,
    patience: Option<Duration>,
) -> Result<Response, Refusal> {
    let remark = match &manner.name {
        Some(name) => names::outside(&context, name).await?,
        None => None,
    };
    let request = |ticket, reply| Request::Expose { ticket, wanted, manner, reply };
    Ok(remarked(line(&context.requester.commit(patience, request).await?), remark))
}

pub(super) async fn expose(State(context): State<Context>, Form(form): Form<Fields>) -> Result<Response, Refusal> {
    let wanted = values(&form, "address").map(str::parse).collect::<Result<Vec<Wanted>, _>>()?;
    ask_expose(context, wanted, manner(&form), ip::patience(&form)?).await
}

pub(super) async fn expose_one(
    State(context): State<Context>,
    Path((address, length)): Path<(String, String)>,
    Query(query): Query<Fields>,
) -> Result<StatusCode, Refusal> {
    let wanted = vec![format!("{address}/{length}").parse()?];
    ask_expose(context, wanted, manner(&query), ip::patience(&query)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The addresses and the networks of a form; both empty is everything.
async fn hide_these(context: &Context, wanted: Vec<Wanted>) -> Result<String, Refusal> {
    let (mut addresses, mut networks) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match wanted {
            Wanted::This(address) => addresses.push(address),
            Wanted::In(network) => networks.push(network_of(context, network).await?),
        }
    }
    let hidden = context.requester.ask(|reply| Request::Hide { addresses, networks, reply }).await??;
    Ok(line(&hidden))
}

pub(super) async fn hide(State(context): State<Context>, parameters: ip::Parameters) -> Result<String, Refusal> {
    let wanted = parameters.values("address").map(str::parse).collect::<Result<Vec<Wanted>, _>>()?;
    hide_these(&context, wanted).await
}

pub(super) async fn hide_one(
    State(context): State<Context>,
    Path((address, length)): Path<(String, String)>,
) -> Result<String, Refusal> {
    hide_these(&context, vec![format!("{address}/{length}").parse()?]).await
}
