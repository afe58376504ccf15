//! Names of containers, asked for by `dig` from inside them.
//!
//! ```text
//!   h1 ──────── switch ──────── h2            169.254.65.53 of each host answers its own containers
//!   └ 10.32.0.1                 └ 10.32.0.2
//! ```

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Namespace, Topology};
use weave_netns_tests::weave::Launch;

const RESOLVER: &str = "169.254.65.53";
/// How long the names of a lost host are answered, and what a busy machine may add until it is noticed.
const HOLD: Duration = Duration::from_secs(5);
const BUSY_MACHINE: Duration = Duration::from_secs(3);

/// What `dig` prints, with `words` after the server.
fn dig(from: &Namespace, words: &str) -> Result<String> {
    from.run(&format!("dig +tries=1 +time=2 @{RESOLVER} {words}"))
}

/// The addresses of a name, sorted; none when it does not exist.
fn addresses(from: &Namespace, name: &str) -> Result<Vec<String>> {
    let mut lines: Vec<String> = dig(from, &format!("+short {name}"))?.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

fn wait_addresses(from: &Namespace, name: &str, expected: &[&str]) -> Result<Duration> {
    eventually(SETTLED, &format!("{name} is {expected:?}"), || Ok(addresses(from, name)? == expected))
}

/// Two hosts; the container of the first is `Web.weave.local`, and the second knows.
fn scene(launch: &Launch) -> Result<Scene> {
    let scene = Scene::new(2, launch)?;
    scene.wait_known()?;
    scene.weaves[0].run(&["dns-add", &scene.containers[0].target(), "-h", "Web.weave.local"])?;
    wait_addresses(scene.containers[1].namespace(), "web.weave.local", &["10.32.0.1"])?;
    Ok(scene)
}

#[test]
fn a_container_finds_the_containers_of_all_hosts_by_name() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let here = scene.containers[1].namespace();

    let whole = dig(here, "wEb.Weave.local")?;
    for expected in ["status: NOERROR", "flags: qr aa rd ra", "wEb.Weave.local.\t1\tIN\tA\t10.32.0.1", "udp: 1232"] {
        assert!(whole.contains(expected), "{expected:?} is missing from {whole}");
    }
    assert_eq!(addresses(here, "WEB")?, ["10.32.0.1"]);
    let reverse = dig(here, "+short -x 10.32.0.1")?;
    assert!(reverse.lines().any(|name| name == "Web.weave.local."), "{reverse}");
    let v6 = dig(here, "web.weave.local AAAA")?;
    assert!(v6.contains("status: NOERROR") && v6.contains("ANSWER: 0") && v6.contains("SOA"), "{v6}");
    let unknown = dig(here, "nobody.weave.local")?;
    assert!(unknown.contains("status: NXDOMAIN") && unknown.contains("weave.local.\t\t1\tIN\tSOA"), "{unknown}");
    assert_eq!(dig(here, "+short +tcp web.weave.local")?.trim(), "10.32.0.1");

    // Each host answers its own containers: the resolver's MAC is that of the bridge at hand.
    let neighbour = here.run(&format!("ip neigh show {RESOLVER}"))?;
    assert!(neighbour.contains(scene.weaves[1].name()), "{neighbour}");
    Ok(())
}

#[test]
fn an_attached_container_has_a_name_of_its_own_until_it_is_gone() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let gone = scene.containers.remove(0);
    let here = scene.containers[0].namespace();
    let name = gone.target().rsplit('/').next().context("a path")?.to_owned();
    wait_addresses(here, &name, &["10.32.0.1"])?;
    let shown = scene.weaves[1].run(&["status", "dns"])?;
    assert!(shown.contains(&name) && shown.contains("10.32.0.1") && shown.contains("02:00:00:00:00:01"), "{shown}");
    assert_eq!(scene.weaves[1].run(&["dns-lookup", &name])?, "10.32.0.1\n");
    scene.weaves[0].run(&["dns-add", &gone.target(), "-h", "second.weave.local"])?;
    wait_addresses(here, "second.weave.local", &["10.32.0.1"])?;

    drop(gone);

    wait_addresses(here, &name, &[])?;
    wait_addresses(here, "second.weave.local", &[])?;
    Ok(())
}

