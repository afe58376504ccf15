//! Which containers of Docker's are on the network by themselves, with which addresses, and what they are called.
//!
//! | network mode | without `WEAVE_CIDR` | with it |
//! |---|---|---|
//! | `default`, `bridge`, `none` | an address of the default subnet | what it says |
//! | one that the user made | left alone: Docker's own names go on working there | what it says |
//! | `host`, another container's | left alone | left alone |
//! | `none`, a pause container of Amazon ECS | left alone: the agent gives it an interface | left alone |

use weave_docker::create::{ECS_NAME_LABEL, ECS_PAUSE, is_made_by_user};
use weave_docker::engine::Listed;

use crate::attach::{AttachError, Wanted};
use crate::naming::Called;

/// Keeps a container off the network.
const NONE: &str = "none";
/// How the ECS agent calls containers of its own.
const ECS_INTERNAL: &str = "~internal~ecs~";

/// What is known of a container before it runs, beside what its engine says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starting {
    pub hostname: String,
    /// What `WEAVE_CIDR` says in its environment.
    pub cidr: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Leave,
    Attach { called: Called, wanted: Vec<Wanted> },
}

impl Starting {
    /// # Errors
    /// When its environment wants what is no address.
    pub fn verdict(&self, listed: &Listed) -> Result<Verdict, AttachError> {
        let label = listed.labels.get(ECS_NAME_LABEL).map(String::as_str);
        let mode = listed.network_mode();
        let is_pause = mode == "none" && label.is_some_and(|label| label.starts_with(ECS_INTERNAL));
        let shares = mode == "host" || mode.starts_with("container:");
        if shares || is_pause || is_made_by_user(mode) && self.cidr.is_none() {
            return Ok(Verdict::Leave);
        }
        let ecs_name = label.map(|label| label.strip_prefix(ECS_PAUSE).unwrap_or(label).to_owned());
        self.attach(ecs_name.or_else(|| listed.name()))
    }

    /// One that had an address before, while its engine does not answer.
    ///
    /// # Errors
    /// As [`Self::verdict`].
    pub fn known(&self) -> Result<Verdict, AttachError> {
        self.attach(None)
    }

    fn attach(&self, name: Option<String>) -> Result<Verdict, AttachError> {
        let words: Vec<&str> = self.cidr.iter().flat_map(|cidr| cidr.split_whitespace()).collect();
        if words.contains(&NONE) {
            return Ok(Verdict::Leave);
        }
        let mut wanted = words.into_iter().map(str::parse).collect::<Result<Vec<Wanted>, _>>()?;
        if wanted.is_empty() {
            wanted.push(Wanted::In(None));
        }
        let hostname = Some(self.hostname.clone()).filter(|hostname| hostname.contains('.'));
        Ok(Verdict::Attach { called: Called { hostname, name, ..Called::default() }, wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(mode: &str, label: Option<&str>) -> Listed {
        let labels = label.map(|label| (ECS_NAME_LABEL.to_owned(), label.to_owned()));
        Listed::new("/web", mode, labels.into_iter().collect())
    }

    fn verdict(mode: &str, label: Option<&str>, cidr: Option<&str>) -> Verdict {
        let starting = Starting { hostname: "0123456789ab".to_owned(), cidr: cidr.map(str::to_owned) };
        starting.verdict(&listed(mode, label)).unwrap()
    }

    fn attached(name: &str, wanted: &[&str]) -> Verdict {
        let called = Called { name: Some(name.to_owned()), ..Called::default() };
        Verdict::Attach { called, wanted: wanted.iter().map(|word| word.parse().unwrap()).collect() }
    }

    #[test]
    fn containers_on_dockers_bridge_or_without_a_network_are_attached() {
        for mode in ["default", "bridge", "none", ""] {
            assert_eq!(verdict(mode, None, None), attached("web", &["net:default"]), "{mode}");
        }
        for mode in ["host", "container:0123", "my-app_default"] {
            assert_eq!(verdict(mode, None, None), Verdict::Leave, "{mode}");
        }
    }

    #[test]
    fn the_environment_says_otherwise() {
        assert_eq!(verdict("my-app_default", None, Some("")), attached("web", &["net:default"]));
        assert_eq!(verdict("bridge", None, Some("none")), Verdict::Leave);
        assert_eq!(verdict("host", None, Some("net:default")), Verdict::Leave);
        let several = verdict("bridge", None, Some("net:10.2.0.0/16  ip:10.3.0.1/24 10.4.0.1/24"));
        assert_eq!(several, attached("web", &["net:10.2.0.0/16", "ip:10.3.0.1/24", "10.4.0.1/24"]));
        let starting = Starting { cidr: Some("10.4.0.1".to_owned()), ..Starting::default() };
        assert!(starting.verdict(&listed("bridge", None)).is_err());
    }

    #[test]
    fn containers_of_ecs_are_called_as_in_their_task() {
        assert_eq!(verdict("bridge", Some("httpserver"), None), attached("httpserver", &["net:default"]));
        let relay = Some("~internal~ecs~pause-httpserver");
        assert_eq!(verdict("bridge", relay, None), attached("httpserver", &["net:default"]));
        assert_eq!(verdict("none", Some("~internal~ecs~pause"), None), Verdict::Leave);
    }
}
