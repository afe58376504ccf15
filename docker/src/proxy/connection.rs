//! One client's connection, request by request.
//!
//! ```text
//!   idle ─→ head ─┬→ create: whole body ─→ plan, reserve ─→ engine ─→ bind, answer ─┬→ idle
//!     ↑           ├→ inspect, if it is rewritten: whole answer ─────────────────────┤
//!     └───────────┴→ anything else: both ways at once ─┬────────────────────────────┘
//!                                                      └→ a stream, until both have ended
//! ```

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::capture::{Captured, read_body};
use super::framing::Body;
use super::head::{Request, with_length};
use super::refusal::Refusal;
use super::relay::{After, Halt, Side, Transfer, exchange, read_head, stream};
use super::source::Source;
use super::target::Call;
use super::{Advisor, Proxy, Reservation};
use crate::create::{self, Change, Declined, Policy};
use crate::inspect;

/// How an HTTP/2 connection begins when client and engine do without asking first: not ours to read.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The longest answer to a create that is looked into for the container's id.
const CREATED_MAX_BYTES: usize = 1024 * 1024;
/// A longer body of a create waits for its turn.
const SMALL_CREATE_BYTES: u64 = 64 * 1024;
/// How long a client that was refused may go on sending until it reads why.
const LINGER: Duration = Duration::from_secs(1);

type Engine = Side<OwnedReadHalf, OwnedWriteHalf>;

/// How a request failed.
enum Failure {
    /// The client is told.
    Refused(Refusal),
    /// The connection is over.
    Halted(Halt),
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Nothing => {
                Self::Refused(Refusal::bad_gateway("Docker closed the connection without an answer".into()))
            }
            halt => Self::Halted(halt),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) struct Connection<'a, A, R, W> {
    proxy: &'a Proxy<A>,
    client: Side<R, W>,
    engine: Option<Engine>,
}

impl<'a, A: Advisor, R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send> Connection<'a, A, R, W> {
    pub(super) fn new(proxy: &'a Proxy<A>, source: R, sink: W) -> Self {
        Self { proxy, client: Side { source: Source::new(source), sink }, engine: None }
    }

    /// Until either side ends.
    pub(super) async fn run(mut self) {
        while self.wait().await {
            match self.request().await {
                Ok(After::Next) => {}
                Ok(After::Close | After::Stream) => return,
                Err(Failure::Refused(refusal)) => return self.refuse(&refusal).await,
                Err(Failure::Halted(halt)) => return tracing::debug!(%halt, "a connection to Docker ended"),
            }
        }
    }

    /// Whether another request comes. What an engine says without being asked goes to the client, and is the last.
    async fn wait(&mut self) -> bool {
        if !self.client.source.bytes().is_empty() {
            return true;
        }
        let Some(engine) = &mut self.engine else {
            return matches!(timeout(self.proxy.limits.idle, self.client.source.fill()).await, Ok(Ok(true)));
        };
        let unasked = tokio::select! {
            more = timeout(self.proxy.limits.idle, self.client.source.fill()) => return matches!(more, Ok(Ok(true))),
            said = engine.source.fill() => said.unwrap_or(false),
        };
        if unasked {
            let _ = Transfer::of(Body::UntilClose).run(&mut engine.source, &mut self.client.sink).await;
        }
        false
    }

    async fn request(&mut self) -> Result<After, Failure> {
        let length = match timeout(self.proxy.limits.request, read_head(&mut self.client.source)).await {
            Ok(Ok(length)) => length,
            Ok(Err(halt @ (Halt::Head(_) | Halt::HeadTooLong))) => return Err(malformed(&halt)),
            Ok(Err(halt)) => return Err(Failure::Halted(halt)),
            Err(_) => return Err(Refusal::timeout("the request did not come to its end".into()).into()),
        };
        let head = &self.client.source.bytes()[..length];
        if head == HTTP2_PREFACE && self.engine.is_none() {
            return self.hand_over().await;
        }
        let request = Request::parse(head).map_err(|error| malformed(&error))?;
        match Call::of(&request) {
            Call::Create { name } if request.body != Body::Length(0) => self.create(length, &request, name).await,
            Call::Inspect if self.proxy.advisor.policy().rewrite_inspect => self.inspect(length, &request).await,
            Call::Create { .. } | Call::Inspect | Call::Other => self.pass(length, &request).await,
        }
    }

