//! The keys of one moment, as requests and jobs use them.

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey, Suite};
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_service::key_life::Moment;
use mica_service::store::StoreError;
use sha2::{Digest as _, Sha256};

use super::Schedule;
use crate::store::hpke_keys::{HpkeKeyRow, KeyLife, KeyState};

/// The keys of one moment. Private keys never leave it.
pub struct KeyRing {
    keys: Vec<RingKey>,
    configs: Vec<u8>,
    etag: String,
    /// Keys of algorithms that this version does not have: another replica is newer.
    foreign: Vec<u8>,
    mark: Vec<(u8, KeyLife)>,
}

struct RingKey {
    pair: HpkeKeypair,
    /// From when to when it is accepted, when it is no longer advertised.
    accepted: Option<[u64; 2]>,
}

impl KeyRing {
    /// The keys of these rows.
    pub(super) fn new(rows: &[HpkeKeyRow], schedule: &Schedule) -> Result<Self, StoreError> {
        let (mut keys, mut published, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Some(private_key) = &row.private_key else { continue };
            let corrupt = |column| StoreError::corrupt("hpke_keys", column);
            let config = HpkeConfig::decoded(&row.config).map_err(|_| corrupt("config"))?;
            let Some(suite) = Suite::of(&config) else {
                foreign.push(row.config_id);
                continue;
            };
            let private_key = HpkePrivateKey::from_bytes(private_key).map_err(|_| corrupt("private_key"))?;
            let pair = HpkeKeypair::from_parts(config, private_key).map_err(|_| corrupt("private_key"))?;
            let expired = row.life.state == KeyState::Accepted;
            if row.life.state == KeyState::Advertised {
                let rank = schedule.suites().iter().position(|wanted| *wanted == suite);
                published.push((rank.unwrap_or(usize::MAX), pair.config.clone()));
            }
            let ends_at = row.life.leaves_at.filter(|_| expired);
            keys.push(RingKey { pair, accepted: ends_at.map(|at| [row.life.entered_at, at]) });
        }
        published.sort_by_key(|(rank, _)| *rank);
        let published = published.into_iter().map(|(_, config)| config).collect();
        let configs =
            HpkeConfigList::new(published).map_err(|_| StoreError::corrupt("hpke_keys", "state"))?.encoded();
        let etag = format!("\"{}\"", hex::encode(Sha256::digest(&configs)));
        Ok(Self { keys, configs, etag, foreign, mark: mark(rows) })
    }

    /// The keys that are accepted at this time.
    pub fn at(&self, moment: Moment) -> Openers<'_> {
        Openers { ring: self, moment: Some(moment) }
    }

    /// All keys that there still are: for what was accepted once and is only taken up again.
    pub fn whole(&self) -> Openers<'_> {
        Openers { ring: self, moment: None }
    }

    /// The encoded list of configurations, as clients fetch it.
    pub fn configs(&self) -> &[u8] {
        &self.configs
    }

    /// A name for this list, in quotes (RFC 9110 8.8.3).
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// Whether a replica of a newer version has a key of this number that this one cannot use.
    pub(crate) fn is_foreign(&self, config_id: u8) -> bool {
        self.foreign.contains(&config_id)
    }

    pub(super) fn is_of(&self, rows: &[HpkeKeyRow]) -> bool {
        self.mark == mark(rows)
    }

    pub(super) fn foreign(&self) -> &[u8] {
        &self.foreign
    }
}

fn mark(rows: &[HpkeKeyRow]) -> Vec<(u8, KeyLife)> {
    rows.iter().map(|row| (row.config_id, row.life)).collect()
}

/// The keys of a ring that may be used for something.
#[derive(Clone, Copy)]
pub struct Openers<'a> {
    ring: &'a KeyRing,
    moment: Option<Moment>,
}

impl<'a> Openers<'a> {
    /// The key of this number.
    pub fn find(self, config_id: u8) -> Option<&'a HpkeKeypair> {
        let key = self.ring.keys.iter().find(|key| key.pair.config.id == config_id)?;
        let is_over =
            key.accepted.zip(self.moment).is_some_and(|([began, ends], moment)| moment.is_over(began, ends));
        (!is_over).then_some(&key.pair)
    }
}
