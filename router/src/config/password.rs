//! The operator's secrets: passwords in, pre-shared keys out. Neither is ever printed, and both are wiped when dropped.
//!
//! Several passwords serve a rotation: the first one seals what this host starts, all of them open what others start.

use std::fmt;
use std::path::{Path, PathBuf};

use rand_core::{OsRng, RngCore};
use weave_mesh::noise::Psk;
use zeroize::Zeroizing;

/// A shorter password could be guessed offline from one recorded handshake.
pub const PASSWORD_MIN_BYTES: usize = 12;
/// Longer ones are more likely a wrong file than a password.
const PASSWORD_MAX_BYTES: usize = 1_024;
/// An unauthenticated handshake costs one attempt per password, and a rotation needs two.
const PASSWORDS_MAX: usize = 4;
/// Fixed, since every host must derive the same key from the password alone.
const SALT: &[u8] = b"weave-rs psk v1";
const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;
const ARGON2_LANES: u32 = 1;

/// One password of at least [`PASSWORD_MIN_BYTES`].
pub struct Password(Zeroizing<String>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// All passwords of this host, the first one first; empty when the mesh has none.
#[derive(Debug, Default)]
pub struct Passwords(Vec<Password>);

/// Why there are no usable passwords. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("line {line} of {origin} {fault}")]
    Line { origin: String, line: usize, fault: LineFault },
    #[error("{0} holds more than {PASSWORDS_MAX} passwords; keep the new and the old one during a rotation")]
    TooMany(String),
    #[error("no password in {0}; put one on each line, or leave it out for a mesh without encryption")]
    Empty(String),
    #[error("cannot read password file {}: {source}; check --password-file", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("both {0} and {1} are given; keep one of them")]
    TwoSources(&'static str, &'static str),
    #[error("cannot derive a key from password {0}: {1}")]
    Derivation(usize, argon2::Error),
}

/// What is wrong with a line, completing "line N of …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    #[error("has fewer than {PASSWORD_MIN_BYTES} octets; make a password with `weave-rs genkey`")]
    TooShort,
    #[error("has more than {PASSWORD_MAX_BYTES} octets; give one password per line")]
    TooLong,
    #[error("begins with a byte order mark; save the file as plain UTF-8 without one")]
    ByteOrderMark,
    #[error("holds a NUL or is UTF-16; save the file as plain UTF-8")]
    Nul,
    #[error("is no UTF-8; save the file as plain UTF-8")]
    NotUtf8,
    #[error("holds a carriage return; end lines with a line feed, or with both")]
    CarriageReturn,
    #[error("holds a character that cannot be seen; type the password again")]
    Invisible,
    #[error("begins or ends with a blank; take the blank away")]
    Blank,
    #[error("begins with `#`; a password file has no comments, and a password begins otherwise")]
    Comment,
}

/// Where passwords may be given; one of these at most.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// `--password-file`.
    pub file: Option<&'a Path>,
    /// `--password`.
    pub option: Option<Zeroizing<String>>,
    /// The value of `WEAVE_PASSWORD`.
    pub variable: Option<Zeroizing<String>>,
}

impl Passwords {
    /// From the one source that is given, one password per line; without any the mesh has none.
    ///
    /// # Errors
    /// Says which line is unusable, or why the file cannot be read.
    pub fn gather(sources: Sources<'_>) -> Result<Self, PasswordError> {
        match (sources.file, sources.option, sources.variable) {
            (Some(_), Some(_), _) => Err(PasswordError::TwoSources("--password-file", "--password")),
            (Some(_), None, Some(_)) => Err(PasswordError::TwoSources("--password-file", "WEAVE_PASSWORD")),
            (None, Some(_), Some(_)) => Err(PasswordError::TwoSources("--password", "WEAVE_PASSWORD")),
            (Some(path), None, None) => {
                let unreadable = |source| PasswordError::Unreadable { path: path.to_owned(), source };
                let bytes = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
                Self::parse(&bytes, &path.display().to_string())
            }
            (None, Some(text), None) => Self::parse(text.as_bytes(), "--password"),
            (None, None, Some(text)) => Self::parse(text.as_bytes(), "WEAVE_PASSWORD"),
            (None, None, None) => Ok(Self::default()),
        }
    }

