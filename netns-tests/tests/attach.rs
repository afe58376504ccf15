//! One attachment, whatever goes wrong in its midst: it is done, or nothing has happened.
//!
//! ```text
//!   h1 ── state directory on a small tmpfs          h2 (hears what h1 publishes)
//!    │    `nft` behind a gate: held, refused, or let through
//!    ├── 10.32.0.1  (attached by the scene)
//!    └── container under test
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, mentions};
use weave_netns_tests::topology::{Container, Host, Topology, run};
use weave_netns_tests::weave::{Launch, Weave, client};

/// How long an answer may take that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A program `nft` that lies before the real one in the daemon's path.
struct Gate {
    directory: PathBuf,
}

impl Gate {
    fn on(host: &Host) -> Result<Self> {
        let directory = host.directory().join("gate");
        fs::create_dir_all(&directory)?;
        let (gate, real) = (directory.display(), run(Command::new("which").arg("nft"))?);
        let script = format!(
            "#!/bin/sh\nif [ -e {gate}/held ] && [ \"$1\" = -f ]; then\n\
             : > {gate}/reached\nwhile [ -e {gate}/held ]; do sleep 0.05; done\nfi\n\
             if [ -e {gate}/refused ] && [ \"$1\" = -f ]; then cat > /dev/null; echo no rules today >&2; exit 1; fi\n\
             exec {} \"$@\"\n",
            real.trim()
        );
        fs::write(directory.join("nft"), script)?;
        run(Command::new("chmod").arg("+x").arg(directory.join("nft")))?;
        Ok(Self { directory })
    }

    /// A launch whose daemon finds the gate first.
    fn before(&self, launch: Launch) -> Launch {
        let path = std::env::var("PATH").unwrap_or_default();
        launch.environment("PATH", &format!("{}:{path}", self.directory.display()))
    }

    fn set(&self, what: &str) -> Result<()> {
        Ok(fs::write(self.directory.join(what), "")?)
    }

    fn lift(&self, what: &str) -> Result<()> {
        Ok(fs::remove_file(self.directory.join(what))?)
    }

    fn wait_reached(&self) -> Result<()> {
        eventually(SETTLED, "nft is called", || Ok(self.directory.join("reached").exists())).map(drop)
    }
}

/// A small file system at the place of a state directory.
struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    fn under(weave: &Weave) -> Result<Self> {
        let directory = weave.state_directory();
        fs::create_dir_all(&directory)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "small"]).arg(&directory))?;
        Ok(Self { directory })
    }

    /// Leaves no room for another page.
    fn fill(&self) -> Result<()> {
        let mut step = 64 * 1024;
        for number in 0.. {
            if fs::write(self.directory.join(format!("fill{number}")), vec![0; step]).is_err() {
                if step == 1 {
                    break;
                }
                step = (step / 16).max(1);
            }
            ensure!(number < 10_000, "the disk does not get full");
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("fill") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}

/// What all books say of a container: its interface, `ps`, and who holds addresses.
fn books(weave: &Weave, container: &Container) -> Result<(String, String, String)> {
    let shown = container.namespace().run("ip -4 -o addr show dev ethwe").unwrap_or_default();
    let inside: Vec<&str> = addresses(&shown);
    let listed = weave.run(&["ps", &container.target()])?;
    let listed: Vec<&str> = addresses(&listed);
    let held = curl(weave, &format!("/ip/{}", container.target().replace('/', "%2F")), &[])?;
    Ok((inside.join(" "), listed.join(" "), held.trim().to_owned()))
}

/// The words of a text that are addresses with a length.
fn addresses(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|word| word.contains('/') && word.starts_with(char::is_numeric)).collect()
}

fn assert_books(weave: &Weave, container: &Container, addresses: &str) -> Result<()> {
    let all = (addresses.to_owned(), addresses.to_owned(), addresses.to_owned());
    assert_eq!(books(weave, container)?, all, "interface, ps, address book");
    Ok(())
}

fn curl(weave: &Weave, path: &str, options: &[&str]) -> Result<String> {
    let url = format!("http://weave{path}");
    run(Command::new("curl").args(["-sS", "--unix-socket"]).arg(weave.socket()).arg(url).args(options))
}

