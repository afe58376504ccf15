//! This host as a part of the overlay.
//!
//! Without addresses in the path, a form may give them. The original's clients put one in the path and expect no body.

use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use weave_mesh::card::Subnet;

use super::attach::line;
use super::{Context, Refusal, values};
use crate::config::value::parse_subnet;
use crate::expose::Nat;
use crate::node::Manner;
use crate::request::Request;

type Fields = Vec<(String, String)>;

fn addresses(texts: impl Iterator<Item = impl AsRef<str>>) -> Result<Vec<Subnet>, Refusal> {
    let parsed = texts.map(|text| parse_subnet(text.as_ref())).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn manner(fields: &Fields) -> Manner {
    let skips = values(fields, "skipNAT").any(|value| value == "true");
    let nat = if skips { Nat::None } else { Nat::Masquerade };
    Manner { nat, name: values(fields, "fqdn").next().map(str::to_owned) }
}

async fn ask_expose(context: &Context, addresses: Vec<Subnet>, manner: Manner) -> Result<String, Refusal> {
    Ok(line(&context.requester.ask(|reply| Request::Expose { addresses, manner, reply }).await??))
}

async fn ask_hide(context: &Context, addresses: Vec<Subnet>) -> Result<String, Refusal> {
    Ok(line(&context.requester.ask(|reply| Request::Hide { addresses, reply }).await??))
}

pub(super) async fn expose(State(context): State<Context>, Form(form): Form<Fields>) -> Result<String, Refusal> {
    ask_expose(&context, addresses(values(&form, "address"))?, manner(&form)).await
}

pub(super) async fn expose_one(
    State(context): State<Context>,
    Path((address, length)): Path<(String, String)>,
    Query(query): Query<Fields>,
) -> Result<StatusCode, Refusal> {
    let addresses = addresses(std::iter::once(format!("{address}/{length}")))?;
    ask_expose(&context, addresses, manner(&query)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn hide(State(context): State<Context>) -> Result<String, Refusal> {
    ask_hide(&context, Vec::new()).await
}

pub(super) async fn hide_one(
    State(context): State<Context>,
    Path((address, length)): Path<(String, String)>,
) -> Result<String, Refusal> {
    ask_hide(&context, addresses(std::iter::once(format!("{address}/{length}")))?).await
}
