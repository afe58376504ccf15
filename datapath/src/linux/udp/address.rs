//! Socket addresses as the kernel reads and writes them.

use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Family;

/// Room for an address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Storage {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Storage {
    pub(super) fn zeroed() -> Self {
        // SAFETY: all members are plain integers, for which zero bytes are a value.
        unsafe { mem::zeroed() }
    }

    /// Stores `address` in the form that a socket of `family` takes, and returns its length; `None` when it takes none.
    pub(super) fn store(&mut self, address: SocketAddr, family: Family) -> Option<libc::socklen_t> {
        let v6 = match (address.ip(), family) {
            (IpAddr::V4(ip), Family::V4) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    sin_zero: [0; 8],
                };
                return Some(size_of::<libc::sockaddr_in>() as libc::socklen_t);
            }
            (IpAddr::V4(ip), Family::Dual) => ip.to_ipv6_mapped(),
            (IpAddr::V6(ip), Family::Dual | Family::V6) => ip,
            (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => return None,
        };
        let scope_id = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: v6.octets() },
            sin6_scope_id: scope_id,
        };
        Some(size_of::<libc::sockaddr_in6>() as libc::socklen_t)
    }

    /// The address that the kernel stored; unspecified before it stored one.
    pub(super) fn load(&self) -> SocketAddr {
        // SAFETY: every member begins with the family, and all bytes are initialised from `zeroed` on.
        match libc::c_int::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: as the family says.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                SocketAddr::new(ip.into(), u16::from_be(v4.sin_port))
            }
            libc::AF_INET6 => {
                // SAFETY: as the family says.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddr::new(v4.into(), port),
                    None => std::net::SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
                }
            }
            _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: &str, family: Family) -> Option<String> {
        let mut storage = Storage::zeroed();
        storage.store(address.parse().unwrap(), family)?;
        Some(storage.load().to_string())
    }

    #[test]
    fn an_address_comes_back_as_it_went_in() {
        for (address, family) in [
            ("192.0.2.1:6783", Family::V4),
            ("192.0.2.1:6783", Family::Dual),
            ("[2001:db8::1]:1", Family::Dual),
            ("[fe80::1%3]:6783", Family::V6),
        ] {
            assert_eq!(round_trip(address, family).as_deref(), Some(address));
        }
    }

    #[test]
    fn a_socket_of_one_family_takes_no_address_of_the_other() {
        assert_eq!(round_trip("192.0.2.1:6783", Family::V6), None);
        assert_eq!(round_trip("[2001:db8::1]:6783", Family::V4), None);
    }
}
