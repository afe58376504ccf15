//! Addresses: given, claimed, freed and listed under a container's id, as in the original.
//!
//! Any text is an id. `_` says that there is none: the address is filed under itself. A request that must wait for other
//! peers does so until its caller goes away, or for `wait=SECONDS`.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::{Form, FromRequest, Path, Query, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use weave_docker::{Docker, DockerError};
use weave_mesh::ipam::{Answer, Cidr};

use super::{Context, Refusal, status};
use crate::request::{AddressError, Question, Request, Requester, Unknown};
use crate::shown::Shown;

/// The longest id of a container, octets: a path, escaped.
const ID_MAX_BYTES: usize = 4_096;
/// In the place of an id: there is none.
const NO_ID: &str = "_";

/// Parameters of the query and, where there is one, of the form in the body.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Refusal> {
        let bad = |error: &dyn std::fmt::Display| Refusal(StatusCode::BAD_REQUEST, error.to_string());
        let Query(mut fields) =
            Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|error| bad(&error))?;
        let content = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content.is_some_and(|content| content.starts_with("application/x-www-form-urlencoded"))
            && request.method() != axum::http::Method::GET
        {
            let Form(form) =
                Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|error| bad(&error))?;
            fields.extend(form);
        }
        Ok(Self(fields))
    }
}

impl Parameters {
    fn is_set(&self, name: &str) -> bool {
        self.values(name).any(|value| value == "true")
    }

    /// All values of one name.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        super::values(&self.0, name)
    }

    pub(super) fn patience(&self) -> Result<Option<Duration>, Refusal> {
        patience(&self.0)
    }
}

/// How long a form or query says to wait; for ever when it does not.
pub(super) fn patience(fields: &[(String, String)]) -> Result<Option<Duration>, Refusal> {
    let Some(text) = super::values(fields, "wait").next() else { return Ok(None) };
    let seconds: u32 = text.parse().map_err(|_| {
        Refusal(StatusCode::BAD_REQUEST, format!("`{text}` is no time to wait: give seconds, such as wait=10"))
    })?;
    Ok(Some(Duration::from_secs(seconds.into())))
}

