use proptest::prelude::*;

use super::*;

/// What is taken of a chunked body that comes in pieces: how much, its content, and whether it is over.
fn taken(bytes: &[u8], cuts: &[usize]) -> Result<(usize, Vec<u8>, bool), ChunkError> {
    let mut measure = Measure::from(Body::Chunked);
    let (mut at, mut content) = (0, Vec::new());
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let end = end.clamp(at, bytes.len());
        at += measure.take(&bytes[at..end], |data| content.extend_from_slice(data))?;
    }
    Ok((at, content, measure.is_over()))
}

#[test]
fn a_chunked_body_ends_with_its_last_chunk() {
    for (body, content) in [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("1;a=b\r\nx\r\n00A\r\n0123456789\r\n0;x\r\n\r\n", "x0123456789"),
        ("1\r\n\r\r\n0\r\nTrailer: a\r\nB: c\r\n\r\n", "\r"),
    ] {
        let next = format!("{body}GET / HTTP/1.1\r\n");
        let expected = (body.len(), content.as_bytes().to_vec(), true);
        for cut in 0..=next.len() {
            assert_eq!(taken(next.as_bytes(), &[cut]), Ok(expected.clone()), "{body:?} at {cut}");
        }
    }
}

#[test]
fn what_could_hide_a_request_in_a_body_is_an_error() {
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\rb",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nA: b\n",
        ";a\r\n",
        "1;a\nx\r\n",
        "ffffffffffffffff\r\n",
    ] {
        assert_eq!(taken(body.as_bytes(), &[]), Err(ChunkError), "{body:?}");
    }
    let extension = format!("1;{}\r\n", "a".repeat(usize::try_from(EXTRAS_MAX_BYTES).unwrap() + 1));
    assert_eq!(taken(extension.as_bytes(), &[]), Err(ChunkError));
    let trailers = format!("0\r\n{}", "A: b\r\n".repeat(usize::try_from(EXTRAS_MAX_BYTES).unwrap()));
    assert_eq!(taken(trailers.as_bytes(), &[]), Err(ChunkError));
}

#[test]
fn a_body_of_known_length_is_that_long() {
    let mut measure = Measure::from(Body::Length(5));

    assert_eq!(measure.take(b"abc", |_| ()), Ok(3));
    assert!(!measure.is_over());
    assert_eq!(measure.take(b"defg", |_| ()), Ok(2));
    assert!(measure.is_over());
    assert_eq!(measure.take(b"g", |_| ()), Ok(0));
}

proptest! {
    #[test]
    fn chunks_are_counted_alike_however_they_are_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        mut cuts in prop::collection::vec(0_usize..300, 0..8),
        behind in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let length = body.len();
        body.extend_from_slice(&behind);
        cuts.sort_unstable();

        prop_assert_eq!(taken(&body, &cuts), Ok((length, chunks.concat(), true)));
    }

    #[test]
    fn no_bytes_panic(bytes in "[0-9a-fA-F;\r\n:x]{0,60}", cut in 0_usize..60) {
        let (whole, pieces) = (taken(bytes.as_bytes(), &[]), taken(bytes.as_bytes(), &[cut]));
        prop_assert_eq!(whole, pieces);
    }
}
