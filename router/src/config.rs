//! What `weave-rs launch` was asked to do, parsed: a value of these types is usable, or the error says how to mend it.
//!
//! Combinations that parse but do not fit together are found by [`Config::check`], before anything is opened.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weave_mesh::card::{NICKNAME_MAX_BYTES, Subnet, TRUSTED_SUBNETS_MAX};
use weave_mesh::connector::{Discovery, TARGETS_MAX, Target};
use weave_mesh::name::PeerName;

use crate::shown::{self, Shown};

pub use self::allocation::{Allocation, AllocationError, Init};
pub use self::containers::ContainerConfig;
pub use self::discover::Discover;
pub use self::dns::{DnsConfig, DnsDomain};
pub use self::password::{PasswordError, Passwords};
pub use self::socket::SocketPlace;
pub use self::value::{BridgeName, EtherType, MeshName, MtuBytes};

pub mod allocation;
pub mod containers;
pub mod discover;
pub mod dns;
pub mod password;
pub mod socket;
pub mod value;

/// TCP of the control plane and UDP of sleeve unless told otherwise.
pub const DEFAULT_PORT: u16 = 6783;

/// Where the daemon keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/weave-rs";
/// Where the control socket is unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weave-rs/weave-rs.sock";
/// Where Docker's API is passed on.
pub const DEFAULT_DOCKER_PROXY: &str = "/run/weave-rs/docker.sock";
/// Where Docker looks for a network driver called `weave-rs`.
pub const DEFAULT_DOCKER_PLUGIN: &str = "/run/docker/plugins/weave-rs.sock";
/// Where status and metrics can be read unless told otherwise.
pub const DEFAULT_STATUS_ADDR: &str = "127.0.0.1:6782";

/// Whether kernel VXLAN may carry frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    On,
    Off,
}

/// What may be done at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Status and metrics can be read.
    Read,
    /// Everything, by whoever is on this host.
    Control,
}

/// Where the control API listens on TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAddr {
    pub address: SocketAddr,
    pub access: Access,
}

impl HttpAddr {
    /// Everything can be done at an address that was asked for.
    pub fn of(asked: Option<SocketAddr>) -> Self {
        let usual = SocketAddr::from(([127, 0, 0, 1], 6784));
        asked.map_or(Self { address: usual, access: Access::Read }, |address| Self { address, access: Access::Control })
    }
}

/// Whom to connect to at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// These, and none of those that an earlier daemon was given.
    Given(Vec<Target>),
    /// Those that the last daemon had when it ended.
    Stored,
}

/// Everything `launch` needs.
#[derive(Debug)]
pub struct Config {
    pub targets: Targets,
    /// A name that overrides the persisted one.
    pub name: Option<PeerName>,
    pub nickname: String,
    pub mesh: MeshName,
    /// TCP of the control plane and UDP of sleeve; VXLAN is at the port above.
    pub port: u16,
    /// The one underlay address to listen on and dial from; all of them when `None`.
    pub host: Option<IpAddr>,
    pub passwords: Passwords,
    pub trusted_subnets: Vec<Subnet>,
    pub state_dir: PathBuf,
    pub http: HttpAddr,
    /// Where status and metrics can be read, and nothing changed; nowhere when `None`.
    pub status_addr: Option<SocketAddr>,
    pub socket: PathBuf,
    /// Where Docker's API is passed on, changed so that containers start on the network; nowhere when `None`.
    pub docker_proxy: Option<SocketPlace>,
    pub containers: ContainerConfig,
    /// Where Docker finds its network plugin, whose file's name is the driver's; nowhere when `None`.
    pub docker_plugin: Option<SocketPlace>,
    pub bridge: BridgeName,
    pub mtu: Option<MtuBytes>,
    pub allowed_ethertypes: Vec<EtherType>,
    pub fast_path: FastPath,
    /// Whether peers of peers are dialled.
    pub discovery: Discovery,
    /// Where peers are found that nobody gave; without a word, at AWS where this is an instance of EC2 and no peer is given.
    pub discover: Option<Discover>,
    /// How many TCP connections to peers this host keeps at most; 0 is any number.
    pub connection_limit: usize,
    /// How containers get addresses; they are given none when `None`.
    pub allocation: Option<Allocation>,
    /// How long a sleeve session is used before its keys are replaced.
    pub rekey_interval: Duration,
    /// How names are served; not at all when `None`.
    pub dns: Option<DnsConfig>,
    /// What the operator is to read at the start.
    pub remarks: Vec<String>,
}

