//! One listener and its connections: so many at once, none of which costs anybody else anything by being slow.
//!
//! ```text
//!   accept ── room? ──► connection ── header, 10 s ── body, 10 s ── handler, as long as it takes ── answer
//!      ▲        │ no: the connection that has been idle for longest is closed        progress every 10 s ┘
//!      │        └ none is idle: it waits until one is, others in the kernel's queue
//!      └────────────────────────────────── next ◄─────────────────────────────────────────────────────────
//! ```

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;

/// How long a client may take to send a request's header, and be idle between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read none of its answer.
const READER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest header: a query with some hundred containers.
const HEADER_MAX_BYTES: usize = 64 * 1024;

/// What the connections of a listener may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many there are at once.
    connections: usize,
    header: Duration,
    reader: Duration,
}

impl Limits {
    pub(super) const fn of(connections: usize) -> Self {
        Self { connections, header: HEADER_TIMEOUT, reader: READER_TIMEOUT }
    }
}

/// Serves what `listener` accepts until `stopped` says so (its sender is gone) and the requests under way are answered.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    let mut connections = Connections::default();
    let mut newcomer = None;
    loop {
        tokio::select! {
            (stream, _) = listener.accept(), if newcomer.is_none() => newcomer = Some(stream),
            () = connections.changed() => {}
            _ = stopped.changed() => break,
        }
        if let Some(stream) = newcomer.take_if(|_| connections.has_room(limits.connections)) {
            let (router, stopped) = (router.clone(), stopped.clone());
            connections.spawn(|requests| converse(stream, router, limits, requests, stopped));
        }
    }
    drop(listener);
    connections.all_ended().await;
}

/// The connections of one listener.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<Open>,
    /// One of them has become idle.
    idled: Arc<Notify>,
}

#[derive(Debug)]
struct Open {
    task: AbortHandle,
    requests: Requests,
}

/// The requests of one connection: as many clones of `count` as are under way, and two more.
#[derive(Clone, Debug)]
struct Requests {
    count: Arc<()>,
    idled: Arc<Notify>,
}

impl Requests {
    fn new(idled: Arc<Notify>) -> Self {
        Self { count: Arc::new(()), idled }
    }

    /// Of the clones one is the listener's, and one the connection's own.
    fn are_none(&self) -> bool {
        Arc::strong_count(&self.count) <= 2
    }
}

impl Connections {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, converse: impl FnOnce(Requests) -> F) {
        let requests = Requests::new(Arc::clone(&self.idled));
        let task = self.tasks.spawn(converse(requests.clone()));
        self.open.push_back(Open { task, requests });
    }

    /// Makes room if there is none and one of them is idle.
    fn has_room(&mut self, most: usize) -> bool {
        if self.open.len() < most {
            return true;
        }
        let idle = self.open.iter().position(|open| open.requests.are_none());
        let Some(idle) = idle.and_then(|idle| self.open.remove(idle)) else { return false };
        idle.task.abort();
        true
    }

    /// One of them has ended, or has nothing to do any more.
    async fn changed(&mut self) {
        tokio::select! {
            Some(_) = self.tasks.join_next() => self.open.retain(|open| !open.task.is_finished()),
            () = self.idled.notified() => {}
        }
    }

    async fn all_ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Answers the requests of one connection.
