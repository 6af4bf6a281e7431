//! Keys that change while clients send: nobody who keeps the rules of a cache is refused.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_envelope::{ClientEnvelope, Kem, KeyConfigList, history::History};
use mica_gateway::{
    Config, MIGRATOR, Outcome,
    keys::{Schedule, rotate},
};
use mica_service::{
    clock::Clock,
    http::{HttpClient, HttpOptions},
    testing::databases,
};

use crate::world::{Target, World, created, open, routes, start_gateway, upload};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

async fn get(http: &HttpClient, from: SocketAddr, path: &str) -> http::Response<Bytes> {
    let request = Request::get(format!("http://{from}{path}")).body(Bytes::new()).unwrap();
    http.send(request).await.unwrap()
}

async fn fetch(http: &HttpClient, from: SocketAddr) -> KeyConfigList {
    KeyConfigList::parse(get(http, from, "/ohttp-keys").await.into_body()).unwrap()
}

/// A client that fetches the list when its copy is as old as it may be, from one replica, and sends to another.
struct Client {
    replicas: [SocketAddr; 2],
    clock: Clock,
    sent: Arc<[AtomicUsize; 8]>,
    stop: Arc<AtomicBool>,
}

impl Client {
    async fn run(self, number: usize) -> usize {
        let http = HttpClient::new(HttpOptions::default());
        // Copies are of different ages from the beginning.
        let mut fetched_at = self.clock.now() - 3 * HOUR * number as u64;
        let mut keys = fetch(&http, self.replicas[number % 2]).await;
        let mut lists = 1;
        while !self.stop.load(Ordering::SeqCst) {
            let now = self.clock.now();
            if fetched_at + DAY <= now {
                let fresh = fetch(&http, self.replicas[number % 2]).await;
                lists += usize::from(fresh.encoded() != keys.encoded());
                (keys, fetched_at) = (fresh, now);
            }
            let (sealed, opener) = ClientEnvelope::seal(&keys, &upload()).unwrap();
            let request = Request::post(format!("http://{}/", self.replicas[(number + 1) % 2]))
                .header("content-type", "message/ohttp-req")
                .body(Bytes::from(sealed))
                .unwrap();
            let (_, inner) = open(http.send(request).await.unwrap(), opener);
            if inner.status == 503 {
                // A database that is slow for a moment is not what this is about: who sends anew is answered.
                continue;
            }
            assert_eq!(inner.status, 201);
            self.sent[number].fetch_add(1, Ordering::SeqCst);
        }
        lists
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_refuses_no_request_of_clients_with_lists_as_old_as_they_may_be() {
    for database in databases().await {
        let target = Target::new(created).start().await;
        let clock = Clock::manual(1_800_000_000);
        let config = || {
            let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(target));
            config.keys = Schedule::new(3 * DAY, DAY, vec![Kem::XWing, Kem::X25519HkdfSha256]).ok();
            config
        };
        let (one, first) = start_gateway(config(), clock.clone()).await;
        let (two, second) = start_gateway(config(), clock.clone()).await;
        let (sent, stop) = (Arc::<[AtomicUsize; 8]>::default(), Arc::<AtomicBool>::default());
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (clock, sent, stop) = (clock.clone(), Arc::clone(&sent), Arc::clone(&stop));
                tokio::spawn(Client { replicas: [one, two], clock, sent, stop }.run(number))
            })
            .collect();
        // Sixteen days; each hour that matters is looked at, and each client sends in each.
        for step in 0..16 * 6 {
            clock.advance(if step % 3 == 0 { 60 } else { 6 * HOUR });
            first.ring.renew().await.unwrap();
            second.ring.renew().await.unwrap();
            let before: Vec<usize> = sent.iter().map(|sent| sent.load(Ordering::SeqCst)).collect();
            while sent.iter().zip(&before).any(|(sent, before)| sent.load(Ordering::SeqCst) < before + 2) {
                assert!(clients.iter().all(|client| !client.is_finished()), "one was refused");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            assert!(client.await.unwrap() >= 4, "{}", database.kind);
        }
        let history = History::from_json(&first.ring.history()).unwrap();
        assert!(history.verify().is_ok() && history.entries.len() >= 5, "{}", history.entries.len());
        for running in [first, second] {
            assert_eq!(running.counters.count(Outcome::Key), 0);
            running.shutdown.trigger();
        }
    }
}

