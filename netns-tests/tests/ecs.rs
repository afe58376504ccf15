//! The guide, on hosts of a played AWS: each has Docker and the two services, as the agent of Amazon ECS starts them, and every
//! page shows a producer, now of this host and now of that.
//!
//! ```text
//!   browser ─► httpserver on h2, h3, h4 ─► dataproducer on h2, h3, h4
//! ```

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::cloud::Cloud;
use weave_netns_tests::docker::Docker;
use weave_netns_tests::probe::{eventually, throughout};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Host};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 30;
/// All producers are seen within so long: a page takes some milliseconds, and a name's answer is kept for a second.
const SEEN: Duration = Duration::from_secs(60);
const BURIED: Duration = Duration::from_secs(60);
/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(5);
const IMAGE: &str = "weave-rs-demo";

/// One instance with everything that runs on it.
struct Instance {
    // In the order in which they end.
    docker: Docker,
    weave: Weave,
}

impl Instance {
    /// Its daemon alone.
    fn boot(cloud: &Cloud, index: usize) -> Result<Self> {
        let docker = Docker::prepare(&cloud.hosts()[index])?;
        let weave = cloud.daemon(index, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
        Ok(Self { docker, weave })
    }

    /// What the agent does, which its unit starts when this host can give addresses.
    fn start_agent(&mut self) -> Result<()> {
        self.weave.run(&["prime"])?;
        self.docker.use_our_runtime(&self.weave.socket(), START_TIMEOUT)?;
        self.docker.start()?;
        self.docker.import_program(IMAGE, "weave-demo")?;
        self.run_task("dataproducer", &["dataproducer"])?;
        self.run_task("httpserver", &["httpserver", "dataproducer"])
    }

    /// A container of the demo's task, named and labelled as the agent does it.
    fn run_task(&self, container: &str, command: &[&str]) -> Result<()> {
        let label = format!("com.amazonaws.ecs.container-name={container}");
        let name = format!("ecs-demo-1-{container}-b8d7a1f0c2e4");
        let agent = ["run", "--detach", "--network", "none", "--label", &label, "--name", &name, IMAGE, "/weave-demo"];
        self.docker.run(&[&agent, command].concat())?;
        Ok(())
    }

    /// The address of a container of the task.
    fn address_of(&self, container: &str) -> Result<String> {
        let listed = self.weave.run(&["ps"])?;
        let id = self.docker.run(&["ps", "--quiet", "--filter", &format!("name={container}")])?;
        ensure!(!id.is_empty(), "{container} does not run: {}", self.docker.run(&["ps", "--all"])?);
        let line = listed.lines().find(|line| line.starts_with(id.trim())).context(listed.clone())?;
        let address = line.split_whitespace().find(|word| word.contains('/')).context(listed.clone())?;
        Ok(address.split('/').next().unwrap_or_default().to_owned())
    }
}

/// Somebody on the overlay who looks at pages.
struct Browser(Container);

impl Browser {
    fn open(host: &Host, weave: &Weave) -> Result<Self> {
        let container = host.container()?;
        weave.run(&["attach", &container.target()])?;
        Ok(Self(container))
    }

    fn page(&self, server: &str) -> Result<String> {
        let address: SocketAddr = (server.parse::<Ipv4Addr>()?, 80).into();
        self.0.namespace().enter(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        })
    }

    /// The producer that a page of this server shows.
    fn producer(&self, server: &str) -> Result<String> {
        let page = self.page(server)?;
        let (_, message) = page.split_once("producer in ").context(page.clone())?;
        let address = message.split(|letter: char| letter != '.' && !letter.is_ascii_digit()).next();
        Ok(address.unwrap_or_default().to_owned())
    }

    /// Every page of `server` shows one of `producers`, and in the end each of them was shown.
    fn sees_all(&self, server: &str, producers: &BTreeSet<String>) -> Result<()> {
        let mut seen = BTreeSet::new();
        eventually(SEEN, "all producers are shown", || {
            seen.insert(self.producer(server)?);
            Ok(seen.is_superset(producers))
        })?;
        ensure!(seen == *producers, "{seen:?} instead of {producers:?}");
        Ok(())
    }
}

#[test]
fn pages_of_every_host_show_the_producers_of_all_hosts_and_none_of_one_that_is_gone() -> Result<()> {
    let cloud = Cloud::new(3)?;
    let mut instances = (0..3).map(|index| Instance::boot(&cloud, index)).collect::<Result<Vec<_>>>()?;
    instances.iter_mut().try_for_each(Instance::start_agent)?;
    let addresses = |instances: &[Instance], name| -> Result<Vec<String>> {
        instances.iter().map(|instance| instance.address_of(name)).collect()
    };
    let mut producers = addresses(&instances, "dataproducer")?;
    let mut servers = addresses(&instances, "httpserver")?;
    let gone = instances.pop().context("three instances")?;
    let browser = Browser::open(&cloud.hosts()[0], &instances[0].weave)?;
    let all: BTreeSet<String> = producers.iter().cloned().collect();
    servers.iter().try_for_each(|server| browser.sees_all(server, &all))?;

    let Instance { mut docker, mut weave } = gone;
    weave.kill()?;
    docker.stop()?;
    cloud.terminate(2);
    producers.pop();
    servers.pop();
    let left: BTreeSet<String> = producers.into_iter().collect();
    eventually(SETTLED, "pages show those that are left", || {
        Ok(browser.producer(&servers[0]).is_ok_and(|producer| left.contains(&producer)))
    })?;
    servers.iter().try_for_each(|server| browser.sees_all(server, &left))?;
    eventually(BURIED, "the addresses of the one that is gone are others'", || {
        let status = instances[0].weave.json(&["status"])?;
        Ok(status["ipam"]["owners"].as_array().is_some_and(|owners| owners.len() == 2))
    })?;
    throughout(Duration::from_secs(1), "every page has a producer", || {
        Ok(servers.iter().all(|server| browser.producer(server).is_ok_and(|producer| left.contains(&producer))))
    })
}
