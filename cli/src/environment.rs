//! `WEAVE_…` variables of the environment: honoured, or told of.
//!
//! A flag goes before its variable. An empty variable is as none, but for `WEAVE_STATUS_ADDR`, which says "nowhere" then, and `WEAVE_PASSWORD`,
//! which is refused.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// Those that mean something here.
const HONOURED: [&str; 8] = [
    "WEAVE_SOCKET",
    "WEAVE_HTTP_ADDR",
    "WEAVE_STATUS_ADDR",
    "WEAVE_PASSWORD",
    "WEAVE_PORT",
    "WEAVE_MTU",
    "WEAVE_NO_FASTDP",
    // Of the systemd unit, which puts them on the command line.
    "WEAVE_PEERS",
];

/// Where `DOCKER_HOST` led before, as for the original; this when nowhere.
const FORMER_DOCKER_HOST: &str = "ORIG_DOCKER_HOST";
const NOBODY: &str = "unset";

/// How many others are named at most.
const NAMED_MAX: usize = 16;

/// A variable that holds something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What `flag` gives, else what the variable holds.
pub(crate) fn value<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    flag: Option<T>,
    name: &str,
) -> Result<Option<T>> {
    match (flag, variable(name)) {
        (Some(value), _) => Ok(Some(value)),
        (None, Some(text)) => Ok(Some(text.parse().with_context(|| format!("{name} `{text}` cannot be used"))?)),
        (None, None) => Ok(None),
    }
}

/// What a shell is to evaluate, so that Docker's clients ask the proxy at `socket`, or whom they asked before.
pub(crate) fn for_docker(socket: &Path, restores: bool) -> Result<String> {
    if restores {
        return Ok(match variable(FORMER_DOCKER_HOST).filter(|former| former != NOBODY) {
            Some(former) => format!("export DOCKER_HOST={}\nunset {FORMER_DOCKER_HOST}\n", quoted(&former)),
            None => format!("unset DOCKER_HOST {FORMER_DOCKER_HOST}\n"),
        });
    }
    ensure!(socket.exists(), "nobody listens at {}: launch with --docker-proxy", socket.display());
    let ours = format!("unix://{}", socket.display());
    let former = variable("DOCKER_HOST").filter(|former| *former != ours).or_else(|| variable(FORMER_DOCKER_HOST));
    let former = former.unwrap_or_else(|| NOBODY.to_owned());
    Ok(format!("export DOCKER_HOST={} {FORMER_DOCKER_HOST}={}\n", quoted(&ours), quoted(&former)))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The variables that somebody set in the belief that they do something.
pub(crate) fn ignored() -> Option<String> {
    ignored_among(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

fn ignored_among(names: impl Iterator<Item = String>) -> Option<String> {
    let is_ignored = |name: &String| name.starts_with("WEAVE_") && !HONOURED.contains(&name.as_str());
    let mut ignored: Vec<String> = names.filter(is_ignored).collect();
    ignored.sort();
    let named =
        ignored.iter().take(NAMED_MAX).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    (!ignored.is_empty()).then(|| format!("{named}: these variables do nothing here; see `weave-rs launch --help`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_nothing_is_named_once_and_what_does_something_is_not() {
        let ignored = |names: &[&str]| ignored_among(names.iter().map(|name| (*name).to_owned()));

        assert_eq!(ignored(&["PATH", "WEAVE_PASSWORD", "WEAVE_MTU"]), None);
        let told = ignored(&["WEAVE_VERSION", "WEAVE_NO_BRIDGED_FASTDP", "HOME", "WEAVE_PORT"]).unwrap();
        assert!(told.starts_with("WEAVE_NO_BRIDGED_FASTDP, WEAVE_VERSION: "), "{told}");
    }
}
