//! One HTTP request to a daemon, over its unix socket or a loopback address.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use weave_router::config::DEFAULT_SOCKET;

use crate::args::Control;

/// A daemon that takes longer than this is stuck; attaching waits for the kernel and for Docker.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a command that has to wait looks for what.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Where the daemon is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The daemon did not answer at all.
#[derive(Debug)]
pub(crate) struct NotRunning(pub(crate) String);

impl std::fmt::Display for NotRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the daemon is not running: {}; start it with `weave-rs launch`, or give its --socket", self.0)
    }
}

impl std::error::Error for NotRunning {}

impl Client {
    /// A flag goes before a variable, a socket before an address, and the usual socket comes last.
    pub(crate) fn of(control: &Control) -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::choose(control, variable("WEAVE_SOCKET"), variable("WEAVE_HTTP_ADDR"))
    }

    fn choose(control: &Control, socket: Option<String>, http_addr: Option<String>) -> anyhow::Result<Self> {
        Ok(match (&control.socket, control.http_addr, socket, http_addr) {
            (Some(path), ..) => Self::Unix(path.clone()),
            (None, Some(address), ..) => Self::Tcp(address),
            (None, None, Some(path), _) => Self::Unix(path.into()),
            (None, None, None, Some(text)) => Self::Tcp(
                text.parse().with_context(|| format!("WEAVE_HTTP_ADDR `{text}` is not of the form ADDR:PORT"))?,
            ),
            (None, None, None, None) => Self::Unix(DEFAULT_SOCKET.into()),
        })
    }

    /// Prints what the daemon shows at `path`.
    pub(crate) fn get(&self, path: &str, format: Format) -> anyhow::Result<()> {
        let accept = match format {
            Format::Text => "text/plain",
            Format::Json => "application/json",
        };
        let request = Request::get(path).header(header::ACCEPT, accept).body(Full::default())?;
        crate::print(&self.ask(request)?)
    }

    /// Sends a form and prints the answer.
    pub(crate) fn show(&self, method: &str, path: &str, form: &[(&str, String)]) -> anyhow::Result<()> {
        crate::print(&self.ask(with_form(method, path, form)?)?)
    }

    /// The same for what may have to wait for other peers: as long as the daemon thinks fit, saying meanwhile on
    /// standard error what it waits for.
    pub(crate) fn show_patiently(&self, method: &str, path: &str, form: &[(&str, String)]) -> anyhow::Result<()> {
        let request = with_form(method, path, form)?;
        let answer = runtime()?.block_on(async {
            let answer = self.send(request);
            tokio::pin!(answer);
            let mut told = String::new();
            loop {
                tokio::select! {
                    answer = &mut answer => return answer,
                    () = tokio::time::sleep(PROGRESS_INTERVAL) => self.tell_progress(&mut told).await,
                }
            }
        });
        crate::print(&answer?)
    }

    /// Says what the daemon waits for, if that is not what was `told` last. Whether this succeeds is of no matter.
    async fn tell_progress(&self, told: &mut String) {
        let Ok(request) = Request::get("/ipinfo/waiting").body(Full::default()) else { return };
        match tokio::time::timeout(TIMEOUT, self.send(request)).await {
            Ok(Ok(waiting)) if !waiting.is_empty() && waiting != *told => {
                let _ = write!(io::stderr(), "{waiting}");
                *told = waiting;
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// What `docker run` needs; nothing when the daemon serves no names.
    pub(crate) fn dns_args(&self) -> anyhow::Result<String> {
        let asked = async |path: &str| self.exchange(Request::get(path).body(Full::default())?).await;
        runtime()?.block_on(async {
            let (status, address) = asked("/dns-address").await?;
            if status == StatusCode::NOT_FOUND {
                return Ok(String::new());
            }
            let (_, domain) = asked("/domain").await?;
            Ok(format!("--dns={address} --dns-search={domain}"))
        })
    }

    /// The process that listens, where the kernel tells it.
    ///
    /// # Errors
    /// When none does.
    pub(crate) fn process(&self) -> anyhow::Result<Option<i32>> {
        runtime()?.block_on(async {
            Ok(match self {
                Self::Unix(path) => {
                    let stopped = |error| self.stopped(&path.display(), error);
                    // Zero stands for one that cannot be seen from here.
                    UnixStream::connect(path).await.map_err(stopped)?.peer_cred()?.pid().filter(|pid| *pid > 0)
                }
                Self::Tcp(address) => {
                    TcpStream::connect(address).await.map_err(|error| self.stopped(address, error))?;
                    None
                }
            })
        })
    }

    /// The body of a good answer; a refusal's text is the error.
    pub(crate) fn ask(&self, request: Request<Full<Bytes>>) -> anyhow::Result<String> {
        let answer = runtime()?.block_on(async { tokio::time::timeout(TIMEOUT, self.send(request)).await });
        answer.map_err(|_| anyhow!("the daemon did not answer within {TIMEOUT:?}; see its log"))?
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<String> {
        let (status, body) = self.exchange(request).await?;
        // A daemon that is not ready shows its status all the same.
        if status.is_success() || (status == StatusCode::SERVICE_UNAVAILABLE && body.contains("Service: ")) {
            return Ok(body);
        }
        match body.trim() {
            "" => bail!("the daemon answered {status}; is it of another version?"),
            refusal => bail!("{}", refusal.replace('\n', "; ")),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, String)> {
        match self {
            Self::Unix(path) => {
                let stopped = |error| self.stopped(&path.display(), error);
                exchange(UnixStream::connect(path).await.map_err(stopped)?, "localhost", request).await
            }
            Self::Tcp(address) => {
                let stopped = |error| self.stopped(address, error);
                exchange(TcpStream::connect(address).await.map_err(stopped)?, &address.to_string(), request).await
            }
        }
    }

    fn stopped(&self, place: &dyn std::fmt::Display, error: io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::PermissionDenied => anyhow!("cannot open {place}: {error}; run as root"),
            _ => anyhow!(NotRunning(format!("{error} at {place}"))),
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn with_form(method: &str, path: &str, form: &[(&str, String)]) -> anyhow::Result<Request<Full<Bytes>>> {
    let fields: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    Ok(request.body(Full::new(fields.join("&").into()))?)
}

async fn exchange<S>(stream: S, host: &str, mut request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    request.headers_mut().insert(header::HOST, host.parse()?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.context("the daemon hung up; see its log")?;
    let status = response.status();
    if let Some(remark) = response.headers().get("weave-remark") {
        let _ = writeln!(io::stderr(), "weave-rs: {}", String::from_utf8_lossy(remark.as_bytes()));
    }
    let body = response.into_body().collect().await.context("the daemon hung up; see its log")?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// `text` as part of a URL or form.
pub(crate) fn escaped(text: &str) -> String {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    text.bytes()
        .map(|octet| if is_plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_a_variable_and_a_socket_before_an_address() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let chosen = |socket: Option<&str>, http_addr, env_socket: Option<&str>, env_addr: Option<&str>| {
            let control = Control { socket: socket.map(Into::into), http_addr };
            Client::choose(&control, env_socket.map(Into::into), env_addr.map(Into::into)).unwrap()
        };

        assert_eq!(chosen(Some("a"), Some(address), Some("b"), None), Client::Unix("a".into()));
        assert_eq!(chosen(None, Some(address), Some("b"), None), Client::Tcp(address));
        assert_eq!(chosen(None, None, Some("b"), Some("127.0.0.1:1")), Client::Unix("b".into()));
        assert_eq!(chosen(None, None, None, Some("127.0.0.1:1")), Client::Tcp(address));
        assert_eq!(chosen(None, None, None, None), Client::Unix(DEFAULT_SOCKET.into()));
    }

    #[test]
    fn what_is_sent_cannot_break_out_of_its_field() {
        assert_eq!(escaped("netns:/a b&c=d%ä"), "netns%3A%2Fa%20b%26c%3Dd%25%C3%A4");
    }
}
