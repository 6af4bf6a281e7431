//! A client in front of a relay and a gateway by hand: which of the gateway's keys it seals to, where it has them from, and when
//! it sends something again.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mica_client::{Client, ClientError, ReportBuilder, TaskBundle, fetch_ohttp_keys};
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::TaskId;
use mica_dap::report::Report;
use mica_dap::task::{BatchMode, TaskParameters};
use mica_dap::time::TimePrecision;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_envelope::history::{Entry, History, HistoryKey};
use mica_envelope::{GatewayKey, GatewayKeys, InnerResponse, Kem, KeyConfigList, Unwrap as _, media};
use mica_tls::{Acceptor, ListenTls, PeerTls, Peers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEYS: &str = "GET /.well-known/ohttp-gateway";
const HISTORY: &str = "GET /ohttp-keys/history";
const POST: &str = "POST /relay";
const PUBLIC: &str = "cache-control: public, max-age=86400\r\netag: \"t\"\r\n";

/// What comes of a POST.
#[derive(Clone, Debug)]
enum Turn {
    /// The relay or the gateway refuses it in clear: status and fields.
    Outside(&'static str, &'static str),
    /// The target refuses it, inside.
    Inside(u16, Option<&'static str>),
    /// The whole of it is read, and the connection closed.
    Lost,
}

/// What the relay shows at a path: status line, fields, content.
type Page = (&'static str, String, Vec<u8>);

struct World {
    relay: String,
    /// The keys by number, each in a list of its own.
    lists: Vec<GatewayKeys>,
    signer: HistoryKey,
    /// Which of them the gateway opens with.
    accepted: Mutex<Vec<usize>>,
    /// What the mirror shows: the first until there is only one.
    keys: Mutex<VecDeque<Page>>,
    history: Mutex<Page>,
    turns: Mutex<VecDeque<Turn>>,
    /// Head and body of each request.
    seen: Mutex<Vec<(String, Vec<u8>)>>,
}

impl World {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key =
            |id| GatewayKeys::new(vec![GatewayKey::generate(id, Kem::X25519HkdfSha256).unwrap()]).unwrap();
        let world = Self {
            relay: format!("http://{}/relay", listener.local_addr().unwrap()),
            lists: vec![key(1), key(2), key(3)],
            signer: HistoryKey::from_seed(&[3; 32]).unwrap(),
            accepted: Mutex::new(vec![0, 1, 2]),
            keys: Mutex::default(),
            history: Mutex::new(missing()),
            turns: Mutex::default(),
            seen: Mutex::default(),
        };
        let world = Arc::new(world);
        let serving = Arc::clone(&world);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&serving)));
            }
        });
        world
    }

    /// A relay that shows these lists one after the other, and a history of `history`.
    async fn mirroring(shown: &[usize], history: &[usize]) -> Arc<Self> {
        let world = Self::start().await;
        *world.keys.lock().unwrap() = shown.iter().map(|list| world.page(*list)).collect();
        *world.history.lock().unwrap() = document(&world.history_of(history));
        world
    }

    fn list(&self, number: usize) -> Vec<u8> {
        self.lists[number].config_list().to_vec()
    }

    fn page(&self, number: usize) -> Page {
        let public = PUBLIC.replace("\"t\"", &format!("\"list {number}\""));
        ("200 OK", format!("content-type: application/ohttp-keys\r\n{public}"), self.list(number))
    }

    fn history_of(&self, lists: &[usize]) -> History {
        let mut entries: Vec<Entry> = Vec::new();
        for number in lists {
            entries.push(Entry::after(entries.last(), 1_000, self.list(*number), &self.signer));
        }
        History { key: self.signer.public(), entries }
    }

    /// A bundle with the first list.
    fn bundle(&self, history_key: Option<[u8; 32]>) -> TaskBundle {
        let parameters = TaskParameters {
            task_info: b"keys".to_vec(),
            leader_url: "https://leader.example/".to_owned(),
            helper_url: "https://helper.example/".to_owned(),
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
            relay: self.relay.clone(),
            ohttp_keys: KeyConfigList::parse(self.list(0)).unwrap(),
            history_key,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.bundle(Some(self.signer.public())))
    }

    async fn upload(&self, client: &Client) -> Result<usize, ClientError> {
        client.upload(&[self.report()]).await.map(|outcome| outcome.accepted)
    }

    fn report(&self) -> Report {
        let config = |id| HpkeKeypair::generate(id, &mut rand::rng()).config;
        let builder = ReportBuilder::new(&self.bundle(None), config(1), config(2)).unwrap();
        builder.report(&Measurement::Bool(true), 1_800_000_000).unwrap()
    }

    /// The first words of every request since the last time.
    fn asked(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.iter().map(|(head, _)| head.split(" HTTP").next().unwrap().to_owned()).collect()
    }

    /// Key identifier and encapsulated key of every envelope so far.
    fn envelopes(&self) -> Vec<(u8, Vec<u8>)> {
        let seen = self.seen.lock().unwrap();
        let posts = seen.iter().filter(|(head, _)| head.starts_with("POST"));
        posts.map(|(_, body)| (body[0], body[7..39].to_vec())).collect()
    }

    fn answer(&self, head: &str, body: &[u8]) -> Option<Page> {
        if head.starts_with(KEYS) {
            let mut keys = self.keys.lock().unwrap();
            let page = if keys.len() > 1 { keys.pop_front() } else { keys.front().cloned() };
            let page = page.unwrap_or_else(missing);
            let tag = page.1.lines().find_map(|line| line.strip_prefix("etag: "));
            let is_known = tag.is_some_and(|tag| head.contains(&format!("if-none-match: {tag}\r\n")));
            let unchanged = ("304 Not Modified", page.1.replace("content-type", "x-type"), Vec::new());
            return Some(if is_known { unchanged } else { page });
        }
        if head.starts_with(HISTORY) {
            return Some(self.history.lock().unwrap().clone());
        }
        let turn = self.turns.lock().unwrap().pop_front();
        let inner = match turn {
            Some(Turn::Lost) => return None,
            Some(Turn::Outside(status, fields)) => return Some((status, fields.to_owned(), Vec::new())),
            Some(Turn::Inside(status, after)) => {
                let headers = after.map(|after| ("retry-after".to_owned(), after.as_bytes().to_vec()));
                InnerResponse { status, headers: headers.into_iter().collect(), body: Vec::new().into() }
            }
            None => InnerResponse { status: 201, headers: Vec::new(), body: Vec::new().into() },
        };
        let accepted = self.accepted.lock().unwrap().clone();
        let opened = accepted.iter().find_map(|number| self.lists[*number].open(body).ok());
        let Some(opened) = opened else {
            let problem = format!(r#"{{"type":"{}"}}"#, media::PROBLEM_OHTTP_KEY);
            let fields = format!("content-type: {}\r\n", media::PROBLEM_JSON);
            return Some(("400 Bad Request", fields, problem.into_bytes()));
        };
        let fields = format!("content-type: {}\r\n", media::OHTTP_RESPONSE);
        Some(("200 OK", fields, opened.sealer.seal(&inner).unwrap()))
    }
}

