//! One that comes to a ring, and hears of it in parts.

use std::sync::Arc;

use super::*;

const RANGE: &str = "10.32.0.0/12";
/// Those who had the ring at first, and of whom nobody is left.
const DEAD: [u8; 2] = [8, 9];
const HEIR: u8 = 7;
const GUIDE: ConnectionId = ConnectionId(2);
const OTHER: ConnectionId = ConnectionId(3);

/// A host without a ring beside two, of whom the guide has all of it.
struct Arrival {
    host: Alone,
    first: Arc<FirstRing>,
    ring: Ring,
    /// How the ring came to be what it is: nothing of it follows without the word of a guide.
    parts: [Vec<Arc<Transfer>>; 2],
}

impl Arrival {
    fn new() -> Self {
        let of_three = Config { init: Init::Consensus(Some(3)), ..config(RANGE) };
        let mut host = Alone::with(of_three, &Restored::default());
        host.place.links = Links::live_with([GUIDE, OTHER].map(|id| (id, key_of(id))));
        let mesh = host.place.near().mesh();
        let (dead, heir) = (DEAD.map(Fixture::new), Fixture::new(HEIR));
        let owners = dead.iter().map(Fixture::key).collect();
        let first = Arc::new(FirstRing::propose(cidr(RANGE).range(), owners, mesh, &dead[0].identity));
        let mut ring = Ring::new(Arc::clone(&first), mesh);
        let parts =
            dead.map(|dead| ring.inherit(&Estate { dead: dead.key(), heir: heir.key(), id: 1 }, &heir.identity));
        Self { host, first, ring, parts }
    }

    /// It has been told the first part of all.
    fn midway() -> Self {
        let mut arrival = Self::new();
        arrival.tell_state(GUIDE);
        arrival.tell_part(GUIDE, 0);
        arrival
    }

    /// A neighbour says that it has the ring.
    fn tell_state(&mut self, from: ConnectionId) {
        let state = RingState { ring: Some(*self.ring.id()), state: self.host.ipam.state_of(&self.ring) };
        self.host.run(|ipam, _, near| ipam.handle_state(from, &state, near));
    }

    /// A neighbour is asked for the ring, as one that has none asks.
    fn be_asked_by(&mut self, from: ConnectionId) {
        let nothing = RingState { ring: None, state: [0; 32] };
        self.host.run(|ipam, _, near| ipam.handle_state(from, &nothing, near));
    }

    /// A neighbour tells this part of all that there is; after the last comes the comparison.
    fn tell_part(&mut self, from: ConnectionId, part: usize) {
        let news = RingNews {
            first: Some(Arc::clone(&self.first)),
            compare: (part == 1).then(|| self.host.ipam.state_of(&self.ring)),
            ..self.piece(part)
        };
        self.hear(from, &news);
    }

    /// What somebody hears first, and passes on.
    fn piece(&self, part: usize) -> RingNews {
        RingNews { ring: Some(*self.ring.id()), transfers: self.parts[part].clone(), ..RingNews::default() }
    }

    fn hear(&mut self, from: ConnectionId, news: &RingNews) {
        self.host.run(|ipam, _, near| ipam.handle_news(from, key_of(from), news, near));
    }

    fn wait(&mut self, time: Duration) {
        self.host.place.now += time;
        self.host.run(|_, _, _| ());
    }

    /// Which neighbours were told our state, and which were told a ring, since this was last asked.
    fn said(&mut self) -> (Vec<ConnectionId>, Vec<ConnectionId>) {
        let (mut states, mut rings) = (Vec::new(), Vec::new());
        while let Some(action) = self.host.ipam.poll_action() {
            match action {
                Action::TellState(to, _) => states.push(to),
                Action::Tell(to, _) => rings.push(to),
                Action::Spread { .. } => rings.extend([GUIDE, OTHER]),
                _ => {}
            }
        }
        (states, rings)
    }

    fn has_all(&self) -> bool {
        self.host.ipam.state().state == self.host.ipam.state_of(&self.ring)
    }
}

fn key_of(neighbour: ConnectionId) -> PeerKey {
    Fixture::new(u8::try_from(neighbour.0).unwrap()).key()
}

#[test]
fn one_neighbour_tells_all_of_it() {
    let mut arrival = Arrival::new();
    arrival.tell_state(GUIDE);
    arrival.tell_state(OTHER);
    assert_eq!(arrival.said(), (vec![GUIDE], vec![]));

    arrival.tell_part(GUIDE, 0);
    arrival.tell_part(GUIDE, 1);

    assert!(arrival.has_all());
    assert_eq!(arrival.said(), (vec![], vec![]), "both have it too");
}

