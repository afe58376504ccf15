//! The calls of the agent of Amazon ECS and of what starts it, through our proxy of Docker's API, with a real engine.
//!
//! ```text
//!   a stand-in for the agent ─► proxy ─► engine         the same calls ─► engine         answers are the same
//! ```

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weave_netns_tests::docker::Docker;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 30;
/// How long the agent waits for a start at least.
const PATIENCE: Duration = Duration::from_secs(45);
/// Versions of Docker's API that the agent asks for at its start, the lowest first, and what starts it in its own order.
const AGENT: std::ops::RangeInclusive<u8> = 17..=44;
const STARTER: [std::ops::RangeInclusive<u8>; 2] = [25..=44, 21..=24];
const CLUSTER: &str = "weave-ecs-demo-cluster";

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: u16,
    /// But for the time.
    head: Vec<String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{self:?}");
        Ok(self)
    }
}

/// Somebody's socket, as the agent's client library uses it.
struct Client(PathBuf);

impl Client {
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let mut stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head =
            "Host: docker\r\nUser-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\nConnection: close";
        write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context(answer.clone())?;
        let status = head.split(' ').nth(1).context(head.to_owned())?.parse()?;
        let head = head.lines().filter(|line| !line.starts_with("Date:")).map(str::to_owned).collect();
        // A stream of one part, when its length was not known before.
        let body = body.find('{').zip(body.rfind('}')).map_or(body, |(first, last)| &body[first..=last]);
        Ok(Reply { status, head, body: body.to_owned() })
    }

    fn get(&self, path: &str) -> Result<Reply> {
        self.call("GET", path, None)
    }
}

/// A host with an engine, and both ways to it.
struct Stage {
    // In the order in which they end.
    docker: Docker,
    weave: Weave,
    proxy: Client,
    engine: Client,
    _host: Host,
    _net: Topology,
}

impl Stage {
    fn new() -> Result<Self> {
        let net = Topology::new()?;
        let host = net.host()?;
        let mut docker = Docker::prepare(&host)?;
        let socket = host.directory().join("docker.sock");
        let launch = Launch::new().environment("DOCKER_HOST", &docker.socket());
        let weave = Weave::launch(&host, launch.argument(&format!("--docker-proxy={}", socket.display())))?;
        docker.use_our_runtime(&weave.socket(), START_TIMEOUT)?;
        docker.start()?;
        let engine = docker.socket();
        let engine = Path::new(engine.trim_start_matches("unix://")).to_owned();
        Ok(Self { docker, weave, proxy: Client(socket), engine: Client(engine), _host: host, _net: net })
    }

    /// The lowest version of the API that the engine takes, as the agent finds it.
    fn lowest(&self) -> Result<String> {
        for minor in AGENT {
            if self.proxy.get(&format!("/v1.{minor}/version"))?.status == 200 {
                return Ok(format!("/v1.{minor}"));
            }
        }
        anyhow::bail!("the engine takes no version that the agent knows")
    }

    /// Creates and starts a container, named as the agent does it; its id.
    fn run(&self, version: &str, name: &str, wanted: &Value) -> Result<String> {
        let create = format!("{version}/containers/create?name=ecs-weave-ecs-demo-1-{name}-b8d7a1f0c2e4");
        let created = self.proxy.call("POST", &create, Some(wanted))?.expect(201)?.json()?;
        let id = created["Id"].as_str().context("an id")?.to_owned();
        self.proxy.call("POST", &format!("{version}/containers/{id}/start"), Some(&json!({})))?.expect(204)?;
        Ok(id)
    }

    fn is_running(&self, id: &str) -> Result<bool> {
        let shown = self.proxy.get(&format!("{}/containers/{id}/json", self.lowest()?))?.expect(200)?.json()?;
        Ok(shown["State"]["Running"] == true)
    }
}