fn missing() -> Page {
    ("404 Not Found", String::new(), Vec::new())
}

fn document(history: &History) -> Page {
    ("200 OK", "content-type: application/json\r\n".to_owned(), history.to_json().into_bytes())
}

async fn converse(mut stream: TcpStream, world: Arc<World>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        };
        let fields = String::from_utf8(read[..head].to_vec()).ok()?;
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
        while read.len() < end {
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        }
        let body: Vec<u8> = read.drain(..end).skip(head).collect();
        world.seen.lock().unwrap().push((fields.clone(), body.clone()));
        let (status, fields, body) = world.answer(&fields, &body)?;
        let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()?;
    }
}

#[tokio::test]
async fn a_client_seals_to_the_newest_keys_that_the_relay_shows_and_the_gateway_has_signed() {
    let world = World::mirroring(&[1], &[0, 1]).await;
    let client = world.client();
    assert_eq!(world.upload(&client).await, Ok(1));
    assert_eq!(world.envelopes()[0].0, 2, "the second key");
    for (head, _) in world.seen.lock().unwrap().iter().take(2) {
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
        assert!(names.iter().all(|name| ["accept", "host", ""].contains(name)), "{head}");
    }
    assert_eq!(world.asked(), [KEYS, HISTORY, POST]);
    assert_eq!(world.upload(&client.clone()).await, Ok(1));
    assert_eq!(world.asked(), [POST], "a day has not passed");
    let bundle = client.bundle().await;
    assert_eq!(bundle.ohttp_keys.encoded(), world.list(1), "an app can keep them");
}

