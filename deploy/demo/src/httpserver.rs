//! The web server: asks DNS for the producers at every page, and one of them for its message.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use crate::resolver::Resolver;
use crate::{PATIENCE, PRODUCER_PORT, page, producer};

/// The longest request that is read, octets.
const REQUEST_MAX: usize = 8 << 10;

/// One request, one page; `name` is how the producers are called.
pub(crate) fn answer(mut stream: &TcpStream, resolver: &Resolver, name: &str) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    read_request(stream).context("cannot read the request")?;
    let message = resolver.addresses(name).and_then(|producers| producer::ask(&producers, PRODUCER_PORT));
    let message = message.with_context(|| format!("no message from {name}")).map_err(|error| format!("{error:#}"));
    stream.write_all(page::response(&message).as_bytes()).context("cannot answer")
}

/// Reads up to the empty line: whatever is asked, the answer is the same.
fn read_request(mut stream: impl Read) -> Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        ensure!(request.len() < REQUEST_MAX, "it is too long");
        match stream.read(&mut part) {
            Ok(0) => anyhow::bail!("it has no end"),
            Ok(count) => request.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_an_empty_line_and_is_not_endless() {
        assert!(read_request(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]).is_ok());
        assert!(read_request(&b"GET / HTTP/1.1\r\n"[..]).is_err());
        assert!(read_request(std::io::repeat(b'x')).is_err());
    }
}
