//! The command line: runc's own, with options of ours before it.
//!
//! ```text
//!   weave-rs-runc [--weave-socket=P] [--weave-timeout=S] [--weave-runtime=P]  --root R --log L … create --bundle B --pid-file P ID
//!                 └ `runtimeArgs` of daemon.json ─────────────────────────┘  └ runc's, passed on as they are
//! ```

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Where the daemon listens.
const SOCKET: &str = "/run/weave-rs/weave-rs.sock";
/// How long a start may wait for the daemon and for addresses. The ECS agent gives a start 45 s at least.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Options of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) socket: PathBuf,
    pub(crate) timeout: Duration,
    /// The runtime to go on with; the next `runc` in `PATH` unless it is given.
    pub(crate) next: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { socket: SOCKET.into(), timeout: TIMEOUT, next: None }
    }
}

impl Options {
    /// As arguments, for the hook.
    pub(crate) fn to_arguments(&self) -> [String; 2] {
        [format!("--weave-socket={}", self.socket.display()), format!("--weave-timeout={}", self.timeout.as_secs())]
    }
}

/// What a command is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// runc has made the namespaces of a container.
    Hook,
    Create {
        bundle: PathBuf,
        id: String,
    },
    Start {
        /// Where runc keeps its state.
        root: PathBuf,
        id: String,
    },
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) options: Options,
    pub(crate) stage: Stage,
    /// What runc is to be given.
    pub(crate) passed: Vec<OsString>,
}

/// runc's options that take the next argument as their value, if it is not in the same one.
const VALUED: [&str; 11] = [
    "--root",
    "--log",
    "--log-format",
    "--criu",
    "--rootless",
    "--bundle",
    "-b",
    "--console-socket",
    "--pid-file",
    "--pidfd-socket",
    "--preserve-fds",
];
/// runc's default of `--root`.
const ROOT: &str = "/run/runc";

impl Invocation {
    pub(crate) fn parse(arguments: &[OsString]) -> Self {
        let ours = arguments.iter().take_while(|argument| is_ours(argument)).count();
        let options = arguments[..ours].iter().fold(Options::default(), |options, argument| with(options, argument));
        let passed = arguments[ours..].to_vec();
        let (positions, values) = sort(&passed);
        let text = |position: usize| positions.get(position).and_then(|word| word.to_str());
        let value = |names: &[&str]| {
            let found = values.iter().rev().find(|(name, _)| names.contains(&name.as_str()));
            found.map(|(_, value)| PathBuf::from(value))
        };
        let stage = match (text(0), text(1)) {
            (Some("hook"), None) => Stage::Hook,
            (Some("create"), Some(id)) => {
                let bundle = value(&["--bundle", "-b"]).unwrap_or_else(|| ".".into());
                Stage::Create { bundle, id: id.to_owned() }
            }
            (Some("start"), Some(id)) => {
                Stage::Start { root: value(&["--root"]).unwrap_or_else(|| ROOT.into()), id: id.to_owned() }
            }
            _ => Stage::Other,
        };
        Self { options, stage, passed }
    }
}

fn is_ours(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|text| text.starts_with("--weave-"))
}

/// Options that mean nothing are of another version, and change nothing.
fn with(mut options: Options, argument: &OsStr) -> Options {
    match argument.to_str().and_then(|text| text.split_once('=')) {
        Some(("--weave-socket", path)) => options.socket = path.into(),
        Some(("--weave-timeout", seconds)) => {
            options.timeout = seconds.parse().map_or(options.timeout, Duration::from_secs);
        }
        Some(("--weave-runtime", path)) => options.next = Some(path.into()),
        _ => {}
    }
    options
}

/// Words that are no options, and the options that have values.
fn sort(arguments: &[OsString]) -> (Vec<&OsString>, Vec<(String, OsString)>) {
    let (mut positions, mut values) = (Vec::new(), Vec::new());
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        let text = argument.to_string_lossy();
        match text.split_once('=') {
            Some((name, value)) if name.starts_with('-') => values.push((name.to_owned(), value.into())),
            _ if VALUED.contains(&text.as_ref()) => {
                values.extend(left.next().map(|value| (text.into_owned(), value.clone())));
            }
            _ if text.starts_with('-') => {}
            _ => positions.push(argument),
        }
    }
    (positions, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Invocation {
        Invocation::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_creation_is_told_by_its_bundle_and_id_whatever_else_is_given() {
        let line = "--root /run/docker --log /x/log.json --log-format json --systemd-cgroup create --bundle /b/1 \
                    --pid-file /b/1/pid --no-pivot 0123";
        let invocation = parsed(&line.replace("                    ", ""));

        assert_eq!(invocation.stage, Stage::Create { bundle: "/b/1".into(), id: "0123".to_owned() });
        assert_eq!(invocation.passed.len(), 14);
        let same = parsed("--root=/run/docker create -b /b/1 0123").stage;
        assert_eq!(same, invocation.stage);
    }

    #[test]
    fn a_start_is_told_by_its_root() {
        let start = |root: &str| Stage::Start { root: root.into(), id: "0123".to_owned() };
        assert_eq!(parsed("--root /r start 0123").stage, start("/r"));
        assert_eq!(parsed("start 0123").stage, start(ROOT));
    }

    #[test]
    fn other_commands_are_runcs_alone() {
        for line in ["features", "--root /r delete --force 0123", "exec --process /p create", "--version", "create"] {
            let invocation = parsed(line);
            assert_eq!((invocation.stage, invocation.passed.len()), (Stage::Other, line.split(' ').count()), "{line}");
        }
    }

    #[test]
    fn options_of_ours_come_first_and_are_not_passed_on() {
        let invocation = parsed("--weave-socket=/s --weave-timeout=5 --weave-runtime=/n --weave-x --root /r state 1");

        let expected = Options { socket: "/s".into(), timeout: Duration::from_secs(5), next: Some("/n".into()) };
        assert_eq!((invocation.options, invocation.passed.len()), (expected, 4));
        assert_eq!(parsed("--weave-socket=/s hook").stage, Stage::Hook);
    }
}
