//! A container as containerd hands it to a runtime: `config.json` in its folder, as in the OCI runtime specification 1.0.
//!
//! Only what is changed is looked at; everything else is written back as it was read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The longest configuration that is read, octets. Docker's have about 20,000.
const CONFIG_MAX_BYTES: u64 = 16 << 20;
const CONFIG: &str = "config.json";

#[derive(Debug)]
pub(crate) struct Bundle {
    folder: PathBuf,
    config: Value,
}

impl Bundle {
    /// # Errors
    /// When there is none, or it is not JSON.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let size = fs::metadata(&path).with_context(|| format!("no container at {}", path.display()))?.len();
        if size > CONFIG_MAX_BYTES {
            bail!("{} has {size} octets, more than {CONFIG_MAX_BYTES}", path.display());
        }
        let config = serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("in {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), config })
    }

    /// Replaces the configuration at once, so that runc reads the old one or the new one.
    pub(crate) fn write(&self) -> Result<()> {
        self.put(CONFIG, &serde_json::to_vec(&self.config)?)
    }

    /// A file beside the configuration; containerd removes it with the folder.
    pub(crate) fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.new")));
        let written = || -> Result<()> {
            let mut file = fs::File::create(&draft)?;
            file.write_all(content)?;
            Ok(fs::rename(&draft, &path)?)
        };
        written().with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether it gets a network namespace of its own; it has none when it uses the host's or another container's.
    pub(crate) fn has_own_network(&self) -> bool {
        let is_network = |namespace: &&Value| namespace["type"] == "network";
        let namespaces = self.config["linux"]["namespaces"].as_array();
        namespaces.and_then(|all| all.iter().find(is_network)).is_some_and(|network| network["path"].is_null())
    }

    /// Its host name, with its domain if it has one.
    pub(crate) fn hostname(&self) -> &str {
        self.config["hostname"].as_str().unwrap_or_default()
    }

    /// What a variable of its environment says.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let environment = self.config["process"]["env"].as_array()?;
        let value = |entry: &'_ Value| -> Option<usize> {
            let (found, _) = entry.as_str()?.split_once('=')?;
            (found == name).then_some(name.len() + 1)
        };
        // The last one counts, as in a shell.
        let (entry, start) = environment.iter().rev().find_map(|entry| Some((entry, value(entry)?)))?;
        entry.as_str()?.get(start..)
    }

    /// Where on the host the file is that it sees at `destination`.
    pub(crate) fn source_of(&self, destination: &str) -> Option<PathBuf> {
        let mounts = self.config["mounts"].as_array()?;
        let mount = mounts.iter().rev().find(|mount| mount["destination"] == destination)?;
        mount["source"].as_str().map(PathBuf::from)
    }

    /// Has `program` run when the namespaces are there and the container's own program does not run yet. runc gives it the
    /// container's state on its standard input.
    pub(crate) fn add_hook(&mut self, program: &Path, arguments: &[String], timeout_seconds: u64) -> Result<()> {
        let hook = json!({ "path": program, "args": arguments, "timeout": timeout_seconds });
        let hooks = entry(&mut self.config, "hooks", json!({}))?;
        let hooks = entry(hooks, "createRuntime", json!([]))?;
        hooks.as_array_mut().context("its hooks are no list")?.push(hook);
        Ok(())
    }

    /// Has it run `program`, a file of the host, in the place of its own.
    pub(crate) fn replace_program(&mut self, program: &Path) -> Result<()> {
        const INSIDE: &str = "/.weave-rs";
        let mount = json!({
            "destination": INSIDE,
            "type": "bind",
            "source": program,
            "options": ["bind", "ro", "nosuid", "nodev"],
        });
        let mounts = entry(&mut self.config, "mounts", json!([]))?;
        mounts.as_array_mut().context("its mounts are no list")?.push(mount);
        let process = entry(&mut self.config, "process", json!({}))?;
        for (key, value) in [("args", json!([INSIDE])), ("cwd", json!("/"))] {
            *entry(process, key, Value::Null)? = value;
        }
        Ok(())
    }
}

/// The value of a key, which is `default` if it was not there.
fn entry<'a>(object: &'a mut Value, key: &str, default: Value) -> Result<&'a mut Value> {
    let object = object.as_object_mut().context("its configuration is not an object")?;
    let value = object.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = default;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundle(config: Value) -> Bundle {
        Bundle { folder: PathBuf::new(), config }
    }

    #[test]
    fn a_container_with_another_ones_network_or_the_hosts_is_left_alone() {
        let has_own = |namespaces: Value| bundle(json!({ "linux": { "namespaces": namespaces } })).has_own_network();

        assert!(has_own(json!([{ "type": "mount" }, { "type": "network" }])));
        assert!(!has_own(json!([{ "type": "network", "path": "/proc/1/ns/net" }])));
        assert!(!has_own(json!([{ "type": "mount" }])));
    }

    #[test]
    fn hooks_that_are_there_stay() {
        let mut bundle = bundle(json!({ "hooks": { "prestart": [1] } }));

        bundle.add_hook(Path::new("/x"), &["x".to_owned(), "hook".to_owned()], 9).unwrap();
        bundle.add_hook(Path::new("/y"), &[], 9).unwrap();

        assert_eq!(bundle.config["hooks"]["prestart"], json!([1]));
        assert_eq!(bundle.config["hooks"]["createRuntime"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            bundle.config["hooks"]["createRuntime"][0],
            json!({"path": "/x", "args": ["x", "hook"], "timeout": 9})
        );
    }

    #[test]
    fn a_variable_is_read_and_the_last_one_counts() {
        let bundle = bundle(json!({ "process": { "env": ["A=1", "WEAVE_CIDR=none", "WEAVE_CIDR=net:default", "B"] } }));

        assert_eq!(bundle.variable("WEAVE_CIDR"), Some("net:default"));
        assert_eq!(bundle.variable("B"), None);
        assert_eq!(bundle.variable("WEAVE"), None);
    }

    #[test]
    fn another_program_runs_in_the_place_of_its_own() {
        let mut bundle = bundle(json!({ "process": { "args": ["sh"], "user": { "uid": 7 } }, "mounts": null }));

        bundle.replace_program(Path::new("/b/excuse")).unwrap();

        assert_eq!(bundle.config["process"], json!({ "args": ["/.weave-rs"], "cwd": "/", "user": { "uid": 7 } }));
        assert_eq!(bundle.source_of("/.weave-rs"), Some("/b/excuse".into()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), "[a-z=/]{0,8}".prop_map(Value::from)];
        let keys =
            prop::sample::select(vec!["linux", "namespaces", "type", "process", "env", "mounts", "hooks", "args"]);
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(keys.clone().prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_configuration_panics(config in any_json()) {
            let mut bundle = bundle(config);
            let _ = (bundle.has_own_network(), bundle.variable("a"), bundle.source_of("/etc/hosts"));
            let _ = bundle.add_hook(Path::new("/x"), &[], 1);
            let _ = bundle.replace_program(Path::new("/x"));
        }
    }
}