#[tokio::test]
async fn many_requests_that_begin_at_once_wait_for_one_fetch_of_the_keys() {
    let world = World::mirroring(&[1], &[0, 1]).await;
    let client = world.client();
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let (world, client) = (Arc::clone(&world), client.clone());
            tokio::spawn(async move { world.upload(&client).await })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), Ok(1));
    }
    let asked = world.asked();
    assert_eq!(asked.iter().filter(|asked| **asked == KEYS).count(), 1, "{asked:?}");
    assert_eq!(asked.len(), 10);
}

#[tokio::test]
async fn keys_that_must_be_asked_for_again_are_asked_for_by_their_tag() {
    let world = World::mirroring(&[1], &[0, 1]).await;
    world.keys.lock().unwrap()[0].1 =
        "content-type: application/ohttp-keys\r\ncache-control: public, no-cache\r\netag: \"t\"\r\n"
            .to_owned();
    let client = world.client();
    for round in 0..3 {
        assert_eq!(world.upload(&client).await, Ok(1));
        let head = world.seen.lock().unwrap()[0].0.clone();
        assert_eq!(head.contains("if-none-match: \"t\"\r\n"), round > 0, "{head}");
        let expected = if round == 0 { &[KEYS, HISTORY, POST][..] } else { &[KEYS, POST] };
        assert_eq!(world.envelopes()[0].0, 2);
        assert_eq!(world.asked(), expected);
    }
}

#[tokio::test]
async fn keys_that_nobody_can_vouch_for_are_not_sealed_to() {
    let world = World::mirroring(&[1], &[0, 1]).await;
    let (keys, good) = (world.page(1), world.history_of(&[0, 1]));
    let stranger = HistoryKey::from_seed(&[4; 32]).unwrap();
    let mut forged = History { key: stranger.public(), entries: Vec::new() };
    forged.entries.push(Entry::after(None, 1, world.list(0), &stranger));
    forged.entries.push(Entry::after(forged.entries.last(), 2, world.list(1), &stranger));
    let relabelled = History { key: good.key, ..forged.clone() };
    let mut changed = good.clone();
    changed.entries[1].since += 1;
    let typed =
        |media: &str, cache: &str| ("200 OK", format!("content-type: {media}\r\n{cache}"), world.list(1));
    let of_keys = "application/ohttp-keys";
    for (what, page, history) in [
        ("no mirror", missing(), missing()),
        ("no history", keys.clone(), missing()),
        ("another signer", keys.clone(), document(&forged)),
        ("a signature of another", keys.clone(), document(&relabelled)),
        ("a changed entry", keys.clone(), document(&changed)),
        ("not its newest", keys.clone(), document(&world.history_of(&[0, 1, 2]))),
        ("without the keys of the bundle", keys.clone(), document(&world.history_of(&[2, 1]))),
        ("no history at all", keys.clone(), ("200 OK", String::new(), b"[]".to_vec())),
        ("for one client", typed(of_keys, "cache-control: private, max-age=9\r\n"), document(&good)),
        ("not to be kept", typed(of_keys, "cache-control: no-store\r\n"), document(&good)),
        ("another media type", typed("text/plain", PUBLIC), document(&good)),
        ("cut", ("200 OK", keys.1.clone(), world.list(1)[1..].to_vec()), document(&good)),
        ("too much", ("200 OK", keys.1.clone(), vec![0; 70_000]), document(&good)),
        ("a redirect", ("302 Found", format!("location: /x\r\n{PUBLIC}"), Vec::new()), document(&good)),
    ] {
        *world.keys.lock().unwrap() = [page].into();
        *world.history.lock().unwrap() = history;
        let client = world.client();
        for _ in 0..2 {
            assert_eq!(world.upload(&client).await, Ok(1), "{what}");
        }
        assert!(world.envelopes().iter().all(|(key, _)| *key == 1), "{what}");
        let asked = world.asked();
        assert_eq!(asked.iter().filter(|asked| **asked == KEYS).count(), 1, "{what}: not for every request");
    }
}

