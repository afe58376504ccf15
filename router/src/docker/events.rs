//! What becomes of Docker's containers, as it happens; and all of them anew after every gap.
//!
//! ```text
//!   subscribe ─► list ─► census ─► event, event, …  ─ stream ends ─► wait, again
//! ```
//!
//! The subscription comes before the list, so that nothing falls between the two; an event that the list has already
//! taken into account changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use tracing::{debug, info};

use super::{Docker, DockerError};
use crate::request::{Request, Requester, Stopping};

/// The pause before Docker is asked again grows from the first to the last of these.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest event that is read; it carries the container's labels.
const EVENT_MAX_BYTES: usize = 1024 * 1024;
/// Containers and their fates, and nothing else.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C\
                      %22event%22%3A%5B%22start%22%2C%22die%22%2C%22destroy%22%5D%7D";
const CONTAINERS: &str = "/containers/json?all=true";

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Started,
    /// It may be started again.
    Died,
    Destroyed,
}

/// Every container that Docker has, by its id, and whether it runs.
pub type Census = BTreeMap<String, bool>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    state: String,
}

/// Why the stream of events has ended.
enum Ended {
    Docker(DockerError),
    Daemon(Stopping),
}

impl From<DockerError> for Ended {
    fn from(error: DockerError) -> Self {
        Self::Docker(error)
    }
}

impl From<Stopping> for Ended {
    fn from(stopping: Stopping) -> Self {
        Self::Daemon(stopping)
    }
}

/// Tells control what becomes of containers until the daemon ends.
pub async fn watch(docker: Docker, requester: Requester) {
    let mut pause = PAUSE_MIN;
    loop {
        match follow(&docker, &requester, &mut pause).await {
            Err(Ended::Daemon(Stopping)) => return,
            Err(Ended::Docker(error)) => debug!(%error, "no events from Docker"),
            Ok(()) => info!("Docker has ended its stream of events"),
        }
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(2 * pause);
    }
}

async fn follow(docker: &Docker, requester: &Requester, pause: &mut Duration) -> Result<(), Ended> {
    let mut events = docker.open(EVENTS, "events of containers").await?;
    if !events.status().is_success() {
        return Err(DockerError::Answer(events.status().to_string()).into());
    }
    let census = census(&docker.read(CONTAINERS, "its containers").await?.1)?;
    requester.ask(|reply| Request::Containers { census, reply }).await?;
    *pause = PAUSE_MIN;
    let mut lines = Lines::default();
    while let Some(chunk) = next(events.body_mut()).await? {
        for (id, fate) in lines.take(&chunk)? {
            requester.ask(|reply| Request::Container { id, fate, reply }).await?;
        }
    }
    Ok(())
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
    let listed: Vec<Listed> = serde_json::from_slice(body).map_err(|error| DockerError::Answer(error.to_string()))?;
    let runs = |state: &str| matches!(state, "running" | "paused" | "restarting");
    Ok(listed.into_iter().map(|container| (container.id, runs(&container.state))).collect())
}

/// Cuts the stream into events, one JSON object a line.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<(String, Fate)>, DockerError> {
        self.0.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.0.iter().position(|octet| *octet == b'\n') {
            events.extend(event(&self.0[..end])?);
            self.0.drain(..=end);
        }
        if self.0.len() > EVENT_MAX_BYTES {
            return Err(DockerError::Answer(format!("an event of more than {EVENT_MAX_BYTES} octets")));
        }
        Ok(events)
    }
}

/// What a line tells; nothing when it is about something else.
fn event(line: &[u8]) -> Result<Option<(String, Fate)>, DockerError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let event: Event = serde_json::from_slice(line).map_err(|error| DockerError::Answer(error.to_string()))?;
    let fate = match event.action.as_str() {
        "start" => Fate::Started,
        "die" => Fate::Died,
        "destroy" => Fate::Destroyed,
        _ => return Ok(None),
    };
    Ok(Some((event.actor.id, fate)))
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
            r#"{"Type":"container","Action":"destroy","Actor":{"ID":"b"}}"#,
            "\r\n",
        );
        for cut in 0..=stream.len() {
            let mut lines = Lines::default();

            let mut events = lines.take(&stream.as_bytes()[..cut]).unwrap();
            events.extend(lines.take(&stream.as_bytes()[cut..]).unwrap());

            assert_eq!(events, [("a".to_owned(), Fate::Started), ("b".to_owned(), Fate::Destroyed)], "{cut}");
        }
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let mut lines = Lines::default();

        assert!(lines.take(&vec![b'x'; EVENT_MAX_BYTES]).is_ok());
        assert!(lines.take(b"xx").is_err());
    }

    #[test]
    fn a_paused_container_counts_as_running() {
        let body = br#"[{"Id":"a","State":"running"},{"Id":"b","State":"exited"},{"Id":"c","State":"paused"}]"#;

        let census = census(body).unwrap();

        assert_eq!(census.values().copied().collect::<Vec<_>>(), [true, false, true]);
    }

    proptest! {
        #[test]
        fn no_stream_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Lines::default().take(&bytes);
            let _ = census(&bytes);
        }
    }
}
