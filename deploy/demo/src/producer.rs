//! A data producer: says where it is to whoever connects.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use anyhow::{Context, Result};

use crate::PATIENCE;

/// The longest message that is taken from one, octets.
const MESSAGE_MAX: u64 = 512;

/// The address is that by which it was reached, which is its own on the overlay.
pub(crate) fn greet(mut stream: &TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let message = format!("Hi, this is the data producer in {}\n", stream.local_addr()?.ip());
    stream.write_all(message.as_bytes()).context("cannot greet")
}

/// What the first of the producers says that answers.
pub(crate) fn ask(producers: &[IpAddr], port: u16) -> Result<String> {
    let mut last = anyhow::anyhow!("there is none");
    for producer in producers {
        match message_of(*producer, port) {
            Ok(message) => return Ok(message),
            Err(error) => last = error.context(format!("{producer} does not answer")),
        }
    }
    Err(last)
}

fn message_of(producer: IpAddr, port: u16) -> Result<String> {
    let stream = TcpStream::connect_timeout(&(producer, port).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut message = Vec::new();
    stream.take(MESSAGE_MAX).read_to_end(&mut message)?;
    Ok(String::from_utf8_lossy(&message).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    /// Greets once at 127.0.0.1, and is deaf at any other address.
    fn producer() -> u16 {
        let listener = TcpListener::bind((HERE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || greet(&listener.accept().unwrap().0).unwrap());
        port
    }

    #[test]
    fn a_producer_says_by_which_address_it_was_reached() {
        assert_eq!(ask(&[HERE], producer()).unwrap(), "Hi, this is the data producer in 127.0.0.1");
    }

    #[test]
    fn the_next_is_asked_when_one_does_not_answer() {
        assert_eq!(ask(&[ELSEWHERE, HERE], producer()).unwrap(), "Hi, this is the data producer in 127.0.0.1");
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let unused = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();

        assert!(ask(&[ELSEWHERE], unused).unwrap_err().to_string().contains("127.0.0.2 does not answer"));
        assert!(ask(&[], unused).is_err());
    }
}
