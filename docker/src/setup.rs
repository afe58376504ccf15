//! The engine's settings, `daemon.json`: our runtime among its runtimes, and how that is undone. Pure.
//!
//! Everything else in the file stays as it was written. A file that is not understood is not changed.

use std::path::Path;

use serde_json::{Value, json};

use crate::create::json::{JsonError, Object};

/// What the engine calls our runtime.
pub const RUNTIME: &str = "weave-rs";
const DEFAULT: &str = "default-runtime";
const RUNTIMES: &str = "runtimes";
const ARGUMENTS: &str = "runtimeArgs";
/// What is said to runc anyway. For a runtime with arguments the engine writes a program of its own, by which containers that
/// run are ended, too; without any it would be gone under them (20.10).
const NO_CHANGE: &str = "--log-format=json";
/// What containers run by once ours is gone. A reload does not forget settings that are absent, so both are named.
pub(crate) const DOCKERS: &str = "runc";

/// The argument of our runtime that says where the daemon listens.
pub const SOCKET: &str = "--weave-socket=";

/// Why settings are left as they are.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("they are not a JSON object as Docker reads it: {0}; mend them first")]
    Unreadable(#[from] serde_json::Error),
    #[error("{0}; mend them first")]
    Twice(String),
    #[error("containers run by `{0}` unless told otherwise; take {DEFAULT} out of them first, or leave out --all")]
    OtherDefault(String),
}

impl From<JsonError> for SetupError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Unreadable(error) => Self::Unreadable(error),
            twice @ JsonError::Twice(_) => Self::Twice(twice.to_string()),
        }
    }
}

/// Which containers run by our runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those that ask for it, as with `docker run --runtime weave-rs`.
    Asking,
    All,
}

/// `settings` with our runtime, which is `program` with `arguments`.
///
/// # Errors
/// When they cannot be read, or the operator has another runtime for all.
pub fn installed(settings: &[u8], program: &Path, arguments: &[String], extent: Extent) -> Result<Vec<u8>, SetupError> {
    let mut settings = parse(settings)?;
    let mut runtimes = settings.object(RUNTIMES)?;
    let mut ours = json!({ "path": program });
    if !arguments.is_empty() {
        ours[ARGUMENTS] = json!(arguments);
    }
    runtimes.set_key(RUNTIME, &ours)?;
    settings.set_key(RUNTIMES, &runtimes)?;
    let default: String = settings.read(DEFAULT)?;
    match (extent, default.as_str()) {
        (Extent::All, "" | DOCKERS | RUNTIME) => settings.set_key(DEFAULT, RUNTIME)?,
        (Extent::All, other) => return Err(SetupError::OtherDefault(other.to_owned())),
        (Extent::Asking, RUNTIME) => settings.set_key(DEFAULT, DOCKERS)?,
        (Extent::Asking, _) => {}
    }
    written(&settings)
}

/// `settings` without it. Containers that were made with it go on to start: its name means Docker's own runtime.
///
/// # Errors
/// When they cannot be read.
pub fn removed(settings: &[u8]) -> Result<Vec<u8>, SetupError> {
    let mut settings = parse(settings)?;
    let default: String = settings.read(DEFAULT)?;
    if default == RUNTIME {
        settings.set_key(DEFAULT, DOCKERS)?;
    }
    let mut runtimes = settings.object(RUNTIMES)?;
    if runtimes.has(RUNTIME) {
        let former: Vec<String> = runtimes.object(RUNTIME)?.read(ARGUMENTS)?;
        let mut dockers = json!({ "path": DOCKERS });
        if !former.is_empty() {
            dockers[ARGUMENTS] = json!([NO_CHANGE]);
        }
        runtimes.set_key(RUNTIME, &dockers)?;
        settings.set_key(RUNTIMES, &runtimes)?;
    }
    written(&settings)
}

/// Whether our runtime is in there, and asks the daemon at `socket`; without an argument that says where it asks the one at
/// the `usual` place. Where its name means Docker's own runtime it is not.
///
/// # Errors
/// When they cannot be read.
pub fn leads_to(settings: &[u8], socket: &Path, usual: &Path) -> Result<bool, SetupError> {
    let runtimes = parse(settings)?.object(RUNTIMES)?;
    let ours = runtimes.object(RUNTIME)?;
    let program: String = ours.read("path")?;
    let arguments: Vec<String> = ours.read(ARGUMENTS)?;
    let asked = arguments.iter().rev().find_map(|argument| argument.strip_prefix(SOCKET)).map(Path::new);
    Ok(!program.is_empty() && program != DOCKERS && asked.unwrap_or(usual) == socket)
}

