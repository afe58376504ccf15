//! What went wrong with a call, in one line that names the remedy where there is one.
//!
//! ```text
//!   DescribeInstances: UnauthorizedOperation (request 1234): the role needs ec2:DescribeInstances
//! ```
//!
//! Invariant: a line shows nothing of an answer but its code and its id, both cut and cleaned; messages of AWS name
//! accounts, roles and more.

use std::fmt;

/// The longest code or id that is shown, octets.
const WORD_BYTES_MAX: usize = 64;
/// As much of what went wrong is shown, letters.
const WHAT_LETTERS_MAX: usize = 200;
/// As EC2, Auto Scaling and Systems Manager say it; what says it with a status of 5xx counts, too.
const THROTTLING: [&str; 6] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "RequestThrottled",
];
const DENIALS: [&str; 4] = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedAccess"];
/// `RequestExpired` is said of old requests and of old credentials alike.
const EXPIRIES: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The instance's metadata.
    Imds,
    DescribeInstances,
    DescribeAutoScalingInstances,
    DescribeAutoScalingGroups,
    GetParameter,
}

impl Call {
    /// What the role of the instance must allow for it.
    pub fn permission(self) -> Option<&'static str> {
        match self {
            Self::Imds => None,
            Self::DescribeInstances => Some("ec2:DescribeInstances"),
            Self::DescribeAutoScalingInstances => Some("autoscaling:DescribeAutoScalingInstances"),
            Self::DescribeAutoScalingGroups => Some("autoscaling:DescribeAutoScalingGroups"),
            Self::GetParameter => Some("ssm:GetParameter, and kms:Decrypt where the key is a customer's"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Imds => "IMDS",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeAutoScalingInstances => "DescribeAutoScalingInstances",
            Self::DescribeAutoScalingGroups => "DescribeAutoScalingGroups",
            Self::GetParameter => "GetParameter",
        })
    }
}

/// What is to be made of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too many calls, or AWS itself is unwell: ask much later.
    Throttled,
    /// The role may not.
    Denied,
    /// The credentials are past their time.
    Expired,
    /// Nobody there, or no whole answer in time.
    Unanswered,
    /// Whatever else.
    Failed,
}

/// A call that did not do what it was to do; shown, it is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    pub call: Call,
    pub kind: Kind,
    /// AWS's code, or what we say of it.
    pub what: String,
    /// AWS's id of the request, for its support.
    pub request: Option<String>,
}

impl Problem {
    pub(crate) fn new(call: Call, kind: Kind, what: impl Into<String>) -> Self {
        Self { call, kind, what: what.into(), request: None }
    }

    /// What an answer with an error says.
    pub(crate) fn of_answer(call: Call, status: u16, code: Option<&str>, request: Option<&str>) -> Self {
        let code = code.and_then(word);
        let kind = match code.as_deref() {
            Some(code) if THROTTLING.contains(&code) => Kind::Throttled,
            Some(code) if DENIALS.contains(&code) => Kind::Denied,
            Some(code) if EXPIRIES.contains(&code) => Kind::Expired,
            _ if status >= 500 || status == 429 => Kind::Throttled,
            _ => Kind::Failed,
        };
        let what = code.unwrap_or_else(|| format!("status {status}"));
        Self { call, kind, what, request: request.and_then(word) }
    }
}

/// A text as long and as plain as codes and ids are.
fn word(text: &str) -> Option<String> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let is_word = !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(is_plain);
    is_word.then(|| text.to_owned())
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |character: &char| !character.is_control();
        let what: String = self.what.chars().filter(printable).take(WHAT_LETTERS_MAX).collect();
        write!(formatter, "{}: {what}", self.call)?;
        if let Some(request) = &self.request {
            write!(formatter, " (request {request})")?;
        }
        match self.call.permission() {
            Some(permission) if self.kind == Kind::Denied => write!(formatter, ": the role needs {permission}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(status: u16, code: &str) -> Kind {
        Problem::of_answer(Call::DescribeInstances, status, Some(code), None).kind
    }

    #[test]
    fn a_problem_is_one_line_with_the_remedy() {
        let denied =
            Problem::of_answer(Call::DescribeInstances, 403, Some("UnauthorizedOperation"), Some("1234")).to_string();
        assert_eq!(
            denied,
            "DescribeInstances: UnauthorizedOperation (request 1234): the role needs ec2:DescribeInstances"
        );
        let other = Problem::of_answer(Call::GetParameter, 400, Some("ParameterNotFound"), None).to_string();
        assert_eq!(other, "GetParameter: ParameterNotFound");
    }

    #[test]
    fn codes_and_statuses_tell_kinds() {
        assert_eq!(kind(503, "RequestLimitExceeded"), Kind::Throttled);
        assert_eq!(kind(400, "Throttling"), Kind::Throttled);
        assert_eq!(kind(500, "InternalError"), Kind::Throttled);
        assert_eq!(kind(400, "ThrottlingException"), Kind::Throttled);
        assert_eq!(kind(403, "AccessDenied"), Kind::Denied);
        assert_eq!(kind(400, "ExpiredToken"), Kind::Expired);
        assert_eq!(kind(400, "ValidationError"), Kind::Failed);
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_one_short_line(code in ".{0,100}", request in ".{0,100}", status in 400_u16..600) {
            let line = Problem::of_answer(Call::Imds, status, Some(&code), Some(&request)).to_string();
            prop_assert!(line.len() < 200 && !line.contains(char::is_control));
        }
    }
}