/// Takes addresses until the last page of the journal is full, and tells how many.
fn fill_the_journal(weave: &Weave) -> Result<usize> {
    for number in 0..300 {
        let answer = curl(weave, &format!("/ip/filler{number}"), &["-X", "POST"])?;
        if answer.contains("No space left") {
            return Ok(number);
        }
    }
    bail!("the journal does not get full")
}

fn spawn_attach(weave: &Weave, host: &Host, words: &[&str]) -> Result<Child> {
    let mut command = client(host.namespace())?;
    command.env("WEAVE_SOCKET", weave.socket()).arg("attach").args(words);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn hosts_ports(host: &Host) -> Result<usize> {
    Ok(host.namespace().run("ip -o link")?.matches("vethwepl").count())
}

#[test]
fn a_target_that_is_no_namespace_keeps_nobody_waiting() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    let fifo = host.directory().join("fifo");
    run(Command::new("mkfifo").arg(&fifo))?;
    let begin = Instant::now();

    for target in [&fifo, Path::new("/dev/zero"), host.directory(), &host.directory().join("absent")] {
        let answer = weave.ask(&["attach", &format!("netns:{}", target.display())])?;
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.stderr.contains("cannot open network namespace"), "{answer:?}");
    }
    let container = host.container()?;
    weave.run(&["attach", &container.target()])?;

    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    assert!(weave.stop()?.success());
    Ok(())
}

#[test]
fn no_container_gets_the_address_of_its_host() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let container = host.container()?;

    for length in [24, 32] {
        let answer = weave.ask(&["attach", &format!("{}/{length}", host.address()), &container.target()])?;
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.stderr.contains("this host's own address"), "{answer:?}");
    }
    assert_books(&weave, &container, "")
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_everything_goes_on() -> Result<()> {
    let net = Topology::new()?;
    let (host, other) = (net.host()?, net.host()?);
    let mut weave = Weave::prepare(&host, Launch::new())?;
    let disk = SmallDisk::under(&weave)?;
    weave.start()?;
    let peer = Weave::launch(&other, Launch::new().peer(&host))?;
    let far = peer.container(&other, "10.32.0.200".parse()?)?;
    let containers = [host.container()?, host.container()?];
    weave.attach(&containers[0], "10.32.0.1/12")?;
    weave.attach(&containers[0], "10.32.0.2/12")?;
    peer.wait_connection(&["established"], SETTLED)?;
    let before = books(&weave, &containers[0])?;
    weave.run(&["dns-add", "10.32.0.9", "-h", "kept.weave.local"])?;
    disk.fill()?;
    let fillers = fill_the_journal(&weave)?;

    // What is answered is what is written down, and what cannot be is told.
    for words in [&["dns-add", "10.32.0.9", "-h", "new.weave.local"][..], &["dns-remove", "-h", "kept.weave.local"]] {
        let answer = weave.ask(words)?;
        assert!(answer.code == 1 && answer.stderr.contains("No space left"), "{words:?}: {answer:?}");
    }
    assert_eq!(weave.run(&["dns-lookup", "new"])?, "");
    assert_eq!(weave.run(&["dns-lookup", "kept"])?, "10.32.0.9\n");
    for command in ["connect", "forget"] {
        let answer = weave.ask(&[command, "192.0.2.77"])?;
        assert!(answer.code == 1 && answer.stderr.contains("No space left"), "{command}: {answer:?}");
    }

    let [first, second] = [containers[0].target(), containers[1].target()];
    for words in [&["10.32.64.9/12", first.as_str()][..], &[&first], &["10.32.64.9/12", &second], &[&second]] {
        // A container has one address in a subnet already: asking for one more gives that, and is no change.
        let is_change = words != [first.as_str()];
        let answer = weave.ask(&[&["attach"], words].concat())?;
        assert_eq!(answer.code, i32::from(is_change), "{words:?}: {answer:?}");
        assert!(!is_change || answer.stderr.contains("No space left"), "{words:?}: {answer:?}");
        assert_eq!(books(&weave, &containers[0])?, before);
        assert_books(&weave, &containers[1], "")?;
    }
    // What the ring was about to give to the other host, and cannot tell it, is waited for.
    let exposed = weave.ask(&["expose", "--wait", "2", "10.32.64.10/12"])?;
    let is_explained = exposed.stderr.contains("No space left") || exposed.stderr.contains("given up after");
    assert!(exposed.code == 1 && is_explained, "{exposed:?}");
    assert!(!mentions(&weave.run(&["ps"])?, "10.32.64.10".parse()?));
    assert_eq!(hosts_ports(&host)?, 1);
    ping_eventually(&far, "10.32.0.1".parse::<std::net::Ipv4Addr>()?, SETTLED)?;
    assert!(weave.is_running(), "{}", weave.log());
    assert_eq!(weave.run(&["detach", "10.32.0.2/12", &first])?, "10.32.0.2\n", "what is given up needs no room");

    for filler in 0..fillers {
        curl(&weave, &format!("/ip/filler{filler}"), &["-X", "DELETE"])?;
    }
    disk.empty()?;
    weave.attach(&containers[1], "10.32.64.9/12")?;
    eventually(SETTLED, "the disk has caught up", || {
        weave.kill()?;
        weave.start()?;
        Ok(books(&weave, &containers[0])?.2 == "10.32.0.1/12")
    })?;
    assert_books(&weave, &containers[0], "10.32.0.1/12")?;
    assert_books(&weave, &containers[1], "10.32.64.9/12")?;
    // What the other host gave while the disk was full is heard from it again.
    eventually(SETTLED, "both are ours", || Ok(weave.run(&["status", "ipam"])?.contains("(2 active)")))?;
    ping_eventually(&far, "10.32.64.9".parse::<std::net::Ipv4Addr>()?, SETTLED)?;
    Ok(())
}

