//! Whatever is wrong is said in one clear line, or dropped and counted; nothing panics, and no container is lost.
//!
//! ```text
//!   h1 (the daemon)  ◄── garbage on TCP 6783, UDP 6783, UDP 6784 ──  h3 (a stranger)
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Host, Topology};
use weave_netns_tests::weave::{Answer, Launch, Weave, binary};

#[test]
fn an_unknown_flag_is_a_usage_error() -> Result<()> {
    let net = Topology::new()?;
    let answer = launch(&net.host()?, &["--no-such-flag"])?;

    assert_refused(&answer, 2, "--no-such-flag")
}

#[test]
fn an_unusable_address_is_named() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    for (arguments, named) in [
        (&["not an address"][..], "not an address"),
        (&["192.168.48.2:99999"], "192.168.48.2:99999"),
        (&["--host", "203.0.113.9"], "203.0.113.9"),
        (&["--host", "nonsense"], "nonsense"),
        (&["--name", "zz:00"], "zz:00"),
        (&["--mtu", "20"], "20"),
        (&["--trusted-subnets", "10.0.0.0/99"], "10.0.0.0/99"),
    ] {
        let answer = launch(&host, arguments)?;
        assert!([1, 2].contains(&answer.code), "{arguments:?}: {answer:?}");
        assert_refused(&answer, answer.code, named)?;
    }
    Ok(())
}

#[test]
fn a_nickname_that_moves_the_cursor_is_refused() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    for nickname in ["h2\nfa:ke (x) 999 IPs\u{1b}[31m", "\u{9b}2J", "a\u{202e}b"] {
        let answer = launch(&host, &["--nickname", nickname])?;
        assert_refused(&answer, 1, "give another --nickname")?;
        assert!(is_plain(&answer.stderr), "{:?}", answer.stderr);
    }
    Ok(())
}

/// A container whose path has everything that does harm to a terminal is shown on both hosts, and in both logs, in its
/// line.
#[test]
fn what_a_container_is_called_moves_nobodys_cursor() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let name = "evil\u{1b}[31m\u{9b}2J\nfa:ke\u{202e}txt";
    let path = scene.hosts[0].directory().join(name);
    let container = scene.hosts[0].container()?;
    std::os::unix::fs::symlink(container.namespace().path(), &path)?;
    let target = format!("netns:{}", path.display());

    let answer = scene.weaves[0].ask(&["attach", "10.32.0.50/12", &target])?;
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "10.32.0.50\n"), "{answer:?}");
    assert!(is_plain(&answer.stderr) && answer.stderr.contains("has no name in weave.local:"), "{answer:?}");
    eventually(SETTLED, "both know it", || {
        let known = |weave: &Weave| -> Result<bool> { Ok(weave.run(&["status", "endpoints"])?.contains("10.32.0.50")) };
        Ok(known(&scene.weaves[0])? && known(&scene.weaves[1])?)
    })?;
    for weave in &scene.weaves {
        for words in
            [&["status", "endpoints"][..], &["ps"], &["status"], &["status", "endpoints", "--json"], &["report"]]
        {
            let shown = weave.run(words)?;
            assert!(is_plain(&shown), "{words:?}: {shown:?}");
            assert!(!shown.lines().any(|line| line.starts_with("fa:ke")), "{words:?}: {shown}");
        }
        assert!(is_plain(&weave.log()), "{:?}", weave.log());
    }
    let json = scene.weaves[1].run(&["status", "endpoints", "--json"])?;
    assert!(json.contains("evil\\u001b[31m\\u009b2J\\nfa:ke\\u202etxt"), "{json}");
    let answer = scene.weaves[0].ask(&["attach", "10.32.0.51/12", &format!("{target}\u{1b}[0m")])?;
    assert!(answer.code == 1 && is_plain(&answer.stderr), "{answer:?}");
    Ok(())
}

#[test]
fn names_that_dns_does_not_take_are_told() -> Result<()> {
    let scene = Scene::new(1, &Launch::new())?;
    let weave = &scene.weaves[0];
    let long = "a".repeat(64);
    let path = scene.hosts[0].directory().join(&long);
    let container = scene.hosts[0].container()?;
    std::os::unix::fs::symlink(container.namespace().path(), &path)?;
    let target = format!("netns:{}", path.display());

    let answer = weave.ask(&["attach", "10.32.0.50/12", &target])?;
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "10.32.0.50\n"), "{answer:?}");
    assert!(
        answer.stderr.contains(&format!("`{long}.weave.local.`")) && answer.stderr.contains("dns-add"),
        "{answer:?}"
    );
    let answer = weave.ask(&["attach", "--without-dns", "10.32.0.50/12", &target])?;
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{answer:?}");
    let name = format!("{long}.weave.local");
    for words in [&["dns-add", "192.0.2.1", "-h", &name][..], &["expose", "10.32.0.60/12", "-h", &name]] {
        let answer = weave.ask(words)?;
        assert!(answer.code == 1 && answer.stderr.contains("1 to 63"), "{words:?}: {answer:?}");
    }
    assert!(!weave.run(&["ps"])?.contains("10.32.0.60"), "what cannot be named is not exposed");
    let answer = weave.ask(&["expose", "10.32.0.60/12", "-h", "gate.example.com"])?;
    assert!(answer.code == 0 && answer.stderr.contains("does not lie in weave.local."), "{answer:?}");
    Ok(())
}

