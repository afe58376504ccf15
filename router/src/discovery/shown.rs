//! What `status` shows of discovery.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Source;

/// How discovery goes, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiscoveryPart {
    /// `none`, `aws`, `file:PATH` or `dns:NAME`.
    pub source: String,
    /// How many peers or machines the last answer listed.
    pub listed: Option<usize>,
    /// When that was, in seconds since 1970.
    pub answered: Option<u64>,
    /// What is wrong at present.
    pub problem: Option<String>,
}

impl DiscoveryPart {
    /// Lines of `status`.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        if self.source == "none" {
            return Vec::new();
        }
        let listed = self.listed.map_or_else(|| "no answer yet".to_owned(), |listed| format!("{listed} listed"));
        let problem = self.problem.iter().map(|problem| ("Warning", format!("discovery: {problem}")));
        std::iter::once(("Discovery", format!("{} ({listed})", self.source))).chain(problem).collect()
    }
}

/// The same, as it is kept.
#[derive(Debug)]
pub struct Discovered(Mutex<DiscoveryPart>);

impl Discovered {
    pub fn by(source: &Source) -> Self {
        let source = match source {
            Source::Nowhere => "none".to_owned(),
            Source::Aws(_) => "aws".to_owned(),
            Source::File(path) => format!("file:{}", path.display()),
            Source::Dns { name, .. } => format!("dns:{name}"),
        };
        Self(Mutex::new(DiscoveryPart { source, ..DiscoveryPart::default() }))
    }

    pub fn part(&self) -> DiscoveryPart {
        self.lock().clone()
    }

    /// Notes an answer, if there was one, and what is wrong; whether that is news.
    pub(super) fn note(&self, listed: Option<usize>, problem: Option<String>) -> bool {
        let mut part = self.lock();
        let is_news = part.problem != problem || (listed.is_some() && part.listed.is_none());
        if listed.is_some() {
            part.listed = listed;
            part.answered = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        }
        part.problem = problem;
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, DiscoveryPart> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_news_when_it_begins_when_it_changes_and_when_it_ends() {
        let discovered = Discovered::by(&Source::File("/peers".into()));
        let problem = |text: &str| Some(text.to_owned());
        assert!(discovered.note(None, problem("gone")));
        assert!(!discovered.note(None, problem("gone")));
        assert!(discovered.note(None, problem("unreadable")));
        assert!(discovered.note(Some(3), None));
        assert!(!discovered.note(Some(4), None));
        assert_eq!(discovered.part().listed, Some(4));
    }

    #[test]
    fn what_was_answered_stays_while_nothing_is() {
        let discovered = Discovered::by(&Source::File("/peers".into()));
        discovered.note(Some(3), None);
        discovered.note(None, Some("gone".to_owned()));
        let part = discovered.part();
        assert_eq!((part.listed, part.problem.as_deref()), (Some(3), Some("gone")));
        assert_eq!(part.summary()[1], ("Warning", "discovery: gone".to_owned()));
    }
}
