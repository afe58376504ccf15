//! The guide, on hosts of a played AWS: each has Docker and the two services, as the agent of Amazon ECS starts them, and every
//! page shows a producer, now of this host and now of that.
//!
//! ```text
//!   browser ─► httpserver on h2, h3, h4 ─► dataproducer on h2, h3, h4
//! ```

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::cloud::Cloud;
use weave_netns_tests::docker::Docker;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::{Container, Host};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 30;
/// All producers are seen within so long: a page takes some milliseconds, and a name's answer is kept for a second.
const SEEN: Duration = Duration::from_secs(60);
const BURIED: Duration = Duration::from_secs(60);
/// Three of three seconds in a row without a word, and what was left of the one before.
const UNNOTICED: Duration = Duration::from_secs(12);
/// How long a name's answer may be kept.
const TTL: Duration = Duration::from_secs(1);
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

/// Looks at pages of one server for as long as it lives.
struct Client<'scope> {
    is_over: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'scope, Duration>,
}

impl<'scope> Client<'scope> {
    fn start(scope: &'scope Scope<'scope, '_>, browser: &'scope Browser, server: &'scope str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = scope.spawn(move || {
            let (mut good, mut longest) = (Instant::now(), Duration::ZERO);
            while !flag.load(Ordering::Relaxed) {
                let is_good = browser.producer(server).is_ok_and(|producer| !producer.is_empty());
                longest = longest.max(good.elapsed());
                if is_good {
                    good = Instant::now();
                }
            }
            longest
        });
        Self { is_over, thread }
    }

    /// How long it was without a page that shows a producer, at most.
    fn end(self) -> Result<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the client panicked")
    }
}

/// The instances of a group, oldest first, each with its place in the cloud.
struct Fleet {
    instances: Vec<(usize, Instance)>,
    cloud: Cloud,
}

impl Fleet {
    /// All of them run their tasks.
    fn new(size: usize) -> Result<Self> {
        let cloud = Cloud::new(size)?;
        let boot = |index| Ok((index, Instance::boot(&cloud, index)?));
        let mut instances = (0..size).map(boot).collect::<Result<Vec<_>>>()?;
        instances.iter_mut().try_for_each(|(_, instance)| instance.start_agent())?;
        Ok(Self { instances, cloud })
    }

    fn addresses(&self, container: &str) -> Result<BTreeSet<String>> {
        self.instances.iter().map(|(_, instance)| instance.address_of(container)).collect()
    }

    /// One more instance, which runs its tasks.
    fn scale_out(&mut self) -> Result<()> {
        let index = self.cloud.hosts().len();
        self.cloud.launch()?;
        let mut instance = Instance::boot(&self.cloud, index)?;
        instance.start_agent()?;
        self.instances.push((index, instance));
        Ok(())
    }

    /// The oldest instance is gone, from one moment to the next, and the cloud says so.
    fn terminate_oldest(&mut self) -> Result<()> {
        let (index, Instance { mut docker, mut weave }) = self.instances.remove(0);
        self.cloud.cut_off(index)?;
        self.cloud.terminate(index);
        weave.kill()?;
        docker.stop()
    }

    /// All addresses are owned by those that are there.
    fn is_without_the_dead(&self) -> Result<bool> {
        let (_, youngest) = self.instances.last().context("somebody is there")?;
        let ipam = &youngest.weave.json(&["status"])?["ipam"];
        let owners = ipam["owners"].as_array().context("there are owners")?;
        let owned: u64 = owners.iter().filter_map(|owner| owner["addresses"].as_u64()).sum();
        let are_there = owners.iter().all(|owner| owner["reachable"] == true);
        Ok(owners.len() == self.instances.len() && are_there && Some(owned) == ipam["size"].as_u64())
    }
}

#[test]
fn pages_show_the_producers_of_all_hosts_while_each_of_them_is_replaced() -> Result<()> {
    let mut fleet = Fleet::new(3)?;
    let all = fleet.addresses("dataproducer")?;
    let servers = fleet.addresses("httpserver")?;
    {
        let (index, first) = &fleet.instances[0];
        let browser = Browser::open(&fleet.cloud.hosts()[*index], &first.weave)?;
        servers.iter().try_for_each(|server| browser.sees_all(server, &all))?;
    }

    fleet.scale_out()?;
    let (index, youngest) = fleet.instances.last().context("there are four")?;
    let browser = Browser::open(&fleet.cloud.hosts()[*index], &youngest.weave)?;
    let server = youngest.address_of("httpserver")?;
    browser.sees_all(&server, &fleet.addresses("dataproducer")?)?;

    let longest = thread::scope(|scope| {
        let client = Client::start(scope, &browser, &server);
        for _ in 0..3 {
            fleet.terminate_oldest()?;
            fleet.scale_out()?;
            let left = fleet.addresses("dataproducer")?;
            eventually(SEEN, "those that are left, and the new one, are shown, and nobody else", || {
                Ok(browser.sees_all(&server, &left).is_ok())
            })?;
            eventually(BURIED, "the addresses of the one that is gone are others'", || fleet.is_without_the_dead())?;
        }
        client.end()
    })?;
    println!("the longest time without a page: {longest:?}");
    ensure!(longest <= UNNOTICED + TTL, "for {longest:?} no page showed a producer");
    Ok(())
}