    /// Of what somebody else keeps, called `origin` in errors; one per line.
    ///
    /// # Errors
    /// Says which line is unusable.
    pub fn of_text(text: &str, origin: &str) -> Result<Self, PasswordError> {
        Self::parse(text.as_bytes(), origin)
    }

    /// Lines end with a line feed, or with a carriage return and a line feed; empty ones are skipped.
    fn parse(bytes: &[u8], origin: &str) -> Result<Self, PasswordError> {
        let mut passwords = Vec::new();
        for (index, line) in bytes.split(|octet| *octet == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let fault = |fault| PasswordError::Line { origin: origin.to_owned(), line: index + 1, fault };
            let text = check(line).map_err(fault)?;
            if passwords.len() == PASSWORDS_MAX {
                return Err(PasswordError::TooMany(origin.to_owned()));
            }
            passwords.push(Password(Zeroizing::new(text.to_owned())));
        }
        if passwords.is_empty() {
            return Err(PasswordError::Empty(origin.to_owned()));
        }
        Ok(Self(passwords))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pre-shared keys, in order; one of zeros when there is no password. Takes tens of milliseconds each.
    ///
    /// # Errors
    /// When Argon2 refuses, which fixed parameters rule out.
    pub fn derive(&self) -> Result<Zeroizing<Vec<Psk>>, PasswordError> {
        if self.is_empty() {
            return Ok(Zeroizing::new(vec![Psk::default()]));
        }
        let keys = self.0.iter().enumerate().map(|(index, password)| {
            derive_key(password.0.as_bytes()).map_err(|error| PasswordError::Derivation(index + 1, error))
        });
        keys.collect::<Result<Vec<Psk>, _>>().map(Zeroizing::new)
    }
}

/// The password of a line, if what is seen of it in an editor is all that there is: whatever else an editor or a shell
/// leaves in a file would make another password, silently.
fn check(line: &[u8]) -> Result<&str, LineFault> {
    const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
    if line.contains(&0) || UTF16_MARKS.iter().any(|mark| line.starts_with(mark)) {
        return Err(LineFault::Nul);
    }
    let text = str::from_utf8(line).map_err(|_| LineFault::NotUtf8)?;
    match text {
        _ if text.starts_with('\u{feff}') => Err(LineFault::ByteOrderMark),
        _ if text.contains('\r') => Err(LineFault::CarriageReturn),
        _ if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) => Err(LineFault::Blank),
        _ if text.contains(is_invisible) => Err(LineFault::Invisible),
        _ if text.starts_with('#') => Err(LineFault::Comment),
        _ if text.len() < PASSWORD_MIN_BYTES => Err(LineFault::TooShort),
        _ if text.len() > PASSWORD_MAX_BYTES => Err(LineFault::TooLong),
        _ => Ok(text),
    }
}

/// Control characters, and those of no width that come along when text is copied.
fn is_invisible(character: char) -> bool {
    let has_no_width = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{feff}');
    character.is_control() || has_no_width
}

fn derive_key(password: &[u8]) -> Result<Psk, argon2::Error> {
    let params = argon2::Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(size_of::<Psk>()))?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Psk::default();
    argon2.hash_password_into(password, SALT, &mut key)?;
    Ok(key)
}

