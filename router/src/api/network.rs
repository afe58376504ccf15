//! Docker's network plugin: `docker network create --driver weave-rs --ipam-driver weave-rs`.
//!
//! ```text
//!   engine ─► POST /NetworkDriver.Join ─► decoded (docker/src/plugin.rs) ─► control ─► encoded
//!                                          └ always answered so ──────────────────────┘
//! ```
//!
//! Every request is parsed, asked of control and rendered, as those of the API are, and on the same runtime: an engine waits
//! for each of them with a container's lock in its hand, so none waits for more than [`PATIENCE`], and none asks the engine.
//!
//! Invariants:
//! - an engine is answered whatever comes of it; why not is a sentence for whoever called `docker`;
//! - a subnet that an engine left to us is given once until it is given back: an engine that cannot use it asks again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use weave_datapath::linux::veth::{CONTAINER_LINK, check_addresses};
use weave_datapath::plan::RESOLVER;
use weave_docker::plugin::{Answer, Fault, Joined, Mac, Multicast, Pool, Request as Asked, StaticRoute, refusal};
use weave_docker::plugin::{ipam, network};
use weave_docker::wish::Cidr as DockerCidr;
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::attach::subnet;
use super::{BODY_MAX_BYTES, BODY_TIMEOUT};
use crate::attach::{AttachError, Endpoint, endpoint};
use crate::pools::{self, PoolError};
use crate::request::{AddressError, NetworkRequest, Question, Reply, Request, Requester, Stopping, Unknown};

/// How long an engine waits for what others of the mesh have to say, such as to a host that has just come back: as long as it
/// would try a plugin that is not there.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long for a mesh that is about to be ready; one that has to wait for further hosts is not.
const READY_PATIENCE: Duration = Duration::from_secs(2);
/// 224.0.0.0/4: all IPv4 multicast.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 0);
const MULTICAST_LENGTH: u8 = 4;

/// Who serves an engine.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    requester: Requester,
    /// A network of this engine's has the default subnet, which it left to us to choose.
    is_default_given: Arc<AtomicBool>,
}

impl Plugin {
    pub(super) fn new(requester: Requester) -> Self {
        Self { requester, is_default_given: Arc::default() }
    }

    pub(super) fn routes(self) -> Router {
        Router::new().route("/{method}", post(answer)).with_state(self)
    }
}

/// Why an engine is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
    #[error("the request did not come whole within {BODY_TIMEOUT:?}")]
    Late,
}

/// Each connection has one request: an engine would take one that we closed meanwhile for a failure.
async fn answer(State(plugin): State<Plugin>, Path(method): Path<String>, request: HttpRequest<Body>) -> Response {
    let answer = match read(request).await {
        Ok(body) => plugin.serve(&method, &body).await,
        Err(late) => Err(late),
    };
    let closing = [(header::CONNECTION, "close")];
    match answer {
        Ok(answer) => (closing, Json(answer.encode())).into_response(),
        Err(why) => {
            let is_unknown = matches!(why, Refused::Fault(Fault::UnknownMethod));
            let status = if is_unknown { StatusCode::NOT_FOUND } else { StatusCode::OK };
            tracing::warn!(method, %why, "Docker is refused");
            (status, closing, Json(refusal(&method, &why.to_string()))).into_response()
        }
    }
}

async fn read(request: HttpRequest<Body>) -> Result<Bytes, Refused> {
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_MAX_BYTES)).await;
    body.ok().and_then(Result::ok).ok_or(Refused::Late)
}

impl Plugin {
    async fn serve(&self, method: &str, body: &[u8]) -> Result<Answer, Refused> {
        match Asked::decode(method, body)? {
            Asked::Fixed(answer) => Ok(answer),
            Asked::Ipam(asked) => self.serve_addresses(asked).await,
            Asked::Network(asked) => self.serve_network(asked).await,
        }
    }

    async fn serve_addresses(&self, asked: ipam::Request) -> Result<Answer, Refused> {
        match asked {
            ipam::Request::Pool(asked) => self.pool(asked).await,
            ipam::Request::ReleasePool(pool) => {
                if pool == pools::default(&self.allocation().await?) {
                    self.is_default_given.store(false, Ordering::Relaxed);
                }
                Ok(Answer::Done)
            }
            ipam::Request::Address { pool, wanted } => self.address(pool, wanted).await,
            ipam::Request::ReleaseAddress(address) => {
                self.ask(|reply| NetworkRequest::ReturnAddress { address, reply }).await??;
                Ok(Answer::Done)
            }
        }
    }