    /// A request that is nobody's but the engine's.
    async fn pass(&mut self, head: usize, request: &Request) -> Result<After, Failure> {
        let engine = engine(self.proxy, &mut self.engine).await?;
        let upload = Transfer::with_head(head, request.body);
        let after = exchange(&mut self.client, engine, upload, request.method == "HEAD").await?;
        if after == After::Stream {
            stream(&mut self.client, engine, self.proxy.limits.idle).await?;
        }
        Ok(after)
    }

    /// A connection that is not of messages from the start.
    async fn hand_over(&mut self) -> Result<After, Failure> {
        let engine = engine(self.proxy, &mut self.engine).await?;
        stream(&mut self.client, engine, self.proxy.limits.idle).await?;
        Ok(After::Stream)
    }

    async fn create(&mut self, length: usize, request: &Request, name: Option<String>) -> Result<After, Failure> {
        let head = self.client.source.bytes()[..length].to_vec();
        self.client.source.consume(length);
        let is_small = matches!(request.body, Body::Length(length) if length <= SMALL_CREATE_BYTES);
        let _turn = if is_small { None } else { self.proxy.large_creates.acquire().await.ok() };
        let body = self.body(request).await?;
        let policy = self.proxy.advisor.policy();
        match create::plan(&body, name.as_deref(), &policy) {
            Ok(change) => self.create_changed(&head, change, &policy).await,
            Err(declined) if declined.is_refusal() => Err(Refusal::bad_request(declined.to_string()).into()),
            Err(declined) => {
                leave_alone(name.as_deref(), &declined);
                // It is the same request still, if its body had a length and was sent at once.
                let is_same = matches!(request.body, Body::Length(_)) && !request.expects_continue;
                let head = if is_same { head } else { resized(&head, body.len())? };
                let captured = self.answer_to(&head, &body).await?;
                self.deliver(captured).await
            }
        }
    }