/// A fresh 256-bit password as 64 hexadecimal digits, for `weave-rs genkey`.
pub fn generate() -> Zeroizing<String> {
    let mut secret = Zeroizing::new([0_u8; 32]);
    OsRng.fill_bytes(secret.as_mut());
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len()));
    for octet in secret.iter() {
        text.push(char::from_digit(u32::from(octet >> 4), 16).unwrap_or_default());
        text.push(char::from_digit(u32::from(octet & 0xf), 16).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Passwords, PasswordError> {
        Passwords::parse(text.as_bytes(), "test")
    }

    /// Line and fault of a file that is refused.
    fn fault(bytes: &[u8]) -> Option<(usize, LineFault)> {
        match Passwords::parse(bytes, "test") {
            Err(PasswordError::Line { line, fault, .. }) => Some((line, fault)),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn the_first_line_is_the_first_password() {
        let both = parse("correct horse battery\nthe old password\n").unwrap().derive().unwrap();
        let first = parse("correct horse battery").unwrap().derive().unwrap();

        assert_eq!(both.len(), 2);
        assert_eq!(both[0], first[0]);
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn a_short_password_is_refused_by_its_line() {
        let error = parse("long enough for us\n\nshort\n").unwrap_err();

        assert!(matches!(error, PasswordError::Line { line: 3, fault: LineFault::TooShort, .. }));
        assert!(!error.to_string().contains("short\n") && error.to_string().contains("genkey"));
    }

    #[test]
    fn what_an_editor_or_a_shell_may_leave_behind_is_refused_by_its_line_and_never_another_password() {
        let utf16: Vec<u8> = "correct horse battery\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked: Vec<u8> = [b"\xff\xfe", utf16.as_slice()].concat();

        for (bytes, refused) in [
            ("\u{feff}correct horse battery\n".as_bytes(), (1, LineFault::ByteOrderMark)),
            (b"long enough for us\ncorrect horse battery \n", (2, LineFault::Blank)),
            (b"\tcorrect horse battery\n", (1, LineFault::Blank)),
            ("correct horse battery\u{a0}\n".as_bytes(), (1, LineFault::Blank)),
            (b"   \ncorrect horse battery\n", (1, LineFault::Blank)),
            (b"correct horse battery\rlong enough for us\r", (1, LineFault::CarriageReturn)),
            (b"correct horse battery\r\r\n", (1, LineFault::CarriageReturn)),
            (b"correct horse battery\0\n", (1, LineFault::Nul)),
            (&utf16, (1, LineFault::Nul)),
            (&marked, (1, LineFault::Nul)),
            (b"correct horse batt\xe9ry\n", (1, LineFault::NotUtf8)),
            (b"# of the mesh in Berlin\ncorrect horse battery\n", (1, LineFault::Comment)),
            (b"correct\x1bhorse battery\n", (1, LineFault::Invisible)),
            ("correct\u{200b}horse battery\n".as_bytes(), (1, LineFault::Invisible)),
        ] {
            assert_eq!(fault(bytes), Some(refused), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_ends_in_either_way_and_the_password_is_the_same() {
        let unix = parse("correct horse battery\nthe old password\n").unwrap().derive().unwrap();

        for text in ["correct horse battery\r\nthe old password\r\n", "\ncorrect horse battery\n\nthe old password"] {
            assert_eq!(*parse(text).unwrap().derive().unwrap(), *unix, "{text:?}");
        }
    }

    #[test]
    fn two_sources_are_one_too_many() {
        let given = || Some(Zeroizing::new("correct horse battery".to_owned()));
        let file = Some(Path::new("/passwords"));

        for sources in [
            Sources { file, option: given(), variable: None },
            Sources { file, option: None, variable: given() },
            Sources { file: None, option: given(), variable: given() },
        ] {
            assert!(matches!(Passwords::gather(sources), Err(PasswordError::TwoSources(..))));
        }
        assert!(Passwords::gather(Sources { option: given(), ..Sources::default() }).is_ok());
    }

    #[test]
    fn an_empty_file_is_no_silent_fall_back_to_a_clear_mesh() {
        assert!(matches!(parse("\n\n"), Err(PasswordError::Empty(_))));
    }

    #[test]
    fn without_a_password_the_key_is_zero() {
        assert_eq!(*Passwords::default().derive().unwrap(), vec![[0; 32]]);
    }

    #[test]
    fn passwords_are_not_printed() {
        assert!(!format!("{:?}", parse("correct horse battery").unwrap()).contains("horse"));
    }

    #[test]
    fn a_generated_key_is_a_usable_password_and_never_the_same() {
        let (one, two) = (generate(), generate());

        assert_eq!(one.len(), 64);
        assert_ne!(*one, *two);
        assert!(parse(&one).is_ok());
    }
}