    async fn serve_network(&self, asked: network::Request) -> Result<Answer, Refused> {
        match asked {
            network::Request::CreateNetwork { network, multicast } => {
                self.set_multicast(network, multicast == Multicast::Routed).await
            }
            network::Request::DeleteNetwork { network } => self.set_multicast(network, true).await,
            network::Request::CreateEndpoint { endpoint, address, mac } => {
                self.create_endpoint(Endpoint::new(endpoint), address, mac).await
            }
            network::Request::DeleteEndpoint { endpoint } => self.detach(&Endpoint::new(endpoint)).await,
            network::Request::Join { network, endpoint, sandbox } => {
                self.join(network, &Endpoint::new(endpoint), sandbox).await
            }
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> NetworkRequest) -> Result<T, Stopping> {
        self.requester.ask(|reply| Request::Network(request(reply))).await
    }

    async fn allocation(&self) -> Result<weave_mesh::ipam::Config, Refused> {
        Ok(self.requester.ask(Request::Allocation).await?.ok_or(AddressError::SwitchedOff)?)
    }

    async fn pool(&self, asked: ipam::Asked) -> Result<Answer, Refused> {
        let config = self.allocation().await?;
        let pool = match asked {
            ipam::Asked::This(pool) => pools::checked(pool, &config)?,
            ipam::Asked::Any if self.is_default_given.swap(true, Ordering::Relaxed) => {
                return Err(PoolError::Given(config.default_subnet).into());
            }
            ipam::Asked::Any => pools::default(&config),
        };
        Ok(Answer::Pool(pool))
    }

    /// An address that is Docker's from now on. Of a part of a subnet it has the subnet's prefix length.
    async fn address(&self, pool: Pool, wanted: Option<Ipv4Addr>) -> Result<Answer, Refused> {
        let length = pool.subnet.prefix_length;
        let container = endpoint::asked();
        let question = match wanted {
            Some(wanted) => {
                let address = pools::member(pool, wanted)?;
                check_addresses(&[subnet(address)]).map_err(AttachError::from)?;
                Question::Claim { container, address, unknown: Unknown::Awaited }
            }
            None => Question::Allocate { container, subnet: Some(pools::source(pool)?) },
        };
        self.requester.pose(Question::Ring, Some(READY_PATIENCE)).await?;
        let address = super::ip::obtain(&self.requester, question, Some(PATIENCE)).await?.address();
        Ok(Answer::Address(DockerCidr { address: address.into(), prefix_length: length }))
    }

    async fn set_multicast(&self, network: String, is_routed: bool) -> Result<Answer, Refused> {
        self.ask(|reply| NetworkRequest::SetMulticast { network, is_routed, reply }).await??;
        Ok(Answer::Done)
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        address: DockerCidr,
        mac: Option<Mac>,
    ) -> Result<Answer, Refused> {
        let address = Subnet { address: address.address, prefix_len: address.prefix_length };
        let is_chosen = mac.is_some();
        let mac = mac.map(|mac| MacAddr(mac.0));
        let mac = self.ask(|reply| NetworkRequest::CreateEndpoint { endpoint, address, mac, reply }).await??;
        Ok(Answer::Endpoint((!is_chosen).then_some(Mac(mac.0))))
    }

    /// Its port is there and open before the engine has moved its end to the container.
    async fn join(&self, network: String, endpoint: &Endpoint, sandbox: String) -> Result<Answer, Refused> {
        let (container, wanted) = (endpoint.container(sandbox), Vec::new());
        let request = |ticket, reply| {
            let (named, multicast_route, by_hand) = (false, false, false);
            Request::Attach { ticket, container, wanted, named, multicast_route, by_hand, reply }
        };
        self.requester.commit(Some(PATIENCE), request).await?;
        let device = endpoint.ends().map_err(AttachError::from)?.far.to_string();
        Ok(Answer::Joined(Joined {
            device,
            prefix: CONTAINER_LINK.to_owned(),
            routes: self.routes_of(endpoint, network).await?,
        }))
    }

    async fn routes_of(&self, endpoint: &Endpoint, network: String) -> Result<Vec<StaticRoute>, Refused> {
        let route =
            |address: Ipv4Addr, prefix_length| StaticRoute(DockerCidr { address: address.into(), prefix_length });
        let endpoint = endpoint.clone();
        let routes = self.ask(|reply| NetworkRequest::Route { endpoint, network, reply }).await?;
        let resolver = routes.resolver.then(|| route(RESOLVER, 32));
        let multicast = routes.multicast.then(|| route(MULTICAST, MULTICAST_LENGTH));
        Ok(resolver.into_iter().chain(multicast).collect())
    }

    async fn detach(&self, endpoint: &Endpoint) -> Result<Answer, Refused> {
        let (container, addresses) = (endpoint.container(""), Vec::new());
        let request = |ticket, reply| Request::Detach { ticket, container, addresses, reply };
        self.requester.commit(None, request).await?;
        Ok(Answer::Done)
    }
}
