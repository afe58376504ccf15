//! The command line.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, Args as Arguments, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use weave_mesh::connector::Target;
use weave_mesh::name::PeerName;
use weave_router::config::dns::{
    DEFAULT_DOMAIN, DEFAULT_RESOLV_CONF, DEFAULT_TTL, TTL_MAX, parse_fallback_timeout, parse_listen_address,
};
use weave_router::config::{
    BridgeName, DEFAULT_DOCKER_PLUGIN, DEFAULT_DOCKER_PROXY, DEFAULT_STATE_DIR, Discover, DnsDomain, EtherType, Init,
    MeshName, MtuBytes,
};
use weave_router::naming::EXTERN;

use self::containers::ContainerArgs;
use crate::client::{Format, escaped};
use crate::sim::SimArgs;

mod containers;

/// An encrypted network for the containers of many Docker hosts.
#[derive(Debug, Parser)]
#[command(name = "weave-rs", version, max_term_width = 120)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) control: Control,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands that ask no daemon.
const ALONE: [&str; 3] = ["genkey", "sim", "version"];

impl Args {
    /// What this process was called with. Ends the process when that is wrong, or only asks for help.
    pub(crate) fn of_process() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn of(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        let args = Self::from_arg_matches(&matches)?;
        match args.command.fault() {
            None => Ok(args),
            Some(fault) => Err(command().error(ErrorKind::ArgumentConflict, fault)),
        }
    }
}

/// The command line; whoever asks no daemon is not told where one is.
fn command() -> clap::Command {
    let absent = |id: &'static str, long: &'static str| {
        let refuse = |_: &str| Err::<String, _>("no daemon is asked");
        clap::Arg::new(id).long(long).hide(true).value_parser(refuse)
    };
    ALONE.into_iter().fold(Args::command(), |command, name| {
        let without = |alone: clap::Command| alone.args([absent("socket", "socket"), absent("http_addr", "http-addr")]);
        command.mut_subcommand(name, without)
    })
}