#[test]
fn names_are_added_and_removed_by_hand_and_outlast_a_restart() -> Result<()> {
    let mut scene = scene(&Launch::new())?;
    let target = scene.containers[0].target();
    let here =
        |scene: &Scene, name: &str, expected: &[&str]| wait_addresses(scene.containers[1].namespace(), name, expected);
    scene.weaves[0].run(&["dns-add", "192.0.2.1", "192.0.2.2", "-h", "db.weave.local"])?;
    here(&scene, "db.weave.local", &["192.0.2.1", "192.0.2.2"])?;
    let said = scene.weaves[0].run(&["dns-add", "192.0.2.1", "-h", "db.example.com"])?;
    assert!(said.contains("db.example.com does not lie in weave.local."), "{said}");

    scene.weaves[0].kill()?;
    scene.weaves[0].start()?;
    here(&scene, "db.weave.local", &["192.0.2.1", "192.0.2.2"])?;
    scene.weaves[0].run(&["dns-remove", "192.0.2.1", "-h", "db.weave.local"])?;
    here(&scene, "db.weave.local", &["192.0.2.2"])?;
    scene.weaves[0].run(&["dns-remove", &target])?;
    here(&scene, "web.weave.local", &[])?;

    let arguments = scene.weaves[0].run(&["dns-args"])?;
    assert_eq!(arguments, format!("--dns={RESOLVER} --dns-search=weave.local."));
    Ok(())
}

#[test]
fn a_large_answer_is_cut_over_udp_and_whole_over_tcp() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let all: Vec<String> = (1..=60).map(|last| format!("192.0.2.{last}")).collect();
    let words: Vec<&str> =
        ["dns-add"].into_iter().chain(all.iter().map(String::as_str)).chain(["-h", "many.weave.local"]).collect();
    scene.weaves[0].run(&words)?;
    let here = scene.containers[1].namespace();
    eventually(SETTLED, "all are known", || Ok(addresses(here, "many.weave.local")?.len() == 60))?;

    let plain = dig(here, "+noedns +ignore many.weave.local")?;
    assert!(plain.contains("flags: qr aa tc rd ra") && plain.contains("ANSWER: 29,"), "{plain}");
    let small = dig(here, "+bufsize=700 +ignore many.weave.local")?;
    assert!(small.contains(" tc ") && small.contains("ANSWER: 40,"), "{small}");
    let edns = dig(here, "+bufsize=1232 +ignore many.weave.local")?;
    assert!(!edns.contains(" tc ") && edns.contains("ANSWER: 60,"), "{edns}");
    // dig asks again over TCP by itself.
    let whole = dig(here, "+noedns many.weave.local")?;
    assert!(whole.contains("ANSWER: 60,") && whole.contains("(TCP)"), "{whole}");
    Ok(())
}

#[test]
fn the_names_of_a_lost_host_are_gone_after_five_seconds_and_not_before() -> Result<()> {
    let mut scene = scene(&Launch::new())?;

    scene.weaves[0].kill()?;
    let lost = Instant::now();
    let answered = wait_addresses(scene.containers[1].namespace(), "web.weave.local", &[])?;

    ensure!(answered >= HOLD - Duration::from_millis(500), "gone after {answered:?}");
    ensure!(lost.elapsed() <= HOLD + BUSY_MACHINE, "answered for {:?}", lost.elapsed());
    // Nor does a daemon answer for it that starts afterwards.
    scene.weaves[1].wait_log("peer is unreachable", SETTLED)?;
    eventually(SETTLED, "it is written down", || Ok(lost.elapsed() > HOLD + BUSY_MACHINE))?;
    scene.weaves[1].kill()?;
    scene.weaves[1].start()?;
    assert_eq!(addresses(scene.containers[1].namespace(), "web.weave.local")?, [""; 0]);
    Ok(())
}