/// What a client has seen of a history cannot be unsaid.
#[tokio::test]
async fn a_history_that_was_written_anew_is_not_believed() {
    let world = World::mirroring(&[1], &[0, 1]).await;
    let client = world.client();
    assert_eq!(world.upload(&client).await, Ok(1));
    *world.keys.lock().unwrap() = [world.page(2)].into();
    *world.history.lock().unwrap() = document(&world.history_of(&[0, 2]));
    *world.accepted.lock().unwrap() = vec![2];
    world.keys.lock().unwrap()[0].1 = format!("content-type: {}\r\netag: \"u\"\r\n", media::OHTTP_KEYS);
    let refused = world.upload(&client).await.unwrap_err();
    assert!(matches!(&refused, ClientError::StaleOhttpKey(why) if why.contains("not in it")), "{refused}");
    *world.history.lock().unwrap() = document(&world.history_of(&[0, 1, 2]));
    assert_eq!(world.upload(&client).await, Ok(1));
}

/// S131.
#[tokio::test]
async fn keys_that_the_gateway_does_not_know_are_fetched_again_once() {
    let world = World::mirroring(&[0, 1], &[0, 1]).await;
    *world.accepted.lock().unwrap() = vec![1];
    let client = world.client();
    assert_eq!(world.upload(&client).await, Ok(1));
    let [(1, first), (2, second)] = &world.envelopes()[..] else { panic!("{:?}", world.asked()) };
    assert_ne!(first, second);
    assert_eq!(world.asked(), [KEYS, POST, KEYS, HISTORY, POST]);

    let world = World::mirroring(&[0, 1], &[0, 1]).await;
    *world.accepted.lock().unwrap() = vec![2];
    let refused = world.upload(&world.client()).await.unwrap_err();
    assert!(matches!(&refused, ClientError::StaleOhttpKey(why) if why.contains("either")), "{refused}");
    assert_eq!(world.asked(), [KEYS, POST, KEYS, HISTORY, POST], "and no more");

    let world = World::mirroring(&[0], &[0]).await;
    *world.accepted.lock().unwrap() = vec![2];
    let refused = world.upload(&world.client()).await.unwrap_err();
    assert!(matches!(&refused, ClientError::StaleOhttpKey(why) if why.contains("no other")), "{refused}");
    assert_eq!(world.asked(), [KEYS, POST, KEYS]);

    let world = World::mirroring(&[1], &[0, 1]).await;
    *world.accepted.lock().unwrap() = vec![1];
    let refused = world.upload(&Client::new(world.bundle(None))).await.unwrap_err();
    assert!(matches!(&refused, ClientError::StaleOhttpKey(why) if why.contains("history_key")), "{refused}");
    assert_eq!(world.asked(), [POST], "what it could not check, it does not ask for");
}

#[tokio::test]
async fn every_attempt_is_a_fresh_envelope() {
    for turn in [
        Turn::Outside("503 Service Unavailable", "retry-after: 0\r\n"),
        Turn::Outside("429 Too Many Requests", "retry-after: 0\r\n"),
        Turn::Inside(503, Some("0")),
        Turn::Inside(429, Some("0")),
    ] {
        let world = World::start().await;
        *world.turns.lock().unwrap() = vec![turn.clone(); 2].into();
        let client = Client::new(world.bundle(None));
        assert_eq!(world.upload(&client).await, Ok(1), "{turn:?}");
        let mut sent: Vec<_> = world.envelopes().into_iter().map(|(_, enc)| enc).collect();
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 3, "{turn:?}");
        let bodies: Vec<_> = world.seen.lock().unwrap().iter().map(|(_, body)| body[39..].to_vec()).collect();
        assert!(bodies[0] != bodies[1] && bodies[0].len() == bodies[1].len(), "nothing is sent twice");
    }
}

#[tokio::test]
async fn what_may_have_been_forwarded_is_not_sent_again() {
    for turn in [
        Turn::Lost,
        Turn::Outside("503 Service Unavailable", ""),
        Turn::Outside("502 Bad Gateway", "retry-after: 0\r\n"),
        Turn::Outside("504 Gateway Timeout", "retry-after: 0\r\n"),
        Turn::Outside("500 Internal Server Error", ""),
        Turn::Outside("503 Service Unavailable", "retry-after: 3600\r\n"),
        Turn::Inside(503, None),
        Turn::Inside(504, Some("0")),
        Turn::Inside(400, None),
    ] {
        let world = World::start().await;
        *world.turns.lock().unwrap() = [turn.clone()].into();
        let client = Client::new(world.bundle(None));
        assert!(world.upload(&client).await.is_err(), "{turn:?}");
        assert_eq!(world.asked(), [POST], "{turn:?}");
    }
    let world = World::start().await;
    *world.turns.lock().unwrap() = vec![Turn::Inside(503, Some("0")); 9].into();
    let client = Client::new(world.bundle(None));
    assert!(world.upload(&client).await.is_err());
    assert_eq!(world.asked().len(), 3, "in the end it is given up");
    assert!(world.upload(&client.with_patience(Duration::ZERO)).await.is_err());
    assert_eq!(world.asked().len(), 1);
}

