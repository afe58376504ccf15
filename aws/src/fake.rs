//! A small AWS that misbehaves as told, with the IMDS of each of its instances: for tests, here and elsewhere.
//!
//! ```text
//!   http://ADDRESS/imds/i-0123/latest/…    the IMDS of instance i-0123        fake/metadata.rs
//!   http://ADDRESS/                        EC2, Auto Scaling and SSM          fake/api.rs
//!                                              by the service in the signature, which is checked
//! ```
//!
//! It serves whatever [`World`] says at that moment, on a listener that the caller bound, in whichever namespace. One thread.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

pub use self::world::{Fault, Group, Machine, World};
use crate::settings::{InvalidSettings, Settings};
use crate::time;

mod api;
pub mod decoders;
mod form;
mod metadata;
mod world;
mod xml;

/// Longer than any question of ours.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A cloud that is served until it is dropped.
#[derive(Debug)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Serves a world on a listener.
    ///
    /// # Errors
    /// When the listener or a thread cannot be had.
    pub fn serve(listener: TcpListener, world: World) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let world = Arc::new(Mutex::new(world));
        let ((stop, stopped), shown) = (oneshot::channel(), world.clone());
        let thread = std::thread::Builder::new().name("fake-aws".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = accept(listener, &shown) => drop(result),
                }
            });
        })?;
        Ok(Self { world, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Serves a world on a free port of loopback.
    ///
    /// # Errors
    /// When the listener or a thread cannot be had.
    pub fn on_loopback(world: World) -> std::io::Result<Self> {
        Self::serve(TcpListener::bind("127.0.0.1:0")?, world)
    }

    /// The settings of an instance of it, with more variables that go before those which lead here.
    ///
    /// # Errors
    /// When one of these holds no URL.
    pub fn settings(&self, instance: &str, more: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
        Settings::read(|name| match (more.iter().find(|(known, _)| *known == name), name) {
            (Some((_, value)), _) => Some((*value).to_owned()),
            (None, "AWS_ENDPOINT_URL") => Some(self.url()),
            (None, "AWS_EC2_METADATA_SERVICE_ENDPOINT") => Some(self.imds_url(instance)),
            _ => None,
        })
    }

    /// To look at the world, or change it: it stands still for as long as this is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// How often something was asked.
    pub fn count(&self, call: &str) -> usize {
        self.world().asked.iter().filter(|asked| *asked == call).count()
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For `AWS_EC2_METADATA_SERVICE_ENDPOINT` on an instance.
    pub fn imds_url(&self, instance: &str) -> String {
        format!("http://{}/imds/{instance}", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, world: &Arc<Mutex<World>>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let world = world.clone();
        let service = service_fn(move |request| answer(request, world.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What is asked of it.
#[derive(Debug)]
struct Asked {
    method: String,
    path: String,
    headers: hyper::HeaderMap,
    body: Bytes,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What it answers.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

async fn answer(request: Request<Incoming>, world: Arc<Mutex<World>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let asked = Asked { method: head.method.to_string(), path, headers: head.headers, body };
    let (reply, now) = {
        let mut world = lock(&world);
        (reply(&mut world, &asked), time::now() + world.clock_ahead)
    };
    let Some(reply) = reply else { return std::future::pending().await };
    let response = Response::builder().status(reply.status).header("date", time::http(now));
    let response = reply.headers.iter().fold(response, |response, (name, value)| response.header(*name, value));
    Ok(response.body(Full::new(reply.body.into())).unwrap_or_default())
}

/// None is silence.
fn reply(world: &mut World, asked: &Asked) -> Option<Reply> {
    let imds = metadata::Question::of(asked);
    let name = imds.as_ref().map_or_else(|| api::name(asked), metadata::Question::name);
    let fault = world.meet(&name);
    let good = |world: &mut World| match &imds {
        Some(question) => metadata::reply(world, asked, question),
        None => api::reply(world, asked),
    };
    match fault {
        None => Some(good(world)),
        Some(Fault::Silence) => None,
        Some(Fault::Body(body)) => Some(Reply::new(200, body)),
        Some(Fault::Error { status, code }) => Some(api::error(asked, status, &code)),
        Some(Fault::CutTo(octets)) => {
            let mut reply = good(world);
            reply.body.truncate(octets);
            Some(reply)
        }
    }
}