async fn converse<S>(stream: S, router: Router, limits: Limits, requests: Requests, mut stopped: watch::Receiver<()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let handler = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let (Requests { count, idled }, answer) = (requests.clone(), handler.call(request));
        async move {
            let answer = answer.await;
            drop(count);
            idled.notify_one();
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(HEADER_MAX_BYTES);
    let connection = http.serve_connection(Patient::new(stream, limits.reader), service);
    tokio::pin!(connection);
    tokio::select! {
        // Whatever ended it, there is nobody to tell.
        _ = &mut connection => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A stream whose reader may not stand still.
struct Patient<S> {
    stream: TokioIo<S>,
    timeout: Duration,
    /// Runs while there is something to write and no room for it.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, timeout: Duration) -> Self {
        Self { stream: TokioIo::new(stream), timeout, patience: None }
    }

    /// The outcome of a write, or of waiting for it too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: tokio::io::AsyncRead + Unpin> Read for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> Write for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(written, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.judge(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const MOST: usize = 4;

    /// A listener with a quick route, one that ends when told, and one whose answer is large.
    async fn served() -> (std::net::SocketAddr, Arc<Notify>, watch::Receiver<usize>, watch::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let release = Arc::new(Notify::new());
        let waiting = Arc::clone(&release);
        let (counter, under_way) = watch::channel(0);
        let wait = move || {
            counter.send_modify(|count| *count += 1);
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.notified().await;
                "at last"
            }
        };
        let large = || async { vec![b'x'; 64 << 20] };
        let router = Router::new()
            .route("/quick", get(|| async { "quick" }))
            .route("/wait", get(wait))
            .route("/large", get(large));
        let (stop, stopped) = watch::channel(());
        tokio::spawn(serve(listener, router, Limits::of(MOST), stopped));
        (address, release, under_way, stop)
    }

    async fn send(address: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_client_is_answered_although_idle_connections_use_all_there_are() {
        let (address, _release, _under_way, _stop) = served().await;
        let mut idle = Vec::new();
        for _ in 0..10 * MOST {
            idle.push(TcpStream::connect(address).await.unwrap());
        }

        assert!(answer(send(address, "/quick").await).await.ends_with("quick"));
    }

    #[tokio::test]
    async fn what_is_under_way_is_not_closed_for_others_who_wait_until_it_ends() {
        let (address, release, mut under_way, _stop) = served().await;
        let mut busy = Vec::new();
        for _ in 0..MOST {
            busy.push(send(address, "/wait").await);
        }
        under_way.wait_for(|count| *count == MOST).await.unwrap();
        // A newcomer is not answered before one of them is.
        let newcomer = send(address, "/quick").await;
        let mut buffer = [0; 1];
        for stream in busy.iter().chain([&newcomer]) {
            assert_eq!(stream.try_read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }

        let all = tokio::spawn(async move {
            let mut answers = Vec::new();
            for stream in busy {
                answers.push(answer(stream).await);
            }
            answers
        });
        let release_all = async {
            loop {
                release.notify_waiters();
                tokio::task::yield_now().await;
            }
        };
        let answers = tokio::select! {
            answers = all => answers.unwrap(),
            () = release_all => Vec::new(),
        };

        assert!(answers.len() == MOST && answers.iter().all(|answer| answer.ends_with("at last")), "{answers:?}");
        assert!(answer(newcomer).await.ends_with("quick"));
    }

    #[tokio::test]
    async fn one_who_does_not_read_makes_room_for_others() {
        let (address, _release, _under_way, _stop) = served().await;
        let mut greedy = Vec::new();
        for _ in 0..2 * MOST {
            greedy.push(send(address, "/large").await);
        }

        assert!(answer(send(address, "/quick").await).await.ends_with("quick"));
    }

    const QUICK: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_reader_that_stands_still_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours, QUICK);
        let begin = tokio::time::Instant::now();

        let result = loop {
            let written = std::future::poll_fn(|cx| Pin::new(&mut patient).poll_write(cx, &[0; 10])).await;
            if let Err(error) = written {
                break error;
            }
        };

        assert_eq!(result.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= QUICK);
    }

    #[tokio::test]
    async fn half_a_header_is_not_waited_for() {
        let (ours, mut theirs) = tokio::io::duplex(1_024);
        let (_stop, stopped) = watch::channel(());
        let router = Router::new().route("/quick", get(|| async { "quick" }));
        let limits = Limits { header: QUICK, ..Limits::of(1) };
        theirs.write_all(b"GET /quick HTTP/1.1\r\nhost: ").await.unwrap();
        let begin = tokio::time::Instant::now();

        converse(ours, router, limits, Requests::new(Arc::default()), stopped).await;

        assert!(begin.elapsed() >= QUICK);
    }
}
