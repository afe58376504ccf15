//! What we need of an engine's answers, in every layout that engines have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use super::{DockerError, SHORT_ID_BYTES, is_id};
use crate::plugin::Mac;
use crate::setup::DOCKERS;
use crate::wish::{Cidr, NameRule, Network, Shared, Traits, with_domain};

/// What we need to know of a container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub id: String,
    pub pid: u32,
    /// Host and domain name, if it was given a domain.
    pub hostname: Option<String>,
    /// What it is to be called by the rule for names.
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

/// How well a container is, as the check says that it came with; the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Or nobody checks it.
    #[default]
    Healthy,
    /// No check has told yet.
    Starting,
    Unhealthy,
}

impl Health {
    /// As the engine calls it.
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "starting" => Self::Starting,
            "unhealthy" => Self::Unhealthy,
            _ => Self::Healthy,
        }
    }

    /// By the end of a line as `docker ps` has it, such as `Up 5 minutes (health: starting)`.
    fn of_status(status: &str) -> Self {
        let word = status.rsplit_once('(').and_then(|(_, last)| last.strip_suffix(')')).unwrap_or_default();
        Self::of_word(word.trim_start_matches("health: "))
    }
}

/// A container as the engine lists it, which it does also while it starts it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    state: String,
    status: String,
    /// Of engines that have it apart from the status.
    health: Option<HealthField>,
    host_config: HostConfig,
    #[serde(deserialize_with = "nullable")]
    network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HealthField {
    status: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    networks: BTreeMap<String, Option<EndpointSettings>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EndpointSettings {
    #[serde(rename = "EndpointID")]
    endpoint: String,
    #[serde(deserialize_with = "nullable")]
    aliases: Vec<String>,
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "IPPrefixLen")]
    prefix_length: u8,
    mac_address: String,
}

impl From<&EndpointSettings> for Endpoint {
    fn from(settings: &EndpointSettings) -> Self {
        let EndpointSettings { endpoint, aliases, address, prefix_length, mac_address } = settings;
        let address = address.parse().ok().map(|address| Cidr { address, prefix_length: *prefix_length });
        Self { id: endpoint.clone(), aliases: aliases.clone(), address, mac: mac_address.parse().ok() }
    }
}

impl NetworkSettings {
    /// Those that there are while it runs.
    fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        self.networks.values().flatten().map(Endpoint::from).filter(|endpoint| is_id(&endpoint.id))
    }
}

impl Listed {
    /// What it is called; links of others to it are names with a slash inside.
    pub fn name(&self) -> Option<&str> {
        self.names.iter().filter_map(|name| bare(name)).find(|name| !name.contains('/'))
    }

    pub(crate) fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// What it has on networks while it runs, but for aliases.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        self.network_settings.endpoints()
    }

    pub(crate) fn health(&self) -> Health {
        match &self.health {
            Some(health) => Health::of_word(&health.status),
            None => Health::of_status(&self.status),
        }
    }

    /// What there is to decide by, with what `WEAVE_CIDR` says in its environment: the list does not tell.
    ///
    /// # Errors
    /// When it has no network of its own.
    pub fn traits<'a>(&'a self, cidr: Option<&'a str>) -> Result<Traits<'a>, Shared> {
        let endpoints: Vec<&str> = self.network_settings.networks.keys().map(String::as_str).collect();
        let network = Network::of(&self.host_config.network_mode, &endpoints, &BTreeSet::new())?;
        Ok(Traits { network, labels: &self.labels, cidr, name: self.name() })
    }
}

/// The runtimes of an engine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Runtimes {
    #[serde(deserialize_with = "nullable")]
    runtimes: BTreeMap<String, Program>,
    default_runtime: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Program {
    path: String,
}

impl Runtimes {
    /// Whether it has one of this name that is a program of its own: one that is there to stand for Docker's is not.
    pub fn knows(&self, name: &str) -> bool {
        self.runtimes.get(name).is_some_and(|program| program.path != DOCKERS)
    }