#[test]
fn a_restart_of_either_daemon_changes_no_answer() -> Result<()> {
    let mut scene = scene(&Launch::new())?;
    let web = |scene: &Scene| addresses(scene.containers[1].namespace(), "web.weave.local");

    // It comes back in time: every answer meanwhile is as before.
    scene.weaves[0].kill()?;
    scene.weaves[0].spawn()?;
    let begin = Instant::now();
    while begin.elapsed() < HOLD + Duration::from_secs(2) {
        assert_eq!(web(&scene)?, ["10.32.0.1"], "after {:?}", begin.elapsed());
    }
    scene.weaves[0].wait_ready()?;

    scene.weaves[1].kill()?;
    scene.weaves[1].start()?;
    let begin = Instant::now();
    while begin.elapsed() < HOLD + Duration::from_secs(2) {
        assert_eq!(web(&scene)?, ["10.32.0.1"], "{:?} after our own restart", begin.elapsed());
    }
    Ok(())
}

#[test]
fn a_name_is_answered_on_the_other_host_as_soon_as_it_is_given() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let mut longest = Duration::ZERO;
    for number in 0..5 {
        let name = format!("n{number}.weave.local");
        scene.weaves[0].run(&["dns-add", "192.0.2.1", "-h", &name])?;
        let given = Instant::now();
        eventually(SETTLED, &name, || Ok(addresses(scene.containers[1].namespace(), &name)? == ["192.0.2.1"]))?;
        longest = longest.max(given.elapsed());
    }

    println!("answered on the other host at most {longest:?} after it was given, a process for each question included");
    ensure!(longest < Duration::from_secs(2), "{longest:?}");
    Ok(())
}

/// What is done is in the answer to the next question: on ten of ten attempts, at this host.
#[test]
fn whoever_asks_the_same_host_next_sees_what_was_done() -> Result<()> {
    let scene = Scene::new(1, &Launch::new())?;
    let (weave, host) = (&scene.weaves[0], scene.hosts[0].namespace());
    let here = scene.containers[0].namespace();
    let asker = Asker::new(here)?;
    for round in 0..10 {
        let name = format!("a{round}.weave.local");
        weave.run(&["dns-add", "10.32.0.9", "-h", &name])?;
        assert_eq!(weave.run(&["dns-lookup", &name])?, "10.32.0.9\n", "round {round}");
        assert_eq!(asker.address(&name)?, Some([10, 32, 0, 9].into()), "round {round}");
        weave.run(&["dns-remove", "10.32.0.9", "-h", &name])?;
        assert_eq!(weave.run(&["dns-lookup", &name])?, "", "round {round}");
        assert_eq!(asker.address(&name)?, None, "round {round}");

        let gate = format!("gate{round}.weave.local");
        weave.run(&["expose", "10.32.0.8/12", "-h", &gate])?;
        assert_eq!(asker.address(&gate)?, Some([10, 32, 0, 8].into()), "round {round}");
        weave.run(&["hide"])?;
        assert_eq!(asker.address(&gate)?, None, "round {round}");
    }
    for round in 0..3 {
        let container = weave.container(&scene.hosts[0], [10, 32, 0, 7].into())?;
        let name = container.target().rsplit('/').next().context("a path")?.to_owned() + ".weave.local";
        assert_eq!(asker.address(&name)?, Some([10, 32, 0, 7].into()), "round {round}");
        assert_eq!(
            Asker::new(container.namespace())?.address(&name)?,
            Some([10, 32, 0, 7].into()),
            "it may ask itself"
        );
        weave.run(&["detach", &container.target()])?;
        assert_eq!(asker.address(&name)?, None, "round {round}");
    }
    assert_eq!(host.run("ip -o -4 addr show dev weave")?.matches("10.32.0.8").count(), 0);
    Ok(())
}

/// Fifty registrations in a row, each waited for on the other host before the next one is made.
#[test]
fn fifty_names_in_a_row_cross_at_once() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let asker = Asker::new(scene.containers[1].namespace())?;
    let mut took = Vec::new();
    for number in 0..50 {
        let name = format!("n{number}.weave.local");
        let (code, body) = scene.weaves[0].http("PUT", &format!("/name/weave:extern/192.0.2.1?fqdn={name}"))?;
        ensure!(code == 204, "{code} {body}");
        let given = Instant::now();
        while asker.address(&name)?.is_none() {
            ensure!(given.elapsed() < SETTLED, "{name} does not cross");
        }
        took.push(given.elapsed());
    }
    took.sort();

    println!("crossed after {:?} in the median, {:?} at most", took[25], took[49]);
    // A paced one takes 50 ms less what the registration itself takes.
    ensure!(took[25] < Duration::from_millis(35), "{took:?}");
    Ok(())
}