/// An empty file says nothing, as an absent one.
fn parse(settings: &[u8]) -> Result<Object<'_>, SetupError> {
    let is_blank = settings.iter().all(u8::is_ascii_whitespace);
    if is_blank { Ok(Object::default()) } else { Ok(Object::parse(settings)?) }
}

fn written(settings: &Object<'_>) -> Result<Vec<u8>, SetupError> {
    let mut text = serde_json::to_vec_pretty(settings)?;
    text.push(b'\n');
    // What we have written is read as we meant it.
    let _: Value = serde_json::from_slice(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROGRAM: &str = "/usr/local/libexec/weave-rs-runc";

    fn value(settings: Result<Vec<u8>, SetupError>) -> Value {
        serde_json::from_slice(&settings.unwrap()).unwrap()
    }

    fn install(settings: &str, extent: Extent) -> Result<Vec<u8>, SetupError> {
        installed(settings.as_bytes(), Path::new(PROGRAM), &[], extent)
    }

    #[test]
    fn our_runtime_is_added_and_everything_else_stays() {
        let before = r#"{"log-level": "warn", "runtimes": {"kata": {"path": "/k"}}, "max": 1.0e3}"#;

        let after = install(before, Extent::All).unwrap();

        let text = String::from_utf8(after.clone()).unwrap();
        assert!(text.contains("1.0e3") && text.starts_with("{\n  \"log-level\": \"warn\""), "{text}");
        let after: Value = serde_json::from_slice(&after).unwrap();
        assert_eq!(after["default-runtime"], "weave-rs");
        assert_eq!(after["runtimes"], json!({ "kata": { "path": "/k" }, "weave-rs": { "path": PROGRAM } }));
    }

    #[test]
    fn asked_again_it_changes_nothing_and_may_be_narrowed() {
        let all = install("", Extent::All).unwrap();
        assert_eq!(installed(&all, Path::new(PROGRAM), &[], Extent::All).unwrap(), all);

        let asking = value(installed(&all, Path::new(PROGRAM), &[], Extent::Asking));
        assert_eq!(asking, json!({ "default-runtime": "runc", "runtimes": { "weave-rs": { "path": PROGRAM } } }));
    }

    #[test]
    fn what_was_made_with_it_starts_without_it() {
        let all = install(r#"{"debug": true}"#, Extent::All).unwrap();

        let left = json!({ "debug": true, "default-runtime": "runc", "runtimes": { "weave-rs": { "path": "runc" } } });
        assert_eq!(value(removed(&all)), left);
        let arguments = ["--weave-timeout=5".to_owned()];
        let with_arguments = installed(b"", Path::new(PROGRAM), &arguments, Extent::Asking).unwrap();
        let left = removed(&with_arguments).unwrap();
        let dockers = json!({ "path": "runc", "runtimeArgs": ["--log-format=json"] });
        assert_eq!(value(Ok(left.clone())), json!({ "runtimes": { "weave-rs": dockers } }));
        assert_eq!(removed(&left).unwrap(), left);
        assert_eq!(value(removed(b"{\"debug\": true}")), json!({ "debug": true }));
        assert_eq!(value(removed(b" \n")), json!({}));
    }

    #[test]
    fn another_default_and_what_is_no_object_are_left_alone() {
        let other = install(r#"{"default-runtime": "nvidia"}"#, Extent::All).unwrap_err();
        assert!(other.to_string().contains("nvidia"), "{other}");
        assert!(install(r#"{"default-runtime": "nvidia"}"#, Extent::Asking).is_ok());
        for broken in ["[]", "{", "{} {}", r#"{"runtimes": 7}"#, r#"{"runtimes": {}, "Runtimes": {}}"#] {
            assert!(install(broken, Extent::All).is_err(), "{broken}");
        }
    }

    #[test]
    fn it_leads_to_one_daemon() {
        let (usual, other) = (Path::new("/run/usual"), Path::new("/run/other"));
        let leads = |settings: &[u8]| [usual, other].map(|socket| leads_to(settings, socket, usual).unwrap());
        let with = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            installed(b"", Path::new(PROGRAM), &arguments, Extent::All).unwrap()
        };

        assert_eq!(leads(&with(&[])), [true, false]);
        assert_eq!(leads(&with(&["--weave-socket=/run/other", "--weave-timeout=5"])), [false, true]);
        assert_eq!(leads(&removed(&with(&[])).unwrap()), [false, false]);
        assert_eq!(leads(b""), [false, false]);
        assert!(leads_to(b"[]", usual, usual).is_err());
    }

    proptest! {
        #[test]
        fn no_settings_panic(settings in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = installed(&settings, Path::new(PROGRAM), &[], Extent::All);
            let _ = removed(&settings);
            let _ = leads_to(&settings, Path::new(PROGRAM), Path::new(PROGRAM));
        }
    }
}