    /// The one that containers run by unless told otherwise.
    pub fn default(&self) -> &str {
        &self.default_runtime
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspection {
    pub(super) id: String,
    #[serde(default)]
    name: String,
    state: State,
    host_config: HostConfig,
    #[serde(default)]
    config: Naming,
    #[serde(default, deserialize_with = "nullable")]
    network_settings: NetworkSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Naming {
    hostname: String,
    domainname: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
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

impl Inspection {
    /// What attaching it takes; `asked` is what it was looked for by.
    pub(super) fn attachable(self, asked: &str, names: &NameRule) -> Result<Inspected, DockerError> {
        let Self { id, name, state: State { pid }, host_config, config, network_settings } = self;
        if pid == 0 {
            return Err(DockerError::NotRunning(asked.to_owned()));
        }
        if host_config.network_mode == "host" {
            return Err(DockerError::HostNetwork(asked.to_owned()));
        }
        let hostname = with_domain(&config.hostname, &config.domainname);
        let name = names.name(&config.labels, bare(&name));
        // Older engines have the beginning of the id among the aliases.
        let is_alias = |alias: &String| alias.len() != SHORT_ID_BYTES || !id.starts_with(alias.as_str());
        let mut endpoints: Vec<Endpoint> = network_settings.endpoints().collect();
        endpoints.iter_mut().for_each(|endpoint| endpoint.aliases.retain(is_alias));
        Ok(Inspected { hostname, name, pid, endpoints, id })
    }
}

/// Docker's names begin with a slash.
fn bare(name: &str) -> Option<&str> {
    Some(name.trim_start_matches('/')).filter(|name| !name.is_empty())
}

/// Engines write `null` for what is empty.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::parse;

    fn inspected(name: &str, body: &[u8]) -> Result<Inspected, DockerError> {
        parse::<Inspection>(body)?.attachable(name, &NameRule::default())
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
    fn a_container_is_called_by_its_host_name_with_a_domain_and_by_the_rule() {
        let called = |config: &str| {
            let body = format!(
                r#"{{"Id":"abc","Name":"/ecs-1-web-2","State":{{"Pid":1}},"HostConfig":{{"NetworkMode":"x"}},"Config":{config}}}"#
            );
            let inspected = inspected("web", body.as_bytes()).unwrap();
            (inspected.hostname.unwrap_or_default(), inspected.name.unwrap_or_default())
        };
        let both = |hostname: &str, name: &str| (hostname.to_owned(), name.to_owned());

        assert_eq!(called(r#"{"Hostname":"h","Domainname":"a.b","Labels":null}"#), both("h.a.b", "ecs-1-web-2"));
        assert_eq!(
            called(r#"{"Hostname":"0123","Labels":{"com.amazonaws.ecs.container-name":"web"}}"#),
            both("", "web")
        );
    }

    #[test]
    fn a_container_is_told_by_its_modes_and_endpoints() {
        let network = |text: &str| {
            let listed: Listed = parse(text.as_bytes()).unwrap();
            listed.traits(None).map(|traits| (traits.network, traits.name.map(str::to_owned)))
        };
        let web = Some("web".to_owned());
        assert_eq!(
            network(r#"{"Names":["/other/alias","/web"],"Labels":null,"HostConfig":{"NetworkMode":"default"}}"#),
            Ok((Network::Bridge, web))
        );
        let elsewhere =
            r#"{"HostConfig":{"NetworkMode":"default"},"NetworkSettings":{"Networks":{"front":{"IPAMConfig":null}}}}"#;
        assert_eq!(network(elsewhere), Ok((Network::UserDefined("front".to_owned()), None)));
        assert_eq!(network(r#"{"HostConfig":{"NetworkMode":"host"}}"#), Err(Shared::Host));
    }

    #[test]
    fn health_is_told_by_either_layout() {
        let health = |text: &str| parse::<Listed>(text.as_bytes()).unwrap().health();
        for (status, expected) in [
            ("Up 5 minutes", Health::Healthy),
            ("Up 5 minutes (healthy)", Health::Healthy),
            ("Up 2 seconds (health: starting)", Health::Starting),
            ("Up About an hour (unhealthy)", Health::Unhealthy),
            ("Exited (137) 3 seconds ago", Health::Healthy),
        ] {
            assert_eq!(health(&format!(r#"{{"Status":"{status}"}}"#)), expected, "{status}");
        }
        let apart = r#"{"Status":"Up 5 minutes","Health":{"Status":"unhealthy","FailingStreak":3}}"#;
        assert_eq!(health(apart), Health::Unhealthy);
    }

    #[test]
    fn a_runtime_that_stands_for_dockers_is_not_ours() {
        let runtimes: Runtimes = parse(
            br#"{"Runtimes":{"weave-rs":{"path":"runc"},"kata":{"path":"/k","runtimeArgs":[]}},"DefaultRuntime":"runc"}"#,
        )
        .unwrap();
        assert!(!runtimes.knows("weave-rs") && runtimes.knows("kata") && !runtimes.knows("x"));
        assert_eq!(runtimes.default(), "runc");
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

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), status in "\\PC{0,30}") {
            let _ = inspected("web", &bytes);
            let _ = parse::<Vec<Listed>>(&bytes);
            let _ = Health::of_status(&status);
        }
    }
}
