//! The keys that clients seal input shares to, and their publication (DAP 4.4.1).
//!
//! A report is sealed to a key by number. Old keys stay in the ring as long as a client may still hold their
//! configuration; private keys never leave the ring but to be stored.

use mica_dap::codec::{Encode as _, Malformed};
use mica_dap::hpke::HpkeKeypair;
use mica_dap::hpke_config::HpkeConfigList;
use mica_service::store::{Store, StoreError};

use crate::store::hpke_keys;

/// The keys of one aggregator, the preferred one first.
pub struct KeyRing {
    keys: Vec<HpkeKeypair>,
    configs: Vec<u8>,
}

impl KeyRing {
    /// A ring of these keys, the preferred one first.
    ///
    /// # Errors
    /// When there is no key, or two with one number (DAP 4.4.1).
    pub fn new(keys: Vec<HpkeKeypair>) -> Result<Self, Malformed> {
        let configs = HpkeConfigList::new(keys.iter().map(|key| key.config.clone()).collect())?.encoded();
        Ok(Self { keys, configs })
    }

    /// The keys in the database; a fresh one where there is none yet.
    ///
    /// # Errors
    /// When the database fails or holds keys that this program cannot have written.
    pub async fn load(store: &Store, now: u64) -> Result<Self, StoreError> {
        let keys = store.tx("hpke_keys", move |mut tx| async move {
            let mut rows = hpke_keys::keys(&mut tx).await?;
            if rows.is_empty() {
                rows.push(insert_fresh(&mut tx, now).await?);
            }
            Ok((tx, rows))
        });
        let keys = keys.await?.iter().map(keypair).collect::<Option<Vec<_>>>();
        keys.and_then(|keys| Self::new(keys).ok()).ok_or_else(|| StoreError::corrupt("hpke_keys", "private_key"))
    }

    /// The key of this number.
    pub fn find(&self, config_id: u8) -> Option<&HpkeKeypair> {
        self.keys.iter().find(|key| key.config.id == config_id)
    }

    /// The encoded list of configurations, as clients fetch it.
    pub fn configs(&self) -> &[u8] {
        &self.configs
    }
}