/// Where the daemon is controlled from; `launch` listens there, other commands ask there.
#[derive(Debug, Arguments)]
pub(crate) struct Control {
    /// Control socket of the daemon [env: WEAVE_SOCKET] [default: /run/weave-rs/weave-rs.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Control address of the daemon, on loopback, where every process of this host may change everything
    /// [env: WEAVE_HTTP_ADDR] [default: none; status can be read at 127.0.0.1:6784]
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub(crate) http_addr: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    Launch(Box<LaunchArgs>),
    /// Put a container on the network, with an address of its own unless one is given; prints its addresses
    Attach(AttachArgs),
    /// Take addresses, or all of them, from a container; prints what was taken
    Detach(DetachArgs),
    /// Make this host a part of the overlay, and a way out of it; prints its addresses there
    Expose(ExposeArgs),
    /// Undo `expose`; prints what was exposed
    Hide {
        /// Only these: ADDRESS/LENGTH is that address, net:SUBNET all of that subnet, net:default all of the default one
        #[arg(value_name = "ADDRESS")]
        addresses: Vec<String>,
    },
    /// List attached containers, or these of them, with MAC and addresses
    Ps {
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Give a container, or any address, a name
    DnsAdd(NameArgs),
    /// Take names away: of a container, of an address, or one by itself
    DnsRemove(NameArgs),
    /// Print the addresses of a name of the domain
    DnsLookup { name: String },
    /// Print what `docker run` needs to resolve names here; nothing with --no-dns
    DnsArgs,
    /// Show what the daemon is doing
    Status {
        table: Option<Table>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Show all peers and their connections, as `status peers` does
    Peers {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Print everything the daemon knows, as JSON
    Report {
        /// Not rendered here: a Go template, as Weave Net's `report -f` takes one
        #[arg(short = 'f', long = "format", hide = true, value_name = "TEMPLATE")]
        template: Option<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Connect to further peers
    Connect {
        #[arg(required = true, value_name = "PEER")]
        peers: Vec<Target>,
        /// Forget the peers given before
        #[arg(long)]
        replace: bool,
    },
    /// Stop dialling peers; connections that exist stay
    Forget {
        #[arg(required = true, value_name = "PEER")]
        peers: Vec<Target>,
    },
    /// Explain how frames travel to a peer, why, and what would change it
    Why {
        /// Name, nickname, or the beginning of its key
        peer: String,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Wait until this host can give addresses
    Prime(WaitArgs),
    /// Take over the addresses of peers that are dead for good; never of one that may come back
    Rmpeer {
        /// Name or nickname
        #[arg(required = true, value_name = "PEER", value_parser = parse_peer_name)]
        peers: Vec<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make a 256-bit password
    Genkey,
    /// End the daemon, and return when it is gone; containers keep what the kernel carries
    Stop,
    /// Leave the mesh for good: remove kernel state and state directory, end the daemon, and undo `setup docker`
    Reset(ResetArgs),
    /// Print what has `docker` and others make containers on the network: eval "$(weave-rs env)"
    Env {
        /// What undoes it: eval "$(weave-rs env --restore)"
        #[arg(long)]
        restore: bool,
        /// Where `launch --docker-proxy` listens
        #[arg(long, value_name = "PATH", default_value = DEFAULT_DOCKER_PROXY)]
        docker_proxy: PathBuf,
    },
    /// Have other software work with this host's daemon
    #[command(subcommand)]
    Setup(Setup),
    /// Simulate a whole mesh under a virtual clock
    Sim(SimArgs),
    /// Print the version
    Version,
}

/// Name or nickname of a peer; nobody is called by blanks.
fn parse_peer_name(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("give the name or nickname of a peer") } else { Ok(text.to_owned()) }
}

impl Command {
    /// What is wrong with words that parse, each by itself.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Self::DnsAdd(args) if args.words.is_empty() => Some("say what to name: a container, or addresses with -h"),
            Self::DnsAdd(args) if args.lacks_name() => Some("say how the addresses are called, with -h"),
            Self::DnsRemove(args) if args.words.is_empty() && args.fqdn.is_none() => {
                Some("say which names to take away: a container, an address, or a name with -h")
            }
            Self::DnsAdd(args) | Self::DnsRemove(args) if args.containers() > 1 => {
                Some("one container at a time; the other words are to be addresses")
            }
            Self::Attach(args) if args.rewrite_hosts || !args.add_host.is_empty() => Some(
                "weave-rs leaves /etc/hosts of a container to Docker: give further entries to `docker run --add-host`, and \
                 find containers by name, with `docker run $(weave-rs dns-args)`",
            ),
            Self::Report { template: Some(_), .. } => Some(
                "templates are not rendered here: take fields from the JSON, as in `weave-rs report --json | jq .Router`",
            ),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Table {
    Peers,
    Connections,
    Paths,
    Targets,
    Endpoints,
    Ipam,
    Dns,
}

#[derive(Clone, Copy, Debug, Arguments)]
pub(crate) struct FormatArgs {
    /// Print JSON (docs/status.md describes it)
    #[arg(long)]
    json: bool,
}

impl FormatArgs {
    pub(crate) const fn wanted(self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// How long to wait for other peers.
#[derive(Clone, Copy, Debug, Arguments)]
pub(crate) struct WaitArgs {
    /// Give up after so many seconds, and say what was waited for [default: never]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
}

#[derive(Debug, Arguments)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    target: DetachArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Give it no name
    #[arg(long)]
    without_dns: bool,
    /// Leave its IPv4 multicast to its other networks
    #[arg(long)]
    no_multicast_route: bool,
    /// Not done here: the container's /etc/hosts, as Weave Net's `attach` writes it
    #[arg(long, hide = true)]
    rewrite_hosts: bool,
    /// Likewise
    #[arg(long, hide = true, value_name = "HOST:IP")]
    add_host: Vec<String>,
}

impl AttachArgs {
    pub(crate) fn form(self) -> Vec<(&'static str, String)> {
        let mut form = self.target.form();
        form.extend(self.wait.wait.map(|seconds| ("wait", seconds.to_string())));
        form.extend(self.without_dns.then(|| ("without-dns", "true".to_owned())));
        form.extend(self.no_multicast_route.then(|| ("no-multicast-route", "true".to_owned())));
        form
    }
}

#[derive(Debug, Arguments)]
pub(crate) struct DetachArgs {
    /// Addresses, then the container: a Docker name or id, pid:N, or netns:/run/netns/NAME. ADDRESS/LENGTH is that
    /// address, and when attaching net:SUBNET is one of that subnet, net:default (and nothing at all) one of the default
    #[arg(required = true, value_name = "[ADDRESS]… TARGET")]
    words: Vec<String>,
}

impl DetachArgs {
    /// The form fields: all words are addresses but the last.
    pub(crate) fn form(self) -> Vec<(&'static str, String)> {
        let last = self.words.len().saturating_sub(1);
        let name = |index| if index == last { "target" } else { "address" };
        self.words.into_iter().enumerate().map(|(index, word)| (name(index), word)).collect()
    }
}

#[derive(Debug, Arguments)]
#[command(disable_help_flag = true)]
pub(crate) struct ExposeArgs {
    /// ADDRESS/LENGTH is that address, net:SUBNET one of that subnet, net:default (and nothing at all) one of the default
    /// subnet
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Name under which the host is found by DNS
    #[arg(short = 'h', long, value_name = "FQDN")]
    hostname: Option<String>,
    /// Let packets between the overlay and the outside keep their source address
    #[arg(long)]
    without_masquerade: bool,
    /// Let containers reach the metadata services of the cloud that this host is in, and with them its credentials
    #[arg(long)]
    allow_metadata: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl ExposeArgs {
    pub(crate) fn form(self) -> Vec<(&'static str, String)> {
        let addresses = self.addresses.into_iter().map(|address| ("address", address));
        let name = self.hostname.map(|name| ("fqdn", name));
        let nat = self.without_masquerade.then(|| ("skipNAT", "true".to_owned()));
        let metadata = self.allow_metadata.then(|| ("allow-metadata", "true".to_owned()));
        let wait = self.wait.wait.map(|seconds| ("wait", seconds.to_string()));
        addresses.chain(name).chain(nat).chain(metadata).chain(wait).collect()
    }
}

#[derive(Debug, Arguments)]
#[command(disable_help_flag = true)]
pub(crate) struct NameArgs {
    /// Addresses (all of the container's without), then the container
    #[arg(value_name = "[IP]… [CONTAINER]")]
    words: Vec<String>,
    /// The name [default: the container's own]
    #[arg(short = 'h', long = "fqdn", value_name = "FQDN")]
    fqdn: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl NameArgs {
    /// Addresses of no container have no name of their own.
    fn lacks_name(&self) -> bool {
        self.fqdn.is_none() && self.containers() == 0
    }

    fn containers(&self) -> usize {
        self.words.iter().filter(|word| !is_address(word)).count()
    }

    /// The paths to ask, one for each address.
    pub(crate) fn paths(self) -> Vec<String> {
        let (addresses, others): (Vec<String>, Vec<String>) = self.words.into_iter().partition(|word| is_address(word));
        let container = others.into_iter().next();
        let query = self.fqdn.map(|fqdn| format!("?fqdn={}", escaped(&fqdn))).unwrap_or_default();
        if addresses.is_empty() {
            let container = container.map(|container| format!("/{}", escaped(&container))).unwrap_or_default();
            return vec![format!("/name{container}{query}")];
        }
        let container = container.unwrap_or_else(|| EXTERN.to_owned());
        let path = |address: &String| format!("/name/{}/{}{query}", escaped(&container), escaped(address));
        addresses.iter().map(path).collect()
    }
}

fn is_address(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

#[derive(Debug, Arguments)]
pub(crate) struct ResetArgs {
    /// Also when the daemon is not running
    #[arg(long)]
    pub(crate) force: bool,
    /// State directory to remove when the daemon is not running [default: /var/lib/weave-rs]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Bridge to remove when the daemon is not running
    #[arg(long, value_name = "NAME", default_value = "weave")]
    pub(crate) bridge: BridgeName,
    #[command(flatten)]
    pub(crate) docker: DockerFiles,
}

/// Where Docker's own files are.
#[derive(Debug, Arguments)]
pub(crate) struct DockerFiles {
    /// Docker's settings
    #[arg(long, value_name = "FILE", default_value = "/etc/docker/daemon.json")]
    pub(crate) daemon_json: PathBuf,
    /// Where Docker writes down its process
    #[arg(long, value_name = "FILE", default_value = "/var/run/docker.pid")]
    pub(crate) pid_file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// Have Docker run containers by weave-rs-runc: on the network before their first instruction
    Docker(SetupDockerArgs),
}

#[derive(Debug, Arguments)]
pub(crate) struct SetupDockerArgs {
    /// All containers, not only those that ask for it by `--runtime weave-rs`
    #[arg(long, conflicts_with = "undo")]
    pub(crate) all: bool,
    /// Undo it; containers that were made with it go on to start, without the network
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) files: DockerFiles,
    /// The program that Docker is to run in the place of runc [default: weave-rs-runc beside weave-rs]
    #[arg(long, value_name = "FILE")]
    pub(crate) runtime: Option<PathBuf>,
}

#[derive(Debug, Arguments)]
pub(crate) struct LaunchArgs {
    // Not a documentation comment: it would be taken for a link.
    #[arg(value_name = "PEER", help = "Peers to connect to, instead of those of an earlier start: HOST[:PORT]")]
    pub(crate) peers: Vec<Target>,
    /// Connect to the peers that the last daemon here connected to, after every `connect` and `forget`
    #[arg(long, conflicts_with = "peers")]
    pub(crate) resume: bool,
    /// Name of this peer, such as 02:00:5e:10:00:01; kept for later starts [default: from its key]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<PeerName>,
    /// What this peer is called in listings [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) nickname: Option<String>,
    /// Which mesh to join; peers of another one are refused
    #[arg(long, value_name = "NAME", default_value = "weave")]
    pub(crate) mesh: MeshName,
    /// Port of control (TCP) and sleeve (UDP); VXLAN uses the next one [env: WEAVE_PORT] [default: 6783]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Address to listen on and connect from [default: all]
    #[arg(long, value_name = "ADDR")]
    pub(crate) host: Option<IpAddr>,
    /// File with passwords, one per line; the first one seals [env: WEAVE_PASSWORD, the passwords themselves]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The password itself; every user of this host can read it in the list of processes
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub(crate) password: Option<String>,
    /// Parameter of AWS Systems Manager that holds the passwords, which this instance's role may read; it is asked for until it is there
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["password_file", "password"])]
    pub(crate) password_parameter: Option<String>,
    /// Networks in which frames may travel unencrypted, comma-separated
    #[arg(long, value_name = "SUBNETS", default_value = "", hide_default_value = true)]
    pub(crate) trusted_subnets: String,
    /// Where status and metrics can be read and nothing changed; empty: nowhere [env: WEAVE_STATUS_ADDR]
    /// [default: 127.0.0.1:6782]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) status_addr: Option<String>,
    /// Pass Docker's API on at this socket, so that containers that are made over it start on the network; see `env`
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_DOCKER_PROXY)]
    pub(crate) docker_proxy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) containers: ContainerArgs,
    /// Serve networks of Docker's from this socket: `docker network create -d weave-rs --ipam-driver weave-rs`
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_DOCKER_PLUGIN)]
    pub(crate) docker_plugin: Option<PathBuf>,
    /// Where identity and state are kept
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Bridge that containers are attached to
    #[arg(long, value_name = "NAME", default_value = "weave")]
    pub(crate) bridge: BridgeName,
    /// Largest packet on the overlay [env: WEAVE_MTU] [default: that of the underlay less 124]
    #[arg(long, value_name = "OCTETS")]
    pub(crate) mtu: Option<MtuBytes>,
    /// A further ethertype that containers may send, such as 0x88cc (repeatable)
    #[arg(long, value_name = "TYPE")]
    pub(crate) allow_ethertype: Vec<EtherType>,
    /// Carry all frames by sleeve, none by kernel VXLAN [env: WEAVE_NO_FASTDP, if it holds anything]
    #[arg(long)]
    pub(crate) no_fastdp: bool,
    /// Connect to the peers given only, not to theirs
    #[arg(long)]
    pub(crate) no_discovery: bool,
    /// Where peers are found: aws, file:PATH, dns:NAME, dns:NAME:PORT or none [env: WEAVE_DISCOVER] [default: aws on an instance of
    /// EC2 to which no peer is given, else none]
    #[arg(long, value_name = "WHERE")]
    pub(crate) discover: Option<Discover>,
    /// Most connections to peers; 0 is any number
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) conn_limit: usize,
    /// Network from which containers get addresses, the same on all hosts; empty: none are given
    #[arg(long, alias = "iprange", value_name = "SUBNET")]
    pub(crate) ipalloc_range: Option<String>,
    /// Part of it from which addresses come unless a subnet is asked for [default: all of it]
    #[arg(long, value_name = "SUBNET")]
    pub(crate) ipalloc_default_subnet: Option<String>,
    /// How the range is first shared out: consensus[=N], seed=NAME,… or observer
    /// [default: consensus, and where AWS lists the machines a majority of those]
    #[arg(long, value_name = "HOW")]
    pub(crate) ipalloc_init: Option<Init>,
    /// Seconds after which sleeve changes its keys, 5 to 120
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(5..=120))]
    pub(crate) rekey_interval: u64,
    /// Domain of the names that are served
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_DOMAIN)]
    pub(crate) dns_domain: DnsDomain,
    /// Serve names at this address too (repeatable) [default: Docker's bridge, port 53]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_listen_address)]
    pub(crate) dns_listen_address: Vec<SocketAddr>,
    /// How long an answer may be kept, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TTL,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(TTL_MAX)))]
    pub(crate) dns_ttl: u32,
    /// How long each upstream server has to answer, seconds, such as 5 or 5s
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = parse_fallback_timeout)]
    pub(crate) dns_fallback_timeout: Duration,
    /// Where upstream servers are read from
    #[arg(long, value_name = "FILE", default_value = DEFAULT_RESOLV_CONF)]
    pub(crate) resolv_conf: PathBuf,
    /// Answer containers that Docker calls unhealthy, too, where others of their name are well
    #[arg(long)]
    pub(crate) dns_all: bool,
    /// Serve no names
    #[arg(long)]
    pub(crate) no_dns: bool,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

