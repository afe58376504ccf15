//! The engine of this host, asked over its unix socket: which process a container runs as, and what it is called.
//!
//! ```text
//!   /version ─→ the newest version that both know ─→ /v1.41/containers/…       engine/version.rs
//!                                                     └→ what we need of it     engine/answers.rs
//! ```
//!
//! Invariant: every question but the first names the version of the API in which its answer is read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use self::answers::Inspection;
pub use self::answers::{Endpoint, Health, Inspected, Listed, Runtimes};
use self::version::Introduction;
pub use self::version::{ApiVersion, InvalidVersion};
use crate::wish::NameRule;

mod answers;
mod version;

/// The letters of a container's id.
const ID_BYTES: usize = 64;
/// As many of them as Docker shows.
const SHORT_ID_BYTES: usize = 12;
/// Where Docker listens unless `DOCKER_HOST` names another unix socket.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How long a call may take, from the connection to the last octet of an answer that has an end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest inspection of a container that is read.
const INSPECTION_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The longest container name, octets.
const NAME_MAX_BYTES: usize = 255;

/// Why Docker did not tell.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("Docker has no container `{0}`; `docker ps` lists them")]
    NoSuchContainer(String),
    #[error("container `{0}` is not running; start it first")]
    NotRunning(String),
    #[error("container `{0}` uses the host's own network and cannot be attached; run it without --network=host")]
    HostNetwork(String),
    #[error("cannot look for {subject}: Docker does not answer at {}: {source}; is it running?", socket.display())]
    Unreachable { subject: String, socket: PathBuf, source: std::io::Error },
    #[error("Docker did not answer within {TIMEOUT:?}; is it overloaded?")]
    Timeout,
    #[error("unexpected answer from Docker: {0}; check that it listens at that socket")]
    Answer(String),
}

/// An engine, as it introduced itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// Such as `20.10.24`.
    pub release: String,
    /// In which version of its API it is asked.
    pub api: ApiVersion,
    pub runtimes: Runtimes,
}

/// Whether a text is the whole id of a container.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}

/// The container that a process belongs to, as the name of its control group has it: without asking Docker, which may not
/// run.
pub fn container_of(process: u32) -> Option<String> {
    id_in(&std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)
}

/// The last id in the path of a control group, such as `/system.slice/docker-ID.scope`: of a Docker inside a container's
/// own it is the inner one.
fn id_in(groups: &str) -> Option<String> {
    groups.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).find(|part| is_id(part)).map(str::to_owned)
}

/// The Docker engine of this host; copies know the same.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
    names: NameRule,
    met: Arc<Mutex<Option<Engine>>>,
}

impl Docker {
    /// The engine that the variable `DOCKER_HOST` names if that is a unix socket, else the usual one.
    pub fn of_environment() -> Self {
        Self::of_this_host(std::env::var("DOCKER_HOST").ok().as_deref())
    }

    fn of_this_host(docker_host: Option<&str>) -> Self {
        let socket = docker_host.and_then(|host| host.strip_prefix("unix://")).unwrap_or(DEFAULT_SOCKET);
        Self { socket: socket.into(), names: NameRule::default(), met: Arc::default() }
    }

