//! `weave-rs`: the one binary. `launch` is the daemon; every other command asks one, over HTTP on its control socket.
//!
//! Exit codes: 0 done · 1 failed, with one line on standard error that says what and what to do · 2 usage · 10 a daemon
//! that `stop` or `reset` has ended, which is not to be started again (`launch.rs`).
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::client::Client;

mod args;
mod client;
mod environment;
mod given;
mod launch;
mod reset;
mod setup;
mod sim;
mod stop;

fn main() -> ExitCode {
    let args = Args::of_process();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weave-rs: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, as far as that is not said already.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.contains(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { control, command } = args;
    let done = match command {
        Command::Launch(options) => return launch::launch(*options, &control),
        Command::Attach(args) => Client::of(&control)?.show_patiently("POST", "/attach", &args.form()),
        Command::Detach(args) => Client::of(&control)?.show("POST", "/detach", &args.form()),
        Command::Expose(args) => Client::of(&control)?.show_patiently("POST", "/expose", &args.form()),
        Command::Hide { addresses } => {
            let form: Vec<_> = addresses.into_iter().map(|address| ("address", address)).collect();
            Client::of(&control)?.show("DELETE", "/expose", &form)
        }
        Command::Ps { targets, format } => {
            let targets: Vec<_> = targets.iter().map(|target| format!("target={}", client::escaped(target))).collect();
            Client::of(&control)?.get(&format!("/ps?{}", targets.join("&")), format.wanted())
        }
        Command::DnsAdd(args) => args.paths().iter().try_for_each(|path| Client::of(&control)?.show("PUT", path, &[])),
        Command::DnsRemove(args) => {
            args.paths().iter().try_for_each(|path| Client::of(&control)?.show("DELETE", path, &[]))
        }
        Command::DnsLookup { name } => {
            Client::of(&control)?.get(&format!("/dns-lookup/{}", client::escaped(&name)), client::Format::Text)
        }
        Command::DnsArgs => print(&Client::of(&control)?.dns_args()?),
        Command::Status { table, format } => Client::of(&control)?.get(&args::status_path(table), format.wanted()),
        Command::Peers { format } => Client::of(&control)?.get("/status/peers", format.wanted()),
        Command::Report { format, .. } => Client::of(&control)?.get("/report", format.wanted()),
        Command::Connect { peers, replace } => {
            let mut form = args::peer_form(peers);
            form.extend(replace.then(|| ("replace", "true".to_owned())));
            Client::of(&control)?.show("POST", "/connect", &form)
        }
        Command::Forget { peers } => Client::of(&control)?.show("POST", "/forget", &args::peer_form(peers)),
        Command::Why { peer, format } => {
            Client::of(&control)?.get(&format!("/why/{}", client::escaped(&peer)), format.wanted())
        }
        Command::Prime(wait) => Client::of(&control)?.show_patiently("GET", &args::waiting("/ring", wait), &[]),
        Command::Rmpeer { peers, wait } => peers.iter().try_for_each(|peer| {
            let path = format!("/peer/{}", client::escaped(peer));
            Client::of(&control)?.show_patiently("DELETE", &args::waiting(&path, wait), &[])
        }),
        Command::Genkey => print(&format!("{}\n", *weave_router::config::password::generate())),
        Command::Stop => stop::stop(&control),
        Command::Reset(options) => reset::reset(&options, &control),
        Command::Env { restore, docker_proxy } => print(&environment::for_docker(&docker_proxy, restore)?),
        Command::Setup(args::Setup::Docker(options)) => setup::docker(&options, &control),
        Command::Sim(options) => sim::sim(options),
        Command::Version => print(&format!("weave-rs {}\n", env!("CARGO_PKG_VERSION"))),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Writes to standard output; a reader that has left, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_an_error_names_itself_is_not_said_again() {
        let error = "x".parse::<u8>().unwrap_err();
        let error = anyhow::Error::from(error.clone()).context(format!("the state cannot be used: {error}"));

        assert_eq!(told(&error), "the state cannot be used: invalid digit found in string");
        let error = anyhow::Error::from("x".parse::<u8>().unwrap_err()).context("--mtu x");
        assert_eq!(told(&error), "--mtu x: invalid digit found in string");
    }
}
