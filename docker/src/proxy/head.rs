//! The heads of requests and answers: where they end, and the little of them that says where a message ends.
//!
//! ```text
//!   POST /v1.41/containers/create?name=web HTTP/1.1 CRLF
//!   Content-Length: 1734 CRLF
//!   CRLF
//! ```
//!
//! Invariants: a head is passed on as it came or refused, never mended; whatever two readers could take for different
//! lengths is refused, so that the engine and we always agree on where the next request begins.

use super::framing::Body;

/// Lines end with both octets, and an empty one ends the head.
const END: &[u8] = b"\r\n\r\n";
/// Header fields that tell how long a body is, or who is to wait for what before it.
const FRAMING_FIELDS: [&str; 4] = ["content-length", "transfer-encoding", "trailer", "expect"];

/// Why a head is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("a line of the head ends with a single CR or LF")]
    LineEnd,
    #[error("the first line is none of HTTP/1.0 or HTTP/1.1")]
    FirstLine,
    #[error("a line of the head is no header field")]
    Field,
    #[error("Content-Length is not one number")]
    ContentLength,
    #[error("Transfer-Encoding is not `chunked`, or not alone")]
    TransferEncoding,
}

/// Looks for the end of a head that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    /// The length of the head, once all of it is among these octets, which each time begin with those of the last.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        for index in self.seen..bytes.len() {
            let after_cr = index > 0 && bytes[index - 1] == b'\r';
            if after_cr != (bytes[index] == b'\n') {
                return Err(HeadError::LineEnd);
            }
            if bytes[..=index].ends_with(END) {
                return Ok(Some(index + 1));
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Body,
    /// The client sends the body only when told to.
    pub(crate) expects_continue: bool,
}

impl Request {
    /// Reads a whole head.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HeadError> {
        let (first, fields) = split(head)?;
        let line = std::str::from_utf8(first).map_err(|_| HeadError::FirstLine)?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(HeadError::FirstLine);
        };
        let is_visible = !target.is_empty() && target.bytes().all(|octet| octet > b' ' && octet != 0x7f);
        if !is_token(method.as_bytes()) || !is_visible || !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
            return Err(HeadError::FirstLine);
        }
        let fields = Fields::read(fields)?;
        let body = match (fields.length, fields.is_chunked) {
            // HTTP/1.0 has no chunks: some would read this body by its length, which is not there.
            (Some(_), true) => return Err(HeadError::TransferEncoding),
            (None, true) if version == "HTTP/1.0" => return Err(HeadError::TransferEncoding),
            (None, true) => Body::Chunked,
            (Some(length), false) => Body::Length(length),
            (None, false) => Body::Length(0),
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        Ok(Self { method, target, body, expects_continue: fields.expects_continue })
    }
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
}

impl Answer {
    /// Reads a whole head; an answer to HEAD never has a body.
    pub(crate) fn parse(head: &[u8], to_head: bool) -> Result<Self, HeadError> {
        let (first, fields) = split(head)?;
        let rest = first.strip_prefix(b"HTTP/1.1 ").or_else(|| first.strip_prefix(b"HTTP/1.0 "));
        let digits = rest.and_then(|rest| rest.split(|octet| *octet == b' ').next()).unwrap_or_default();
        let status = number(digits).filter(|_| digits.len() == 3).ok_or(HeadError::FirstLine)?;
        let status = u16::try_from(status).map_err(|_| HeadError::FirstLine)?;
        let fields = Fields::read(fields)?;
        let body = match (fields.length, fields.is_chunked) {
            (Some(_), true) => return Err(HeadError::TransferEncoding),
            _ if status == 101 => Body::UntilClose,
            _ if to_head || matches!(status, 100..=199 | 204 | 304) => Body::Length(0),
            (None, true) => Body::Chunked,
            (Some(length), false) => Body::Length(length),
            // The engine takes over the connection with a bare 200: from then on there are no messages, only octets.
            (None, false) => Body::UntilClose,
        };
        Ok(Self { status, body })
    }

    /// Whether another head follows for the same request.
    pub(crate) fn is_interim(self) -> bool {
        self.status < 200 && self.status != 101
    }
}

#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    is_chunked: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(lines: &[u8]) -> Result<Self, HeadError> {
        let mut fields = Self::default();
        for line in lines_of(lines) {
            let (name, value) = field(line)?;
            if name.eq_ignore_ascii_case(b"content-length") {
                if fields.length.is_some() {
                    return Err(HeadError::ContentLength);
                }
                fields.length = Some(number(value).ok_or(HeadError::ContentLength)?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if fields.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::TransferEncoding);
                }
                fields.is_chunked = true;
            } else if name.eq_ignore_ascii_case(b"expect") {
                fields.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        Ok(fields)
    }
}

/// The same head for a body of this length, which is sent at once.
pub(crate) fn with_length(head: &[u8], length: usize) -> Result<Vec<u8>, HeadError> {
    let (first, fields) = split(head)?;
    let mut changed = first.to_vec();
    for line in lines_of(fields) {
        let (name, _) = field(line)?;
        if !FRAMING_FIELDS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            changed.extend_from_slice(b"\r\n");
            changed.extend_from_slice(line);
        }
    }
    changed.extend_from_slice(format!("\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    Ok(changed)
}

/// The first line, and the others with the ends of theirs.
fn split(head: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let head = head.strip_suffix(b"\r\n").ok_or(HeadError::LineEnd)?;
    let end = head.windows(2).position(|pair| pair == b"\r\n").ok_or(HeadError::LineEnd)?;
    Ok((&head[..end], &head[end + 2..]))
}

fn lines_of(fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields.split_inclusive(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
}

/// Name and value. A line that begins with a blank continues another one for some readers: it has no name, and is refused.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let colon = line.iter().position(|octet| *octet == b':').ok_or(HeadError::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_text = |octet: &u8| *octet == b'\t' || (*octet >= b' ' && *octet != 0x7f);
    if !is_token(name) || !value.iter().all(is_text) {
        return Err(HeadError::Field);
    }
    Ok((name, value.trim_ascii()))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet))
}

/// A number of digits alone: no sign, no blank, no list.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
