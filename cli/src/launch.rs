//! `launch`: from the command line to the daemon's configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_mesh::card::NICKNAME_MAX_BYTES;
use weave_mesh::connector::Discovery;
use weave_router::app::{self, Ending};
use weave_router::config::password::Sources;
use weave_router::config::value::parse_trusted_subnets;
use weave_router::config::{
    Allocation, Config, DEFAULT_PORT, DEFAULT_SOCKET, DEFAULT_STATUS_ADDR, DnsConfig, FastPath, HttpAddr,
    PasswordError, Passwords, Targets,
};
use weave_router::{parameter, telemetry};
use zeroize::Zeroizing;

use crate::args::{Control, LaunchArgs};
use crate::environment;
use crate::given::GivenSockets;

/// Tells a service manager that restarts whatever ends to let it be (`RestartPreventExitStatus=` in the unit).
const DISMISSED: u8 = 10;

/// Runs the daemon until it is told to stop.
pub(crate) fn launch(args: LaunchArgs, control: &Control) -> Result<ExitCode> {
    telemetry::start(&args.log_level)?;
    let config = config(args, control, GivenSockets::take()?)?;
    Ok(match app::launch(&config)? {
        Ending::Signalled => ExitCode::SUCCESS,
        Ending::Dismissed => DISMISSED.into(),
    })
}

fn config(args: LaunchArgs, control: &Control, mut sockets: GivenSockets) -> Result<Config> {
    let remarks = remarks(&args);
    let http_addr = environment::value(control.http_addr, "WEAVE_HTTP_ADDR")?;
    let status_addr = match args.status_addr.or_else(|| std::env::var("WEAVE_STATUS_ADDR").ok()) {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(text.parse().with_context(|| format!("--status-addr `{text}` is not ADDR:PORT"))?),
        None => Some(DEFAULT_STATUS_ADDR.parse()?),
    };
    let socket = control.socket.clone().or_else(|| environment::variable("WEAVE_SOCKET").map(PathBuf::from));
    let no_fastdp = args.no_fastdp || environment::variable("WEAVE_NO_FASTDP").is_some();
    let passwords = match &args.password_parameter {
        Some(name) => passwords_of_aws(name)?,
        None => passwords(args.password_file.as_deref(), args.password)?,
    };
    let allocation =
        Allocation::new(args.ipalloc_range.as_deref(), args.ipalloc_default_subnet.as_deref(), args.ipalloc_init)?;
    Ok(Config {
        targets: if args.resume { Targets::Stored } else { Targets::Given(args.peers) },
        name: args.name,
        nickname: args.nickname.unwrap_or_else(host_name),
        mesh: args.mesh,
        port: environment::value(args.port, "WEAVE_PORT")?.unwrap_or(DEFAULT_PORT),
        host: args.host,
        passwords,
        remarks,
        trusted_subnets: parse_trusted_subnets(&args.trusted_subnets)?,
        state_dir: args.state_dir,
        http: HttpAddr::of(http_addr),
        status_addr,
        socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        docker_proxy: sockets.proxy(args.docker_proxy.map(Into::into))?,
        containers: args.containers.config()?,
        docker_plugin: sockets.plugin(args.docker_plugin.map(Into::into))?,
        bridge: args.bridge,
        mtu: environment::value(args.mtu, "WEAVE_MTU")?,
        allowed_ethertypes: args.allow_ethertype,
        fast_path: if no_fastdp { FastPath::Off } else { FastPath::On },
        discovery: if args.no_discovery { Discovery::Off } else { Discovery::On },
        discover: environment::value(args.discover, "WEAVE_DISCOVER")?,
        connection_limit: args.conn_limit,
        allocation,
        rekey_interval: Duration::from_secs(args.rekey_interval),
        dns: (!args.no_dns).then_some(DnsConfig {
            domain: args.dns_domain,
            listen: args.dns_listen_address,
            ttl: args.dns_ttl,
            resolv_conf: args.resolv_conf,
            fallback_timeout: args.dns_fallback_timeout,
            all: args.dns_all,
        }),
    })
}

/// What a human should know of how `launch` was called.
fn remarks(args: &LaunchArgs) -> Vec<String> {
    let seen = "--password is seen by every user of this host in the list of processes; --password-file is not";
    let password = args.password.is_some().then(|| seen.to_owned());
    password.into_iter().chain(environment::ignored()).collect()
}

/// From the one place where somebody put them.
fn passwords(file: Option<&Path>, option: Option<String>) -> Result<Passwords> {
    let variable = std::env::var("WEAVE_PASSWORD").ok().map(Zeroizing::new);
    Ok(Passwords::gather(Sources { file, option: option.map(Zeroizing::new), variable })?)
}

fn passwords_of_aws(name: &str) -> Result<Passwords> {
    if std::env::var_os("WEAVE_PASSWORD").is_some() {
        return Err(PasswordError::TwoSources("--password-parameter", "WEAVE_PASSWORD").into());
    }
    Ok(parameter::passwords(name)?)
}

/// What the kernel calls this host, as far as a nickname may be long.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    name[..name.floor_char_boundary(NICKNAME_MAX_BYTES)].to_owned()
}