#[test]
fn a_guide_that_falls_silent_is_followed_by_another() {
    let mut arrival = Arrival::new();
    arrival.tell_state(GUIDE);
    arrival.tell_state(OTHER);
    arrival.tell_part(GUIDE, 0);
    arrival.said();

    arrival.wait(Duration::from_secs(3));
    assert_eq!(arrival.said(), (vec![OTHER], vec![]));
    arrival.tell_part(OTHER, 0);
    arrival.tell_part(OTHER, 1);

    assert!(arrival.has_all());
}

#[test]
fn who_passes_on_a_piece_does_not_become_the_guide() {
    let mut arrival = Arrival::midway();
    arrival.wait(Duration::from_secs(3));

    arrival.hear(OTHER, &arrival.piece(1));
    arrival.tell_state(GUIDE);
    arrival.tell_part(GUIDE, 0);
    arrival.tell_part(GUIDE, 1);

    assert!(arrival.has_all());
}

#[test]
fn nobody_hears_of_a_ring_before_all_of_it_is_known() {
    let mut arrival = Arrival::midway();
    arrival.be_asked_by(OTHER);
    assert_eq!(arrival.said(), (vec![GUIDE], vec![]), "a part would be taken for the whole");

    arrival.tell_part(GUIDE, 1);
    assert_eq!(arrival.said(), (vec![OTHER], vec![]), "it may ask now");
    arrival.be_asked_by(OTHER);
    assert_eq!(arrival.said(), (vec![], vec![OTHER]));
}

#[test]
fn who_has_what_others_have_waits_for_nobody() {
    let mut arrival = Arrival::midway();
    let missing = arrival.piece(1);
    arrival.hear(GUIDE, &missing);
    arrival.said();

    arrival.tell_state(OTHER);
    arrival.be_asked_by(OTHER);
    assert_eq!(arrival.said(), (vec![], vec![OTHER]), "it is a newcomer no more");
}

#[test]
fn of_a_part_nothing_is_given_out_or_written_down() {
    let mut arrival = Arrival::midway();

    let restored = arrival.host.stored();
    assert!(restored.ring.is_some());
    let again = Alone::with(arrival.host.ipam.config.clone(), &restored);
    assert!(again.ipam.ring.is_none());
    assert_eq!(arrival.host.allocate("a", RANGE), None);
    let pending = arrival.host.ipam.view(&arrival.host.place.near()).pending;
    assert_eq!(pending.into_iter().map(|pending| pending.wait).collect::<Vec<_>>(), [Wait::Comparison]);
}

#[test]
fn two_that_have_the_same_part_do_not_take_it_for_the_whole() {
    let mut arrival = Arrival::midway();
    arrival.said();
    // What the other, with the same part, tells now and then.
    let told = arrival.host.ipam.told_state().unwrap();

    arrival.host.run(|ipam, _, near| ipam.handle_state(OTHER, &told, near));
    arrival.be_asked_by(OTHER);
    assert_eq!(arrival.said(), (vec![], vec![]));
}

#[test]
fn what_is_handed_over_before_all_is_known_is_not_called_heard() {
    let mut arrival = Arrival::midway();
    arrival.said();

    let known = arrival.parts[0].clone();
    arrival.host.run(|ipam, _, near| ipam.handle_hand_over(key_of(OTHER), 1, &known, near));
    assert!(arrival.host.ipam.poll_action().is_none());
}

#[test]
fn who_is_left_with_a_part_does_not_call_it_the_whole() {
    let mut arrival = Arrival::midway();
    arrival.wait(Duration::from_secs(61));
    arrival.tell_state(GUIDE);
    arrival.said();

    arrival.be_asked_by(OTHER);
    let told: Vec<_> = std::iter::from_fn(|| arrival.host.ipam.poll_action()).collect();
    let compared = told.into_iter().filter_map(|action| match action {
        Action::Tell(_, news) => Some(news.compare),
        _ => None,
    });
    assert_eq!(compared.collect::<Vec<_>>(), [None]);
}

#[test]
fn who_is_left_with_a_part_takes_what_all_others_have() {
    let mut arrival = Arrival::midway();
    arrival.wait(Duration::from_secs(61));
    arrival.wait(Duration::from_secs(1));

    for _ in 0..20 {
        arrival.tell_state(OTHER);
        arrival.tell_part(OTHER, 0);
        arrival.tell_part(OTHER, 1);
        arrival.wait(Duration::from_secs(1));
    }

    assert!(arrival.has_all());
}
