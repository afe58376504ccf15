//! Before a container is made: whether it is to be on the network, and what it needs for that.
//!
//! ```text
//!   daemon: leave it ──────────────────────────► as it is
//!   daemon: these addresses, filed under its id ► hook, resolv.conf, a note of what /etc/hosts is to say
//!   no answer in time, or no address ───────────► a program that says so
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bundle::Bundle;
use crate::command::Options;
use crate::{daemon, excuse, hosts};

/// Says which addresses a container wants, as for the original.
const VARIABLE: &str = "WEAVE_CIDR";
const EXCUSE: &str = "weave-rs-excuse";

/// What the daemon has for a container.
#[derive(Debug, Deserialize)]
struct Plan {
    /// Its address first in `/etc/hosts`, without a prefix length; none where that file is Docker's alone.
    address: Option<String>,
    /// What it is called, in full and in short.
    names: Vec<String>,
    resolver: Option<Resolver>,
}

/// Who answers its questions for names.
#[derive(Debug, Deserialize)]
struct Resolver {
    server: String,
    domain: String,
}

/// Changes the bundle as it has to be.
pub(crate) fn create(folder: &Path, id: &str, options: &Options) -> Result<()> {
    let mut bundle = Bundle::read(folder)?;
    if !bundle.has_own_network() {
        return Ok(());
    }
    let deadline = Instant::now() + options.timeout;
    match daemon::ask(&options.socket, &format!("/containers/{id}/prepare"), &wishes(&bundle), deadline) {
        Ok(None) => return Ok(()),
        Ok(Some(plan)) => {
            let plan: Plan = serde_json::from_str(&plan).context("what the daemon plans is not understood")?;
            connect(&mut bundle, &plan, options)?;
        }
        Err(why) => apologize(&mut bundle, &why)?,
    }
    bundle.write()
}

/// What the container says of itself.
pub(crate) fn wishes(bundle: &Bundle) -> Vec<(&str, &str)> {
    let mut form = vec![("hostname", bundle.hostname())];
    form.extend(bundle.variable(VARIABLE).map(|wanted| ("cidr", wanted)));
    form
}

fn connect(bundle: &mut Bundle, plan: &Plan, options: &Options) -> Result<()> {
    let program = std::env::current_exe().context("cannot find out where this program is")?;
    let [socket, timeout] = options.to_arguments();
    let arguments = ["weave-rs-runc".to_owned(), socket, timeout, "hook".to_owned()];
    // runc ends a hook after this time; the hook itself gives up before, and says why.
    bundle.add_hook(&program, &arguments, options.timeout.as_secs() + 5)?;
    if let (Some(resolver), Some(file)) = (&plan.resolver, bundle.source_of("/etc/resolv.conf")) {
        rewrite(&file, |text| resolv_conf(text, resolver))?;
    }
    let Some(address) = &plan.address else { return Ok(()) };
    hosts::note(bundle, address, &names(&plan.names, bundle.hostname()))
}

/// Each once.
fn names(given: &[String], hostname: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in given.iter().map(String::as_str).chain([hostname]).filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Ours answers, and asks the host's servers for what is not ours; domains and options that were there stay.
fn resolv_conf(text: &str, resolver: &Resolver) -> String {
    let lines_of = |keyword: &str| {
        let words = text.lines().filter_map(|line| line.strip_prefix(keyword)).flat_map(str::split_whitespace);
        words.filter(|word| *word != resolver.domain).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut domains = vec![resolver.domain.clone()];
    domains.extend(lines_of("search "));
    let mut lines = vec![format!("nameserver {}", resolver.server), format!("search {}", domains.join(" "))];
    let options = lines_of("options ");
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    lines.join("\n") + "\n"
}

/// Changes a file where it is: the container sees the file, not its name.
pub(crate) fn rewrite(file: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let changed = || fs::write(file, change(&fs::read_to_string(file)?));
    changed().with_context(|| format!("cannot change {}", file.display()))
}

/// Docker restarts, if it was asked to, what exits; not what could not be started.
fn apologize(bundle: &mut Bundle, why: &str) -> Result<()> {
    let text = format!("weave-rs: this container has no network: {why}; see `weave-rs status` on its host\n");
    bundle.put(EXCUSE, &excuse::program(&text))?;
    let program = bundle.path(EXCUSE);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let program = program.canonicalize()?;
    bundle.replace_program(&program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_server_is_the_only_one_and_domains_and_options_stay() {
        let resolver = Resolver { server: "169.254.65.53".to_owned(), domain: "weave.local".to_owned() };
        let text = "# by Docker\nnameserver 1.1.1.1\nsearch a.example weave.local\noptions ndots:2 edns0\n";

        let expected = "nameserver 169.254.65.53\nsearch weave.local a.example\noptions ndots:2 edns0\n";
        assert_eq!(resolv_conf(text, &resolver), expected);
        assert_eq!(resolv_conf(expected, &resolver), expected);
        assert_eq!(resolv_conf("", &resolver), "nameserver 169.254.65.53\nsearch weave.local\n");
    }

    #[test]
    fn a_name_is_listed_once() {
        let given = ["web.weave.local", "web"].map(str::to_owned);
        assert_eq!(names(&given, "web"), given);
        assert_eq!(names(&given, "0123").last().map(String::as_str), Some("0123"));
        assert_eq!(names(&[], ""), Vec::<String>::new());
    }
}
