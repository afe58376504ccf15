//! What the proxy changes in a request to create a container, so that the container starts on the network.
//!
//! ```text
//!   body, ?name= ──→ plan ─┬→ Change ──→ (an address is reserved) ──→ apply ──→ the body that the engine gets
//!                          └→ Declined: the engine gets what the client sent, or the client a sentence
//! ```
//!
//! Invariants: what is not ours to set keeps every byte, unknown fields and numbers too; what the user set wins; a body that
//! cannot be read is the engine's to refuse; nothing is decided by a field that could be read in two ways.

pub(crate) mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::value::RawValue;

use self::json::{JsonError, Object};
use crate::setup::{DOCKERS, RUNTIME};
use crate::wish::{self, Cidr, Network, Rules, Traits, Wanted, in_environment, is_hostname};

/// The label that tells which addresses were reserved when the container was made.
pub const ADDRESS_LABEL: &str = "weave-rs.address";
/// The longest host name with its domain, octets: Linux has room for no more.
const HOSTNAME_MAX_BYTES: usize = 64;
/// The longest part of a name between dots, octets (RFC 1035 section 2.3.4).
const LABEL_MAX_BYTES: usize = 63;
/// The C library asks for `NAME.DOMAIN` before `NAME`, and Docker's own resolver knows only the latter.
const SEARCH_FIRST: &str = "ndots:1";

/// What holds for all containers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Such as `weave.local`.
    pub domain: String,
    pub dns_server: Ipv4Addr,
    /// Containers get neither our DNS server nor names.
    pub without_dns: bool,
    pub rules: Rules,
    /// `/etc/hosts` is Docker's alone.
    pub no_rewrite_hosts: bool,
    /// The runtime that attaches what it starts, if the engine has it.
    pub runtime: Option<String>,
    /// The same for those who ask for another: `nvidia` becomes `weave-rs-nvidia`.
    pub other_runtimes: BTreeMap<String, String>,
    /// The CDI device that does it whatever the runtime is, on engines that know such devices.
    pub cdi_device: Option<String>,
    /// Names and ids of the Docker networks that our plugin serves.
    pub own_networks: BTreeSet<String>,
    /// `docker inspect` tells the address on the network.
    pub rewrite_inspect: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            domain: "weave.local".to_owned(),
            dns_server: Ipv4Addr::new(169, 254, 65, 53),
            without_dns: false,
            rules: Rules::default(),
            no_rewrite_hosts: false,
            runtime: Some(RUNTIME.to_owned()),
            other_runtimes: BTreeMap::new(),
            cdi_device: None,
            own_networks: BTreeSet::new(),
            rewrite_inspect: false,
        }
    }
}

impl Policy {
    fn domain(&self) -> &str {
        self.domain.trim_end_matches('.')
    }

    /// What attaches a container that asked for this runtime. A device leaves the user's own runtime as it is, so it goes
    /// before a counterpart of ours.
    fn hook_for(&self, asked: &str) -> Option<Hook> {
        let is_usual = asked.is_empty() || asked == DOCKERS || self.runtime.as_deref() == Some(asked);
        let device = || self.cdi_device.clone().map(Hook::Device);
        let runtime = || {
            let usual = self.runtime.as_ref().filter(|_| is_usual);
            self.other_runtimes.get(asked).or(usual).cloned().map(Hook::Runtime)
        };
        if is_usual { runtime().or_else(device) } else { device().or_else(runtime) }
    }
}

/// Why a container is created as it was asked for, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error(transparent)]
    Wish(#[from] wish::Declined),
    #[error("its description cannot be read: {0}")]
    Unreadable(String),
    #[error("`{0}` is given twice; give it once")]
    Twice(String),
}

impl Declined {
    /// Whether the client is told so, instead of the engine asked.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Wish(declined) => declined.is_refusal(),
            Self::Twice(_) => true,
            Self::Unreadable(_) => false,
        }
    }
}

