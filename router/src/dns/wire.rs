//! Messages of others, as far as they are passed on without being understood: where the question ends, where the times
//! to live are (RFC 1035 section 4.1).

use std::ops::Range;
use std::time::Duration;

pub const HEADER_BYTES: usize = 12;
/// A name of more octets is none.
const NAME_BYTES_MAX: usize = 255;
/// How long an answer is kept at most.
const KEEP_MAX: Duration = Duration::from_secs(300);

const OPT: u16 = 41;
const SOA: u16 = 6;
const NO_ERROR: u8 = 0;
pub const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// A message of one question, taken apart as far as its question.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    bytes: &'a [u8],
    question_end: usize,
}

impl<'a> Asked<'a> {
    /// `None` when there is not exactly one whole question.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let is_one = number(bytes, 4)? == 1;
        let name_end = skip_name(bytes, HEADER_BYTES)?;
        let question_end = name_end + 4;
        (is_one && question_end <= bytes.len()).then_some(Self { bytes, question_end })
    }

    pub fn id(&self) -> u16 {
        number(self.bytes, 0).unwrap_or_default()
    }

    pub const fn is_response(&self) -> bool {
        self.bytes[2] & 0x80 != 0
    }

    pub const fn is_truncated(&self) -> bool {
        self.bytes[2] & 0x02 != 0
    }

    pub const fn code(&self) -> u8 {
        self.bytes[3] & 0x0f
    }

    /// Whether another server may do better.
    pub const fn is_failure(&self) -> bool {
        matches!(self.code(), SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED)
    }

    fn question(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..self.question_end]
    }

    /// Whether this is the reply to `query`. The name's case may have been lost on the way.
    pub fn answers(&self, query: &Asked<'_>) -> bool {
        self.is_response() && self.id() == query.id() && self.question().eq_ignore_ascii_case(query.question())
    }

    /// Where the records' times to live are, and for how long the whole may be kept; `None` when it may not.
    pub fn lifetime(&self) -> Option<(Vec<usize>, Duration)> {
        let counts = [number(self.bytes, 6)?, number(self.bytes, 8)?, number(self.bytes, 10)?];
        let is_positive = self.code() == NO_ERROR && counts[0] > 0;
        let may_be_kept = matches!(self.code(), NO_ERROR | NAME_ERROR) && !self.is_truncated();
        let records: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let (mut at, mut places, mut lifetime, mut has_soa) = (self.question_end, Vec::new(), KEEP_MAX, false);
        for _ in 0..records {
            let record = RecordAt::parse(self.bytes, at)?;
            at = record.data.end;
            if record.kind == OPT {
                continue;
            }
            let mut seconds = record.ttl;
            if record.kind == SOA && !is_positive {
                // RFC 2308 section 5: a denial is kept as long as the last field of its SOA says.
                has_soa = true;
                seconds = seconds.min(long(self.bytes, record.data.end.checked_sub(4)?)?);
            }
            lifetime = lifetime.min(Duration::from_secs(seconds.into()));
            places.push(record.ttl_at);
        }
        (may_be_kept && (is_positive || has_soa) && !lifetime.is_zero()).then_some((places, lifetime))
    }

    /// The header and the question alone, marked as cut: an answer that was too long.
    pub fn cut(&self) -> Vec<u8> {
        let mut bytes = self.bytes[..self.question_end].to_vec();
        bytes[2] |= 0x02;
        bytes[6..HEADER_BYTES].fill(0);
        bytes
    }

    /// A reply that says that nobody could answer.
    pub fn failure(&self) -> Vec<u8> {
        let mut bytes = self.bytes[..self.question_end].to_vec();
        // Response; opcode and "recursion desired" as they were; "recursion available".
        bytes[2] = 0x80 | bytes[2] & 0x79;
        bytes[3] = 0x80 | SERVER_FAILURE;
        bytes[6..HEADER_BYTES].fill(0);
        bytes
    }
}

/// The header of a reply that says that `query` is malformed; `None` when it is not even a query.
pub fn format_error(query: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    let header = query.get(..HEADER_BYTES)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let mut reply = [0; HEADER_BYTES];
    reply[..2].copy_from_slice(&header[..2]);
    reply[2] = 0x80 | header[2] & 0x79;
    reply[3] = 0x81;
    Some(reply)
}

/// Writes `id` into a message that has a header.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Lowers the times to live at `places` by `age`.
pub fn grow_older(message: &mut [u8], places: &[usize], age: Duration) {
    let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    for place in places {
        if let Some(ttl) = message.get_mut(*place..*place + 4) {
            let left = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]).saturating_sub(seconds);
            ttl.copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// A resource record in a message.
struct RecordAt {
    kind: u16,
    ttl: u32,
    ttl_at: usize,
    data: Range<usize>,
}

impl RecordAt {
    fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        let fields = skip_name(bytes, at)?;
        let (kind, ttl_at) = (number(bytes, fields)?, fields + 4);
        let start = fields + 10;
        let data = start..start + usize::from(number(bytes, fields + 8)?);
        (data.end <= bytes.len()).then_some(Self { kind, ttl: long(bytes, ttl_at)?, ttl_at, data })
    }
}

/// The place behind the name at `at`. A pointer ends a name; where it leads is not followed.
fn skip_name(bytes: &[u8], at: usize) -> Option<usize> {
    let mut place = at;
    while place - at <= NAME_BYTES_MAX {
        match *bytes.get(place)? {
            0 => return Some(place + 1),
            length @ 1..=63 => place += usize::from(length) + 1,
            192.. => return bytes.get(place + 1).map(|_| place + 2),
            64..=191 => return None,
        }
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests;
