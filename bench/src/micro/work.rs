//! The pieces of work that are measured.

use std::fmt;

use weave_datapath::sleeve::seal::{Cipher, OpeningKey, SealingKey, TAG_BYTES};

/// Something that can be done again and again.
pub(crate) struct Work {
    pub(crate) name: String,
    /// Payload of one call.
    pub(crate) bytes: usize,
    pub(crate) call: Box<dyn FnMut()>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("name", &self.name).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A small frame, one that fills an underlay of 1500, and one of 9001.
const SIZES: [usize; 3] = [64, 1_400, 8_900];
/// What is authenticated in front of a payload.
const HEADER: [u8; 16] = [7; 16];

pub(crate) fn all() -> Vec<Work> {
    let ciphers = [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
    let each = ciphers.into_iter().flat_map(|cipher| SIZES.map(|bytes| (cipher, bytes)));
    each.flat_map(|(cipher, bytes)| [seal(cipher, bytes), open(cipher, bytes)]).chain(super::offload::all()).collect()
}

pub(crate) fn seal(cipher: Cipher, bytes: usize) -> Work {
    let key = SealingKey::new(cipher, &[1; 32]);
    let (mut payload, mut counter) = (vec![0x5a; bytes], 0);
    let call = Box::new(move || {
        counter += 1;
        key.seal(counter, &HEADER, &mut payload);
    });
    Work { name: format!("seal-{}-{bytes}", cipher.name()), bytes, call }
}

/// Opening decrypts in place: the sealed packet is copied back before each call, which is part of the figure.
pub(crate) fn open(cipher: Cipher, bytes: usize) -> Work {
    let key = OpeningKey::new(cipher, &[1; 32]);
    let mut sealed = vec![0x5a; bytes];
    let tag = SealingKey::new(cipher, &[1; 32]).seal(1, &HEADER, &mut sealed);
    sealed.extend_from_slice(&tag);
    let mut buffer = vec![0; bytes + TAG_BYTES];
    let call = Box::new(move || {
        buffer.copy_from_slice(&sealed);
        key.open(1, &HEADER, &mut buffer).expect("sealed with the same key");
    });
    Work { name: format!("open-{}-{bytes}", cipher.name()), bytes, call }
}