/// What `mica keys rotate` does, from a process of its own, while clients send through the relay: with the list that they
/// have until it is as old as it may be, and with the one that is served.
#[tokio::test(flavor = "multi_thread")]
async fn rotation_by_command_under_load_refuses_no_request() {
    let world = Arc::new(World::start(Target::new(created).start().await).await);
    let store = world.database.as_ref().unwrap().open(&MIGRATOR).await.unwrap();
    let (sent, stop) = (Arc::<[AtomicUsize; 4]>::default(), Arc::<AtomicBool>::default());
    let client = |number: usize| {
        let (world, sent, stop) = (Arc::clone(&world), Arc::clone(&sent), Arc::clone(&stop));
        async move {
            let mut told_later = 0;
            while !stop.load(Ordering::SeqCst) {
                // The first two keep the list of the beginning.
                let keys = match number {
                    0 | 1 => world.keys.clone(),
                    _ => fetch(&world.http, world.gateway).await,
                };
                let (sealed, opener) = ClientEnvelope::seal(&keys, &upload()).unwrap();
                let (_, inner) = open(world.post(world.relay, sealed).await, opener);
                if inner.status == 503 {
                    told_later += 1;
                    continue;
                }
                assert_eq!(inner.status, 201);
                sent[number].fetch_add(1, Ordering::SeqCst);
            }
            told_later
        }
    };
    let clients: Vec<_> = (0..4).map(|number| tokio::spawn(client(number))).collect();
    let all_have_sent = async || {
        let before: Vec<usize> = sent.iter().map(|sent| sent.load(Ordering::SeqCst)).collect();
        while sent.iter().zip(&before).any(|(sent, before)| sent.load(Ordering::SeqCst) < before + 2) {
            assert!(clients.iter().all(|client| !client.is_finished()), "one was refused");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    all_have_sent().await;
    let schedule = Schedule::default();
    let first = rotate(&store, &schedule, &[], world.clock.now()).await.unwrap();
    // Twice is once: it is on its way.
    assert!(rotate(&store, &schedule, &[], world.clock.now()).await.unwrap() == first);
    for step in [0, 59, 1, 60, DAY, DAY - 120] {
        world.clock.advance(step);
        world.ring.renew().await.unwrap();
        all_have_sent().await;
    }
    assert_eq!(fetch(&world.http, world.gateway).await.key_id(), first[0].key_id);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert_eq!(client.await.unwrap(), 0, "there is room for all of them");
    }
    assert_eq!(world.counters.count(Outcome::Key), 0);
}

#[tokio::test]
async fn a_retired_key_is_refused_in_clear_with_the_problem_that_says_so() {
    let world = World::start(Target::new(created).start().await).await;
    let store = world.database.as_ref().unwrap().open(&MIGRATOR).await.unwrap();
    rotate(&store, &Schedule::default(), &[], world.clock.now()).await.unwrap();
    world.clock.advance(60);
    world.ring.renew().await.unwrap();
    assert_eq!(world.exchange(&upload()).await.1.status, 201, "the key before is still accepted");
    world.clock.advance(2 * DAY + 60);
    for is_destroyed in [false, true] {
        let outer = world.post(world.relay, world.seal(&upload()).0).await;
        assert_eq!(outer.status(), StatusCode::BAD_REQUEST);
        let problem: serde_json::Value = serde_json::from_slice(outer.body()).unwrap();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#ohttp-key");
        if !is_destroyed {
            world.clock.advance(60);
            world.ring.renew().await.unwrap();
        }
    }
    let keys = fetch(&world.http, world.gateway).await;
    let (sealed, opener) = ClientEnvelope::seal(&keys, &upload()).unwrap();
    assert_eq!(open(world.post(world.relay, sealed).await, opener).1.status, 201);
}

/// The command and the server are two processes: the server looks at the table by itself.
#[tokio::test]
async fn a_running_gateway_takes_up_keys_that_were_rotated_by_hand() {
    let world = World::start(Target::new(created).start().await).await;
    let tag = get(&world.http, world.gateway, "/ohttp-keys").await.headers()["etag"].clone();
    let store = world.database.as_ref().unwrap().open(&MIGRATOR).await.unwrap();
    rotate(&store, &Schedule::default(), &[], world.clock.now()).await.unwrap();
    world.clock.advance(60);
    for _ in 0..1_000 {
        let answer = get(&world.http, world.gateway, "/ohttp-keys").await;
        if answer.headers()["etag"] != tag {
            assert_eq!(fetch(&world.http, world.gateway).await.key_id(), world.keys.key_id().wrapping_add(1));
            let history = get(&world.http, world.gateway, "/ohttp-keys/history").await;
            assert_eq!(history.headers()["content-type"], "application/json");
            let history = History::from_json(history.body()).unwrap();
            assert_eq!(history.newest().unwrap().list, *answer.body());
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the new list is never served");
}

#[tokio::test]
async fn both_orders_of_kems_work_for_clients_that_take_the_first_and_for_those_that_take_the_last() {
    for kems in [[Kem::X25519HkdfSha256, Kem::XWing], [Kem::XWing, Kem::X25519HkdfSha256]] {
        let schedule = Schedule::new(30 * DAY, DAY, kems.to_vec()).unwrap();
        let adjust = |config: &mut Config| config.keys = Some(schedule);
        let world = World::start_with(Target::new(created).start().await, adjust).await;
        assert_eq!(world.keys.kem(), kems[0], "ours takes the first, as the list means it");
        assert_eq!(world.exchange(&upload()).await.1.status, 201);
        // The library `ohttp` takes the last one that it knows.
        let plain = mica_envelope::encode_request_padded(&upload(), 0).unwrap();
        let client = ohttp::ClientRequest::from_encoded_config_list(world.keys.encoded()).unwrap();
        let (sealed, opener) = client.encapsulate(&plain).unwrap();
        assert_eq!(u16::from_be_bytes([sealed[1], sealed[2]]), kems[1].id());
        let outer = world.post(world.relay, sealed).await;
        let inner = opener.decapsulate(outer.body()).unwrap();
        assert_eq!(mica_envelope::decode_response(inner).unwrap().message.status, 201);
    }
}

#[test]
fn keys_that_contradict_each_other_in_a_configuration_are_refused() {
    let config = |more: &str| {
        let text = format!("listen = 'x'\ndatabase = 'y'\n{more}");
        toml::from_str::<Config>(&text).unwrap().schedule()
    };
    assert_eq!(config(""), Ok(Schedule::default()));
    assert_eq!(config("key_max_age = '12h'").unwrap().cache_for(), 12 * HOUR);
    assert_eq!(config("[keys]\ncache_for = '12h'").unwrap().cache_for(), 12 * HOUR);
    assert!(config("key_max_age = '5m'").unwrap_err().starts_with("key_max_age: key_max_age must be"));
    assert!(config("key_max_age = '1h'\n[keys]\n").unwrap_err().contains("cache_for under [keys]"));
}

#[tokio::test]
async fn a_gateway_whose_clock_is_not_that_of_its_database_is_not_ready() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let target = Target::new(created).start().await;
    let clock = Clock::manual_with_neighbours(Clock::system().now() + DAY);
    let config = Config::new("127.0.0.1:0", database.url.clone(), routes(target));
    let world = World::over(config, clock.clone()).await;
    let ready = || get(&world.http, world.gateway, "/ready");
    let answer = ready().await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body().starts_with(b"not ready: the clocks of this machine and of the database differ"));
    clock.step_to(Clock::system().now());
    world.ring.renew().await.unwrap();
    assert_eq!(ready().await.status(), StatusCode::OK);
}
