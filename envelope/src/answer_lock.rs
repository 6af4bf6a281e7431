//! Locks the answer to a request with the request: what a gateway keeps can be read by nobody who has not opened the
//! very request that it answers, the gateway's own database included.

use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};

/// The key to the kept answers of one request. A copy of the sealed request, opened again, gives it again.
///
/// # Privacy
/// It is as hard to guess as the request: a report holds an identifier and ciphertexts drawn at random. A request that
/// anybody could have written, as one for public keys is, has an answer that anybody may read.
#[derive(Clone)]
pub struct AnswerLock(Box<LessSafeKey>);

/// No source of random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an answer could not be locked")]
pub struct NotLocked;

impl AnswerLock {
    /// By how much a locked answer is longer than the answer: its nonce and its tag.
    pub const OVERHEAD: usize = NONCE_LEN + 16;

    /// The lock of the request with this encapsulated key and this plaintext.
    pub fn of(enc: &[u8], plaintext: &[u8]) -> Self {
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(plaintext);
        let info = [enc];
        let key = secret.expand(&info, &AES_128_GCM).expect("a key is shorter than HKDF can give");
        Self(Box::new(LessSafeKey::new(UnboundKey::from(key))))
    }

    /// `answer` under a fresh nonce, which is put before it.
    pub fn lock(&self, answer: &[u8]) -> Result<Vec<u8>, NotLocked> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| NotLocked)?;
        let mut locked = answer.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut locked)
            .map_err(|_| NotLocked)?;
        Ok([nonce.as_slice(), &locked].concat())
    }

    /// What was locked; nothing when this is not its lock.
    pub fn unlock(&self, locked: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = locked.split_first_chunk::<NONCE_LEN>()?;
        let mut answer = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::empty(), &mut answer).ok()?.len();
        answer.truncate(length);
        Some(answer)
    }
}

const LABEL: &[u8] = b"mica stored answer 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_own_request_and_with_no_other() {
        let lock = AnswerLock::of(b"enc", b"request");
        let locked = lock.lock(b"the answer").unwrap();
        assert_eq!(locked.len(), b"the answer".len() + AnswerLock::OVERHEAD);
        assert!(!locked.windows(6).any(|window| window == b"answer"));
        assert_eq!(AnswerLock::of(b"enc", b"request").unlock(&locked).unwrap(), b"the answer");
        for other in [AnswerLock::of(b"enc", b"requesu"), AnswerLock::of(b"end", b"request")] {
            assert!(other.unlock(&locked).is_none());
        }
        for cut in 0..locked.len() {
            assert!(lock.unlock(&locked[..cut]).is_none());
        }
        assert_ne!(locked, lock.lock(b"the answer").unwrap(), "each time under a nonce of its own");
    }
}
