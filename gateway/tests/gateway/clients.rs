//! Clients of mica in front of a relay that mirrors the gateway's keys.

use bytes::Bytes;
use http::Request;
use mica_client::{Client, ClientError, TaskBundle};
use mica_dap::{
    Draft,
    codec::Encode as _,
    hpke::HpkeKeypair,
    hpke_config::HpkeConfigList,
    id::TaskId,
    media::Media,
    task::{BatchMode, TaskParameters},
    time::TimePrecision,
    vdaf_config::VdafConfig,
};
use mica_envelope::{KeyConfigList, history::History};
use mica_gateway::{Config, Outcome};
use mica_relay::{MirrorConfig, Relay};
use mica_service::{clock::Clock, shutdown::Shutdown, testing::sqlite};
use tokio::net::TcpListener;

use crate::world::{Target, World, routes};

const DAY: u64 = 86_400;

fn bundle(relay: String, keys: Vec<u8>, history_key: Option<[u8; 32]>) -> TaskBundle {
    let parameters = TaskParameters {
        task_info: b"clients".to_vec(),
        leader_url: "https://leader.example/".to_owned(),
        helper_url: "https://leader.example/".to_owned(),
        time_precision: TimePrecision::new(60).unwrap(),
        min_batch_size: 3,
        batch_mode: BatchMode::TimeInterval,
        vdaf: VdafConfig::Count,
        task_interval: None,
    };
    TaskBundle {
        task_id: TaskId::new([1; 32]),
        draft: Draft::V18,
        configuration: parameters.build(Draft::V18).unwrap(),
        relay,
        ohttp_keys: KeyConfigList::parse(keys).unwrap(),
        history_key,
    }
}

/// Both aggregators publish this list.
fn hpke_configs() -> axum::response::Response {
    let config = HpkeKeypair::generate(5, &mut rand::rng()).config;
    let list = HpkeConfigList::new(vec![config]).unwrap().encoded();
    let media = Media::HpkeConfigList.header();
    axum::response::Response::builder().header("content-type", media).body(list.into()).unwrap()
}

#[tokio::test]
async fn a_client_with_a_bundle_of_long_ago_goes_on_with_what_the_mirror_shows_and_without_it_is_told() {
    let target = Target::new(|_| hpke_configs());
    let (database, clock) = (sqlite(), Clock::manual(1_700_000_000));
    let config = Config::new("127.0.0.1:0", database.url.clone(), routes(target.start().await));
    let world = World::over(config, clock.clone()).await;
    let (old, signer) = (world.ring.list(), History::from_json(&world.ring.history()).unwrap().key);
    // The first key is replaced, accepted for a while, and destroyed.
    for _ in 0..40 {
        clock.advance(DAY);
        world.ring.renew().await.unwrap();
        clock.advance(61);
        world.ring.renew().await.unwrap();
    }
    assert_ne!(world.ring.list(), old);

    let mut config = mica_relay::Config::new("127.0.0.1:0", format!("http://{}/", world.gateway));
    config.mirror = Some(MirrorConfig::default());
    let relay = Relay::build(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(relay.run(listener, Shutdown::new()));
    loop {
        let url = format!("http://{address}{}", mica_envelope::history::PATH);
        let request = Request::get(url).body(Bytes::new()).unwrap();
        if world.http.send(request).await.unwrap().status() == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let client = Client::new(bundle(format!("http://{address}/"), old.clone(), Some(signer)));
    client.builder().await.unwrap();
    assert_eq!(client.bundle().await.ohttp_keys.encoded(), world.ring.list());
    assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::Key)), (2, 0));

    // The first relay shows nothing.
    for (history_key, why) in [(Some(signer), "no keys"), (None, "history_key")] {
        let client = Client::new(bundle(format!("http://{}/", world.relay), old.clone(), history_key));
        let refused = client.builder().await.map(drop).unwrap_err();
        assert!(matches!(&refused, ClientError::StaleOhttpKey(said) if said.contains(why)), "{refused}");
    }
    assert_eq!(target.seen().len(), 2);
}
