//! What an operator can do about an error of the kernel.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The remedy for an error, printed behind it; empty when there is none to name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remedy(&'static str);

impl Remedy {
    pub(crate) fn of(cause: &io::Error) -> Self {
        Self(match cause.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => "; the daemon needs CAP_NET_ADMIN, so run it as root",
            Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => {
                "; the kernel lacks the module (bridge, vxlan, veth or nf_tables): load it"
            }
            Some(Errno::ADDRINUSE) => "; another program or VXLAN device uses the port: choose another --port",
            _ => "",
        })
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