/// A certificate of its own for 127.0.0.1, who shows it, and who believes it.
fn identity(folder: &tempfile::TempDir) -> (Acceptor, Peers) {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let certificate = write("own.pem", own.cert.pem());
    let private_key = write("own.key", own.signing_key.serialize_pem());
    let peers = PeerTls { roots: Some(certificate.clone()), ..PeerTls::default() };
    let listen =
        ListenTls { certificate, private_key, client_roots: None, require_client_certificate: false };
    (Acceptor::load(&listen).unwrap(), Peers::load(&peers, false).unwrap())
}

/// TLS that comes to nothing is no request: there is nothing to send twice.
#[tokio::test]
async fn a_connection_that_is_never_made_is_tried_again_a_few_times() {
    let folder = tempfile::tempdir().unwrap();
    let (_, peers) = identity(&folder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&counted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            drop(stream);
        }
    });
    let world = World::start().await;
    let bundle = TaskBundle { relay: format!("https://{address}/"), ..world.bundle(None) };
    let refused = Client::new(bundle).with_peers(&peers).upload(&[world.report()]).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused:?}");
    assert_eq!(*counted.lock().unwrap(), 3);
}

/// RFC 9113 8.7: of what is refused like this, nothing was looked at.
#[tokio::test]
async fn a_request_that_the_relay_says_it_has_not_looked_at_is_sent_again_in_a_fresh_envelope() {
    for (reason, sent) in [(h2::Reason::REFUSED_STREAM, 2), (h2::Reason::INTERNAL_ERROR, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let (acceptor, peers) = identity(&folder);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = World::start().await;
        let serving = Arc::clone(&world);
        tokio::spawn(async move {
            let (stream, _) = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut is_first = true;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let refuses = std::mem::take(&mut is_first);
                let world = Arc::clone(&serving);
                // Bodies come while the connection is driven.
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut sealed = Vec::new();
                    while let Some(Ok(piece)) = body.data().await {
                        body.flow_control().release_capacity(piece.len()).unwrap();
                        sealed.extend_from_slice(&piece);
                    }
                    world.seen.lock().unwrap().push(("POST /relay HTTP".to_owned(), sealed.clone()));
                    if refuses {
                        return respond.send_reset(reason);
                    }
                    let (_, _, answer) = world.answer(POST, &sealed).unwrap();
                    let head = http::Response::builder().header("content-type", media::OHTTP_RESPONSE);
                    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    stream.send_data(answer.into(), true).unwrap();
                });
            }
        });
        let bundle = TaskBundle { relay: format!("https://{address}/"), ..world.bundle(None) };
        let outcome = Client::new(bundle).with_peers(&peers).upload(&[world.report()]).await;
        assert_eq!(outcome.is_ok(), sent == 2, "{outcome:?}");
        let envelopes = world.envelopes();
        assert_eq!(envelopes.len(), sent, "{reason}");
        assert!(sent == 1 || envelopes[0].1 != envelopes[1].1);
    }
}

/// RFC 9540 5, for whoever writes a bundle.
#[tokio::test]
async fn the_keys_of_a_gateway_are_found_at_the_well_known_place_of_its_origin() {
    let world = World::mirroring(&[1], &[1]).await;
    let origin = world.relay.strip_suffix("/relay").unwrap();
    for url in [origin.to_owned(), format!("{origin}/")] {
        let keys = fetch_ohttp_keys(&url, &Peers::default()).await.unwrap();
        assert_eq!(keys.encoded(), world.list(1));
        assert_eq!(world.asked(), [KEYS]);
    }
    let keys = fetch_ohttp_keys(&format!("{origin}/elsewhere"), &Peers::default()).await;
    assert!(keys.is_err());
    assert!(world.asked()[0].ends_with("/elsewhere"));
}
