use proptest::prelude::*;

use super::*;

fn request(head: &str) -> Result<Request, HeadError> {
    let mut end = HeadEnd::default();
    let length = end.find(head.as_bytes())?.expect("a whole head");
    assert_eq!(length, head.len());
    Request::parse(head.as_bytes())
}

#[test]
fn a_head_tells_how_long_the_body_is() {
    let body =
        |fields: &str| request(&format!("POST /x HTTP/1.1\r\nHost: /run/docker.sock\r\n{fields}\r\n")).unwrap().body;

    assert_eq!(body(""), Body::Length(0));
    assert_eq!(body("content-LENGTH:  12 \r\n"), Body::Length(12));
    assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Body::Chunked);
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    use HeadError::*;
    for (fields, error) in [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", ContentLength),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", ContentLength),
        ("Content-Length: +1\r\n", ContentLength),
        ("Content-Length: 1, 1\r\n", ContentLength),
        ("Content-Length: 0x1\r\n", ContentLength),
        ("Content-Length:\r\n", ContentLength),
        ("Content-Length: 99999999999999999999999\r\n", ContentLength),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Field),
        ("Content-Length : 1\r\n", Field),
        (" Content-Length: 1\r\n", Field),
        ("X: a\r\n\tb\r\n", Field),
        ("X\r\n", Field),
        (": x\r\n", Field),
        ("X: a\0b\r\n", Field),
        ("X: a\nContent-Length: 1\r\n", LineEnd),
        ("X: a\rContent-Length: 1\r\n", LineEnd),
    ] {
        let head = format!("POST /x HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(request(&head).unwrap_err(), error, "{fields:?}");
    }
    for line in [
        "",
        "GET /x",
        "GET  /x HTTP/1.1",
        "GET /x HTTP/2.0",
        "GET /x y HTTP/1.1",
        "G(T /x HTTP/1.1",
        " GET /x HTTP/1.1",
    ] {
        assert_eq!(request(&format!("{line}\r\nA: b\r\n\r\n")).unwrap_err(), FirstLine, "{line:?}");
    }
    let old = "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request(old).unwrap_err(), TransferEncoding);
}

#[test]
fn an_answer_tells_whether_messages_go_on() {
    let answer =
        |head: &str, to_head| Answer::parse(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), to_head).unwrap().body;

    assert_eq!(answer("200 OK\r\nContent-Length: 3", false), Body::Length(3));
    assert_eq!(answer("200 OK\r\nContent-Length: 3", true), Body::Length(0));
    assert_eq!(answer("200 OK\r\nTransfer-Encoding: chunked", true), Body::Length(0));
    assert_eq!(answer("200 OK\r\nTransfer-Encoding: chunked", false), Body::Chunked);
    assert_eq!(answer("200 OK", false), Body::UntilClose);
    assert_eq!(answer("101 UPGRADED", false), Body::UntilClose);
    for status in ["204 No Content", "304 Not Modified", "100"] {
        assert_eq!(answer(status, false), Body::Length(0), "{status}");
    }
    for bad in ["HTTP/1.1 20 OK", "HTTP/2 200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1"] {
        assert_eq!(Answer::parse(format!("{bad}\r\n\r\n").as_bytes(), false), Err(HeadError::FirstLine), "{bad}");
    }
}

#[test]
fn a_new_length_replaces_what_framed_the_body() {
    let head = b"POST /x HTTP/1.1\r\nHost: d\r\nexpect: 100-continue\r\nTransfer-Encoding: chunked\r\nX-A:  b \r\n\r\n";

    let changed = with_length(head, 7).unwrap();

    assert_eq!(changed, b"POST /x HTTP/1.1\r\nHost: d\r\nX-A:  b \r\nContent-Length: 7\r\n\r\n");
}

proptest! {
    #[test]
    fn a_head_ends_at_the_same_place_however_it_is_cut(bytes in "[a\r\n]{0,12}", cut in 0_usize..12) {
        let bytes = bytes.as_bytes();
        let cut = cut.min(bytes.len());
        let whole = HeadEnd::default().find(bytes);
        let mut end = HeadEnd::default();

        let first = end.find(&bytes[..cut]);

        let pieces = if first == Ok(None) { end.find(bytes) } else { first };
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), to_head: bool) {
        let _ = HeadEnd::default().find(&bytes);
        let _ = Request::parse(&bytes);
        let _ = Answer::parse(&bytes, to_head);
        let _ = with_length(&bytes, 1);
    }

    #[test]
    fn no_fields_panic(fields in "([A-Za-z-]{0,18}:? ?[a-z0-9 ,]{0,9}\r?\n?){0,5}") {
        let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let _ = Request::parse(head.as_bytes());
        let _ = Answer::parse(head.as_bytes(), false);
        let _ = with_length(head.as_bytes(), 1);
    }
}