    /// The body of a create.
    async fn body(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let limits = self.proxy.limits;
        let fits = !matches!(request.body, Body::Length(length) if length > limits.create_bytes as u64);
        if request.expects_continue && fits {
            self.client.sink.write_all(CONTINUE).await.map_err(Halt::Sink)?;
            self.client.sink.flush().await.map_err(Halt::Sink)?;
        }
        let body = read_body(&mut self.client.source, request.body, limits.create_bytes);
        match timeout(limits.request, body).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(Refusal::bad_request(error.to_string()).into()),
            Err(_) => Err(Refusal::timeout("the request did not come to its end".into()).into()),
        }
    }

    async fn create_changed(&mut self, head: &[u8], change: Change<'_>, policy: &Policy) -> Result<After, Failure> {
        let advisor = &self.proxy.advisor;
        let (container, remark) = (change.container.clone().unwrap_or_default(), change.remark.clone());
        tracing::debug!(container, names = ?change.names, moment = ?change.moment, "a container comes onto the network");
        let Reservation { token, addresses } = advisor.before_create(&change).await.map_err(Refusal::failure)?;
        let created = self.created(head, change.apply(&addresses, policy)).await;
        let id = created.as_ref().ok().and_then(container_id);
        advisor.after_create(token, id.as_deref()).await;
        let created = created?;
        let remark = remark.filter(|_| id.is_some() && created.is_whole());
        match remark.and_then(|remark| create::with_remark(&created.content, &remark)) {
            Some(content) => self.answer_with(&created.head, content).await,
            None => self.deliver(created).await,
        }
    }

    async fn created(&mut self, head: &[u8], body: Result<Vec<u8>, Declined>) -> Result<Captured, Failure> {
        let body = body.map_err(|declined| Refusal::bad_request(declined.to_string()))?;
        self.answer_to(&resized(head, body.len())?, &body).await
    }

    /// What the engine says to a create. One that does not take all of it may still answer.
    async fn answer_to(&mut self, head: &[u8], body: &[u8]) -> Result<Captured, Failure> {
        let engine = engine(self.proxy, &mut self.engine).await?;
        let _ = engine.sink.write_all(&[head, body].concat()).await;
        Ok(Captured::read(&mut engine.source, &mut self.client.sink, CREATED_MAX_BYTES).await?)
    }

    async fn inspect(&mut self, length: usize, request: &Request) -> Result<After, Failure> {
        if request.body != Body::Length(0) {
            return self.pass(length, request).await;
        }
        let proxy = self.proxy;
        let engine = engine(proxy, &mut self.engine).await?;
        let mut head = Transfer::with_head(length, request.body);
        head.run(&mut self.client.source, &mut engine.sink).await?;
        let captured = Captured::read(&mut engine.source, &mut self.client.sink, proxy.limits.inspect_bytes).await?;
        if captured.answer.status != 200 || !captured.is_whole() {
            return self.deliver(captured).await;
        }
        let id = inspect::id_of(&captured.content).unwrap_or_default();
        let addresses = proxy.advisor.addresses(&id).await;
        let Some(content) = inspect::rewrite(&captured.content, &addresses) else {
            return self.deliver(captured).await;
        };
        self.answer_with(&captured.head, content).await
    }

    /// Gives an answer of the engine's another content.
    async fn answer_with(&mut self, head: &[u8], content: Vec<u8>) -> Result<After, Failure> {
        let head = with_length(head, content.len()).map_err(Halt::from)?;
        self.client.sink.write_all(&[head, content].concat()).await.map_err(Halt::Sink)?;
        self.client.sink.flush().await.map_err(Halt::Sink)?;
        Ok(After::Next)
    }

    /// Passes on an answer that stays as it is.
    async fn deliver(&mut self, captured: Captured) -> Result<After, Failure> {
        let engine = engine(self.proxy, &mut self.engine).await?;
        let after = if captured.answer.body == Body::UntilClose { After::Close } else { After::Next };
        captured.pass_on(&mut self.client, engine).await?;
        Ok(after)
    }

    /// Says so, and closes so that the client reads it even if it is still sending.
    async fn refuse(mut self, refusal: &Refusal) {
        let said = self.client.sink.write_all(&refusal.to_bytes()).await;
        if said.is_err() || self.client.sink.shutdown().await.is_err() {
            return;
        }
        let rest = async {
            while self.client.source.fill().await.unwrap_or(false) {
                self.client.source.consume(self.client.source.bytes().len());
            }
        };
        let _ = timeout(LINGER, rest).await;
    }
}

/// The engine's connection, made when it is first needed.
async fn engine<'e, A: Advisor>(proxy: &Proxy<A>, engine: &'e mut Option<Engine>) -> Result<&'e mut Engine, Refusal> {
    if engine.is_none() {
        let stream = proxy.connect().await.map_err(|error| {
            let socket = proxy.engine.display();
            Refusal::bad_gateway(format!("cannot reach Docker at {socket}: {error}; is it running?"))
        })?;
        let (source, sink) = stream.into_split();
        *engine = Some(Side { source: Source::new(source), sink });
    }
    engine.as_mut().ok_or_else(|| Refusal::bad_gateway("there is no connection to Docker".into()))
}

fn resized(head: &[u8], length: usize) -> Result<Vec<u8>, Failure> {
    with_length(head, length).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn std::fmt::Display) -> Failure {
    Refusal::bad_request(format!("the request cannot be read: {error}")).into()
}

fn leave_alone(container: Option<&str>, declined: &Declined) {
    let container = container.unwrap_or_default();
    match declined {
        Declined::Unreadable(_) => tracing::warn!(container, reason = %declined, "a container is left to Docker"),
        _ => tracing::debug!(container, reason = %declined, "a container is left to Docker"),
    }
}

/// The container that an answer says was created.
fn container_id(created: &Captured) -> Option<String> {
    if created.answer.status != 201 {
        return None;
    }
    let id = inspect::id_of(&created.content);
    if id.is_none() {
        tracing::warn!("Docker created a container and did not tell its id; what was reserved for it is free again");
    }
    id
}
