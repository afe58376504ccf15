//! The daemon's HTTP listeners: who may change something, and what those who only hold connections open cost the others.
//!
//! ```text
//!   h1 ◄── 127.0.0.1:6782, 127.0.0.1:6784: read      unix socket: everything      h2
//!      ◄── a thousand connections on which nothing is asked
//! ```

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Resource, getrlimit, setrlimit};
use weave_netns_tests::topology::{Namespace, Topology};
use weave_netns_tests::weave::{Launch, Weave, exchange};

const USUAL: &str = "127.0.0.1:6784";
const STATUS: &str = "127.0.0.1:6782";

fn ask(host: &Namespace, address: &str, method: &str, path: &str) -> Result<(u16, String)> {
    let stream = host.enter(|| Ok(TcpStream::connect(address)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    exchange(stream, method, path)
}

#[test]
fn nothing_is_changed_over_tcp_unless_that_was_asked_for() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;

    assert_eq!(ask(host.namespace(), USUAL, "GET", "/status")?, (200, weave.run(&["status"])?));
    for (method, path) in [("POST", "/connect"), ("POST", "/attach"), ("PUT", "/name/x/192.0.2.1"), ("DELETE", "/peer")]
    {
        let (code, body) = ask(host.namespace(), USUAL, method, path)?;
        assert!(code == 405 && body.contains("--http-addr"), "{method} {path}: {code} {body}");
    }

    weave.stop()?;
    weave.set_launch(Launch::new().argument("--http-addr").argument(USUAL));
    weave.start()?;
    assert_eq!(ask(host.namespace(), USUAL, "DELETE", "/name")?.0, 204);
    let (code, body) = ask(host.namespace(), USUAL, "PUT", "/name")?;
    assert!(code == 405 && body.contains("which container?"), "{code} {body}");
    let (code, body) = ask(host.namespace(), USUAL, "GET", "/nothing")?;
    assert!(code == 404 && body.contains("there is no GET /nothing"), "{code} {body}");
    Ok(())
}

#[test]
fn connections_on_which_nothing_is_asked_keep_nobody_out() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let net = Topology::new()?;
    let (host, late) = (net.host()?, net.host()?);
    let weave = Weave::launch(&host, Launch::new().under(&["prlimit", "--nofile=1024:1024"]))?;
    let idle = host.namespace().enter(|| {
        let connect = |address: &str| TcpStream::connect(address);
        Ok((0..975).flat_map(|_| [connect(STATUS), connect(USUAL)]).collect::<std::io::Result<Vec<_>>>()?)
    })?;

    weave.container(&host, Ipv4Addr::new(10, 32, 0, 1))?;
    let newcomer = Weave::launch(&late, Launch::new().peer(&host))?;
    newcomer.wait_connection(&["established"], weave_netns_tests::scene::SETTLED)?;
    for address in [STATUS, USUAL] {
        assert_eq!(ask(host.namespace(), address, "GET", "/status")?.0, 200, "{address}");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", weave.pid().unwrap_or_default()))?.count();
    assert!(open < 400, "{open} descriptors of 1,024 are in use with {} idle connections", idle.len());
    Ok(())
}
