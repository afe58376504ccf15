//! What `launch` is told about containers that come onto the network by themselves, and how containers are called.

use anyhow::Result;
use clap::Args;
use weave_docker::wish::{NameRule, NameRuleError, Rules};
use weave_router::config::ContainerConfig;

#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// Call containers by the value of this label, if they have it [default: by their name]
    #[arg(long, value_name = "LABEL")]
    hostname_from_label: Option<String>,
    /// What of that is replaced to make the name of a container, as a regular expression
    #[arg(long, value_name = "REGEX", default_value = "(.*)", value_parser = parse_expression)]
    hostname_match: String,
    /// What it is replaced by; $1 is what the first group of it matched
    #[arg(long, value_name = "TEXT", default_value = "$1")]
    hostname_replacement: String,
    /// Give containers that are on the network by themselves neither names nor our DNS server
    #[arg(long)]
    without_dns: bool,
    /// Leave containers alone that do not ask for addresses by WEAVE_CIDR
    #[arg(long)]
    no_default_ipalloc: bool,
    /// Leave their /etc/hosts to Docker
    #[arg(long)]
    no_rewrite_hosts: bool,
    /// Leave their IPv4 multicast to their other networks
    #[arg(long)]
    no_multicast_route: bool,
}

/// What names are matched with is found wrong before anything else happens.
fn parse_expression(text: &str) -> Result<String, NameRuleError> {
    NameRule::new(None, text, "").map(|_| text.to_owned())
}

impl ContainerArgs {
    pub(crate) fn config(self) -> Result<ContainerConfig> {
        let names = NameRule::new(self.hostname_from_label, &self.hostname_match, &self.hostname_replacement)?;
        Ok(ContainerConfig {
            rules: Rules { names, no_default_ipalloc: self.no_default_ipalloc },
            without_dns: self.without_dns,
            no_rewrite_hosts: self.no_rewrite_hosts,
            no_multicast_route: self.no_multicast_route,
        })
    }
}
