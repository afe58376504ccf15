//! A member that lies, with a real key, to daemons with containers: after every lie everything still stands.
//!
//! ```text
//!   h1 ── 10.32.0.1 ◄────────► h2 ── 10.32.0.2        honest
//!    ▲
//!   h3 no daemon: the liar's TCP connections
//! ```
//!
//! Each lie is a function that gets the [`Stage`]; a new kind is one more line in the list of its file.

#[path = "liar/death.rs"]
mod death;
#[path = "liar/flood.rs"]
mod flood;
#[path = "liar/hoarding.rs"]
mod hoarding;
#[path = "liar/identity.rs"]
mod identity;
#[path = "liar/theft.rs"]
mod theft;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::member::{Liar, Member};
use weave_netns_tests::probe::ping_eventually;
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Host;
use weave_netns_tests::weave::{Launch, Weave};

/// How long `status` may take at any time.
const STATUS_MAX: Duration = Duration::from_secs(1);
/// How long the flood lasts.
const LINE_RATE: Duration = Duration::from_secs(6);
/// How many messages the daemon takes in that time, slowed down as it does, on a slow machine.
const FLOOD_MIN: usize = 1_000;
/// How much a daemon may grow, KiB.
const GROWTH_MAX: u64 = 64 * 1_024;

/// A lie and its name.
type Lie = (&'static str, fn(&Stage) -> Result<()>);

/// The honest, as they were before the first lie, and a place for a liar.
struct Stage {
    scene: Scene,
    place: Host,
    keys: Vec<String>,
    attached: Vec<String>,
    /// The most memory that each had by then, KiB.
    peaks: Vec<u64>,
}

impl Stage {
    fn new() -> Result<Self> {
        let scene = Scene::new(2, &Launch::new())?;
        scene.wait_known()?;
        let place = scene.net.host()?;
        let of_each = |look: fn(&Weave) -> Result<String>| scene.weaves.iter().map(look).collect::<Result<Vec<_>>>();
        let (keys, attached) = (of_each(key)?, of_each(attached)?);
        let peaks = scene.weaves.iter().map(Weave::peak_kib).collect::<Result<_>>()?;
        Ok(Self { scene, place, keys, attached, peaks })
    }

    /// A liar that h1 has as its neighbour.
    fn member(&self, number: u8) -> Result<Member> {
        Liar::new(number).join(self.place.namespace(), self.scene.hosts[0].address())
    }

    /// Nothing is lost: identities, attachments, connections, traffic, memory, and the patience of who asks.
    fn assert_stands(&self) -> Result<()> {
        for (number, weave) in self.scene.weaves.iter().enumerate() {
            let begin = Instant::now();
            ensure!(key(weave)? == self.keys[number], "{weave} has another identity");
            ensure!(begin.elapsed() <= STATUS_MAX, "{weave} took {:?} to show its status", begin.elapsed());
            ensure!(attached(weave)? == self.attached[number], "{weave} has other containers");
            let grown = weave.peak_kib()?.saturating_sub(self.peaks[number]);
            ensure!(grown <= GROWTH_MAX, "{weave} has grown by {grown} KiB");
        }
        let other = self.scene.weaves[1].name();
        self.scene.weaves[0].wait_connection(&[other, "established"], SETTLED)?;
        for (from, to) in [(0, 1), (1, 0)] {
            ping_eventually(&self.scene.containers[from], self.scene.address(to), Duration::from_secs(1))?;
        }
        Ok(())
    }

    fn tell(&self, lies: &[Lie]) -> Result<()> {
        for (name, lie) in lies {
            let told = lie(self).and_then(|()| self.assert_stands());
            told.with_context(|| format!("the lie: {name}"))?;
        }
        Ok(())
    }
}

fn key(weave: &Weave) -> Result<String> {
    let status = weave.json(&["status"])?;
    Ok(status["router"]["key"].as_str().context("status shows no key")?.to_owned())
}

fn attached(weave: &Weave) -> Result<String> {
    weave.run(&["ps"])
}

#[test]
fn nobody_loses_its_identity_to_a_liar() -> Result<()> {
    let stage = Stage::new()?;
    stage.tell(identity::LIES)
}

#[test]
fn nobody_dies_of_a_lie() -> Result<()> {
    let stage = Stage::new()?;
    stage.tell(death::LIES)
}

#[test]
fn nobody_owns_less_by_a_lie() -> Result<()> {
    let stage = Stage::new()?;
    stage.tell(theft::LIES)
}

#[test]
fn nobody_makes_room_for_a_liar() -> Result<()> {
    let stage = Stage::new()?;
    stage.tell(hoarding::LIES)
}

#[test]
fn a_liar_at_line_rate_is_slowed_down_and_nobody_else() -> Result<()> {
    let stage = Stage::new()?;
    death::assert_gives(&stage)?;
    let begin = Instant::now();
    let told = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood::flood(&stage, LINE_RATE));
        while begin.elapsed() < LINE_RATE {
            stage.assert_stands()?;
        }
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    ensure!(told >= FLOOD_MIN, "only {told} messages were told: this shows nothing");
    stage.assert_stands()?;
    death::assert_gives(&stage)
}
