//! Attaching a container to the network, detaching it, and what is attached.
//!
//! ```text
//!   addresses allocated and claimed ─► port ─► answer
//!        └── given back when the caller goes away meanwhile, or there is no port after all
//! ```

use std::time::{Duration, Instant};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use weave_mesh::card::Subnet;
use weave_mesh::ipam::{self, Cidr};

use super::status::{Format, snapshot};
use super::{Context, Refusal, ip, values};
use crate::attach::{AttachError, Container, Subject};
use crate::config::value::parse_subnet;
use crate::expose::HOST_LABEL;
use crate::request::{Question, Request, Requester, Unknown};
use crate::status::ps;

type Fields = Form<Vec<(String, String)>>;

/// An address as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `ADDRESS/LENGTH`, `ip:ADDRESS/LENGTH`: this one.
    This(Subnet),
    /// `net:SUBNET`, or `net:default`: one of the subnet.
    In(Option<Cidr>),
}

impl Wanted {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |error: &dyn std::fmt::Display| Refusal(StatusCode::BAD_REQUEST, error.to_string());
        match text.split_once(':') {
            Some(("net", "default")) => Ok(Self::In(None)),
            Some(("net", subnet)) => subnet.parse().map(|subnet| Self::In(Some(subnet))).map_err(|error| bad(&error)),
            Some(("ip", address)) => parse_subnet(address).map(Self::This).map_err(|error| bad(&error)),
            Some(_) | None => parse_subnet(text).map(Self::This).map_err(|error| bad(&error)),
        }
    }
}

/// The container and the addresses that a form names.
async fn parse(context: &Context, form: &[(String, String)]) -> Result<(Container, Vec<Wanted>), Refusal> {
    let bad = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let target = values(form, "target").next().ok_or_else(|| bad("the form has no `target`".to_owned()))?;
    let subject: Subject = target.parse()?;
    let wanted = values(form, "address").map(Wanted::parse).collect::<Result<Vec<_>, _>>()?;
    Ok((subject.resolve(&context.docker).await?, wanted))
}

/// Addresses without their prefix lengths, space-separated on one line.
pub(super) fn line(addresses: &[Subnet]) -> String {
    let texts: Vec<_> = addresses.iter().map(|subnet| subnet.address.to_string()).collect();
    texts.join(" ") + "\n"
}

fn subnet(address: Cidr) -> Subnet {
    Subnet { address: address.address().into(), prefix_len: address.prefix_len() }
}

fn cidr(subnet: Subnet) -> Option<Cidr> {
    match subnet.address {
        std::net::IpAddr::V4(address) => Cidr::new(address, subnet.prefix_len).ok(),
        std::net::IpAddr::V6(_) => None,
    }
}

/// Addresses that a container has just been given; they are given back when this is dropped, unless they are kept.
pub(super) struct Obtained {
    requester: Requester,
    container: String,
    fresh: Vec<Cidr>,
}

impl Obtained {
    pub(super) fn keep(mut self) {
        self.fresh.clear();
    }
}

impl Drop for Obtained {
    fn drop(&mut self) {
        for address in std::mem::take(&mut self.fresh) {
            let (requester, container, address) = (self.requester.clone(), self.container.clone(), address.address());
            let release = move |reply| Request::Release { container, address: Some(address), reply };
            tokio::spawn(async move { requester.ask(release).await });
        }
    }
}

/// Allocates and claims what is wanted for a container: one address of the default subnet when nothing is.
pub(super) async fn obtain(
    context: &Context,
    container: &str,
    mut wanted: Vec<Wanted>,
    patience: Option<Duration>,
) -> Result<(Vec<Subnet>, Obtained), Refusal> {
    if wanted.is_empty() {
        wanted.push(Wanted::In(None));
    }
    let allocation: Option<ipam::Config> = context.requester.ask(Request::Allocation).await?;
    let held = ip::held(context, container, None).await?;
    let until = patience.map(|patience| Instant::now() + patience);
    let mut obtained =
        Obtained { requester: context.requester.clone(), container: container.to_owned(), fresh: Vec::new() };
    let mut addresses = Vec::new();
    for wanted in wanted {
        let container = container.to_owned();
        let question = match (wanted, &allocation) {
            (Wanted::In(subnet), Some(_)) => Question::Allocate { container, subnet },
            (Wanted::In(_), None) => return Err(AttachError::NoAddress.into()),
            (Wanted::This(address), allocation) => match cidr(address).filter(|_| allocation.is_some()) {
                Some(address) => Question::Claim { container, address, unknown: Unknown::Taken },
                None => {
                    addresses.push(address);
                    continue;
                }
            },
        };
        let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
        let address = ip::obtain(context, question, patience).await?;
        addresses.push(subnet(address));
        if !held.contains(&address) {
            obtained.fresh.push(address);
        }
    }
    Ok((addresses, obtained))
}

pub(super) async fn attach(State(context): State<Context>, Form(form): Fields) -> Result<String, Refusal> {
    let (container, wanted) = parse(&context, &form).await?;
    let named = !values(&form, "without-dns").any(|value| value == "true");
    let (addresses, obtained) = obtain(&context, &container.label, wanted, ip::patience(&form)?).await?;
    // What has begun inside the container is finished, whether or not the caller is still there.
    let attaching = async move {
        let attached = context.requester.ask(|reply| Request::Attach { container, addresses, named, reply }).await??;
        obtained.keep();
        Ok(line(&attached))
    };
    let died = |error: tokio::task::JoinError| Err(AttachError::Died(error.to_string()).into());
    tokio::spawn(attaching).await.unwrap_or_else(died)
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
    let (container, wanted) = parse(&context, &form).await?;
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
    let detached = context.requester.ask(|reply| Request::Detach { container, addresses, reply }).await??;
    Ok(line(&detached))
}

/// What a container has of a subnet, or of the default one.
async fn in_subnet(context: &Context, container: &str, within: Option<Cidr>) -> Result<Vec<Subnet>, Refusal> {
    let within = match within {
        Some(subnet) => subnet.subnet(),
        None => context.requester.ask(Request::Allocation).await?.ok_or(AttachError::NoAddress)?.default_subnet,
    };
    Ok(ip::held(context, container, Some(within)).await?.into_iter().map(subnet).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_or_wanted_from_a_subnet() {
        let parsed = |text: &str| Wanted::parse(text).ok();
        let this = parsed("10.32.0.1/12");

        assert!(matches!(this, Some(Wanted::This(_))));
        assert_eq!(parsed("ip:10.32.0.1/12"), this);
        assert!(matches!(parsed("fd00::1/64"), Some(Wanted::This(_))));
        assert_eq!(parsed("net:default"), Some(Wanted::In(None)));
        assert_eq!(parsed("net:10.40.0.0/24"), Some(Wanted::In("10.40.0.0/24".parse().ok())));
        for text in ["net:", "ip:", "net:x", "10.32.0.1", "web"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