/// A container of a task, as the agent asks for it.
fn task(container: &str, command: &[&str]) -> Value {
    json!({
        "Image": "busybox",
        "Cmd": command,
        "Env": ["AWS_EXECUTION_ENV=AWS_ECS_EC2"],
        "Labels": {
            "com.amazonaws.ecs.task-arn": "arn:aws:ecs:eu-west-1:123456789012:task/demo/0123456789abcdef",
            "com.amazonaws.ecs.container-name": container,
            "com.amazonaws.ecs.task-definition-family": "weave-ecs-demo",
            "com.amazonaws.ecs.task-definition-version": "1",
            "com.amazonaws.ecs.cluster": CLUSTER,
        },
        "HostConfig": { "NetworkMode": "none", "Memory": 33_554_432, "CpuShares": 10, "Init": false },
        "NetworkingConfig": null,
    })
}

#[test]
fn refusals_of_versions_pass_unchanged() -> Result<()> {
    let stage = Stage::new()?;
    let probes = AGENT.map(|minor| format!("/v1.{minor}/version"));
    let pings = STARTER.into_iter().flatten().map(|minor| format!("/v1.{minor}/_ping"));
    let mut statuses = Vec::new();
    for path in probes.chain(pings) {
        let (by_proxy, by_engine) = (stage.proxy.get(&path)?, stage.engine.get(&path)?);
        ensure!(by_proxy == by_engine, "{path}: {by_proxy:?} instead of {by_engine:?}");
        statuses.push(by_proxy.status);
    }
    // What Docker 20.10 takes, and every engine since: some of them, and not all.
    ensure!(statuses.contains(&200) && statuses.contains(&400), "{statuses:?}");
    Ok(())
}

#[test]
fn a_task_runs_named_and_addressed_by_the_lowest_version_that_the_engine_takes() -> Result<()> {
    let stage = Stage::new()?;
    let version = stage.lowest()?;
    let command = ["/bin/busybox", "sh", "-c", "hostname -f; ip -o -4 address show ethwe; sleep 600"];
    let id = stage.run(&version, "dataproducer", &task("dataproducer", &command))?;

    let shown = stage.proxy.get(&format!("{version}/containers/{id}/json"))?.expect(200)?;
    assert_eq!(
        shown,
        stage.engine.get(&format!("{version}/containers/{id}/json"))?,
        "what is inspected is the engine's"
    );
    assert_eq!(shown.json()?["Config"]["Labels"]["com.amazonaws.ecs.cluster"], CLUSTER);
    eventually(SETTLED, "it has a name and an address before its first instruction", || {
        let said = stage.docker.run(&["logs", &id])?;
        Ok(said.contains("dataproducer.weave.local\n") && said.contains("inet 10."))
    })?;
    assert_eq!(stage.weave.run(&["dns-lookup", "dataproducer"])?.lines().count(), 1);

    for call in ["top", "stats?stream=false", "json"] {
        stage.proxy.get(&format!("{version}/containers/{id}/{call}"))?.expect(200)?;
    }
    stage.proxy.call("POST", &format!("{version}/containers/{id}/stop?t=0"), None)?.expect(204)?;
    ensure!(!stage.is_running(&id)?, "it goes on");
    stage.proxy.call("DELETE", &format!("{version}/containers/{id}?v=1"), None)?.expect(204)?;
    eventually(SETTLED, "its name is gone with it", || {
        Ok(stage.weave.ask(&["dns-lookup", "dataproducer"])?.stdout.is_empty())
    })?;
    Ok(())
}

#[test]
fn containers_of_the_agents_own_are_left_alone() -> Result<()> {
    let stage = Stage::new()?;
    let version = stage.lowest()?;
    let pause = task("~internal~ecs~pause", &["/bin/busybox", "sh", "-c", "ip link; sleep 600"]);
    let id = &stage.run(&version, "internalecspause", &pause)?;

    eventually(SETTLED, "it runs", || stage.is_running(id))?;
    eventually(SETTLED, "it has looked", || Ok(stage.docker.run(&["logs", id])?.contains("lo:")))?;
    ensure!(!stage.docker.run(&["logs", id])?.contains("ethwe"), "it is on our network");
    Ok(())
}
