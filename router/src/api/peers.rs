//! Whom to connect to, and leaving.

use axum::extract::{Form, State};
use axum::http::StatusCode;
use weave_mesh::connector::{Earlier, Target};

use super::{Context, Refusal, values};
use crate::request::Request;

type Fields = Form<Vec<(String, String)>>;

/// The usable targets of a form, and a line for each unusable one.
fn targets(form: &[(String, String)]) -> (Vec<Target>, Vec<String>) {
    let mut targets = Vec::new();
    let mut errors = Vec::new();
    for text in values(form, "peer") {
        match text.parse() {
            Ok(target) => targets.push(target),
            Err(error) => errors.push(ToString::to_string(&error as &weave_mesh::connector::InvalidTarget)),
        }
    }
    (targets, errors)
}

fn settled(errors: &[String]) -> Result<(), Refusal> {
    if errors.is_empty() { Ok(()) } else { Err(Refusal(StatusCode::BAD_REQUEST, errors.join("\n"))) }
}

/// Usable targets are applied even when others are not, as in the original.
pub(super) async fn connect(State(context): State<Context>, Form(form): Fields) -> Result<(), Refusal> {
    let (targets, mut errors) = targets(&form);
    let replaces = values(&form, "replace").any(|value| value == "true");
    let earlier = if replaces { Earlier::Replace } else { Earlier::Keep };
    let connected = context.requester.ask(|reply| Request::Connect { targets, earlier, reply }).await?;
    errors.extend(connected.err());
    settled(&errors)
}

pub(super) async fn forget(State(context): State<Context>, Form(form): Fields) -> Result<(), Refusal> {
    let (targets, mut errors) = targets(&form);
    errors.extend(context.requester.ask(|reply| Request::Forget { targets, reply }).await?.err());
    settled(&errors)
}

pub(super) async fn stop(State(context): State<Context>) -> Result<StatusCode, Refusal> {
    context.requester.ask(Request::Stop).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn reset(State(context): State<Context>) -> Result<StatusCode, Refusal> {
    let failed = |why| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    context.requester.ask(Request::Reset).await?.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}