/// Whether a terminal shows a text as it is.
fn is_plain(text: &str) -> bool {
    !text.contains(|character: char| (character.is_control() && character != '\n') || character == '\u{202e}')
}

#[test]
fn a_short_password_is_refused() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    fs::write(host.directory().join("short"), "hunter2\n")?;
    let file = host.directory().join("short");

    let answer = launch(&host, &["--password-file", &file.to_string_lossy()])?;

    assert_refused(&answer, 1, "12")?;
    assert!(!answer.stderr.contains("hunter2"), "the message shows the password");
    Ok(())
}

#[test]
fn a_missing_password_file_is_named() -> Result<()> {
    let net = Topology::new()?;
    let answer = launch(&net.host()?, &["--password-file", "/nonexistent/passwords"])?;

    assert_refused(&answer, 1, "/nonexistent/passwords")
}

#[test]
fn a_busy_port_is_named() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let tcp = host.namespace().enter(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 6783))?))?;
    assert_refused(&launch(&host, &[])?, 1, "6783")?;
    drop(tcp);

    let _udp = host.namespace().enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6783))?))?;
    assert_refused(&launch(&host, &[])?, 1, "6783")
}

#[test]
fn a_second_daemon_on_one_host_is_refused() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let first = Weave::launch(&host, Launch::new())?;

    let answer = launch(&host, &[])?;

    assert_eq!(answer.code, 1, "{answer:?}");
    first.run(&["status"])?;
    Ok(())
}

#[test]
fn a_missing_capability_is_named() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut command = host.namespace().command("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]).arg(binary()?).arg("launch");

    let answer = finish(&host, command)?;

    assert_refused(&answer, 1, "CAP_NET_ADMIN")
}

#[test]
fn too_few_descriptors_are_told_in_one_line_and_just_enough_do() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let limited = |limit: &str| -> Result<Answer> {
        let mut command = host.namespace().command("prlimit");
        command.arg(format!("--nofile={limit}")).arg(binary()?).arg("launch");
        finish(&host, command)
    };
    for limit in ["32", "48", "63", "16:63"] {
        let answer = limited(limit)?;
        assert_refused(&answer, 1, "64")?;
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    }

    // A soft limit is raised as far as the hard one allows.
    let mut scene = Scene::with(net, 2, |number, hosts| match number {
        0 => Launch::new().under(&["prlimit", "--nofile=16:64"]),
        _ => Launch::new().peer(&hosts[0]),
    })?;
    scene.wait_carrier("fastdp")?;
    scene.weaves[0].run(&["expose"])?;
    assert!(scene.weaves[0].is_running(), "{}", scene.weaves[0].log());
    scene.ping_both_ways(0, 1)
}

#[test]
fn a_corrupt_state_file_is_named_and_never_replaced() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    let container = weave.container(&host, Ipv4Addr::new(10, 32, 0, 1))?;
    weave.stop()?;

    let files = files_in(&weave.state_directory())?;
    assert!(!files.is_empty(), "a daemon keeps state");
    for file in files {
        let whole = fs::read(&file)?;
        let mut spoilt = vec![vec![0xa5; whole.len()]];
        // A journal may end early: what a killed daemon was writing is dropped, as if it had died a moment before.
        if !file.ends_with("addresses") {
            spoilt.extend([whole[..whole.len() / 2].to_vec(), [&whole[..], b"tail"].concat()]);
        }
        for torn in spoilt {
            fs::write(&file, &torn)?;
            let answer = launch(&host, &[])?;
            let name = file.file_name().context("a file")?.to_string_lossy().into_owned();
            assert_refused(&answer, 1, &name)?;
            assert_eq!(fs::read(&file)?, torn, "{name} was touched");
        }
        fs::write(&file, &whole)?;
    }

    weave.start()?;
    assert!(weave.run(&["status", "endpoints"])?.contains("10.32.0.1"), "the container of {container} is remembered");
    Ok(())
}

