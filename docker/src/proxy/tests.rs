use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

mod creates;
mod streams;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Longer than anything takes that is to happen at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than it takes to fill all queues.
const STALL: Duration = Duration::from_millis(300);

/// Writes down what it is asked.
#[derive(Debug, Default)]
struct Book {
    policy: Arc<Policy>,
    refusal: Option<String>,
    entries: Mutex<Vec<String>>,
}

impl Book {
    fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap().clone()
    }
}

impl Advisor for Arc<Book> {
    type Token = u8;

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    async fn before_create(&self, change: &Change<'_>) -> Result<Reservation<u8>, String> {
        self.entries.lock().unwrap().push(format!("before {}", change.names.join(" ")));
        match &self.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Reservation { token: 7, addresses: self.addresses("").await }),
        }
    }

    async fn after_create(&self, token: u8, container: Option<&str>) {
        self.entries.lock().unwrap().push(format!("after {token} {}", container.unwrap_or("nothing")));
    }

    async fn addresses(&self, _container: &str) -> Vec<Cidr> {
        vec![Cidr { address: IpAddr::V4(Ipv4Addr::new(10, 32, 0, 5)), prefix_length: 12 }]
    }
}

/// A proxy, and the socket of a fake engine.
struct Stage {
    directory: PathBuf,
    engine: Option<UnixListener>,
    book: Arc<Book>,
    proxy: Arc<Proxy<Arc<Book>>>,
}

impl Stage {
    fn new() -> Self {
        Self::with(Book::default(), Limits::default())
    }

    fn with(book: Book, limits: Limits) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("weave-proxy-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("engine");
        let engine = Some(UnixListener::bind(&socket).unwrap());
        let book = Arc::new(book);
        let proxy = Arc::new(Proxy::new(socket, Arc::clone(&book), limits));
        Self { directory, engine, book, proxy }
    }

    /// A client that has sent this.
    async fn client(&self, sent: &[u8]) -> UnixStream {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let proxy = Arc::clone(&self.proxy);
        tokio::spawn(async move { proxy.carry(ours).await });
        client.write_all(sent).await.unwrap();
        client
    }

    /// The engine's end of the next connection.
    async fn engine(&self) -> UnixStream {
        self.engine.as_ref().unwrap().accept().await.unwrap().0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.directory));
    }
}

async fn expect(stream: &mut UnixStream, expected: impl AsRef<[u8]>) {
    let expected = expected.as_ref();
    let mut read = vec![0; expected.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut read)).await.expect("something came").unwrap();
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(expected));
}