/// Options that do not fit together or with this host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("nickname `{0}` is longer than {NICKNAME_MAX_BYTES} octets; give a shorter --nickname")]
    LongNickname(String),
    #[error("nickname `{shown}` has characters that move the cursor of whoever reads it; give another --nickname", shown = Shown(.0))]
    UnprintableNickname(String),
    #[error("{0} trusted subnets are more than {TRUSTED_SUBNETS_MAX}; merge them into larger ones")]
    TooManyTrustedSubnets(usize),
    #[error("--trusted-subnets means nothing without a password; give --password-file or leave it out")]
    TrustWithoutPassword,
    #[error("{0} peers are more than {TARGETS_MAX}; name a few, the others are discovered")]
    TooManyTargets(usize),
    #[error("--port {0} leaves no room for the VXLAN port above it; choose one between 1 and 65534")]
    UnusablePort(u16),
    #[error(
        "--http-addr {0} uses the mesh's own port on the address it listens on; give another --http-addr or --port"
    )]
    PortsCollide(SocketAddr),
    #[error("--docker-plugin means nothing where no addresses are given; leave it out, or give --ipalloc-range")]
    PluginWithoutRange,
    #[error("--name {0} is a group address; clear the lowest bit of its first octet")]
    GroupName(PeerName),
    #[error(
        "--http-addr {0} is not a loopback address, and the control API asks for no password; use 127.0.0.1 or [::1]"
    )]
    ExposedControl(SocketAddr),
}

impl Config {
    /// # Errors
    /// Names the options that do not fit together and what to give instead.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.port == 0 || self.port == u16::MAX {
            return Err(ConfigError::UnusablePort(self.port));
        }
        if self.nickname.len() > NICKNAME_MAX_BYTES {
            return Err(ConfigError::LongNickname(self.nickname.clone()));
        }
        if self.nickname.contains(shown::is_dangerous) {
            return Err(ConfigError::UnprintableNickname(self.nickname.clone()));
        }
        if self.trusted_subnets.len() > TRUSTED_SUBNETS_MAX {
            return Err(ConfigError::TooManyTrustedSubnets(self.trusted_subnets.len()));
        }
        if !self.trusted_subnets.is_empty() && self.passwords.is_empty() {
            return Err(ConfigError::TrustWithoutPassword);
        }
        if let Targets::Given(targets) = &self.targets
            && targets.len() > TARGETS_MAX
        {
            return Err(ConfigError::TooManyTargets(targets.len()));
        }
        if self.docker_plugin.is_some() && self.allocation.is_none() {
            return Err(ConfigError::PluginWithoutRange);
        }
        if let Some(name) = self.name.filter(|name| name.mac().is_group()) {
            return Err(ConfigError::GroupName(name));
        }
        self.check_http_addr()
    }

    fn check_http_addr(&self) -> Result<(), ConfigError> {
        let HttpAddr { address, access } = self.http;
        if !address.ip().is_loopback() {
            return Err(ConfigError::ExposedControl(address));
        }
        let shares_address = self.host.is_none_or(|host| host == address.ip());
        if address.port() == self.port && shares_address && access == Access::Control {
            return Err(ConfigError::PortsCollide(address));
        }
        Ok(())
    }

    /// The UDP port of kernel VXLAN.
    pub const fn vxlan_port(&self) -> u16 {
        // `check` has refused 65535.
        self.port + 1
    }
}

