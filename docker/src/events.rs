//! What becomes of Docker's containers, as it happens; and all of them anew after every gap.
//!
//! ```text
//!   meet ─► subscribe ─► list ─► census ─► event, event, …  ─ stream ends ─► wait, again
//!                                  └────────┴─ who is that? ─► inspect ─► found
//! ```
//!
//! The subscription comes before the list, so that nothing falls between the two; an event that the list has already
//! taken into account changes nothing. An engine that is not there is looked for twice a second, so that one that starts
//! late is noticed; one that is there and answers badly is asked less and less often.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use tracing::{debug, info};

use crate::engine::{Docker, DockerError, Endpoint, Health, Inspected, Listed, good, is_id, parse};

/// Between two looks for an engine that is not there. One costs a few microseconds: nobody listens at the socket.
const ABSENT_PAUSE: Duration = Duration::from_millis(500);
/// The pause before one that answered badly is asked again grows from the first to the last of these.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest list of containers that is read: about 15,000 of them.
const LIST_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The longest event that is read; it carries the container's labels.
const EVENT_MAX_BYTES: usize = 1024 * 1024;
/// Containers, their fates and their networks, the engine's settings, and nothing else.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22daemon%22%2C%22network%22%5D%2C%22event%22%3A%5B\
                      %22start%22%2C%22die%22%2C%22destroy%22%2C%22health_status%22%2C%22reload%22%2C%22connect%22%5D%7D";
/// As far as the event says.
const STARTED: ContainerEvent = ContainerEvent::Started(Health::Healthy);
/// How news of a container's health begin.
const HEALTH: &str = "health_status: ";
const CONTAINERS: &str = "/containers/json?all=true";

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    Started(Health),
    /// It runs, and a check of it says so.
    Fares(Health),
    /// It is on a further network; it may not run yet.
    Connected,
    /// It may be started again.
    Died,
    Destroyed,
}

/// Every container that Docker has, by its id.
pub type Census = BTreeMap<String, Resident>;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// How well it is, if it runs.
    pub health: Option<Health>,
    /// What it has on networks while it runs, but for aliases.
    pub endpoints: Vec<Endpoint>,
}

/// What a line of the stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Of(String, ContainerEvent),
    /// The engine has read its settings again.
    Reloaded,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(rename = "Type", default)]
    subject: String,
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Attributes,
}

/// Those of a container are its labels, too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    container: String,
}

/// Whoever wants to know.
pub trait Listener {
    /// All containers, after a time in which nothing was heard of them; answers which of them it wants to have found.
    fn census(&self, census: Census) -> impl Future<Output = Result<Vec<String>, Over>> + Send;

    /// One of those, which runs.
    fn found(&self, container: Inspected) -> impl Future<Output = Result<(), Over>> + Send;

    /// Answers whether it wants to have this one found.
    fn happened(&self, id: String, event: ContainerEvent) -> impl Future<Output = Result<bool, Over>> + Send;
}

/// Nobody wants to know any more.
#[derive(Clone, Copy, Debug)]
pub struct Over;

/// Why the stream of events has ended.
enum Ended {
    Docker(DockerError),
    Listener(Over),
}

impl From<DockerError> for Ended {
    fn from(error: DockerError) -> Self {
        Self::Docker(error)
    }
}

impl From<Over> for Ended {
    fn from(over: Over) -> Self {
        Self::Listener(over)
    }
}

