//! The kernel's count of changes to nftables: whether anybody changed anything, for the price of one question.
//!
//! | offset | request                                | answer                             |
//! |-------:|----------------------------------------|------------------------------------|
//! |      0 | netlink header, 16 octets              | netlink header                     |
//! |     16 | family, version, resource: 4 octets, 0 | the same                           |
//! |     20 |                                        | attribute 1: the count, big-endian |

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// `NFT_MSG_NEWGEN` and `NFT_MSG_GETGEN` of the subsystem nftables.
const NEW_GENERATION: u16 = 10 << 8 | 15;
const GET_GENERATION: u16 = 10 << 8 | 16;
const REQUEST: u16 = 1;
/// `NFTA_GEN_ID`: length 8, type 1.
const ATTRIBUTE: [u16; 2] = [8, 1];

/// How often the ruleset of this namespace was changed, modulo 2^32: by one with every transaction.
///
/// # Errors
/// When the kernel has no nftables.
pub fn generation() -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut &mut answer[..], 0)?;
    parse(&answer[..length.min(answer.len())]).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn request() -> [u8; 20] {
    let mut request = [0; 20];
    request[..4].copy_from_slice(&20_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&GET_GENERATION.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    request
}

fn parse(answer: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let is_answer = word(4)? == NEW_GENERATION && [word(20)?, word(22)?] == ATTRIBUTE;
    let count = u32::from_be_bytes(answer.get(24..28)?.try_into().ok()?);
    is_answer.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_short_is_none() {
        let mut answer = [0; 28];
        answer[4..6].copy_from_slice(&NEW_GENERATION.to_ne_bytes());
        answer[20..22].copy_from_slice(&8_u16.to_ne_bytes());
        answer[22..24].copy_from_slice(&1_u16.to_ne_bytes());
        answer[27] = 7;

        assert_eq!(parse(&answer), Some(7));
        assert!((0..28).all(|length| parse(&answer[..length]).is_none()));
    }
}