#[test]
fn a_port_that_the_kernel_does_not_open_is_taken_back() -> Result<()> {
    let net = Topology::new()?;
    let (host, other) = (net.host()?, net.host()?);
    let gate = Gate::on(&host)?;
    let weave = Weave::launch(&host, gate.before(Launch::new()))?;
    let peer = Weave::launch(&other, Launch::new().peer(&host))?;
    let (known, new) = (host.container()?, host.container()?);
    weave.attach(&known, "10.32.0.1/12")?;
    peer.wait_connection(&["established"], SETTLED)?;

    gate.set("refused")?;
    for (container, has) in [(&new, ""), (&known, "10.32.0.1/12")] {
        let answer = weave.ask(&["attach", "10.32.0.9/12", &container.target()])?;
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.stderr.contains("did not open the port") && answer.stderr.contains("no rules"), "{answer:?}");
        assert_books(&weave, container, has)?;
        assert_eq!(hosts_ports(&host)?, 1);
    }
    eventually(SETTLED, "nobody else believes it either", || {
        Ok(!mentions(&peer.run(&["status", "endpoints"])?, "10.32.0.9".parse()?))
    })?;
    gate.lift("refused")?;

    weave.attach(&new, "10.32.0.9/12")?;
    assert_books(&weave, &new, "10.32.0.9/12")
}

#[test]
fn a_container_that_ends_while_it_is_attached_leaves_nothing() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let gate = Gate::on(&host)?;
    let weave = Weave::launch(&host, gate.before(Launch::new()))?;
    let (doomed, next) = (host.container()?, host.container()?);

    gate.set("held")?;
    let attaching = spawn_attach(&weave, &host, &[&doomed.target()])?;
    gate.wait_reached()?;
    doomed.namespace().run("ip link delete ethwe")?;
    gate.lift("held")?;

    let output = attaching.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("ended while it was attached"), "{stderr}");
    assert_books(&weave, &doomed, "")?;
    assert_eq!(weave.run(&["attach", &next.target()])?, "10.32.0.1\n", "its address is free");
    weave.attach(&doomed, "10.32.0.5/12")?;
    assert_books(&weave, &doomed, "10.32.0.5/12")
}

#[test]
fn a_daemon_that_is_killed_while_it_attaches_comes_back_to_books_that_agree() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let gate = Gate::on(&host)?;
    let mut weave = Weave::launch(&host, gate.before(Launch::new()))?;
    let (container, next) = (host.container()?, host.container()?);

    gate.set("held")?;
    let mut attaching = spawn_attach(&weave, &host, &[&container.target()])?;
    gate.wait_reached()?;
    weave.kill()?;
    attaching.wait()?;
    gate.lift("held")?;
    weave.start()?;

    let (inside, listed, held) = books(&weave, &container)?;
    assert_eq!((&inside, &inside), (&listed, &held));
    let given = weave.run(&["attach", &next.target()])?;
    assert!(!inside.starts_with(given.trim()), "{given:?} is what the first one has");
    weave.run(&["attach", &container.target()])?;
    let (inside, listed, held) = books(&weave, &container)?;
    assert!(!inside.is_empty());
    assert_eq!((&inside, &inside), (&listed, &held));
    Ok(())
}