async fn expect_end(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end").unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// A head, and the JSON that follows it.
async fn message(stream: &mut UnixStream) -> (String, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("a head").unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

async fn refusal(stream: &mut UnixStream, status: &str) -> String {
    let (head, body) = message(stream).await;
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    body["message"].as_str().unwrap().to_owned()
}

fn create(body: &str) -> Vec<u8> {
    format!(
        "POST /v1.41/containers/create?name=web HTTP/1.1\r\nHost: docker\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn created() -> String {
    let body = json!({"Id": ID, "Warnings": []}).to_string();
    format!("HTTP/1.1 201 Created\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_engine_that_is_away_is_said_to_be() {
    let mut stage = Stage::new();
    stage.engine = None;
    for request in [b"GET /_ping HTTP/1.1\r\n\r\n".to_vec(), create("{}")] {
        let mut client = stage.client(&request).await;

        let message = refusal(&mut client, "502").await;

        assert!(message.starts_with("cannot reach Docker at "), "{message}");
        expect_end(&mut client).await;
    }
    assert_eq!(stage.book.entries(), ["before web.weave.local web", "after 7 nothing"]);
}

#[tokio::test]
async fn a_client_is_closed_with_the_engine_and_reads_what_it_said_last() {
    let stage = Stage::new();
    let mut client = stage.client(b"GET /_ping HTTP/1.1\r\n\r\n").await;
    let mut engine = stage.engine().await;
    engine.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 204 No Content\r\n\r\n").await;

    engine.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    drop(engine);

    expect(&mut client, "HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn hostile_heads_are_refused_and_the_engine_never_sees_them() {
    let stage = Stage::new();
    let huge = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(relay::HEAD_MAX_BYTES));
    for head in [
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}\n",
        &huge,
    ] {
        let mut client = stage.client(head.as_bytes()).await;

        let message = refusal(&mut client, "400").await;

        assert!(message.starts_with("the request cannot be read: "), "{message}");
        expect_end(&mut client).await;
    }
    let accepted = tokio::time::timeout(Duration::from_millis(1), stage.engine()).await;
    assert!(accepted.is_err(), "nobody asked the engine");
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_request_and_is_not_passed_on() {
    let stage = Stage::new();
    let head = "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let smuggled = "zz\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let mut client = stage.client(format!("{head}2\r\nok\r\n{smuggled}").as_bytes()).await;
    let mut engine = stage.engine().await;

    expect(&mut engine, head).await;
    let mut rest = Vec::new();
    engine.read_to_end(&mut rest).await.unwrap();

    assert!(!String::from_utf8_lossy(&rest).contains("smuggled"));
    engine.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_request_is_let_go() {
    let limits = Limits { idle: Duration::from_millis(20), request: Duration::from_millis(20), ..Limits::default() };
    let stage = Stage::with(Book::default(), limits);

    expect_end(&mut stage.client(b"").await).await;
    for half in ["GET / HTTP/1.1\r\n", "POST /containers/create HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"] {
        let mut client = stage.client(half.as_bytes()).await;
        refusal(&mut client, "408").await;
        expect_end(&mut client).await;
    }
}

#[tokio::test]
async fn more_clients_than_allowed_wait_for_their_turn() {
    let stage = Stage::with(Book::default(), Limits { connections: 1, ..Limits::default() });
    let socket = stage.directory.join("proxy");
    let server = tokio::spawn(Arc::clone(&stage.proxy).serve(UnixListener::bind(&socket).unwrap()));
    let first = UnixStream::connect(&socket).await.unwrap();
    let mut second = UnixStream::connect(&socket).await.unwrap();
    second.write_all(b"BAD\n").await.unwrap();
    let mut octet = [0];
    assert!(tokio::time::timeout(STALL, second.read(&mut octet)).await.is_err(), "its turn is not yet");

    drop(first);

    refusal(&mut second, "400").await;
    server.abort();
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_engine() {
    let stage = Stage::new();
    let _client = stage.client(b"GET /images/get HTTP/1.1\r\n\r\n").await;
    let mut engine = stage.engine().await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();

    let (mut written, piece) = (0, vec![0; 64 * 1024]);
    while let Ok(length) = tokio::time::timeout(STALL, engine.write(&piece)).await {
        written += length.unwrap();
    }

    assert!(written < 2 * 1024 * 1024, "{written} octets are in memory");
}

#[tokio::test]
async fn sixty_four_megabytes_pass_in_chunks_both_ways() {
    const PIECES: usize = 640;
    let stage = Stage::new();
    let chunk = [b"19000\r\n".to_vec(), vec![b'x'; 0x19000], b"\r\n".to_vec()].concat();
    let head = b"POST /images/load HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let length = PIECES * chunk.len() + b"0\r\n\r\n".len();
    let pour = |stream: UnixStream, chunk: Vec<u8>| async move {
        let (mut source, mut sink) = stream.into_split();
        let writer = tokio::spawn(async move {
            for _ in 0..PIECES {
                sink.write_all(&chunk).await.unwrap();
            }
            sink.write_all(b"0\r\n\r\n").await.unwrap();
            sink
        });
        let (mut buffer, mut seen) = (vec![0; 128 * 1024], 0);
        while seen < length {
            let read = source.read(&mut buffer).await.unwrap();
            assert!(read > 0, "it ended after {seen} octets");
            seen += read;
        }
        writer.await.unwrap();
        seen
    };
    let mut client = stage.client(head).await;
    let mut engine = stage.engine().await;
    expect(&mut engine, head).await;
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    engine.write_all(answer).await.unwrap();
    expect(&mut client, answer).await;

    let (up, down) = tokio::join!(pour(client, chunk.clone()), pour(engine, chunk));

    assert_eq!((up, down), (length, length));
}

/// A body, and the header field that says how long it is.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let piece = || prop::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        Just((String::new(), Vec::new())),
        piece().prop_map(|body| (format!("Content-length: {}\r\n", body.len()), body)),
        prop::collection::vec(piece(), 0..5).prop_map(|chunks| {
            let framed =
                chunks.iter().map(|chunk| [format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            let body = framed.chain([b"0\r\n\r\n".to_vec()]).collect::<Vec<_>>().concat();
            ("transfer-encoding: chunked\r\n".to_owned(), body)
        }),
    ]
}

/// A request and its answer, each as it is on the wire.
fn round() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD"]);
    let status = prop::sample::select(vec![200, 201, 204, 304, 404, 500]);
    let interim = prop::sample::select(vec!["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 \r\nA: b\r\n\r\n"]);
    (method, "[a-z/]{0,9}", body(), status, body(), interim, "( |\t|[!-~]){0,20}").prop_map(
        |(method, path, (framing, body), status, (answer_framing, answer_body), interim, extra)| {
            let head = format!("{method} /{path} HTTP/1.1\r\nX-Extra:{extra}\r\n{framing}\r\n");
            let is_empty = method == "HEAD" || status == 204 || status == 304;
            let framing = if answer_framing.is_empty() { "Content-Length: 0\r\n" } else { answer_framing.as_str() };
            let answer = format!("{interim}HTTP/1.1 {status} \r\nX-Extra:{extra}\r\n{framing}\r\n");
            let answer_body = if is_empty { Vec::new() } else { answer_body };
            ([head.into_bytes(), body].concat(), [answer.into_bytes(), answer_body].concat())
        },
    )
}

/// Writes in pieces, each of which may arrive alone.
async fn write_cut(stream: &mut UnixStream, bytes: &[u8], cuts: &[usize]) {
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        let (piece, behind) = rest.split_at((*cut).min(rest.len()));
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_octet_of_a_conversation_changes(
        rounds in prop::collection::vec(round(), 1..5),
        cuts in prop::collection::vec(1_usize..200, 1..5),
        is_pipelined: bool,
    ) {
        run(async {
            let stage = Stage::new();
            let mut client = stage.client(b"").await;
            let all: Vec<u8> = rounds.iter().flat_map(|(request, _)| request.clone()).collect();
            if is_pipelined {
                write_cut(&mut client, &all, &cuts).await;
            } else {
                write_cut(&mut client, &rounds[0].0, &cuts).await;
            }
            let mut engine = stage.engine().await;
            for (index, (request, answer)) in rounds.iter().enumerate() {
                if index > 0 && !is_pipelined {
                    write_cut(&mut client, request, &cuts).await;
                }
                expect(&mut engine, request).await;
                write_cut(&mut engine, answer, &cuts).await;
                expect(&mut client, answer).await;
            }
            drop(client);
            expect_end(&mut engine).await;
        });
    }

    #[test]
    fn a_create_is_changed_alike_however_it_is_cut(
        chunks in prop::collection::vec(1_usize..9, 1..9),
        cuts in prop::collection::vec(1_usize..50, 1..5),
    ) {
        run(async {
            let stage = Stage::new();
            let mut body = format!(r#"{{"Image":"{}"}}"#, "x".repeat(chunks.iter().sum()));
            let mut request = b"POST /containers/create?name=web HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let expected = body.clone();
            for length in chunks {
                let rest = body.split_off(length);
                request.extend_from_slice(format!("{length:x}\r\n{body}\r\n").as_bytes());
                body = rest;
            }
            request.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
            let id = json!({"Id": ID}).to_string();
            let answer = format!("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{id}\r\n0\r\n\r\n", id.len());
            let mut client = stage.client(b"").await;

            write_cut(&mut client, &request, &cuts).await;
            let mut engine = stage.engine().await;
            let (_, changed) = message(&mut engine).await;
            write_cut(&mut engine, answer.as_bytes(), &cuts).await;
            expect(&mut client, &answer).await;

            let expected: Value = serde_json::from_str(&expected).unwrap();
            assert_eq!(&changed["Image"], &expected["Image"]);
            assert_eq!(changed["Hostname"], "web");
            assert_eq!(stage.book.entries().last().unwrap(), &format!("after 7 {ID}"));
        });
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), answer in prop::collection::vec(any::<u8>(), 0..300)) {
        run(async {
            let stage = Stage::new();
            for request in [bytes.clone(), [b"GET / HTTP/1.1\r\n\r\n", &bytes[..]].concat(), create("{}")] {
                let (mut client, ours) = UnixStream::pair().unwrap();
                client.write_all(&request).await.unwrap();
                client.shutdown().await.unwrap();
                let engine = async {
                    let (mut engine, _) = stage.engine.as_ref().unwrap().accept().await.unwrap();
                    let _ = engine.write_all(&answer).await;
                    let _ = engine.shutdown().await;
                    let _ = engine.read_to_end(&mut Vec::new()).await;
                    std::future::pending::<()>().await;
                };
                let client = async { client.read_to_end(&mut Vec::new()).await };
                let both = async { tokio::join!(stage.proxy.carry(ours), client) };
                tokio::select! {
                    _ = both => {}
                    () = engine => {}
                }
            }
        });
    }
}
