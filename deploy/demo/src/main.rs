//! The two services of the guide (docs/guides/ecs.md), as one program without anything beside it.
//!
//! ```text
//!   browser ─► httpserver ─ who is `dataproducer`? ─► DNS
//!                   └─ the first that answers ─► dataproducer ─► "Hi, this is the data producer in 10.32.0.3"
//! ```
//!
//! Invariants: nothing is remembered from one page to the next, so each shows whom DNS named first this time; nothing that a
//! client or a producer does holds more than one thread, and that for seconds.
#![forbid(unsafe_code)]

mod httpserver;
mod page;
mod producer;
mod resolver;

use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::resolver::Resolver;

/// Where data producers listen, and where browsers ask.
const PRODUCER_PORT: u16 = 4540;
const HTTP_PORT: u16 = 80;
/// How long the other end of a connection may take for anything.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that are served at once; more wait.
const THREADS: usize = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weave-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match *words {
        ["dataproducer"] => serve(PRODUCER_PORT, |stream| producer::greet(&stream)),
        ["httpserver", name] => {
            let resolver = Resolver::of_system()?;
            serve(HTTP_PORT, move |stream| httpserver::answer(&stream, &resolver, name))
        }
        ["lookup", name] => lookup(name),
        _ => bail!("usage: weave-demo dataproducer | httpserver NAME | lookup NAME"),
    }
}

/// Prints the addresses of a name as they come.
fn lookup(name: &str) -> Result<()> {
    let addresses = Resolver::of_system()?.addresses(name)?;
    let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    std::io::Write::write_all(&mut std::io::stdout(), lines.as_bytes()).context("cannot print")
}

/// Answers each connection to a port, for ever. One that goes wrong is told of, and is nobody else's matter.
fn serve(port: u16, answer: impl Fn(std::net::TcpStream) -> Result<()> + Sync) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("cannot listen on port {port}"))?;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for stream in listener.incoming() {
                    if let Err(error) = stream.map_err(Into::into).and_then(&answer) {
                        eprintln!("weave-demo: {error:#}");
                    }
                }
            });
        }
    });
    Ok(())
}
