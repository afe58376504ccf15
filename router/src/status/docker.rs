//! What this daemon does for Docker's containers: by which ways, how starts fare, and of which engine.

use std::fmt;

use serde::Serialize;
use weave_docker::Docker;
use weave_docker::setup::RUNTIME;

use super::time::rfc3339;
use crate::api::Context;
use crate::starts::Failure;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct DockerPart {
    /// Where the engine is looked for.
    pub socket: String,
    /// Absent while it does not answer.
    pub engine: Option<EnginePart>,
    /// Where its API is passed on, if it is.
    pub proxy: Option<String>,
    /// Starts that wait for this daemon.
    pub waiting_starts: usize,
    /// Containers that did not get what they were to have, over the life of the daemon.
    pub failed_starts: u64,
    /// The last of them, oldest first.
    pub failures: Vec<Failure>,
}

/// An engine that answers.
#[derive(Clone, Debug, Serialize)]
pub struct EnginePart {
    pub version: String,
    /// In which version of its API it is asked.
    pub api_version: String,
    pub runtime: RuntimeUse,
}

/// Which containers our runtime starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeUse {
    None,
    Asking,
    All,
}

impl fmt::Display for RuntimeUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not set up; see `weave-rs setup docker`",
            Self::Asking => "of containers that ask for it",
            Self::All => "of all containers",
        })
    }
}

impl DockerPart {
    pub fn of(context: &Context) -> Self {
        let (failed_starts, failures) = context.starts.failed();
        Self {
            socket: context.docker.socket().display().to_string(),
            engine: engine(&context.docker),
            proxy: context.docker_proxy.as_ref().map(|path| path.display().to_string()),
            waiting_starts: context.starts.waiting(),
            failed_starts,
            failures,
        }
    }

    /// As `status` shows it.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let engine = match &self.engine {
            Some(engine) => format!("{} (API {})", engine.version, engine.api_version),
            None => format!("none answers at {}", self.socket),
        };
        let mut lines = vec![("", String::new()), ("Service", "docker".to_owned()), ("Engine", engine)];
        lines.extend(self.engine.iter().map(|engine| ("Runtime", engine.runtime.to_string())));
        lines.push(("Proxy", self.proxy.clone().unwrap_or_else(|| "off".to_owned())));
        lines.push(("Starts", format!("{} waiting, {} failed", self.waiting_starts, self.failed_starts)));
        let failed = |failure: &Failure| {
            let Failure { container, reason, when } = failure;
            ("Failed", format!("{} {container}: {reason}", rfc3339(*when)))
        };
        lines.extend(self.failures.iter().map(failed));
        lines
    }
}

fn engine(docker: &Docker) -> Option<EnginePart> {
    let engine = docker.engine()?;
    let runtime = match engine.runtimes.knows(RUNTIME) {
        true if engine.runtimes.default() == RUNTIME => RuntimeUse::All,
        true => RuntimeUse::Asking,
        false => RuntimeUse::None,
    };
    Some(EnginePart { version: engine.release, api_version: engine.api.to_string(), runtime })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn part() -> DockerPart {
        let engine =
            EnginePart { version: "20.10.24".to_owned(), api_version: "1.41".to_owned(), runtime: RuntimeUse::All };
        DockerPart {
            socket: "/var/run/docker.sock".to_owned(),
            engine: Some(engine),
            proxy: None,
            waiting_starts: 1,
            failed_starts: 2,
            failures: vec![Failure {
                container: "web".to_owned(),
                reason: "no address is left".to_owned(),
                when: 1_795_375_205,
            }],
        }
    }

    fn shown(part: &DockerPart) -> Vec<String> {
        part.summary().iter().map(|(label, value)| format!("{label}: {value}")).skip(2).collect()
    }

    #[test]
    fn the_summary_says_by_which_ways_and_what_failed() {
        assert_eq!(
            shown(&part()),
            [
                "Engine: 20.10.24 (API 1.41)",
                "Runtime: of all containers",
                "Proxy: off",
                "Starts: 1 waiting, 2 failed",
                "Failed: 2026-11-22T19:20:05Z web: no address is left",
            ]
        );
        let alone = DockerPart { engine: None, proxy: Some("/p".to_owned()), failures: Vec::new(), ..part() };
        assert_eq!(shown(&alone)[..2], ["Engine: none answers at /var/run/docker.sock", "Proxy: /p"]);
    }
}
