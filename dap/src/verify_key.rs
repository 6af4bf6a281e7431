//! Verification keys derived from a secret that the aggregators share (DAP 8.6.2 and task provisioning).
//!
//! Derived from the task identifier alone, so the key is fixed before any report exists. No client may
//! learn the secret or the key.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use crate::id::TaskId;
use crate::vdaf::VerifyKey;

impl VerifyKey {
    /// The key of a task under a seed of the aggregators, as DAP 8.6.2 suggests.
    pub fn derive(seed: &[u8], task: &TaskId) -> Self {
        expand(b"verify_key", seed, task)
    }

    /// The key of a task that was provisioned in band, from the secret made for that.
    pub fn derive_provisioned(secret: &[u8; 32], task: &TaskId) -> Self {
        expand(&Sha256::digest(b"dap-taskprov"), secret, task)
    }
}

fn expand(salt: &[u8], secret: &[u8], task: &TaskId) -> VerifyKey {
    let mut key = [0; VerifyKey::LENGTH];
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(task.as_bytes(), &mut key)
        .expect("32 bytes are fewer than the expansion can give");
    VerifyKey::new(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_both_derivations() {
        let task: TaskId = "NYSKiYrbFGtVk4UkfH5J2xy9KK9S48Ec-wHU_EtJBHk".parse().unwrap();
        let secret: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(
            hex::encode(VerifyKey::derive(&secret, &task).as_bytes()),
            "62373b194870d72517396a4a0ef4e5db4222ec9ac809cba2670300a7bb21c88f"
        );
        assert_eq!(
            hex::encode(VerifyKey::derive_provisioned(&secret, &task).as_bytes()),
            "b8e92261737fbd368b4cd5b17fdafd6d8fe587f2696df6cd07b618167c2c83d0"
        );
    }
}