/// Tells what becomes of containers, as long as somebody listens.
pub async fn watch(docker: Docker, listener: impl Listener) {
    let mut pauses = Pauses::default();
    loop {
        let ended = follow(&docker, &listener, &mut pauses).await;
        docker.part();
        let pause = match ended {
            Err(Ended::Listener(Over)) => return,
            Err(Ended::Docker(error)) => {
                debug!(%error, "no events from Docker");
                pauses.after(&error)
            }
            Ok(()) => {
                info!("Docker has ended its stream of events");
                ABSENT_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before the next attempt.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Pauses {
    fn after(&mut self, error: &DockerError) -> Duration {
        if matches!(error, DockerError::Unreachable { .. }) {
            *self = Self::default();
            return ABSENT_PAUSE;
        }
        let pause = self.next;
        self.next = PAUSE_MAX.min(2 * pause);
        pause
    }
}

async fn follow(docker: &Docker, listener: &impl Listener, pauses: &mut Pauses) -> Result<(), Ended> {
    let engine = docker.meet().await?;
    let mut events = docker.open(EVENTS, "events of containers").await?;
    let census = list(docker, events.status()).await?;
    info!(containers = census.len(), engine = engine.release, api = %engine.api, "following Docker's containers");
    let wanted = listener.census(census).await?;
    *pauses = Pauses::default();
    find(docker, listener, wanted).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = next(events.body_mut()).await? {
        for news in lines.take(&chunk)? {
            tell(docker, listener, news).await?;
        }
    }
    Ok(())
}

async fn tell(docker: &Docker, listener: &impl Listener, news: News) -> Result<(), Ended> {
    match news {
        News::Reloaded => drop(docker.meet().await?),
        News::Of(id, event) => {
            let event = if event == STARTED { ContainerEvent::Started(health(docker, &id).await) } else { event };
            if listener.happened(id.clone(), event).await? && can_be_asked_about(docker, &id, event).await? {
                find(docker, listener, vec![id]).await?;
            }
        }
    }
    Ok(())
}

/// An engine that starts a container answers questions about it when it has: whoever waited would hear of others late. Its
/// start is an event, too.
async fn can_be_asked_about(docker: &Docker, id: &str, event: ContainerEvent) -> Result<bool, DockerError> {
    if event != ContainerEvent::Connected || !is_id(id) {
        return Ok(matches!(event, ContainerEvent::Started(_)));
    }
    match docker.listed(id).await {
        Ok(listed) => Ok(listed.runs()),
        Err(DockerError::NoSuchContainer(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// That a container has a check, and no result of it, is no event.
async fn health(docker: &Docker, id: &str) -> Health {
    if !is_id(id) {
        return Health::default();
    }
    docker.listed(id).await.map(|listed| listed.health()).unwrap_or_default()
}

/// Tells what is to be known of containers that run.
async fn find(docker: &Docker, listener: &impl Listener, wanted: Vec<String>) -> Result<(), Ended> {
    for id in wanted.into_iter().filter(|id| is_id(id)) {
        let found = match docker.inspect(&id).await {
            Ok(found) => found,
            // What becomes of it is told by an event.
            Err(DockerError::NoSuchContainer(_) | DockerError::NotRunning(_) | DockerError::HostNetwork(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        listener.found(found).await?;
    }
    Ok(())
}

/// All containers, once the stream of events was opened with `status`.
async fn list(docker: &Docker, status: StatusCode) -> Result<Census, DockerError> {
    good(status)?;
    let (status, body) = docker.read(CONTAINERS, "its containers", LIST_MAX_BYTES).await?;
    good(status)?;
    census(&body)
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, DockerError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| DockerError::Answer(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn census(body: &[u8]) -> Result<Census, DockerError> {
    let listed: Vec<Listed> = parse(body)?;
    let resident = |listed: &Listed| Resident {
        health: listed.runs().then(|| listed.health()),
        endpoints: listed.endpoints().collect(),
    };
    Ok(listed.iter().map(|listed| (listed.id.clone(), resident(listed))).collect())
}

/// Cuts the stream into events, one JSON object a line.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<News>, DockerError> {
        self.0.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.0.iter().position(|octet| *octet == b'\n') {
            events.extend(news(&self.0[..end])?);
            self.0.drain(..=end);
        }
        if self.0.len() > EVENT_MAX_BYTES {
            return Err(DockerError::Answer(format!("an event of more than {EVENT_MAX_BYTES} octets")));
        }
        Ok(events)
    }
}

/// What a line tells; nothing when it is about something else.
fn news(line: &[u8]) -> Result<Option<News>, DockerError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let Event { subject, action, actor: Actor { id, attributes } } = parse(line)?;
    let happened = match (subject.as_str(), action.as_str()) {
        ("daemon", "reload") => return Ok(Some(News::Reloaded)),
        ("network", "connect") => return Ok(Some(News::Of(attributes.container, ContainerEvent::Connected))),
        ("container", "start") => STARTED,
        ("container", "die") => ContainerEvent::Died,
        ("container", "destroy") => ContainerEvent::Destroyed,
        ("container", other) => match other.strip_prefix(HEALTH) {
            Some(word @ ("healthy" | "unhealthy")) => ContainerEvent::Fares(Health::of_word(word)),
            Some(_) | None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(News::Of(id, happened)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_are_told_however_the_stream_is_cut() {
        let stream = concat!(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"a","Attributes":{"name":"web"}},"time":1}"#,
            "\n",
            r#"{"Type":"container","Action":"exec_start: sh","Actor":{"ID":"a"}}"#,
            "\n",
            r#"{"Type":"container","Action":"health_status: unhealthy","Actor":{"ID":"a"}}"#,
            "\n",
            r#"{"Type":"container","Action":"health_status: running","Actor":{"ID":"a"}}"#,
            "\n",
            r#"{"Type":"daemon","Action":"reload","Actor":{"ID":"VGHC","Attributes":{"name":"h1"}}}"#,
            "\n",
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{"container":"a","type":"x"}}}"#,
            "\n",
            r#"{"Type":"network","Action":"destroy","Actor":{"ID":"n"}}"#,
            "\n",
            r#"{"Type":"container","Action":"destroy","Actor":{"ID":"b"}}"#,
            "\r\n",
        );
        for cut in 0..=stream.len() {
            let mut lines = Lines::default();

            let mut events = lines.take(&stream.as_bytes()[..cut]).unwrap();
            events.extend(lines.take(&stream.as_bytes()[cut..]).unwrap());

            let of = |id: &str, event| News::Of(id.to_owned(), event);
            let unhealthy = ContainerEvent::Fares(Health::Unhealthy);
            let connected = of("a", ContainerEvent::Connected);
            let gone = of("b", ContainerEvent::Destroyed);
            assert_eq!(events, [of("a", STARTED), of("a", unhealthy), News::Reloaded, connected, gone], "{cut}");
        }
    }

    #[test]
    fn an_engine_that_is_not_there_is_looked_for_at_one_pace_and_a_bad_one_ever_less_often() {
        let absent = || DockerError::Unreachable {
            subject: String::new(),
            socket: "/run/docker.sock".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let mut pauses = Pauses::default();

        let bad: Vec<_> = (0..7).map(|_| pauses.after(&DockerError::Timeout).as_secs()).collect();
        assert_eq!(bad, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!([pauses.after(&absent()), pauses.after(&absent())], [ABSENT_PAUSE; 2]);
        assert_eq!(pauses.after(&DockerError::Timeout), PAUSE_MIN);
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let mut lines = Lines::default();

        assert!(lines.take(&vec![b'x'; EVENT_MAX_BYTES]).is_ok());
        assert!(lines.take(b"xx").is_err());
    }

    #[test]
    fn a_paused_container_counts_as_running_and_one_that_runs_has_endpoints() {
        let id = "a".repeat(64);
        let body = format!(
            r#"[{{"Id":"a","State":"running","Status":"Up 1 second (health: starting)",
                  "NetworkSettings":{{"Networks":{{"x":{{"EndpointID":"{id}"}}}}}}}},
                {{"Id":"b","State":"exited","Status":"Exited (0)",
                  "NetworkSettings":{{"Networks":{{"x":{{"EndpointID":""}}}}}}}},
                {{"Id":"c","State":"paused","NetworkSettings":null}}]"#
        );

        let census = census(body.as_bytes()).unwrap();

        let health = [Some(Health::Starting), None, Some(Health::Healthy)];
        assert_eq!(census.values().map(|it| it.health).collect::<Vec<_>>(), health);
        let ids = census.values().map(|it| it.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect());
        assert_eq!(ids.collect::<Vec<Vec<_>>>(), [vec![id], vec![], vec![]]);
    }

    proptest! {
        #[test]
        fn no_stream_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Lines::default().take(&bytes);
            let _ = census(&bytes);
        }
    }
}