    /// Containers are called as this rule says.
    #[must_use]
    pub fn naming_by(self, names: NameRule) -> Self {
        Self { names, ..self }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The engine that was last met, unless it is gone.
    pub fn engine(&self) -> Option<Engine> {
        self.met().clone()
    }

    fn met(&self) -> MutexGuard<'_, Option<Engine>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Docker could have a container of this name or id.
    pub fn is_container_name(text: &str) -> bool {
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
        text.len() <= NAME_MAX_BYTES
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(is_allowed)
    }

    /// The container called `name`, or whose id is or starts with it.
    ///
    /// # Errors
    /// When there is none, it cannot be attached, or Docker cannot be asked.
    pub async fn inspect(&self, name: &str) -> Result<Inspected, DockerError> {
        self.inspection(name).await?.attachable(name, &self.names)
    }

    async fn inspection(&self, name: &str) -> Result<Inspection, DockerError> {
        let path = format!("/containers/{name}/json");
        let (status, body) = self.read(&path, &format!("container `{name}`"), INSPECTION_MAX_BYTES).await?;
        if status == StatusCode::NOT_FOUND {
            return Err(DockerError::NoSuchContainer(name.to_owned()));
        }
        good(status)?;
        parse(&body)
    }

    /// What the engine lists of the container with this id, also while it starts it.
    ///
    /// # Errors
    /// When there is none, or Docker cannot be asked.
    pub async fn listed(&self, id: &str) -> Result<Listed, DockerError> {
        let path = format!("/containers/json?all=true&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
        let (status, body) = self.read(&path, &format!("container `{id}`"), INSPECTION_MAX_BYTES).await?;
        good(status)?;
        let listed: Vec<Listed> = parse(&body)?;
        listed.into_iter().next().ok_or_else(|| DockerError::NoSuchContainer(id.to_owned()))
    }

    /// The names of the runtimes that it knows now, and of the one that containers run by unless told otherwise.
    ///
    /// # Errors
    /// When Docker cannot be asked.
    pub async fn runtimes(&self) -> Result<Runtimes, DockerError> {
        Ok(self.meet().await?.runtimes)
    }

    /// The id of a container, whether or not it runs.
    ///
    /// # Errors
    /// When there is none, or Docker cannot be asked.
    pub async fn id_of(&self, name: &str) -> Result<String, DockerError> {
        Ok(self.inspection(name).await?.id)
    }

    /// Has the engine introduce itself: it may be another one than before.
    ///
    /// # Errors
    /// When Docker cannot be asked, or says of itself what cannot be read.
    pub async fn meet(&self) -> Result<Engine, DockerError> {
        self.part();
        let (status, body) = self.whole("/version", "its version", INSPECTION_MAX_BYTES).await?;
        good(status)?;
        let introduction: Introduction = parse(&body)?;
        let api = introduction.agreed().map_err(|error| DockerError::Answer(error.to_string()))?;
        let (status, body) = self.whole(&format!("/v{api}/info"), "its runtimes", INSPECTION_MAX_BYTES).await?;
        good(status)?;
        let engine = Engine { release: introduction.release, api, runtimes: parse(&body)? };
        *self.met() = Some(engine.clone());
        Ok(engine)
    }

    /// Whoever is there next is to introduce itself anew.
    pub(crate) fn part(&self) {
        *self.met() = None;
    }

    /// A path of the API, in the version that was agreed upon.
    async fn versioned(&self, path: &str) -> Result<String, DockerError> {
        let known = self.met().as_ref().map(|engine| engine.api);
        let api = match known {
            Some(api) => api,
            None => self.meet().await?.api,
        };
        Ok(format!("/v{api}{path}"))
    }

    /// A whole answer, of at most `limit` octets; `subject` is what an error says was looked for.
    pub(crate) async fn read(
        &self,
        path: &str,
        subject: &str,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), DockerError> {
        let path = self.versioned(path).await.map_err(|error| error.about(subject))?;
        self.whole(&path, subject, limit).await
    }

    /// The beginning of an answer; its body may go on for ever.
    pub(crate) async fn open(&self, path: &str, subject: &str) -> Result<Response<Incoming>, DockerError> {
        let path = self.versioned(path).await.map_err(|error| error.about(subject))?;
        self.begin(&path, subject).await
    }

    async fn whole(&self, path: &str, subject: &str, limit: usize) -> Result<(StatusCode, Bytes), DockerError> {
        let answer = async {
            let response = self.begin(path, subject).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            Ok((status, body.map_err(|error| DockerError::Answer(error.to_string()))?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| DockerError::Timeout)?
    }

    async fn begin(&self, path: &str, subject: &str) -> Result<Response<Incoming>, DockerError> {
        tokio::time::timeout(TIMEOUT, self.ask(path, subject)).await.map_err(|_| DockerError::Timeout)?
    }

    async fn ask(&self, path: &str, subject: &str) -> Result<Response<Incoming>, DockerError> {
        let unreachable =
            |source| DockerError::Unreachable { subject: subject.to_owned(), socket: self.socket.clone(), source };
        let unexpected = |error: &dyn std::fmt::Display| DockerError::Answer(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable).inspect_err(|_| self.part())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| unexpected(&error))?;
        // It ends with the answer, or when nobody reads that any more.
        tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| unexpected(&error))?;
        sender.send_request(request).await.map_err(|error| unexpected(&error))
    }
}

impl DockerError {
    /// The same, where the engine was to introduce itself before it was asked for `subject`.
    fn about(self, subject: &str) -> Self {
        match self {
            Self::Unreachable { socket, source, .. } => {
                Self::Unreachable { subject: subject.to_owned(), socket, source }
            }
            other => other,
        }
    }
}

pub(crate) fn good(status: StatusCode) -> Result<(), DockerError> {
    if status.is_success() { Ok(()) } else { Err(DockerError::Answer(status.to_string())) }
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(body).map_err(|error| DockerError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests;
