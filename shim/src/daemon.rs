//! Questions to the daemon, over its unix socket: HTTP, one request a connection.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest answer that is read, octets.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// How often a daemon that is away is looked for.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not there, or not ready; it may be soon.
    Away(String),
    /// It has answered that it cannot be.
    Refused(String),
}

/// Asks until there is an answer or `deadline` is over. The answer is the body, or nothing when the daemon has nothing to say.
///
/// # Errors
/// The reason, for a person.
pub(crate) fn ask(
    socket: &Path,
    path: &str,
    form: &[(&str, &str)],
    deadline: Instant,
) -> Result<Option<String>, String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match post(socket, path, form, left) {
            Ok(answer) => return Ok(answer),
            Err(Failure::Refused(why)) => return Err(why),
            Err(Failure::Away(why)) if left <= RETRY_INTERVAL => return Err(why),
            Err(Failure::Away(_)) => std::thread::sleep(RETRY_INTERVAL),
        }
    }
}

fn post(socket: &Path, path: &str, form: &[(&str, &str)], left: Duration) -> Result<Option<String>, Failure> {
    let away = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Away("the weave-rs daemon does not answer".to_owned()),
        _ => Failure::Away(format!("the weave-rs daemon does not run ({}: {error})", socket.display())),
    };
    let mut stream = UnixStream::connect(socket).map_err(away)?;
    let patience = Some(left.max(RETRY_INTERVAL));
    stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).map_err(away)?;
    stream.write_all(&request(path, form, left)).map_err(away)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer).map_err(away)?;
    read(&answer)
}

fn request(path: &str, form: &[(&str, &str)], left: Duration) -> Vec<u8> {
    let wait = left.as_secs().max(1).to_string();
    let fields = form.iter().copied().chain([("wait", wait.as_str())]);
    let body = fields.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: weave-rs\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// As in a form (WHATWG URL, `application/x-www-form-urlencoded`).
fn escaped(text: &str) -> String {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    text.bytes()
        .map(|octet| if is_plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

fn read(answer: &[u8]) -> Result<Option<String>, Failure> {
    let strange = || Failure::Away("the weave-rs daemon ended before it had answered".to_owned());
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(strange)?;
    let why = || body.trim().to_owned();
    match status {
        204_u16 => Ok(None),
        200..=299 => Ok(Some(body.to_owned())),
        // It starts or stops.
        503 => Err(Failure::Away(why())),
        _ => Err(Failure::Refused(why())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_answer_is_read_by_its_status() {
        assert!(matches!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"), Ok(Some(body)) if body == "hi"));
        assert!(matches!(read(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(None)));
        assert!(matches!(read(b"HTTP/1.1 503 x\r\n\r\nlater"), Err(Failure::Away(why)) if why == "later"));
        assert!(matches!(read(b"HTTP/1.1 400 x\r\n\r\nno\n"), Err(Failure::Refused(why)) if why == "no"));
        for cut in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"x\r\n\r\n", b"\xff \xff\r\n\r\n"] {
            assert!(matches!(read(cut), Err(Failure::Away(_))));
        }
    }

    #[test]
    fn a_form_is_escaped() {
        let request = request("/p", &[("a", "net:10.0.0.0/8 é")], Duration::from_millis(2_500));
        let text = String::from_utf8(request).unwrap();

        assert!(text.ends_with("\r\n\r\na=net%3A10.0.0.0%2F8%20%C3%A9&wait=2"), "{text}");
        assert!(text.contains("Content-Length: 36\r\n"), "{text}");
    }

    #[test]
    fn a_daemon_that_comes_late_is_waited_for() {
        let path = std::env::temp_dir().join(format!("weave-rs-late-{}", std::process::id()));
        let deadline = Instant::now() + Duration::from_secs(30);
        let late = {
            let path = path.clone();
            std::thread::spawn(move || {
                let listener = UnixListener::bind(&path).unwrap();
                for answer in ["HTTP/1.1 503 x\r\n\r\nnot ready", "HTTP/1.1 200 x\r\n\r\ndone"] {
                    let (mut stream, _) = listener.accept().unwrap();
                    let _ = stream.read(&mut [0; 4_096]).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            })
        };

        assert_eq!(ask(&path, "/x", &[], deadline), Ok(Some("done".to_owned())));
        late.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        let why = ask(&path, "/x", &[], Instant::now()).unwrap_err();
        assert!(why.contains("does not run"), "{why}");
    }
}
