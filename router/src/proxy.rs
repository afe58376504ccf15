//! The proxy of Docker's API, on a thread of its own: a client's stream delays nobody else.
//!
//! ```text
//!   DOCKER_HOST=unix:///run/weave-rs/docker.sock docker run … ─► create: our runtime, DNS, host name ─► the engine
//! ```
//!
//! What a container needs beyond that it gets when it starts, by our runtime: so the proxy does without addresses, and an engine
//! without our runtime is told to the client.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tracing::{error, info};
use weave_datapath::plan::RESOLVER;
use weave_docker::Docker;
use weave_docker::create::{Change, Policy};
use weave_docker::proxy::{Advisor, Limits, Proxy, Reservation};
use weave_docker::setup::RUNTIME;

use crate::api::{Context, UnixSocket};
use crate::config::DnsConfig;
use crate::starts::Starts;

/// Who is to be called by Docker as it likes.
const NAMELESS: &str = "a container without a name";
/// Copying needs little.
const STACK_BYTES: usize = 512 * 1024;

/// Handle to the thread, which ends when it is dropped.
#[derive(Debug)]
pub struct ProxyThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _socket: UnixSocket,
}

impl ProxyThread {
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn spawn(socket: UnixSocket, advisor: OurRuntime) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let engine = advisor.docker.socket().to_owned();
        let proxy = Arc::new(Proxy::new(engine, advisor, Limits::default()));
        let listener = {
            let _inside = runtime.enter();
            socket.listener()?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = async move {
            tokio::select! {
                () = proxy.serve(listener) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new().name("docker-proxy".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || runtime.block_on(serve))?;
        info!(socket = %socket.path().display(), "passing Docker's API on");
        Ok(Self { stop: Some(stop), thread: Some(thread), _socket: socket })
    }
}

impl Drop for ProxyThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the proxy's thread panicked");
        }
    }
}

/// Has containers run by our runtime, which does the rest.
#[derive(Debug)]
pub struct OurRuntime {
    docker: Docker,
    policy: Arc<Policy>,
    starts: Arc<Starts>,
}

impl OurRuntime {
    pub fn new(context: &Context, dns: Option<&DnsConfig>) -> Self {
        let containers = &context.containers;
        let policy = Policy {
            rules: containers.rules.clone(),
            without_dns: containers.without_dns || dns.is_none(),
            no_rewrite_hosts: containers.no_rewrite_hosts,
            dns_server: RESOLVER,
            ..Policy::default()
        };
        let domain = dns.map_or_else(|| policy.domain.clone(), |dns| dns.domain.folded().to_owned());
        Self {
            docker: context.docker.clone(),
            policy: Arc::new(Policy { domain, ..policy }),
            starts: Arc::clone(&context.starts),
        }
    }

    async fn check(&self) -> Result<(), String> {
        // What the engine has read anew since it was met is told by an event.
        if self.docker.engine().is_some_and(|engine| engine.runtimes.knows(RUNTIME)) {
            return Ok(());
        }
        let runtimes = self.docker.runtimes().await.map_err(|error| error.to_string())?;
        let todo = "run `weave-rs setup docker` on this host";
        let unknown = || format!("this Docker does not know the runtime `{RUNTIME}`: {todo}");
        if runtimes.knows(RUNTIME) { Ok(()) } else { Err(unknown()) }
    }
}

impl Advisor for OurRuntime {
    type Token = ();

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    async fn before_create(&self, change: &Change<'_>) -> Result<Reservation<()>, String> {
        let container = change.container.as_deref().unwrap_or(NAMELESS);
        self.check().await.inspect_err(|why| self.starts.note_failure(container, why))?;
        Ok(Reservation { token: (), addresses: Vec::new() })
    }

    async fn after_create(&self, (): (), _: Option<&str>) {}
}
