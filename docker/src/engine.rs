//! The engine of this host, asked over its unix socket: which process a container runs as, and what it is called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::create::Cidr;
use crate::plugin::Mac;

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

/// What we need to know of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub id: String,
    pub pid: u32,
    /// Host and domain name, if it was given a domain.
    pub hostname: Option<String>,
    pub name: Option<String>,
    /// What it has on networks.
    pub endpoints: Vec<Endpoint>,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    /// What it is called there beside its name.
    pub aliases: Vec<String>,
    pub address: Option<Cidr>,
    pub mac: Option<Mac>,
}

/// A container as the engine lists it, which it does also while it starts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    names: Vec<String>,
    pub labels: BTreeMap<String, String>,
    host_config: HostConfig,
    state: String,
}

impl Listed {
    pub fn new(name: &str, network_mode: &str, labels: BTreeMap<String, String>) -> Self {
        let host_config = HostConfig { network_mode: network_mode.to_owned() };
        Self { names: vec![name.to_owned()], labels, host_config, state: String::new() }
    }

    /// Whether it has been started, so that the engine answers questions about it.
    pub fn runs(&self) -> bool {
        is_running(&self.state)
    }

    /// What it is called; links of others to it are names with a slash inside.
    pub fn name(&self) -> Option<String> {
        self.names.iter().filter_map(|name| bare(name)).find(|name| !name.contains('/'))
    }

    pub fn network_mode(&self) -> &str {
        &self.host_config.network_mode
    }
}

/// The runtimes of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Runtimes {
    runtimes: BTreeMap<String, serde_json::Value>,
    default_runtime: String,
}

impl Runtimes {
    pub fn knows(&self, name: &str) -> bool {
        self.runtimes.contains_key(name)
    }

    /// The one that containers run by unless told otherwise.
    pub fn default(&self) -> &str {
        &self.default_runtime
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspection {
    id: String,
    #[serde(default)]
    name: String,
    state: State,
    host_config: HostConfig,
    #[serde(default)]
    config: Naming,
    #[serde(default)]
    network_settings: NetworkSettings,
}

/// The networks of a container, as they are listed and inspected.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    networks: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EndpointSettings {
    #[serde(rename = "EndpointID")]
    endpoint: String,
    aliases: Option<Vec<String>>,
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "IPPrefixLen")]
    prefix_length: u8,
    mac_address: String,
}

