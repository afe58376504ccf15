//! A proxy to try by hand: `proxy ENGINE_SOCKET LISTEN_SOCKET [RUNTIME]`; it counts up addresses and tells what it does.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UnixListener;
use weave_docker::create::{Change, Policy};
use weave_docker::proxy::{Advisor, Limits, Proxy, Reservation};
use weave_docker::wish::Cidr;

struct Counter {
    policy: Arc<Policy>,
    next: AtomicU32,
}

impl Advisor for Counter {
    type Token = Cidr;

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    async fn before_create(&self, change: &Change<'_>) -> Result<Reservation<Cidr>, String> {
        let address = Ipv4Addr::from_bits(0x0a20_0000 + self.next.fetch_add(1, Ordering::Relaxed));
        let address = Cidr { address: IpAddr::V4(address), prefix_length: 12 };
        eprintln!("{address} for {:?} on {:?}, {:?}", change.names, change.network, change.moment);
        Ok(Reservation { token: address, addresses: vec![address] })
    }

    async fn after_create(&self, token: Cidr, container: Option<&str>) {
        eprintln!("{token} is {container:?}");
    }

    async fn addresses(&self, _container: &str) -> Vec<Cidr> {
        vec![Cidr { address: IpAddr::V4(Ipv4Addr::new(10, 32, 0, 1)), prefix_length: 12 }]
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(engine), Some(listen)) = (words.next(), words.next()) else {
        return Err(std::io::Error::other("give the engine's socket and the one to listen at"));
    };
    let mut policy = Policy { rewrite_inspect: std::env::var_os("REWRITE_INSPECT").is_some(), ..Policy::default() };
    policy.runtime = words.next().or(policy.runtime);
    let advisor = Counter { policy: Arc::new(policy), next: AtomicU32::new(1) };
    let proxy = Arc::new(Proxy::new(PathBuf::from(engine), advisor, Limits::default()));
    proxy.serve(UnixListener::bind(listen)?).await;
    Ok(())
}