#[test]
fn garbage_on_every_port_disturbs_nobody() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let stranger = scene.net.host()?;
    let target = scene.hosts[0].address();
    let before = scene.weaves[0].peak_kib()?;

    stranger.namespace().enter(|| {
        let mut noise = Noise(7);
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for port in [6783, 6784] {
            for round in 0..5_000_usize {
                udp.send_to(&noise.bytes(round % 1_400), (target, port))?;
            }
        }
        for opening in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"weave\x01\x02", b"weave\x03\x03", b"\xff\xff\xff\xff"] {
            let mut stream = TcpStream::connect((target, 6783))?;
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            // The daemon may hang up before it has all; that is the point.
            let _ = stream.write_all(opening).and_then(|()| stream.write_all(&noise.bytes(4_000)));
            let _ = stream.read(&mut [0; 64]);
        }
        Ok(())
    })?;

    scene.ping_both_ways(0, 1)?;
    assert!(scene.weaves[0].is_running());
    assert!(!scene.weaves[0].log().contains("panicked"), "a panic in the log");
    let grown = scene.weaves[0].peak_kib()?.saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more than before");
    let late = scene.net.host()?;
    let newcomer = Weave::launch(&late, Launch::new().peer(&scene.hosts[0]))?;
    newcomer.wait_connection(&["established"], SETTLED)?;
    Ok(())
}

#[test]
fn a_million_forged_handshakes_leave_no_trace() -> Result<()> {
    let net = Topology::new()?;
    let (host, stranger, late) = (net.host()?, net.host()?, net.host()?);
    let weave = Weave::launch(&host, Launch::new())?;
    let target = host.address();
    let before = weave.peak_kib()?;

    stranger.namespace().enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // A first message of sleeve: type, version, an index, then noise where the sealed part would be.
        let mut forged = [&[1, 1, 0, 0][..], &Noise(11).bytes(500)].concat();
        for round in 0..1_000_000_u32 {
            forged[4..8].copy_from_slice(&round.to_be_bytes());
            socket.send_to(&forged, (target, 6783))?;
        }
        Ok(())
    })?;

    let grown = weave.peak_kib()?.saturating_sub(before);
    assert!(grown <= 1_024, "{grown} KiB more than before");
    let newcomer = Weave::launch(&late, Launch::new().peer(&host))?;
    newcomer.wait_path(&weave, "fastdp", SETTLED)?;
    Ok(())
}

#[test]
fn a_missing_program_is_named() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut command = host.namespace().command("/usr/bin/env");
    command.arg("PATH=/nonexistent").arg(binary()?).arg("launch");

    let answer = finish(&host, command)?;

    assert_refused(&answer, 1, "nft")?;
    let links = host.namespace().run("ip -o link")?;
    assert!(!links.contains("weave"), "what was made before it failed is gone: {links}");
    Ok(())
}

#[test]
fn silent_strangers_do_not_keep_a_member_out() -> Result<()> {
    let net = Topology::new()?;
    let (host, stranger, late) = (net.host()?, net.host()?, net.host()?);
    let weave = Weave::launch(&host, Launch::new())?;
    let target = host.address();
    let silent = stranger
        .namespace()
        .enter(|| Ok((0..300).filter_map(|_| TcpStream::connect((target, 6783)).ok()).collect::<Vec<_>>()))?;
    assert!(!silent.is_empty());

    let newcomer = Weave::launch(&late, Launch::new().peer(&host))?;

    newcomer.wait_connection(&["established"], SETTLED)?;
    weave.run(&["status"])?;
    eventually(SETTLED, "strangers are shown the door", || {
        let established = host.namespace().run("ss -Htn state established sport = :6783")?.lines().count();
        Ok(established < 10)
    })?;
    Ok(())
}

/// Runs `weave-rs launch` on a host, which is expected to end by itself.
fn launch(host: &Host, arguments: &[&str]) -> Result<Answer> {
    let mut command = host.namespace().command(binary()?);
    command.arg("launch").args(arguments);
    finish(host, command)
}

fn finish(host: &Host, mut command: Command) -> Result<Answer> {
    command.arg("--state-dir").arg(host.directory().join("state"));
    command.arg("--socket").arg(host.directory().join("other.sock"));
    let (out, err) = (host.directory().join("out"), host.directory().join("err"));
    command.stdout(fs::File::create(&out)?).stderr(fs::File::create(&err)?);
    let mut child = command.spawn()?;
    let mut code = None;
    let ended = eventually(SETTLED, "it gives up by itself", || {
        code = child.try_wait()?;
        Ok(code.is_some())
    });
    let _ = child.kill();
    let stderr = fs::read_to_string(err)?;
    ended.with_context(|| format!("{command:?}: {stderr}"))?;
    let code = code.and_then(|status| status.code()).unwrap_or(-1);
    Ok(Answer { code, stdout: fs::read_to_string(out)?, stderr })
}

fn assert_refused(answer: &Answer, code: i32, named: &str) -> Result<()> {
    assert_eq!(answer.code, code, "{answer:?}");
    assert!(answer.stderr.contains(named), "{named:?} is not named: {answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
    Ok(())
}

fn files_in(directory: &PathBuf) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else if fs::metadata(&path)?.len() > 0 && !path.ends_with("lock") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reproducible noise: a linear congruence is random enough for a decoder.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }
}