#[cfg(test)]
mod tests {
    use super::value::parse_trusted_subnets;
    use super::*;

    fn config() -> Config {
        Config {
            targets: Targets::Given(Vec::new()),
            name: None,
            nickname: "host1".to_owned(),
            mesh: MeshName::default(),
            port: DEFAULT_PORT,
            host: None,
            passwords: Passwords::default(),
            trusted_subnets: Vec::new(),
            state_dir: DEFAULT_STATE_DIR.into(),
            http: HttpAddr::of(None),
            status_addr: DEFAULT_STATUS_ADDR.parse().ok(),
            socket: DEFAULT_SOCKET.into(),
            docker_proxy: None,
            containers: ContainerConfig::default(),
            docker_plugin: None,
            bridge: BridgeName::default(),
            mtu: None,
            allowed_ethertypes: Vec::new(),
            fast_path: FastPath::On,
            discovery: Discovery::On,
            discover: None,
            connection_limit: 200,
            allocation: None,
            rekey_interval: Duration::from_secs(120),
            dns: None,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(config().check(), Ok(()));
        assert_eq!(config().vxlan_port(), 6784);
    }

    #[test]
    fn a_nickname_moves_nobodys_cursor() {
        for nickname in ["h2\nfa:ke", "\u{1b}[31m", "\u{9b}2J", "a\u{202e}b", "a\tb", "\u{feff}a"] {
            let config = Config { nickname: nickname.to_owned(), ..config() };
            let error = config.check().unwrap_err();
            assert_eq!(error, ConfigError::UnprintableNickname(nickname.to_owned()));
            assert!(!error.to_string().contains(shown::is_dangerous), "{error}");
        }
        for nickname in ["h\u{e9}", "web 1", ""] {
            assert_eq!(Config { nickname: nickname.to_owned(), ..config() }.check(), Ok(()), "{nickname}");
        }
    }

    #[test]
    fn trusted_subnets_without_a_password_are_refused() {
        let subnets = parse_trusted_subnets("10.0.0.0/8").unwrap();
        let config = Config { trusted_subnets: subnets, ..config() };

        assert_eq!(config.check(), Err(ConfigError::TrustWithoutPassword));
    }

    #[test]
    fn a_plugin_without_addresses_to_give_is_refused() {
        let config = Config { docker_plugin: Some(DEFAULT_DOCKER_PLUGIN.into()), ..config() };

        assert_eq!(config.check(), Err(ConfigError::PluginWithoutRange));
    }

    #[test]
    fn the_last_port_is_refused_because_vxlan_needs_the_next() {
        assert_eq!(Config { port: 65535, ..config() }.check(), Err(ConfigError::UnusablePort(65535)));
    }

    #[test]
    fn a_control_address_that_others_reach_is_refused() {
        let address = "0.0.0.0:6784".parse().unwrap();
        let http = HttpAddr::of(Some(address));

        assert_eq!(Config { http, ..config() }.check(), Err(ConfigError::ExposedControl(address)));
    }

    #[test]
    fn the_control_port_must_not_be_the_meshs() {
        let address = "127.0.0.1:6783".parse().unwrap();
        let http = HttpAddr::of(Some(address));
        let elsewhere = Config { http, host: Some([192, 0, 2, 1].into()), ..config() };

        assert_eq!(Config { http, ..config() }.check(), Err(ConfigError::PortsCollide(address)));
        assert_eq!(elsewhere.check(), Ok(()));
    }

    #[test]
    fn the_control_api_is_on_tcp_only_where_that_was_asked_for() {
        assert_eq!(HttpAddr::of(None).access, Access::Read);
        let usual = HttpAddr::of(None).address;
        assert_eq!(HttpAddr::of(Some(usual)), HttpAddr { address: usual, access: Access::Control });
    }
}
