//! One function for each decoder of what AWS and IMDS answer. None may panic, whatever the bytes; no part of an answer may
//! be taken for all of it.
//!
//! The fuzzer runs them (`cargo +nightly fuzz run instances`), and so does `tests/fuzz.rs` on the stable toolchain, over
//! the committed corpus and mutations of it.

use weave_aws::fake::decoders;

type Decoder = fn(&[u8]) -> bool;

/// Every target with its name, which is also that of its corpus.
pub(crate) const TARGETS: [(&str, Decoder); 7] = [
    ("instances", decoders::instances),
    ("groups", decoders::groups),
    ("memberships", decoders::memberships),
    ("fault", decoders::fault),
    ("parameter", decoders::parameter),
    ("document", decoders::document),
    ("keys", decoders::keys),
];

/// Runs one target.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, decode) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    let is_answer = decode(bytes);
    // An error is read as far as it goes, since its status tells enough.
    if is_answer && name != "fault" {
        let [cut @ .., _] = bytes.trim_ascii_end() else { panic!("nothing is taken for an answer") };
        assert!(!decode(cut), "an answer that is cut short is taken for a whole one");
    }
}
