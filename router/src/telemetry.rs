//! The log: one line per event to standard error, in the form that journald expects when it is the reader.
//!
//! Levels: ERROR broken · WARN unusual and worth a human · INFO a peer or carrier changed state · DEBUG a decision off
//! the happy path · TRACE per frame. Messages are constant text, values are fields: `peer`, `remote`, `overlay`,
//! `reason`, `mtu`. Keys and passwords are never fields; container names are at DEBUG. Whatever a field holds stays in its
//! line and moves no cursor.

use std::fmt::{self, Debug};
use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::shown::Shown;

/// journald adds time and unit itself, and reads the priority from a `<N>` prefix.
struct Journal(Format<tracing_subscriber::fmt::format::Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// The message as it is, every other field as `name=value`.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = Shown(format_args!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// Whether `JOURNAL_STREAM`, which systemd sets to `device:inode`, names our standard error: a child of a service that
/// redirects its output inherits the variable but not the stream.
fn is_journal(variable: Option<&str>) -> bool {
    let numbers = variable.and_then(|text| text.split_once(':'));
    let stream = numbers.and_then(|(device, inode)| Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?)));
    let standard_error = rustix::fs::fstat(std::io::stderr().as_fd()).ok();
    stream.zip(standard_error).is_some_and(|(stream, stat)| stream == (stat.st_dev, stat.st_ino))
}

/// Starts the log; `level` is `error`, `warn`, `info`, `debug`, `trace`, or a list of `target=level`.
///
/// # Errors
/// When `level` is none of these.
pub fn start(level: &str) -> Result<(), InvalidLevel> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(level).map_err(|_| InvalidLevel(level.to_owned()))?;
    let fields = debug_fn(write_field).delimited(" ");
    let builder = tracing_subscriber::fmt().fmt_fields(fields).with_env_filter(filter).with_writer(std::io::stderr);
    let started = if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        let format = Format::default().without_time().with_level(false).with_ansi(false);
        builder.event_format(Journal(format)).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    // A second start in one process keeps the first log.
    let _ = started;
    Ok(())
}

/// A `--log-level` that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no log level; give error, warn, info, debug or trace")]
pub struct InvalidLevel(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_standard_error_is_the_journal() {
        let stat = rustix::fs::fstat(std::io::stderr().as_fd()).unwrap();

        assert!(is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        for other in [None, Some(""), Some("1:2"), Some("x:y")] {
            assert!(!is_journal(other));
        }
    }
}