/// Asks from inside a container, without a process for each question.
struct Asker(UdpSocket);

impl Asker {
    fn new(from: &Namespace) -> Result<Self> {
        let socket = from.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        socket.connect((RESOLVER, 53))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(socket))
    }

    fn send(&self, id: u16, name: &str) -> Result<()> {
        let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query[..2].copy_from_slice(&id.to_be_bytes());
        for label in name.split('.') {
            query.push(u8::try_from(label.len())?);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        self.0.send(&query)?;
        Ok(())
    }

    /// The code of the next reply, and the address at its end if it has answers.
    fn receive(&self) -> Result<(u8, Option<Ipv4Addr>)> {
        let mut reply = [0; 512];
        let length = self.0.recv(&mut reply)?;
        let end: [u8; 4] = reply[..length].last_chunk().copied().context("too short")?;
        let has_answer = reply[6..8] != [0, 0];
        Ok((reply[3] & 0x0f, has_answer.then(|| end.into())))
    }

    fn ask(&self, name: &str) -> Result<(u8, Option<Ipv4Addr>)> {
        self.send(7, name)?;
        self.receive()
    }

    fn address(&self, name: &str) -> Result<Option<Ipv4Addr>> {
        Ok(self.ask(name)?.1)
    }
}

/// A server for everything, at a loopback address of a host: it answers with `address`, or never.
struct Upstream {
    asked: Arc<AtomicUsize>,
}

/// Names that no server answers.
const SILENT: &[u8] = b"silent";

impl Upstream {
    fn start(host: &Namespace, at: &str, address: Option<Ipv4Addr>) -> Result<Self> {
        let socket = host.enter(|| Ok(UdpSocket::bind((at, 53))?))?;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, source)) = socket.recv_from(&mut buffer) {
                counter.fetch_add(1, Ordering::Relaxed);
                let is_silent = buffer[..length].windows(SILENT.len()).any(|part| part == SILENT);
                if let Some(address) = address.filter(|_| !is_silent) {
                    let _ = socket.send_to(&reply(&buffer[..length], address), source);
                }
            }
        });
        Ok(Self { asked })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The question, and one address that lives for a second.
fn reply(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let question = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap_or(0) + 5;
    let mut reply = query[..question].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
    reply.extend(address.octets());
    reply
}

fn write_resolv_conf(path: &Path, servers: &[&str]) -> Result<()> {
    let lines: Vec<String> = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    Ok(std::fs::write(path, lines.concat())?)
}

#[test]
fn everything_else_is_asked_of_the_servers_of_the_host() -> Result<()> {
    let file = std::env::temp_dir().join(format!("weave-rs-resolv-{}.conf", std::process::id()));
    write_resolv_conf(&file, &["127.0.0.8", "127.0.0.9"])?;
    let path = file.to_string_lossy().into_owned();
    let scene = scene(&Launch::new().argument("--resolv-conf").argument(&path).argument("--dns-fallback-timeout=1s"))?;
    let (host, here) = (scene.hosts[1].namespace(), scene.containers[1].namespace());
    let silent = Upstream::start(host, "127.0.0.8", None)?;
    let good = Upstream::start(host, "127.0.0.9", Some([198, 51, 100, 1].into()))?;
    let other = Upstream::start(host, "127.0.0.10", Some([198, 51, 100, 2].into()))?;

    let asked = "+short +time=5 example.com";
    assert_eq!(dig(here, asked)?.trim(), "198.51.100.1");
    ensure!(silent.asked() > 0 && good.asked() > 0, "{} {}", silent.asked(), good.asked());
    // What is answered here is never asked there.
    let before = (silent.asked(), good.asked());
    dig(here, "nobody.weave.local")?;
    dig(here, "+short -x 10.32.0.1")?;
    assert_eq!((silent.asked(), good.asked()), before);

    write_resolv_conf(&file, &["127.0.0.10"])?;
    eventually(SETTLED, "the other server is asked", || Ok(dig(here, asked)?.trim() == "198.51.100.2"))?;
    ensure!(other.asked() > 0);
    write_resolv_conf(&file, &["127.0.0.11"])?;
    eventually(SETTLED, "nobody can answer", || Ok(dig(here, "+time=5 example.com")?.contains("status: SERVFAIL")))?;
    assert_eq!(addresses(here, "web.weave.local")?, ["10.32.0.1"]);
    std::fs::remove_file(&file)?;
    Ok(())
}

