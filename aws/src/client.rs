//! Signed calls: by keys that are renewed in time, with the clock of AWS, each repeated once for either if AWS asks for it.
//!
//! ```text
//!   question ─→ sign ─→ ask ─┬─ whole ────────────────────────────────→ body
//!                 ↑          ├─ the clock is wrong: learn it  ─┐ once
//!                 │          ├─ the keys are old: fetch others ┤ once
//!                 └──────────┴─────────────────────────────────┘       else ─→ Problem
//! ```

use std::time::Duration;

use hyper::body::Bytes;

use crate::answers::fault;
use crate::credentials::Credentials;
use crate::http::{self, Answer, Endpoint, Limits, Question};
use crate::identity::Identity;
use crate::imds::Imds;
use crate::problem::{Call, Kind, Problem};
use crate::settings::{Service, Settings};
use crate::sign::{self, Scope, Unsigned};
use crate::time;

/// A page of 500 instances with 32 KiB each, or a group of 20,000 with 800 octets each.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(10), body_bytes: BODY_BYTES_MAX };
/// AWS takes signatures that are five minutes off, at least.
const SKEW_SECONDS: i64 = 240;
/// What AWS says when the clock may be to blame.
const CLOCK_CODES: [&str; 3] = ["RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch"];

/// What is asked of a service.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) call: Call,
    pub(crate) service: Service,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// One host's way to AWS.
#[derive(Debug)]
pub(crate) struct Client {
    settings: Settings,
    pub(crate) imds: Imds,
    identity: Option<Identity>,
    keys: Option<Credentials>,
    /// AWS's clock less ours, in seconds.
    offset: i64,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Self {
        let imds = Imds::new(settings.imds.clone());
        Self { settings, imds, identity: None, keys: None, offset: 0 }
    }

    /// Which instance this is; it is asked once.
    pub(crate) async fn identity(&mut self) -> Result<Identity, Problem> {
        match &self.identity {
            Some(identity) => Ok(identity.clone()),
            None => Ok(self.identity.insert(self.imds.identity().await?).clone()),
        }
    }

    /// Asks until it is known what the answer is worth: three times at most.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Bytes, Problem> {
        let region = self.identity().await?.region;
        let endpoint = self.settings.endpoint(ask.service, &region);
        let endpoint = endpoint.map_err(|error| Problem::new(ask.call, Kind::Failed, error.to_string()))?;
        let (mut may_learn, mut may_renew) = (true, true);
        loop {
            let answer = self.ask_once(ask, &endpoint, &region).await?;
            let skew = self.skew(&answer);
            if answer.status == 200 {
                self.learn(skew.filter(|skew| skew.abs() > SKEW_SECONDS));
                return Ok(answer.body);
            }
            let problem = problem(ask.call, &answer);
            if let Some(skew) = skew.filter(|skew| may_learn && is_about_time(&problem, *skew)) {
                may_learn = false;
                self.learn(Some(skew));
            } else if may_renew && problem.kind == Kind::Expired && self.settings.keys.is_none() {
                may_renew = false;
                self.keys = None;
            } else {
                return Err(problem);
            }
        }
    }

    async fn ask_once(&mut self, ask: &Ask, endpoint: &Endpoint, region: &str) -> Result<Answer, Problem> {
        let now = self.now();
        let keys = self.keys(now).await?;
        let mut headers = ask.headers.clone();
        let unsigned: Vec<(&str, &str)> = (headers.iter().map(|(name, value)| (*name, value.as_str())))
            .chain([("host", endpoint.authority.as_str())])
            .collect();
        let request = Unsigned { method: "POST", headers: &unsigned, body: ask.body.as_bytes() };
        let scope = Scope { region, service: ask.service.name() };
        headers.extend(sign::sign(request, scope, keys, now));
        let question = Question { method: "POST", path: "/", headers, body: ask.body.clone().into() };
        let answer = http::ask(endpoint, question, LIMITS).await;
        answer.map_err(|silence| Problem::new(ask.call, Kind::Unanswered, silence.to_string()))
    }

    /// Keys with enough time left; old ones if there are no others yet.
    async fn keys(&mut self, now: i64) -> Result<&Credentials, Problem> {
        if let Some(keys) = &self.settings.keys {
            return Ok(keys);
        }
        let keys = match self.keys.take() {
            Some(keys) if !keys.are_old(now) => keys,
            old => self.imds.credentials().await.or_else(|problem| old.ok_or(problem))?,
        };
        Ok(self.keys.insert(keys))
    }

    /// The time as AWS has it.
    fn now(&self) -> i64 {
        time::now().saturating_add(self.offset)
    }

    /// By how much an answer's clock is ahead of the one that we sign with, in seconds.
    fn skew(&self, answer: &Answer) -> Option<i64> {
        Some(time::parse_http(answer.header("date")?)?.saturating_sub(self.now()))
    }

    fn learn(&mut self, skew: Option<i64>) {
        if let Some(skew) = skew {
            self.offset = self.offset.saturating_add(skew);
            tracing::debug!(offset = self.offset, "AWS's clock differs from this host's");
        }
    }
}

fn problem(call: Call, answer: &Answer) -> Problem {
    let fault = fault::read(&answer.body);
    let request = fault.request.as_deref().or_else(|| answer.header("x-amzn-requestid"));
    Problem::of_answer(call, answer.status, fault.code.as_deref(), request)
}

fn is_about_time(problem: &Problem, skew: i64) -> bool {
    skew.abs() > SKEW_SECONDS || (skew != 0 && CLOCK_CODES.contains(&problem.what.as_str()))
}
