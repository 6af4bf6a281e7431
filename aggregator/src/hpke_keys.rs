//! The keys that clients seal input shares to, and their publication (DAP 4.4.1).
//!
//! A report is sealed to a key by number. Old keys stay in the ring as long as a client may still hold their
//! configuration; private keys never leave the ring but to be stored.

use mica_dap::codec::{Decode as _, Encode as _, Malformed};
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey};
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_service::store::{Store, StoreError, Tx};
use zeroize::Zeroizing;

use crate::store::hpke_keys::{self, HpkeKeyRow, KeyState};

/// The keys of one aggregator.
pub struct KeyRing {
    keys: Vec<HpkeKeypair>,
    configs: Vec<u8>,
}

impl KeyRing {
    /// A ring of keys to publish, the preferred one first, and of others that only open.
    ///
    /// # Errors
    /// When no key is to be published, or two have one number (DAP 4.4.1).
    pub fn new(published: Vec<HpkeKeypair>, unpublished: Vec<HpkeKeypair>) -> Result<Self, Malformed> {
        let configs =
            HpkeConfigList::new(published.iter().map(|key| key.config.clone()).collect())?.encoded();
        Ok(Self { keys: published.into_iter().chain(unpublished).collect(), configs })
    }

    /// The keys in the database; a fresh one where there is none yet.
    ///
    /// # Errors
    /// When the database fails or holds keys that this program cannot have written.
    pub async fn load(store: &Store, now: u64) -> Result<Self, StoreError> {
        let rows = store.tx("hpke_keys", move |mut tx| async move {
            let mut rows = hpke_keys::keys(&mut tx).await?;
            if !rows.iter().any(|row| row.state == KeyState::Active) {
                rows = insert_fresh(&mut tx, rows, now).await?;
            }
            Ok((tx, rows))
        });
        let (mut published, mut unpublished) = (Vec::new(), Vec::new());
        for row in rows.await? {
            let keypair = keypair(&row).ok_or_else(|| StoreError::corrupt("hpke_keys", "private_key"))?;
            let ring = if row.state == KeyState::Active { &mut published } else { &mut unpublished };
            ring.push(keypair);
        }
        Self::new(published, unpublished).map_err(|_| StoreError::corrupt("hpke_keys", "config"))
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

/// Two replicas that start at once may both try; the number decides which key is kept.
async fn insert_fresh(tx: &mut Tx, rows: Vec<HpkeKeyRow>, now: u64) -> Result<Vec<HpkeKeyRow>, StoreError> {
    let free =
        (0..=u8::MAX).find(|id| rows.iter().all(|row| row.config_id != *id)).ok_or(StoreError::OutOfRange)?;
    let keypair = HpkeKeypair::generate(free, &mut rand::rng());
    let row = HpkeKeyRow {
        config_id: free,
        config: keypair.config.encoded(),
        private_key: Zeroizing::new(keypair.private_key.to_bytes().to_vec()),
        state: KeyState::Active,
        created_at: now,
    };
    hpke_keys::insert_key(tx, &row).await?;
    hpke_keys::keys(tx).await
}

fn keypair(row: &HpkeKeyRow) -> Option<HpkeKeypair> {
    let private_key = HpkePrivateKey::from_bytes(&row.private_key).ok()?;
    HpkeKeypair::from_parts(HpkeConfig::decoded(&row.config).ok()?, private_key).ok()
}