/// How long a server is waited for, less some.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// One host that asks these servers.
fn scene_with_servers(servers: &[&str]) -> Result<Scene> {
    let net = Topology::new()?;
    let host = net.host()?;
    let file = host.directory().join("resolv.conf");
    write_resolv_conf(&file, servers)?;
    let launch = Launch::new().argument("--resolv-conf").argument(&file.to_string_lossy());
    let scene = Scene::on(net, vec![host], |_, _| launch.clone())?;
    let listed = format!("Upstream: {}", servers.join(", "));
    eventually(SETTLED, "the servers are known", || Ok(scene.weaves[0].run(&["status"])?.contains(&listed)))?;
    Ok(scene)
}

#[test]
fn a_silent_first_server_costs_the_first_question_a_moment_and_no_other() -> Result<()> {
    let scene = scene_with_servers(&["127.0.0.8", "127.0.0.9"])?;
    let (host, here) = (scene.hosts[0].namespace(), scene.containers[0].namespace());
    let _silent = Upstream::start(host, "127.0.0.8", None)?;
    let _good = Upstream::start(host, "127.0.0.9", Some([198, 51, 100, 1].into()))?;

    let begin = Instant::now();
    let text = here.run(&format!("dig +short +tries=1 +time=5 @{RESOLVER} example.com"))?;
    assert_eq!(text.trim(), "198.51.100.1");
    ensure!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());

    let asker = Asker::new(here)?;
    let mut took = Vec::new();
    for number in 0..20 {
        let begin = Instant::now();
        assert_eq!(asker.address(&format!("n{number}.example.com"))?, Some([198, 51, 100, 1].into()));
        took.push(begin.elapsed());
    }
    took.sort();
    ensure!(took[10] < Duration::from_millis(100), "{took:?}");
    Ok(())
}

#[test]
fn a_container_that_uses_up_its_part_leaves_the_others_theirs() -> Result<()> {
    let scene = scene_with_servers(&["127.0.0.9"])?;
    let _upstream = Upstream::start(scene.hosts[0].namespace(), "127.0.0.9", Some([198, 51, 100, 1].into()))?;
    let other = scene.weaves[0].container(&scene.hosts[0], [10, 32, 0, 77].into())?;
    let greedy = &scene.containers[0];

    // Questions that nobody answers, until there are as many as one container may have; and as many connections.
    let asker = Asker::new(greedy.namespace())?;
    asker.0.set_nonblocking(true)?;
    let begin = Instant::now();
    let mut sent = 0_u32;
    while asker.receive().is_err() {
        ensure!(begin.elapsed() < GIVEN_UP, "{sent} questions are under way");
        // One for which the socket has no room is one less.
        sent += u32::from(asker.send(7, &format!("n{sent}.silent.example.com")).is_ok());
    }
    let connections = greedy.namespace().enter(|| {
        let resolver = (RESOLVER.parse::<Ipv4Addr>()?, 53).into();
        let connect = |_| Ok(TcpStream::connect_timeout(&resolver, SETTLED)?);
        (0..256).map(connect).collect::<Result<Vec<_>>>()
    })?;

    let asker = Asker::new(other.namespace())?;
    for number in 0..10 {
        let answer = asker.ask(&format!("n{number}.example.com"))?;
        assert_eq!(answer, (0, Some([198, 51, 100, 1].into())), "question {number} after {:?}", begin.elapsed());
        assert_eq!(dig(other.namespace(), "+short +tcp nobody.weave.local")?, "");
    }
    // What is answered here is answered to everybody.
    let name = greedy.target().rsplit('/').next().context("a path")?.to_owned();
    assert_eq!(addresses(greedy.namespace(), &name)?, [scene.address(0).to_string()]);
    drop(connections);
    Ok(())
}

