//! Everything that is only shown.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weave_datapath::linux::traffic::traffic;
use weave_datapath::plan::BridgeNames;

use super::{Context, Refusal};
use crate::metrics;
use crate::naming::NameError;
use crate::request::Request;
use crate::shown;
use crate::status::{DockerPart, Snapshot, report as reporting, text, why as explaining};

/// How the asker wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl Format {
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if accepts.is_some_and(|accepts| accepts.contains("application/json")) { Self::Json } else { Self::Text }
    }

    pub(super) fn render<T: Serialize>(self, text: impl FnOnce() -> String, value: &T) -> Result<Response, Refusal> {
        match self {
            Self::Text => Ok(text().into_response()),
            Self::Json => json(value),
        }
    }
}

/// Four spaces deep, as the original indents its report.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Response, Refusal> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let failed = |error: serde_json::Error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    value.serialize(&mut serializer).map_err(failed)?;
    bytes.push(b'\n');
    let document = shown::json(&String::from_utf8_lossy(&bytes));
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

pub(super) async fn snapshot(context: &Context) -> Result<Snapshot, Refusal> {
    let material = context.requester.ask(Request::Snapshot).await?;
    Ok(Snapshot::of(&material, DockerPart::of(context)))
}

pub(super) async fn summary(State(context): State<Context>, headers: HeaderMap) -> Result<Response, Refusal> {
    let snapshot = snapshot(&context).await?;
    let body = Format::wanted(&headers).render(|| text::summary(&snapshot), &snapshot)?;
    let code = if snapshot.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((code, body).into_response())
}

pub(super) async fn table(
    State(context): State<Context>,
    Path(table): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let snapshot = snapshot(&context).await?;
    let format = Format::wanted(&headers);
    match table.as_str() {
        "connections" => format.render(|| text::connections(&snapshot), &snapshot.connections),
        "peers" => format.render(|| text::peers(&snapshot), &snapshot.peers),
        "targets" => format.render(|| text::targets(&snapshot), &snapshot.targets),
        "paths" => format.render(|| text::paths(&snapshot), &snapshot.paths),
        "endpoints" => format.render(|| text::endpoints(&snapshot), &snapshot.endpoints),
        "ipam" => format.render(|| text::ipam(&snapshot), &snapshot.ipam),
        "dns" => match &snapshot.dns {
            Some(dns) => format.render(|| text::dns(dns), &dns.entries),
            None => Err(NameError::NoDns.into()),
        },
        _ => {
            let why = format!(
                "there is no status of `{table}`; ask for connections, peers, targets, paths, endpoints, ipam or dns"
            );
            Err(Refusal(StatusCode::NOT_FOUND, why))
        }
    }
}

/// Always JSON. The original renders Go templates, which is refused rather than left out.
pub(super) async fn report(
    State(context): State<Context>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    if super::values(&query, "format").next().is_some() {
        let why = "templates are not rendered here: ask for /report without `format`, as `weave-rs report --json` does, \
                   and take fields from the JSON";
        return Err(Refusal(StatusCode::BAD_REQUEST, why.to_owned()));
    }
    json(&reporting::report(&snapshot(&context).await?))
}

/// The fast path's frames are counted by the kernel alone.
pub(super) async fn metrics(State(context): State<Context>) -> Result<Response, Refusal> {
    let material = context.requester.ask(Request::Snapshot).await?;
    let failed = |why: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    let names = BridgeNames::of(&material.about.bridge).map_err(|error| failed(error.to_string()))?;
    let fast_path = traffic(&names.vxlan).map_err(|error| failed(error.to_string()))?;
    let page =
        metrics::render(material, DockerPart::of(&context), fast_path).map_err(|error| failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response())
}

pub(super) async fn why(
    State(context): State<Context>,
    Path(peer): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let snapshot = snapshot(&context).await?;
    let refused = |error: explaining::WhyError| Refusal(StatusCode::NOT_FOUND, error.to_string());
    let peer = explaining::find(&snapshot, &peer).map_err(refused)?;
    let path = snapshot.paths.iter().find(|path| path.key == peer.key);
    Format::wanted(&headers).render(|| explaining::explain(&snapshot, peer), &path)
}
