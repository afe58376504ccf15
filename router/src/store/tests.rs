//! A state directory over several starts.

use super::*;

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("weave-rs-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    directory
}

fn machine(id: u8) -> Machine {
    Machine { instance_id: String::new(), machine: [id; 32] }
}

#[test]
fn an_identity_outlives_the_daemon_and_a_given_name_is_kept() {
    let directory = directory("identity");
    let name: PeerName = "02:00:00:00:00:07".parse().unwrap();

    let first = Store::open(&directory).unwrap().selfhood(None, &machine(1)).unwrap();
    let renamed = Store::open(&directory).unwrap().selfhood(Some(name), &machine(1)).unwrap();
    let third = Store::open(&directory).unwrap().selfhood(None, &machine(1)).unwrap();

    assert_eq!(first.name, PeerName::derived_from(&first.identity.key().0));
    assert_eq!((renamed.identity.key(), renamed.name), (first.identity.key(), name));
    assert_eq!((third.identity.key(), third.name), (first.identity.key(), name));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_second_daemon_is_told_that_the_directory_is_in_use() {
    let directory = directory("lock");
    let first = Store::open(&directory).unwrap();

    let error = Store::open(&directory).unwrap_err();

    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(first);
    assert!(Store::open(&directory).is_ok());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_copied_directory_is_set_aside_whole() {
    let directory = directory("copied");
    let store = Store::open(&directory).unwrap();
    let copied = store.selfhood(None, &machine(1)).unwrap().identity.key();
    store.write_incarnation(7).unwrap();
    let wishes = Wishes { targets: vec!["192.0.2.1".parse().unwrap()], ..Wishes::default() };
    store.write_wishes(&wishes).unwrap();

    assert!(store.is_foreign(&machine(2)).unwrap() && !store.is_foreign(&machine(1)).unwrap());
    let aside = store.set_aside(UnixTime(5_000_000)).unwrap();
    let fresh = store.selfhood(None, &machine(2)).unwrap().identity.key();

    assert_ne!(fresh, copied);
    assert_eq!(store.restored().unwrap().incarnation, 0);
    assert_eq!(store.wishes().unwrap(), Wishes::default());
    assert_eq!(aside, directory.join("set-aside-5"));
    assert!(aside.join("identity").exists());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_damaged_identity_is_no_fresh_start() {
    let directory = directory("damaged");
    let store = Store::open(&directory).unwrap();
    store.selfhood(None, &machine(1)).unwrap();
    fs::write(directory.join("identity"), b"weave-rs").unwrap();

    let error = store.selfhood(None, &machine(1)).unwrap_err().to_string();

    assert!(error.contains(&directory.join("identity").display().to_string()) && error.contains("torn"), "{error}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn removing_the_state_leaves_no_directory() {
    let directory = directory("removed");
    let store = Store::open(&directory).unwrap();
    assert!(!is_state(&directory).unwrap(), "a lock alone is nothing that could be lost");
    store.selfhood(None, &machine(1)).unwrap();
    assert!(is_state(&directory).unwrap());

    store.remove().unwrap();

    assert!(!directory.exists());
    assert!(!is_state(&directory).unwrap());
}

#[test]
fn removing_the_state_leaves_what_is_not_ours() {
    let directory = directory("shared");
    let store = Store::open(&directory).unwrap();
    store.selfhood(None, &machine(1)).unwrap();
    fs::write(directory.join("precious"), "data").unwrap();

    store.remove().unwrap();

    let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn of_a_peer_that_is_forgotten_no_file_is_left() {
    let directory = directory("forgotten");
    let store = Store::open(&directory).unwrap();
    let mut writer = store.member_writer().unwrap();
    let peer = weave_mesh::identity::PeerKey([7; 32]);
    let file = directory.join(MEMBERS).join("07".repeat(32));
    fs::write(&file, "what was stored of it").unwrap();

    writer.forget(peer);
    assert!(writer.has_changes());
    writer.flush()().unwrap();
    writer.forget(peer);
    writer.flush()().unwrap();

    assert!(!file.exists());
    fs::remove_dir_all(directory).unwrap();
}