#[test]
fn nobody_from_outside_is_answered() -> Result<()> {
    let scene = Scene::with(Topology::new()?, 2, |number, hosts| match number {
        0 => Launch::new().argument(&format!("--dns-listen-address={}", hosts[0].address())),
        _ => Launch::new().peer(&hosts[0]),
    })?;
    let ask = |from: &Namespace, transport: &str| {
        from.run(&format!("dig {transport} +tries=1 +time=1 @{} x.weave.local", scene.hosts[0].address()))
    };

    eventually(SETTLED, "the host itself is answered", || {
        Ok(ask(scene.hosts[0].namespace(), "+notcp").is_ok_and(|text| text.contains("NXDOMAIN")))
    })?;
    assert!(ask(scene.hosts[0].namespace(), "+tcp")?.contains("NXDOMAIN"));
    for transport in ["+notcp", "+tcp"] {
        assert!(ask(scene.hosts[1].namespace(), transport).is_err(), "a stranger is answered {transport}");
    }
    Ok(())
}

#[test]
fn the_resolver_adds_one_route_and_leaves_the_rest_alone() -> Result<()> {
    let mut scene = scene(&Launch::new())?;
    let (host, here) = (scene.hosts[1].namespace(), scene.containers[1].namespace());
    for line in [
        "ip link add eth0 type veth peer name outside",
        "ip link set outside up",
        "ip addr add 172.17.0.2/16 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 172.17.0.1",
    ] {
        here.run(line)?;
    }

    // The metadata service of a cloud stays where it was.
    assert!(here.run("ip route get 169.254.169.254")?.contains("dev eth0"));
    assert!(here.run(&format!("ip route get {RESOLVER}"))?.contains("dev ethwe"));
    assert_eq!(addresses(here, "web.weave.local")?, ["10.32.0.1"]);
    // The host has no route into the overlay, and the kernel none but its own rules to go through for each packet.
    assert!(!host.run("ip route get 10.32.0.1")?.contains("weave"));
    assert_eq!(host.run("ip rule show")?.lines().count(), 3);

    scene.weaves[1].run(&["reset"])?;
    scene.weaves[1].wait_end(SETTLED)?;
    let host = scene.hosts[1].namespace();
    let left = [host.run("ip route show table all")?, host.run("ip addr show")?].concat();
    assert!(!left.contains("169.254.65.53"), "{left}");
    Ok(())
}

#[test]
fn containers_and_the_host_are_answered_again_after_somebody_took_the_resolver_away() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let (host, here) = (scene.hosts[1].namespace(), scene.containers[1].namespace());
    let answered = || {
        wait_addresses(here, "web.weave.local", &["10.32.0.1"])?;
        eventually(SETTLED, "an answer over TCP", || Ok(dig(here, "+short +tcp web.weave.local")? == "10.32.0.1\n"))?;
        wait_addresses(host, "web.weave.local", &["10.32.0.1"])
    };
    answered()?;

    host.run(&format!("ip addr del {RESOLVER}/32 dev weave"))?;
    answered()?;
    host.run("ip link del weave")?;
    answered()?;
    Ok(())
}

/// Strict filters want the route back to lead out by the device that a packet came in by, and there is no such route.
#[test]
fn strict_reverse_path_filters_let_questions_in() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let (host, here) = (scene.hosts[1].namespace(), scene.containers[1].namespace());
    host.run("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.weave.rp_filter=1")?;
    host.run(&format!("ip addr del {RESOLVER}/32 dev weave"))?;

    wait_addresses(here, "web.weave.local", &["10.32.0.1"])?;
    assert_eq!(dig(here, "+short +tcp web.weave.local")?, "10.32.0.1\n");
    Ok(())
}

/// What listens on all addresses of the host is not there for containers at the resolver's.
#[test]
fn nothing_but_names_is_reached_at_the_resolvers_address() -> Result<()> {
    let scene = scene(&Launch::new())?;
    let (host, here) = (scene.hosts[1].namespace(), scene.containers[1].namespace());
    let open = |namespace: &Namespace, address: &str| namespace.enter(|| Ok(UdpSocket::bind(address)?));
    let listener = open(host, "0.0.0.0:8080")?;
    open(here, "0.0.0.0:0")?.send_to(b"hello", (RESOLVER, 8080))?;

    // Answered by the same host on the same way, and later: the datagram before it has come if it ever does.
    assert_eq!(addresses(here, "web.weave.local")?, ["10.32.0.1"]);
    listener.set_nonblocking(true)?;
    assert!(listener.recv(&mut [0; 8]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    Ok(())
}