/// `path`, with how long to wait.
pub(crate) fn waiting(path: &str, wait: WaitArgs) -> String {
    wait.wait.map_or_else(|| path.to_owned(), |seconds| format!("{path}?wait={seconds}"))
}

/// Form fields that name `peers`.
pub(crate) fn peer_form(peers: Vec<Target>) -> Vec<(&'static str, String)> {
    peers.into_iter().map(|peer| ("peer", peer.to_string())).collect()
}

/// Where a status table is.
pub(crate) fn status_path(table: Option<Table>) -> String {
    let name = match table {
        None => return "/status".to_owned(),
        Some(Table::Peers) => "peers",
        Some(Table::Connections) => "connections",
        Some(Table::Paths) => "paths",
        Some(Table::Targets) => "targets",
        Some(Table::Endpoints) => "endpoints",
        Some(Table::Ipam) => "ipam",
        Some(Table::Dns) => "dns",
    };
    format!("/status/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::of(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn who_asks_no_daemon_neither_shows_nor_takes_the_way_to_one() {
        for name in ALONE {
            let help = parsed(&format!("weave-rs {name} --help")).unwrap_err();
            assert_eq!(help.exit_code(), 0);
            assert!(!help.to_string().contains("--socket") && !help.to_string().contains("--http-addr"), "{help}");
            assert_eq!(parsed(&format!("weave-rs {name} --socket x")).unwrap_err().exit_code(), 2);
            assert!(parsed(&format!("weave-rs {name}")).is_ok());
        }
        assert!(parsed("weave-rs status --help").unwrap_err().to_string().contains("--socket"));
        assert_eq!(parsed("weave-rs status --socket x").unwrap().control.socket, Some("x".into()));
    }

    #[test]
    fn names_of_nothing_in_particular_are_a_usage_error() {
        for line in
            ["dns-remove", "dns-add", "dns-add -h a.weave.local", "dns-add 10.0.0.1", "dns-remove a b", "dns-add a b"]
        {
            let error = parsed(&format!("weave-rs {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        for line in ["dns-remove web", "dns-remove 10.0.0.1", "dns-remove -h a.weave.local", "dns-add 10.0.0.1 web"] {
            assert!(parsed(&format!("weave-rs {line}")).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_habit_that_is_of_no_use_here_is_told_what_is() {
        for (line, remedy) in [
            ("report -f {{.Router}}", "--json"),
            ("attach --rewrite-hosts web", "dns-args"),
            ("attach --add-host db:10.0.0.1 web", "docker run --add-host"),
            ("launch --resume 192.0.2.1", "--resume"),
        ] {
            let error = parsed(&format!("weave-rs {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn launch_takes_everything_that_was_promised() {
        let line = "weave-rs launch 192.0.2.1 host2:7000 --name 02:00:00:00:00:01 --nickname n --mesh m --port 7000 --host 192.0.2.2 \
                    --password-file f --trusted-subnets 10.0.0.0/8 --state-dir d --http-addr 127.0.0.1:1 --socket s --bridge b \
                    --mtu 1400 --allow-ethertype 0x88cc --no-fastdp --no-discovery --conn-limit 9 --log-level debug \
                    --ipalloc-range 10.2.0.0/16 --ipalloc-default-subnet 10.2.3.0/24 --ipalloc-init consensus=3 \
                    --status-addr 127.0.0.1:2 \
                    --dns-domain x.local --dns-listen-address 127.0.0.1 --dns-ttl 5 --dns-fallback-timeout 2s \
                    --resolv-conf r --no-dns --dns-all --docker-proxy=p --hostname-from-label l --hostname-match ^(.*)$ \
                    --hostname-replacement $1 --without-dns --no-default-ipalloc --no-rewrite-hosts --no-multicast-route";

        assert!(parsed(line).is_ok());
    }

    #[test]
    fn a_wrong_value_or_flag_is_a_usage_error() {
        for line in [
            "weave-rs launch --name x",
            "weave-rs launch --mtu 10",
            "weave-rs launch --frobnicate",
            "weave-rs launch 192.0.2.1:99999",
            "weave-rs status nonsense",
            "weave-rs connect",
            "weave-rs attach",
            "weave-rs attach --wait x web",
            "weave-rs rmpeer",
            "weave-rs launch --password x --password-file y",
            "weave-rs launch --ipalloc-init seed=host1",
            "weave-rs launch --dns-listen-address 0.0.0.0",
            "weave-rs launch --dns-domain a..b",
            "weave-rs launch --dns-fallback-timeout 0",
            "weave-rs launch --hostname-match (",
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for blank in ["", " "] {
            let error = Args::of(["weave-rs", "rmpeer", blank]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn the_last_word_of_attach_is_the_container() {
        let Command::Attach(args) = parsed("weave-rs attach 10.0.0.1/8 10.0.0.2/8 web").unwrap().command else {
            panic!("not attach");
        };

        let form = args.form();
        let names: Vec<_> = form.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["address", "address", "target"]);
    }

    #[test]
    fn a_name_is_given_to_each_address_and_without_any_to_all_of_the_container() {
        let paths = |line: &str| match parsed(line).unwrap().command {
            Command::DnsAdd(args) => args.paths(),
            _ => panic!("not dns-add"),
        };

        assert_eq!(paths("weave-rs dns-add web"), ["/name/web"]);
        assert_eq!(
            paths("weave-rs dns-add 10.0.0.1 fd00::1 web -h a.weave.local"),
            ["/name/web/10.0.0.1?fqdn=a.weave.local", "/name/web/fd00%3A%3A1?fqdn=a.weave.local"]
        );
        assert_eq!(
            paths("weave-rs dns-add 10.0.0.1 -h a.weave.local"),
            ["/name/weave%3Aextern/10.0.0.1?fqdn=a.weave.local"]
        );
    }
}
