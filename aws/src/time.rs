//! Times as AWS writes them, and back: all are UTC, and seconds since 1970 here.
//!
//! ```text
//!   20150830T123600Z                signatures                 SigV4
//!   2015-08-30T12:36:00[.000]Z      answers                    ISO 8601
//!   Sun, 30 Aug 2015 12:36:00 GMT   the header `Date`          RFC 9110, 5.6.7
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: i64 = 86_400;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What this host's clock says.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// As signatures have it.
pub(crate) fn compact(at: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = civil(at);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// As answers have it.
#[cfg(any(test, feature = "fake"))]
pub(crate) fn iso(at: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// As the header `Date` has it; readers do not look at the day of the week.
#[cfg(any(test, feature = "fake"))]
pub(crate) fn http(at: i64) -> String {
    let ((year, month, day), (hour, minute, second)) = civil(at);
    let month = MONTHS[usize::from(month - 1)];
    format!("Mon, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads what answers have; a fraction of a second is dropped.
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let clock = rest.strip_suffix('Z')?.split('.').next()?;
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    date.next().is_none().then_some(())?;
    at(number(year, 4)?, number(month, 2)?, number(day, 2)?, clock)
}

/// Reads the header `Date`.
pub(crate) fn parse_http(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (clock, zone) = (parts.next()?, parts.next()?);
    (zone == "GMT" && parts.next().is_none()).then_some(())?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    at(number(year, 4)?, i64::try_from(month).ok()?, number(day, 2)?, clock)
}

/// A number of just so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|octet| octet.is_ascii_digit())).then(|| text.parse().ok())?
}

fn at(year: i64, month: i64, day: i64, clock: &str) -> Option<i64> {
    let mut clock = clock.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = number(clock.next()?, 2)?;
    let is_time = clock.next().is_none() && hour < 24 && minute < 60 && second <= 60;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    (is_time && is_date).then(|| days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date of the Gregorian calendar. Years begin in March, so that the odd day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From March on, the months have 31, 30, 31, 30, 31 days, over and over.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970
}

/// From March of the year 0 to January 1970.
const DAYS_TO_1970: i64 = 719_468;

type Date = (i64, u8, u8);
type Clock = (u8, u8, u8);

fn civil(at: i64) -> (Date, Clock) {
    let (day_number, second) = (at.div_euclid(DAY_SECONDS), at.rem_euclid(DAY_SECONDS));
    // No year has more days than 366: the guess is right or too low.
    let mut year = 1970 + day_number.div_euclid(366);
    while days(year + 1, 1, 1) <= day_number {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day_number).unwrap_or(1);
    let day = day_number - days(year, month, 1) + 1;
    let small = |value: i64| u8::try_from(value).unwrap_or_default();
    ((year, small(month), small(day)), (small(second / 3600), small(second / 60 % 60), small(second % 60)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_moment_in_three_spellings() {
        // `date -u -d @1440938160`, the moment of AWS's published signatures.
        assert_eq!(compact(1_440_938_160), "20150830T123600Z");
        assert_eq!(parse_iso("2015-08-30T12:36:00.000Z"), Some(1_440_938_160));
        assert_eq!(parse_http("Sun, 30 Aug 2015 12:36:00 GMT"), Some(1_440_938_160));
        assert_eq!(iso(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(http(4_107_542_399), "Mon, 28 Feb 2100 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(at in 0_i64..20_000_000_000) {
            prop_assert_eq!(parse_iso(&iso(at)), Some(at));
            prop_assert_eq!(parse_http(&http(at)), Some(at));
        }

        #[test]
        fn anything_may_be_read(text in "[A-Za-z0-9:,. -]{0,40}|.{0,40}") {
            parse_iso(&text);
            parse_http(&text);
        }
    }
}
