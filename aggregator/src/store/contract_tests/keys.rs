//! Keys: an identifier is given once, states change as they are guarded to, and what is destroyed is gone.

use zeroize::Zeroizing;

use super::{attempt, commit, stores};
use crate::store::hpke_keys::{
    HpkeKeyRow, KeyLife, KeyState, destroy_key, forget_key, insert_key, keys, move_key, note_cached_for,
};

fn key(config_id: u8, created_at: u64) -> HpkeKeyRow {
    let life = KeyLife {
        state: KeyState::Pending,
        created_at,
        entered_at: created_at,
        leaves_at: Some(created_at + 60),
        cached_for: 7,
    };
    let private_key = Some(Zeroizing::new(vec![3; 32]));
    HpkeKeyRow { config_id, config: vec![1, 2], private_key, life }
}

#[tokio::test]
async fn a_key_identifier_is_given_once() {
    for (_database, store) in stores().await {
        let (first, newer) = (&key(255, 10), &key(0, 11));
        assert!(commit!(store, |tx| insert_key(tx, first)));
        assert!(!commit!(store, |tx| insert_key(tx, first)));
        assert!(commit!(store, |tx| insert_key(tx, newer)));
        let stored = commit!(store, |tx| keys(tx));
        assert_eq!(stored.iter().map(|key| key.config_id).collect::<Vec<_>>(), [0, 255]);
        assert!(stored[1].private_key == first.private_key && stored[1].config == first.config);
        assert_eq!(stored[1].life, first.life);
    }
}

#[tokio::test]
async fn a_key_leaves_only_the_state_it_is_in() {
    use KeyState::{Accepted, Advertised, Destroyed, Pending};
    for (_database, store) in stores().await {
        let row = &key(7, 10);
        assert!(commit!(store, |tx| insert_key(tx, row)));
        assert!(!commit!(store, |tx| move_key(tx, 7, [Advertised, Accepted], 20, None)));
        assert!(commit!(store, |tx| move_key(tx, 7, [Pending, Advertised], 20, None)));
        assert!(!commit!(store, |tx| move_key(tx, 8, [Pending, Advertised], 20, None)));
        commit!(store, |tx| note_cached_for(tx, 90));
        commit!(store, |tx| note_cached_for(tx, 80));
        assert!(!commit!(store, |tx| destroy_key(tx, 7, 30, 40)), "it is advertised");
        assert!(!commit!(store, |tx| forget_key(tx, 7)));
        assert!(commit!(store, |tx| move_key(tx, 7, [Advertised, Accepted], 30, Some(50))));
        assert!(commit!(store, |tx| destroy_key(tx, 7, 60, 70)));
        let stored = commit!(store, |tx| keys(tx));
        assert!(stored[0].private_key.is_none(), "erased");
        let life =
            KeyLife { state: Destroyed, created_at: 10, entered_at: 60, leaves_at: Some(70), cached_for: 90 };
        assert_eq!(stored[0].life, life);
        assert!(!commit!(store, |tx| insert_key(tx, row)), "its identifier rests");
        assert!(commit!(store, |tx| forget_key(tx, 7)));
        assert!(commit!(store, |tx| insert_key(tx, row)));
    }
}

#[tokio::test]
async fn a_key_without_a_private_half_is_destroyed_or_not_stored() {
    for (_database, store) in stores().await {
        let row = &HpkeKeyRow { private_key: None, ..key(1, 10) };
        assert!(attempt!(store, |tx| insert_key(tx, row)).is_err());
    }
}
