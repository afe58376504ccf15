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
    #[error("password {0} has fewer than {PASSWORD_MIN_BYTES} octets; make one with `weave-rs genkey`")]
    TooShort(usize),
    #[error("password {0} has more than {PASSWORD_MAX_BYTES} octets; give one password per line")]
    TooLong(usize),
    #[error("more than {PASSWORDS_MAX} passwords; keep the new and the old one during a rotation")]
    TooMany,
    #[error("no password in {0}; put one on each line, or leave the option out for a mesh without encryption")]
    Empty(String),
    #[error("cannot read password file {}: {source}; check --password-file", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("both --password-file and WEAVE_PASSWORD are given; keep one of them")]
    TwoSources,
    #[error("cannot derive a key from password {0}: {1}")]
    Derivation(usize, argon2::Error),
}

impl Passwords {
    /// From `--password-file` or the value of `WEAVE_PASSWORD`, one per line; without either the mesh has none.
    ///
    /// # Errors
    /// Says which password is unusable by its position, or why the file cannot be read.
    pub fn gather(file: Option<&Path>, variable: Option<Zeroizing<String>>) -> Result<Self, PasswordError> {
        match (file, variable) {
            (Some(_), Some(_)) => Err(PasswordError::TwoSources),
            (Some(path), None) => {
                let unreadable = |source| PasswordError::Unreadable { path: path.to_owned(), source };
                let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
                Self::parse(&text, &path.display().to_string())
            }
            (None, Some(text)) => Self::parse(&text, "WEAVE_PASSWORD"),
            (None, None) => Ok(Self::default()),
        }
    }

    fn parse(text: &str, source: &str) -> Result<Self, PasswordError> {
        let mut passwords = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let position = passwords.len() + 1;
            match line.len() {
                _ if position > PASSWORDS_MAX => return Err(PasswordError::TooMany),
                0..PASSWORD_MIN_BYTES => return Err(PasswordError::TooShort(position)),
                PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES => {}
                _ => return Err(PasswordError::TooLong(position)),
            }
            passwords.push(Password(Zeroizing::new(line.to_owned())));
        }
        if passwords.is_empty() {
            return Err(PasswordError::Empty(source.to_owned()));
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
        Passwords::parse(text, "test")
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
    fn a_short_password_is_refused_by_its_position() {
        let error = parse("long enough for us\nshort\n").unwrap_err();

        assert!(matches!(error, PasswordError::TooShort(2)));
        assert!(!error.to_string().contains("short\n") && error.to_string().contains("genkey"));
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