impl From<EndpointSettings> for Endpoint {
    fn from(settings: EndpointSettings) -> Self {
        let EndpointSettings { endpoint, aliases, address, prefix_length, mac_address } = settings;
        let address = address.parse().ok().map(|address| Cidr { address, prefix_length });
        Self { id: endpoint, aliases: aliases.unwrap_or_default(), address, mac: mac_address.parse().ok() }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Naming {
    hostname: String,
    domainname: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    pid: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
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

/// The Docker engine of this host.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The engine that the variable `DOCKER_HOST` names if that is a unix socket, else the usual one.
    pub fn of_environment() -> Self {
        Self::of_this_host(std::env::var("DOCKER_HOST").ok().as_deref())
    }

    fn of_this_host(docker_host: Option<&str>) -> Self {
        let socket = docker_host.and_then(|host| host.strip_prefix("unix://")).unwrap_or(DEFAULT_SOCKET);
        Self { socket: socket.into() }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
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
        attachable(name, self.inspection(name).await?)
    }

    async fn inspection(&self, name: &str) -> Result<Inspection, DockerError> {
        let path = format!("/containers/{name}/json");
        let (status, body) = self.read(&path, &format!("container `{name}`"), INSPECTION_MAX_BYTES).await?;
        if status == StatusCode::NOT_FOUND {
            return Err(DockerError::NoSuchContainer(name.to_owned()));
        }
        if !status.is_success() {
            return Err(DockerError::Answer(status.to_string()));
        }
        parse(&body)
    }

    /// What the engine lists of the container with this id, also while it starts it.
    ///
    /// # Errors
    /// When there is none, or Docker cannot be asked.
    pub async fn listed(&self, id: &str) -> Result<Listed, DockerError> {
        let path = format!("/containers/json?all=true&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
        let (status, body) = self.read(&path, &format!("container `{id}`"), INSPECTION_MAX_BYTES).await?;
        if !status.is_success() {
            return Err(DockerError::Answer(status.to_string()));
        }
        let listed: Vec<Listed> = parse(&body)?;
        listed.into_iter().next().ok_or_else(|| DockerError::NoSuchContainer(id.to_owned()))
    }

    /// The names of the runtimes that it knows, and of the one that containers run by unless told otherwise.
    ///
    /// # Errors
    /// When Docker cannot be asked.
    pub async fn runtimes(&self) -> Result<Runtimes, DockerError> {
        let (status, body) = self.read("/info", "its runtimes", INSPECTION_MAX_BYTES).await?;
        if status.is_success() { parse(&body) } else { Err(DockerError::Answer(status.to_string())) }
    }

    /// The id of a container, whether or not it runs.
    ///
    /// # Errors
    /// When there is none, or Docker cannot be asked.
    pub async fn id_of(&self, name: &str) -> Result<String, DockerError> {
        Ok(self.inspection(name).await?.id)
    }

    /// A whole answer, of at most `limit` octets; `subject` is what an error says was looked for.
    pub(crate) async fn read(
        &self,
        path: &str,
        subject: &str,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), DockerError> {
        let answer = async {
            let response = self.open(path, subject).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            Ok((status, body.map_err(|error| DockerError::Answer(error.to_string()))?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, answer).await.map_err(|_| DockerError::Timeout)?
    }

    /// The beginning of an answer; its body may go on for ever.
    pub(crate) async fn open(&self, path: &str, subject: &str) -> Result<Response<Incoming>, DockerError> {
        tokio::time::timeout(TIMEOUT, self.ask(path, subject)).await.map_err(|_| DockerError::Timeout)?
    }

    async fn ask(&self, path: &str, subject: &str) -> Result<Response<Incoming>, DockerError> {
        let unreachable =
            |source| DockerError::Unreachable { subject: subject.to_owned(), socket: self.socket.clone(), source };
        let unexpected = |error: &dyn std::fmt::Display| DockerError::Answer(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| unexpected(&error))?;
        // It ends with the answer, or when nobody reads that any more.
        tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| unexpected(&error))?;
        sender.send_request(request).await.map_err(|error| unexpected(&error))
    }
}

impl NetworkSettings {
    /// Those that there are while it runs.
    pub(crate) fn endpoints(self) -> impl Iterator<Item = Endpoint> {
        let settings = self.networks.unwrap_or_default().into_values().flatten();
        settings.map(Endpoint::from).filter(|endpoint| is_id(&endpoint.id))
    }
}

impl Naming {
    /// A host name with a dot in it was given with its domain.
    fn hostname(&self) -> Option<String> {
        match (self.hostname.as_str(), self.domainname.as_str()) {
            (hostname, "") => hostname.contains('.').then(|| hostname.to_owned()),
            (hostname, domain) => Some(format!("{hostname}.{domain}")),
        }
    }
}

pub(crate) fn is_running(state: &str) -> bool {
    matches!(state, "running" | "paused" | "restarting")
}

/// Docker's names begin with a slash.
fn bare(name: &str) -> Option<String> {
    Some(name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(body).map_err(|error| DockerError::Answer(error.to_string()))
}

fn attachable(name: &str, inspection: Inspection) -> Result<Inspected, DockerError> {
    match inspection {
        Inspection { state: State { pid: 0 }, .. } => Err(DockerError::NotRunning(name.to_owned())),
        Inspection { host_config: HostConfig { network_mode }, .. } if network_mode == "host" => {
            Err(DockerError::HostNetwork(name.to_owned()))
        }
        Inspection { id, name, state: State { pid }, config, network_settings, .. } => {
            // Older engines have the beginning of the id among the aliases.
            let is_alias = |alias: &String| alias.len() != SHORT_ID_BYTES || !id.starts_with(alias.as_str());
            let mut endpoints: Vec<Endpoint> = network_settings.endpoints().collect();
            endpoints.iter_mut().for_each(|endpoint| endpoint.aliases.retain(is_alias));
            Ok(Inspected { hostname: config.hostname(), name: bare(&name), pid, endpoints, id })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(name: &str, body: &[u8]) -> Result<Inspected, DockerError> {
        attachable(name, parse(body)?)
    }

    #[test]
    fn a_running_container_has_a_process() {
        let body = |pid: u32, mode: &str| {
            format!(r#"{{"Id":"abc","State":{{"Pid":{pid},"Status":"x"}},"HostConfig":{{"NetworkMode":"{mode}"}}}}"#)
        };

        let found = inspected("web", body(42, "bridge").as_bytes());

        let (id, endpoints) = ("abc".to_owned(), Vec::new());
        assert_eq!(found.unwrap(), Inspected { id, pid: 42, hostname: None, name: None, endpoints });
        assert!(matches!(inspected("web", body(0, "bridge").as_bytes()), Err(DockerError::NotRunning(_))));
        assert!(matches!(inspected("web", body(42, "host").as_bytes()), Err(DockerError::HostNetwork(_))));
        assert!(matches!(inspected("web", b"<html>"), Err(DockerError::Answer(_))));
    }

    #[test]
    fn a_container_is_called_by_its_host_name_with_a_domain_and_by_its_own_name() {
        let called = |config: &str| {
            let body = format!(
                r#"{{"Id":"abc","Name":"/web","State":{{"Pid":1}},"HostConfig":{{"NetworkMode":"x"}},"Config":{config}}}"#
            );
            inspected("web", body.as_bytes()).unwrap().hostname
        };

        assert_eq!(called(r#"{"Hostname":"h","Domainname":"weave.local"}"#).as_deref(), Some("h.weave.local"));
        assert_eq!(called(r#"{"Hostname":"h.weave.local","Domainname":""}"#).as_deref(), Some("h.weave.local"));
        assert_eq!(called(r#"{"Hostname":"0123456789ab"}"#), None);
    }

    #[test]
    fn a_container_has_endpoints_with_aliases_while_it_runs() {
        let (container, endpoint) = ("0123456789abcdef".repeat(4), "a".repeat(64));
        let body = format!(
            r#"{{"Id":"{container}","State":{{"Pid":1}},"HostConfig":{{}},"NetworkSettings":{{"Networks":{{
               "one":{{"EndpointID":"{endpoint}","Aliases":["db","0123456789ab"],"IPAddress":"10.32.0.5",
                       "IPPrefixLen":12,"MacAddress":"02:00:00:00:00:01"}},
               "two":{{"EndpointID":"{endpoint}","Aliases":null}},"three":{{"EndpointID":""}},"four":null}}}}}}"#
        );

        let endpoints = inspected("web", body.as_bytes()).unwrap().endpoints;

        let bare = Endpoint { id: endpoint, ..Endpoint::default() };
        let (address, mac) = ("10.32.0.5/12".parse().ok(), "02:00:00:00:00:01".parse().ok());
        assert!(address.is_some() && mac.is_some());
        assert_eq!(endpoints, [Endpoint { aliases: vec!["db".to_owned()], address, mac, ..bare.clone() }, bare]);
    }

    #[test]
    fn a_processs_container_is_told_by_its_control_group() {
        let (outer, inner) = ("0a".repeat(32), "b1".repeat(32));
        for (groups, expected) in [
            (format!("0::/system.slice/docker-{outer}.scope\n"), Some(&outer)),
            (format!("12:pids:/docker/{outer}\n1:name=systemd:/docker/{outer}\n"), Some(&outer)),
            (format!("0::/docker/{outer}/docker/{inner}\n"), Some(&inner)),
            ("0::/user.slice/session-3.scope\n".to_owned(), None),
            (format!("0::/docker/{outer}0\n"), None),
        ] {
            assert_eq!(id_in(&groups).as_ref(), expected, "{groups}");
        }
    }

    #[test]
    fn a_name_cannot_lead_to_another_url() {
        for text in ["a/../b", "a?x", "a#", "-a", "", "a b"] {
            assert!(!Docker::is_container_name(text), "{text}");
        }
        assert!(Docker::is_container_name("web_1.my-app"));
    }

    #[tokio::test]
    async fn an_absent_engine_is_named_in_the_error() {
        let docker = Docker::of_this_host(Some("unix:///nonexistent/docker.sock"));

        let error = docker.inspect("web").await.unwrap_err();

        let text = error.to_string();
        assert!(text.contains("/nonexistent/docker.sock") && text.contains("`web`"), "{text}");
    }
}