#[test]
fn a_caller_who_leaves_takes_back_what_only_waits_and_nothing_else() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let gate = Gate::on(&host)?;
    let weave = Weave::launch(&host, gate.before(Launch::new()))?;
    let (container, stranger) = (host.container()?, host.container()?);
    weave.run(&["attach", &container.target()])?;
    weave.run(&["detach", &container.target()])?;

    gate.set("held")?;
    let mut attaching = spawn_attach(&weave, &host, &["10.32.0.7/12", &container.target()])?;
    gate.wait_reached()?;
    attaching.kill()?;
    attaching.wait()?;
    gate.lift("held")?;
    eventually(SETTLED, "what has begun is finished", || {
        Ok(host.namespace().run("bridge link")?.matches("vethwepl").count() == 1)
    })?;
    assert_books(&weave, &container, "10.32.0.7/12")?;

    let mut waiting = spawn_attach(&weave, &host, &["--wait", "1", "net:10.99.0.0/24", &stranger.target()])?;
    assert_eq!(waiting.wait()?.code(), Some(1), "a subnet outside the range");
    assert_books(&weave, &stranger, "")
}

/// The kernel may tell of the port's end before whoever took it away does.
#[test]
fn whoever_detaches_is_told_what_went() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let container = host.container()?;
    for round in 0..10 {
        let given = weave.run(&["attach", "10.32.0.9/12", &container.target()])?;
        let taken = weave.run(&["detach", &container.target()])?;
        ensure!(given == "10.32.0.9\n" && taken == given, "{round}: {given:?} was given and {taken:?} taken");
    }
    Ok(())
}

#[test]
fn containers_of_one_namespace_share_its_port_until_the_last_has_left() -> Result<()> {
    let net = Topology::new()?;
    let (host, other) = (net.host()?, net.host()?);
    let mut weave = Weave::launch(&host, Launch::new())?;
    let peer = Weave::launch(&other, Launch::new().peer(&host))?;
    let (base, next) = (host.container()?, host.container()?);
    let mut tenants: Vec<Child> = Vec::new();
    for _ in 0..2 {
        tenants.push(base.namespace().command("sleep").arg("600").spawn().context("a process inside")?);
    }
    let [one, two] = [0, 1].map(|index: usize| format!("pid:{}", tenants[index].id()));
    for pid in tenants.iter().map(Child::id) {
        eventually(SETTLED, "the process is inside", || {
            Ok(fs::read_link(format!("/proc/{pid}/exe"))?.ends_with("sleep") || is_busybox(pid))
        })?;
    }
    let third = base.target();

    let address = weave.run(&["attach", &one])?;
    assert_eq!(weave.run(&["attach", &two])?, address);
    assert_eq!(weave.run(&["attach", &third])?, address);
    assert_eq!(hosts_ports(&host)?, 1);
    for target in [&one, &two, &third] {
        assert!(weave.run(&["ps", target])?.contains(address.trim()), "{target}");
    }
    assert_ne!(weave.run(&["attach", &next.target()])?, address);
    weave.run(&["expose", "10.32.0.99/12"])?;

    // Whoever came first leaves; the port stays, and also over a restart.
    assert_eq!(weave.run(&["detach", &one])?, "\n", "nothing is taken from the others");
    tenants[0].kill()?;
    tenants[0].wait()?;
    weave.kill()?;
    weave.start()?;
    assert!(weave.run(&["ps"])?.lines().any(|line| line.starts_with(&two) && line.contains(address.trim())));
    assert_eq!(weave.run(&["attach", &two])?, address);
    eventually(SETTLED, "others still reach it", || {
        Ok(mentions(&peer.run(&["status", "endpoints"])?, address.trim().parse()?))
    })?;

    assert_eq!(weave.run(&["detach", &two])?, "\n");
    assert_eq!(weave.run(&["detach", &third])?, address, "the last one takes the port along");
    assert_eq!(hosts_ports(&host)?, 1);
    assert_eq!(weave.run(&["attach", &base.target()])?, address, "it is free");
    tenants[1].kill()?;
    tenants[1].wait()?;
    Ok(())
}

fn is_busybox(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
}
