//! The Instance Metadata Service, version 2: who this instance is, and the keys of its role.
//!
//! ```text
//!   PUT latest/api/token ─→ token, good for six hours ─→ GET latest/… ── 401 ─→ one new token, once more
//! ```
//!
//! Invariants: nothing is asked without a token, so version 1 is never used; a hop limit of 1 is enough, since nobody is in
//! between. Source: EC2 User Guide, "Use the Instance Metadata Service".

use std::time::Duration;

use hyper::body::Bytes;
use tokio::time::Instant;

use crate::credentials::{Credentials, Secret};
use crate::http::{self, Answer, Endpoint, Limits, Question, Silence};
use crate::identity::Identity;
use crate::problem::{Call, Kind, Problem};

/// How long a token is asked for; the longest that there is.
const TOKEN_SECONDS: u64 = 21_600;
/// A token is renewed so long before its end.
const TOKEN_RENEWAL: Duration = Duration::from_secs(60);
/// The longest token that is taken, octets; today's have 56.
const TOKEN_BYTES_MAX: usize = 1024;
/// The longest name of a role, letters (IAM's own limit).
const ROLE_LETTERS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 64 * 1024;
const USUAL: Limits =
    Limits { connect: Duration::from_secs(1), whole: Duration::from_secs(10), body_bytes: BODY_BYTES_MAX };
/// It is a link away: who is silent for so long is not there.
const PROBE: Limits = Limits { whole: Duration::from_secs(2), ..USUAL };

/// Whether there is an IMDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// This is an instance of EC2, as far as that can be told.
    Answers,
    /// Somebody is there who gives no token: IMDS is off for this instance, its hop limit is too low for where we run, or
    /// it is another cloud's.
    Refuses(String),
    Nobody,
    /// `AWS_EC2_METADATA_DISABLED` says not to ask.
    Forbidden,
}

#[derive(Debug)]
struct Token {
    text: Secret,
    /// When to ask for the next.
    renewal: Instant,
}

/// A client of it.
#[derive(Debug)]
pub(crate) struct Imds {
    endpoint: Option<Endpoint>,
    token: Option<Token>,
}

impl Imds {
    /// Without an endpoint it may not be asked.
    pub(crate) fn new(endpoint: Option<Endpoint>) -> Self {
        Self { endpoint, token: None }
    }

    /// Looks who is there, in two seconds at most.
    pub(crate) async fn probe(&self) -> Presence {
        let Some(endpoint) = &self.endpoint else { return Presence::Forbidden };
        match http::ask(endpoint, token_question(), PROBE).await.map(|answer| (answer.status, read_token(&answer))) {
            Ok((_, Some(_))) => Presence::Answers,
            Ok((status, None)) => Presence::Refuses(format!("status {status} instead of a token")),
            Err(Silence::Nobody(..) | Silence::NoConnection(..)) => Presence::Nobody,
            Err(silence) => Presence::Refuses(silence.to_string()),
        }
    }

    pub(crate) async fn identity(&mut self) -> Result<Identity, Problem> {
        let document = self.get("/latest/dynamic/instance-identity/document").await?;
        Identity::of_document(&document).map_err(failed)
    }

    /// The keys of the instance's role.
    pub(crate) async fn credentials(&mut self) -> Result<Credentials, Problem> {
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let roles = self.get(ROLES).await.map_err(|problem| match problem.what.as_str() {
            "status 404" => failed("this instance has no role; attach an instance profile"),
            _ => problem,
        })?;
        let role = std::str::from_utf8(&roles).ok().and_then(|roles| roles.lines().next()).unwrap_or_default();
        // IAM's own rule, and none of it means anything in a path.
        let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"+=,.@_-".contains(&octet);
        if role.is_empty() || role.len() > ROLE_LETTERS_MAX || !role.bytes().all(is_allowed) {
            return Err(failed("unreadable name of a role"));
        }
        let keys = self.get(&format!("{ROLES}{role}")).await?;
        Credentials::of_role(&keys).map_err(failed)
    }

    async fn get(&mut self, path: &str) -> Result<Bytes, Problem> {
        let mut answer = self.get_once(path).await?;
        if answer.status == 401 {
            self.token = None;
            answer = self.get_once(path).await?;
        }
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(Problem::of_answer(Call::Imds, answer.status, None, None))
        }
    }

    async fn get_once(&mut self, path: &str) -> Result<Answer, Problem> {
        let headers = vec![("x-aws-ec2-metadata-token", self.token().await?)];
        let question = Question { method: "GET", path, headers, body: Bytes::new() };
        http::ask(self.endpoint()?, question, USUAL).await.map_err(unanswered)
    }

    fn endpoint(&self) -> Result<&Endpoint, Problem> {
        self.endpoint.as_ref().ok_or_else(|| failed("not asked, since AWS_EC2_METADATA_DISABLED is true"))
    }

    async fn token(&mut self) -> Result<String, Problem> {
        if let Some(token) = self.token.as_ref().filter(|token| Instant::now() < token.renewal) {
            return Ok(token.text.reveal().to_owned());
        }
        let answer = http::ask(self.endpoint()?, token_question(), USUAL).await.map_err(unanswered)?;
        let token =
            read_token(&answer).ok_or_else(|| failed(format!("status {} instead of a token", answer.status)))?;
        let text = token.text.reveal().to_owned();
        self.token = Some(token);
        Ok(text)
    }
}

fn token_question() -> Question<'static> {
    let headers =
        vec![("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS.to_string()), ("content-length", "0".to_owned())];
    Question { method: "PUT", path: "/latest/api/token", headers, body: Bytes::new() }
}

/// The token of an answer, if there is one. Its header says how long it is good.
fn read_token(answer: &Answer) -> Option<Token> {
    let is_plain = |octet: &u8| octet.is_ascii_graphic();
    let octets = Some(&answer.body).filter(|octets| answer.status == 200 && octets.iter().all(is_plain))?;
    let text = std::str::from_utf8(octets).ok().filter(|text| !text.is_empty() && text.len() <= TOKEN_BYTES_MAX)?;
    let said = answer.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|seconds| seconds.parse().ok());
    let life = Duration::from_secs(said.unwrap_or(TOKEN_SECONDS).min(TOKEN_SECONDS));
    Some(Token { text: Secret::new(text.to_owned()), renewal: Instant::now() + life.saturating_sub(TOKEN_RENEWAL) })
}

fn failed(what: impl Into<String>) -> Problem {
    Problem::new(Call::Imds, Kind::Failed, what)
}

fn unanswered(silence: Silence) -> Problem {
    Problem::new(Call::Imds, Kind::Unanswered, silence.to_string())
}