impl From<JsonError> for Declined {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Twice(name) => Self::Twice(name),
            JsonError::Unreadable(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What makes the engine attach a container in the middle of its start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hook {
    Runtime(String),
    Device(String),
}

/// When a container comes onto the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its runtime is ours, or it has our device.
    BeforeFirstInstruction,
    /// It asked for a runtime that has no counterpart of ours, on an engine without devices: somebody must attach it once it runs.
    AfterStart,
    /// It is on a network of our plugin, which Docker asks.
    ByPlugin,
}

/// A container that is to be on the network, and what becomes of its description.
#[derive(Debug)]
pub struct Change<'a> {
    /// What it was called in the request.
    pub container: Option<String>,
    /// The addresses asked for; none means any one of the default subnet.
    pub wanted: Vec<Wanted>,
    /// What the network calls it, the full name first, as in a line of `/etc/hosts`; empty when its name is yet unknown.
    pub names: Vec<String>,
    pub network: Network,
    pub moment: Moment,
    /// What its user is to know: that it is called otherwise than could be expected.
    pub remark: Option<String>,
    hook: Option<Hook>,
    /// The host name to set, where the user gave none.
    hostname: Option<String>,
    body: Object<'a>,
    host_config: Object<'a>,
}

/// Decides about one container.
///
/// # Errors
/// When it is to be left alone, or refused.
pub fn plan<'a>(body: &'a [u8], name: Option<&str>, policy: &Policy) -> Result<Change<'a>, Declined> {
    let body = Object::parse(body)?;
    let host_config = body.object("HostConfig")?;
    let network = network_of(&body, &host_config, &policy.own_networks)?;
    let environment: Vec<String> = body.read("Env")?;
    let labels: BTreeMap<String, String> = body.read("Labels")?;
    let name = name.map(|name| name.trim_start_matches('/'));
    let traits = Traits { network, labels: &labels, cidr: in_environment(&environment), name };
    let wish = policy.rules.read(&traits)?;
    let runtime: String = host_config.read("Runtime")?;
    let mut change = Change {
        container: name.map(str::to_owned),
        wanted: wish.addresses,
        names: Vec::new(),
        moment: Moment::ByPlugin,
        remark: None,
        hook: None,
        hostname: None,
        network: traits.network,
        body,
        host_config,
    };
    if change.network != Network::Ours {
        change.hook = policy.hook_for(&runtime);
        change.moment = if change.hook.is_some() { Moment::BeforeFirstInstruction } else { Moment::AfterStart };
    }
    change.give_name(wish.name, policy)?;
    Ok(change)
}

fn network_of(body: &Object<'_>, host_config: &Object<'_>, own: &BTreeSet<String>) -> Result<Network, Declined> {
    let mode: String = host_config.read("NetworkMode")?;
    let endpoints = body.object("NetworkingConfig")?.object("EndpointsConfig")?;
    let endpoints: Vec<&str> = endpoints.names().collect();
    Ok(Network::of(&mode, &endpoints, own).map_err(wish::Declined::from)?)
}

/// What comes of a name that is too long.
fn too_long(name: &str, full: &str) -> String {
    if name.split('.').any(|label| label.len() > LABEL_MAX_BYTES) {
        let limit = format!("`{name}` has more than {LABEL_MAX_BYTES} octets");
        return format!("weave-rs: {limit}: the container has no name on the network unless you give it a shorter one");
    }
    let limit = format!("`{full}` has more than {HOSTNAME_MAX_BYTES} octets");
    format!("weave-rs: {limit}: the container is found by that name, and is called otherwise by itself")
}

/// The engine's answer to a creation with a remark beside its own; nothing when it is not understood.
pub(crate) fn with_remark(answer: &[u8], remark: &str) -> Option<Vec<u8>> {
    let mut answer = Object::parse(answer).ok()?;
    answer.extend("Warnings", remark.to_owned(), |_| false).ok()?;
    Some(answer.into_bytes())
}