impl From<AddressError> for Refusal {
    fn from(error: AddressError) -> Self {
        let status = match &error {
            AddressError::SwitchedOff => StatusCode::NOT_FOUND,
            AddressError::Refused(_) | AddressError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            AddressError::GivenUp { .. } => StatusCode::GATEWAY_TIMEOUT,
            AddressError::NotKept { .. } => StatusCode::INSUFFICIENT_STORAGE,
            AddressError::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

fn checked_id(id: String) -> Result<String, Refusal> {
    if (1..=ID_MAX_BYTES).contains(&id.len()) {
        return Ok(id);
    }
    Err(Refusal(StatusCode::BAD_REQUEST, format!("a container's id has 1 to {ID_MAX_BYTES} octets")))
}

/// An id, or the address in its place.
fn filed(id: String, address: Ipv4Addr) -> Result<String, Refusal> {
    if id == NO_ID { Ok(address.to_string()) } else { checked_id(id) }
}

fn parse_cidr(address: &str, length: &str) -> Result<Cidr, Refusal> {
    let text = format!("{address}/{length}");
    text.parse().map_err(|error: weave_mesh::ipam::InvalidCidr| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

/// The addresses that a container has, in the subnet if one is asked for.
pub(super) async fn held(context: &Context, id: &str, subnet: Option<Cidr>) -> Result<Vec<Cidr>, Refusal> {
    let container = Some(id.to_owned());
    let mut held = context.requester.ask(|reply| Request::Holdings { container, reply }).await?;
    let addresses = held.remove(id).unwrap_or_default();
    Ok(addresses.into_iter().filter(|address| subnet.is_none_or(|subnet| address.subnet() == subnet)).collect())
}

/// Poses a question whose answer is an address.
pub(super) async fn obtain(
    requester: &Requester,
    question: Question,
    patience: Option<Duration>,
) -> Result<Cidr, AddressError> {
    let claimed = match &question {
        Question::Claim { address, .. } => Some(*address),
        Question::Allocate { .. } | Question::Ring | Question::TakeOver(_) => None,
    };
    match (requester.pose(question, patience).await?, claimed) {
        (Answer::Allocated(address), _) | (Answer::Claimed, Some(address)) => Ok(address),
        (answer, _) => Err(AddressError::Refused(format!("{answer:?} is no address"))),
    }
}

/// With `check-alive`, what a container that does not run was given is taken back.
async fn check_alive(context: &Context, parameters: &Parameters, id: &str) -> Result<(), Refusal> {
    if !parameters.is_set("check-alive") || !Docker::is_container_name(id) {
        return Ok(());
    }
    match context.docker.inspect(id).await {
        Err(error @ (DockerError::NoSuchContainer(_) | DockerError::NotRunning(_))) => {
            let container = id.to_owned();
            let _ = context.requester.ask(|reply| Request::Release { container, address: None, reply }).await?;
            Err(Refusal(StatusCode::BAD_REQUEST, error.to_string()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn give(context: &Context, id: String, subnet: Option<Cidr>, parameters: &Parameters) -> Result<String, Refusal> {
    if id == NO_ID {
        let why = "an address is allocated to an id; `_` is for addresses that are claimed or freed";
        return Err(Refusal(StatusCode::BAD_REQUEST, why.to_owned()));
    }
    let container = checked_id(id)?;
    let question = Question::Allocate { container: container.clone(), subnet };
    let address = obtain(&context.requester, question, parameters.patience()?).await?;
    check_alive(context, parameters, &container).await?;
    Ok(address.to_string())
}

/// `POST /ip/{id}`
pub(super) async fn allocate(
    State(context): State<Context>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<String, Refusal> {
    give(&context, id, None, &parameters).await
}

/// `POST /ip/{id}/{ip}/{len}`
pub(super) async fn allocate_in(
    State(context): State<Context>,
    Path((id, address, length)): Path<(String, String, String)>,
    parameters: Parameters,
) -> Result<String, Refusal> {
    give(&context, id, Some(parse_cidr(&address, &length)?), &parameters).await
}

/// `PUT /ip/{id}/{ip}/{len}`
pub(super) async fn claim(
    State(context): State<Context>,
    Path((id, address, length)): Path<(String, String, String)>,
    parameters: Parameters,
) -> Result<StatusCode, Refusal> {
    let address = parse_cidr(&address, &length)?;
    let container = filed(id, address.address())?;
    let unknown = if parameters.is_set("noErrorOnUnknown") { Unknown::Taken } else { Unknown::Awaited };
    let question = Question::Claim { container: container.clone(), address, unknown };
    obtain(&context.requester, question, parameters.patience()?).await.map_err(|error| {
        let Refusal(status, why) = error.into();
        Refusal(status, format!("Unable to claim: {why}"))
    })?;
    check_alive(&context, &parameters, &container).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /ip/{id}`: nothing is no error.
pub(super) async fn lookup(State(context): State<Context>, Path(id): Path<String>) -> Result<String, Refusal> {
    Ok(line(&held(&context, &id, None).await?))
}

/// `GET /ip/{id}/{ip}/{len}`
pub(super) async fn lookup_in(
    State(context): State<Context>,
    Path((id, address, length)): Path<(String, String, String)>,
) -> Result<String, Refusal> {
    Ok(line(&held(&context, &id, Some(parse_cidr(&address, &length)?.subnet())).await?))
}

fn line(addresses: &[Cidr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// `DELETE /ip/{id}`
pub(super) async fn free_all(
    State(context): State<Context>,
    Path(container): Path<String>,
) -> Result<StatusCode, Refusal> {
    context.requester.ask(|reply| Request::Release { container, address: None, reply }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /ip/{id}/{ip}`
pub(super) async fn free(
    State(context): State<Context>,
    Path((id, address)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let address: Ipv4Addr =
        address.parse().map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("`{address}` is no IPv4 address")))?;
    let (container, address) = (filed(id, address)?, Some(address));
    context.requester.ask(|reply| Request::Release { container, address, reply }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Everything that is held, under the original's field names; `null` when it is nothing.
#[derive(Serialize)]
struct Owned {
    owned: Option<Vec<Owner>>,
}

#[derive(Serialize)]
struct Owner {
    containerid: String,
    addrs: Vec<String>,
}

/// `GET /ip`
pub(super) async fn list(State(context): State<Context>) -> Result<Response, Refusal> {
    let held = context.requester.ask(|reply| Request::Holdings { container: None, reply }).await?;
    let owner = |(containerid, addresses): (String, Vec<Cidr>)| Owner {
        containerid,
        addrs: addresses.iter().map(ToString::to_string).collect(),
    };
    let owned: Vec<_> = held.into_iter().map(owner).collect();
    status::json(&Owned { owned: (!owned.is_empty()).then_some(owned) })
}

/// `GET /ipinfo/defaultsubnet`
pub(super) async fn default_subnet(State(context): State<Context>) -> Result<String, Refusal> {
    let allocation = context.requester.ask(Request::Allocation).await?.ok_or(AddressError::SwitchedOff)?;
    Ok(allocation.default_subnet.to_string())
}

/// `GET /ipinfo/tracker`: nothing outside follows who owns which range.
pub(super) async fn tracker(State(context): State<Context>) -> Result<&'static str, Refusal> {
    context.requester.ask(Request::Allocation).await?.ok_or(AddressError::SwitchedOff)?;
    Ok("\n")
}

/// `GET /ipinfo/waiting`: a line for everything that is waited for.
pub(super) async fn waiting(State(context): State<Context>) -> Result<String, Refusal> {
    let waited_for = context.requester.ask(Request::WaitedFor).await?;
    Ok(waited_for.iter().map(|what| format!("waiting for {}\n", Shown(what))).collect())
}

/// `GET /ring`: answered once this host can give addresses.
pub(super) async fn ring(State(context): State<Context>, parameters: Parameters) -> Result<(), Refusal> {
    context.requester.pose(Question::Ring, parameters.patience()?).await?;
    Ok(())
}

/// `DELETE /peer/`, of which a client that lost the name must not learn that all is well.
pub(super) fn nobody() -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "give the name or nickname of a dead peer, as in /peer/host3".to_owned())
}

/// `DELETE /peer/{name or nickname}`
pub(super) async fn take_over(
    State(context): State<Context>,
    Path(peer): Path<String>,
    parameters: Parameters,
) -> Result<String, Refusal> {
    if peer.trim().is_empty() {
        return Err(nobody());
    }
    let answer = context.requester.pose(Question::TakeOver(peer.clone()), parameters.patience()?).await?;
    let addresses = match answer {
        Answer::TakenOver { addresses } => addresses,
        _ => 0,
    };
    Ok(format!("{addresses} IPs taken over from {peer}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_an_id_is_filed_under_itself() {
        let address = [10, 2, 1, 1].into();

        assert_eq!(filed("_".to_owned(), address).unwrap(), "10.2.1.1");
        assert_eq!(filed("weave:expose".to_owned(), address).unwrap(), "weave:expose");
        assert!(filed(String::new(), address).is_err());
        assert!(filed("x".repeat(ID_MAX_BYTES + 1), address).is_err());
    }

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        let field = |text: &str| vec![("wait".to_owned(), text.to_owned())];

        assert_eq!(patience(&[]).unwrap(), None);
        assert_eq!(patience(&field("3")).unwrap(), Some(Duration::from_secs(3)));
        assert!(patience(&field("soon")).is_err());
    }
}
