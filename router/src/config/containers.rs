//! What holds for containers that come onto the network by themselves: by our runtime, or made over the proxy.

use weave_docker::wish::Rules;

/// What `launch` was told about them.
#[derive(Clone, Debug, Default)]
pub struct ContainerConfig {
    /// Which are attached, and how they are called; the latter holds for those that are attached by hand, too.
    pub rules: Rules,
    /// They get neither our DNS server nor names.
    pub without_dns: bool,
    /// Their `/etc/hosts` is Docker's alone.
    pub no_rewrite_hosts: bool,
    /// Their IPv4 multicast leaves by their other networks.
    pub no_multicast_route: bool,
}
