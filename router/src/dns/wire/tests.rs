//! Messages taken apart: real ones, short ones and contrived ones.

use super::*;

/// A question for the address of `name`.
pub(in crate::dns) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// A reply with one address.
pub(in crate::dns) fn reply_to(query: &[u8], ttl: u32) -> Vec<u8> {
    let mut bytes = query.to_vec();
    (bytes[2], bytes[3], bytes[7]) = (0x81, 0x80, 1);
    bytes.extend([0xc0, 12, 0, 1, 0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend([0, 4, 192, 0, 2, 1]);
    bytes
}

#[test]
fn a_reply_answers_the_query_with_its_id_and_question() {
    let (asked, other) = (query(7, "example.com"), query(7, "example.org"));
    let answers = |reply: &[u8]| Asked::parse(reply).unwrap().answers(&Asked::parse(&asked).unwrap());

    assert!(answers(&reply_to(&asked, 1)));
    assert!(answers(&reply_to(&query(7, "EXAMPLE.com"), 1)));
    assert!(!answers(&asked));
    assert!(!answers(&reply_to(&query(8, "example.com"), 1)));
    assert!(!answers(&reply_to(&other, 1)));
}

#[test]
fn a_denial_is_kept_as_long_as_its_soa_says() {
    let mut reply = query(7, "example.com");
    (reply[2], reply[3], reply[9]) = (0x81, 0x83, 1);
    reply.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 200, 0, 22, 0, 0]);
    reply.extend([0; 16]);
    reply.extend([0, 0, 0, 30]);

    let (places, lifetime) = Asked::parse(&reply).unwrap().lifetime().unwrap();

    assert_eq!((places.len(), lifetime), (1, Duration::from_secs(30)));
    reply[9] = 0;
    assert!(Asked::parse(&reply).unwrap().lifetime().is_none(), "a denial without a SOA is kept");
}

#[test]
fn what_ends_early_or_leads_nowhere_is_nothing() {
    let whole = reply_to(&query(7, "example.com"), 60);
    for length in 0..whole.len() {
        let cut = &whole[..length];
        assert!(Asked::parse(cut).is_none_or(|asked| asked.lifetime().is_none()), "{length}");
    }
    let endless = [&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[1; 600]].concat();
    assert!(Asked::parse(&endless).is_none());
    assert!(format_error(&whole).is_none(), "a reply is answered");
    assert!(format_error(&endless[..HEADER_BYTES]).is_some());
}

#[test]
fn a_cut_reply_and_a_failure_keep_the_question() {
    let asked = query(7, "example.com");
    let reply = reply_to(&asked, 60);

    let (cut, failure) = (Asked::parse(&reply).unwrap().cut(), Asked::parse(&asked).unwrap().failure());

    let query = Asked::parse(&asked).unwrap();
    assert!(Asked::parse(&cut).unwrap().answers(&query) && Asked::parse(&cut).unwrap().is_truncated());
    assert!(Asked::parse(&failure).unwrap().answers(&query) && Asked::parse(&failure).unwrap().is_failure());
    assert_eq!((cut.len(), failure.len()), (asked.len(), asked.len()));
}