/// A host's names as `/etc/hosts` has them: the full one, then the part before the first dot.
fn names_of(hostname: &str, domain: &str) -> Vec<String> {
    let full = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    let full = full.trim_matches('.');
    if !is_hostname(full) {
        return Vec::new();
    }
    match full.split_once('.') {
        Some((short, _)) => vec![full.to_owned(), short.to_owned()],
        None => vec![full.to_owned()],
    }
}

impl Change<'_> {
    /// The user's own host name, else the one that the rules make.
    fn give_name(&mut self, name: Option<String>, policy: &Policy) -> Result<(), Declined> {
        if policy.without_dns {
            return Ok(());
        }
        let given: String = self.body.read("Hostname")?;
        if !given.is_empty() {
            let domain: String = self.body.read("Domainname")?;
            self.names = names_of(&given, &domain);
            return Ok(());
        }
        let Some(name) = name else { return Ok(()) };
        let full = format!("{name}.{}", policy.domain());
        if full.len() > HOSTNAME_MAX_BYTES {
            self.remark = Some(too_long(&name, &full));
            return Ok(());
        }
        self.names = names_of(&full, "");
        let uts: String = self.host_config.read("UTSMode")?;
        // Docker refuses a host name where the container has the host's.
        self.hostname = (uts != "host").then_some(name);
        Ok(())
    }

    /// The body that the engine gets, for a container that will have these addresses; none when they are not known yet.
    ///
    /// # Errors
    /// When a field that is to be changed cannot be read, or is given twice.
    pub fn apply(mut self, addresses: &[Cidr], policy: &Policy) -> Result<Vec<u8>, Declined> {
        if let Some(hostname) = &self.hostname {
            self.body.set("Hostname", hostname)?;
            self.body.set("Domainname", policy.domain())?;
        }
        self.set_hook()?;
        self.set_resolver(policy)?;
        self.set_addresses(addresses, policy)?;
        self.body.set("HostConfig", &self.host_config)?;
        Ok(self.body.into_bytes())
    }

    fn set_hook(&mut self) -> Result<(), Declined> {
        match &self.hook {
            Some(Hook::Runtime(runtime)) => self.host_config.set("Runtime", runtime)?,
            Some(Hook::Device(device)) => {
                let mut devices: Vec<Box<RawValue>> = self.host_config.read("DeviceRequests")?;
                let ours = serde_json::json!({"Driver": "cdi", "DeviceIDs": [device]});
                devices.push(serde_json::value::to_raw_value(&ours).map_err(JsonError::from)?);
                self.host_config.set("DeviceRequests", &devices)?;
            }
            None => {}
        }
        Ok(())
    }

    fn set_resolver(&mut self, policy: &Policy) -> Result<(), Declined> {
        if policy.without_dns {
            return Ok(());
        }
        let server = policy.dns_server.to_string();
        self.host_config.extend("Dns", server.clone(), |given| *given == server)?;
        self.host_config.extend("DnsSearch", policy.domain().to_owned(), |_| true)?;
        if self.network.has_dockers_resolver() {
            self.host_config.extend("DnsOptions", SEARCH_FIRST.to_owned(), |given| given.starts_with("ndots:"))?;
        }
        Ok(())
    }

    fn set_addresses(&mut self, addresses: &[Cidr], policy: &Policy) -> Result<(), Declined> {
        let Some(first) = addresses.first() else { return Ok(()) };
        if !self.names.is_empty() && !policy.no_rewrite_hosts {
            // The blank makes one line of several names, and the first line of the file is what `hostname -i` tells.
            let line = format!("{}:{}", self.names.join(" "), first.address);
            let given: Vec<String> = self.host_config.read("ExtraHosts")?;
            self.host_config.set("ExtraHosts", &[vec![line], given].concat())?;
        }
        let mut labels = self.body.object("Labels")?;
        let texts: Vec<String> = addresses.iter().map(Cidr::to_string).collect();
        labels.set_key(ADDRESS_LABEL, &texts.join(" "))?;
        self.body.set("Labels", &labels)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
