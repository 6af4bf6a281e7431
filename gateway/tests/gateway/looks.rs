//! What the relay sees of an answer: its bytes on the wire and its time. Neither tells what is inside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use bhttp::{Message, Mode};
use mica_envelope::InnerRequest;
use mica_gateway::{Outcome, RouteConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::world::{Target, UPLOAD, World, created, open, upload};

/// One exchange over a connection of its own: the head of the answer as it came, without the value of its date, and
/// the number of bytes after it.
async fn raw(world: &World, sealed: &[u8]) -> (String, usize) {
    let mut stream = TcpStream::connect(world.gateway).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        sealed.len()
    );
    stream.write_all(&[head.as_bytes(), sealed].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8(head.to_vec()).unwrap();
    let date = head.lines().find(|line| line.to_ascii_lowercase().starts_with("date: ")).unwrap();
    (head.replace(date, &"#".repeat(date.len())), body.len())
}

fn to(path: &str) -> InnerRequest {
    InnerRequest { path: path.into(), ..upload() }
}

fn nonsense(world: &World) -> Vec<u8> {
    let parts = ["POST", "ftp", "leader.example", "/"].map(|part| part.as_bytes().to_vec());
    let [method, scheme, authority, path] = parts;
    let mut plaintext = Vec::new();
    Message::request(method, scheme, authority, path).write_bhttp(Mode::KnownLength, &mut plaintext).unwrap();
    let mut config = ohttp::KeyConfig::decode(&world.keys.encoded()[2..]).unwrap();
    ohttp::ClientRequest::from_config(&mut config).unwrap().encapsulate(&plaintext).unwrap().0
}

/// A target for each thing that can happen to a request, and what is to be inside of the answer.
async fn world(step: Duration) -> (World, TcpListener) {
    let status =
        |status: u16| Target::new(move |_| Response::builder().status(status).body("word".into()).unwrap());
    let refusing = status(400).start().await;
    let failing = status(500).start().await;
    let leading_away = status(302).start().await;
    let slow = Target::new(created).slow(Duration::from_secs(30)).start().await;
    // Takes connections and never speaks.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = dead.local_addr().unwrap();
    let world = World::start_with(Target::new(created).start().await, |config| {
        let targets = [
            ("/refused", refusing),
            ("/failed", failing),
            ("/away", leading_away),
            ("/slow", slow),
            ("/dead", nowhere),
        ];
        config.routes.extend(targets.map(|(path, target)| {
            RouteConfig::new("POST", "leader.example", path, Some(UPLOAD), &format!("http://{target}"))
        }));
        // All requests have one size, and so have all answers.
        config.routes[0].max_bytes = 100;
        config.timeout = Duration::from_secs(2);
        config.answer_grid = step;
        config.replay.max_requests = 6;
    })
    .await;
    (world, dead)
}

/// A request for each thing that can be said inside of an answer, with its status. All but the last are remembered or
/// refused at once; the last finds the memory full.
fn each_kind() -> Vec<(&'static str, InnerRequest, u16)> {
    let old = ("date".to_owned(), b"Sun, 06 Nov 1994 08:49:37 GMT".to_vec());
    vec![
        ("accepted", upload(), 201),
        ("refused by the target", to("/refused"), 400),
        ("failed", to("/failed"), 500),
        ("redirected", to("/away"), 502),
        ("too slow", to("/slow"), 504),
        ("dead", to("/dead"), 504),
        ("no route", to("/forbidden"), 404),
        ("another method", InnerRequest { method: "GET".into(), ..upload() }, 405),
        ("too large", InnerRequest { body: vec![0; 101].into(), ..upload() }, 413),
        ("an old date", InnerRequest { headers: [upload().headers, vec![old]].concat(), ..upload() }, 400),
        ("full", upload(), 503),
    ]
}

/// RFC 9458 5 and 6.3.
#[tokio::test]
async fn every_sealed_answer_looks_the_same_on_the_wire_whatever_is_inside() {
    let (world, _dead) = world(Duration::ZERO).await;
    let mut looks = BTreeSet::new();
    let mut inside = Vec::new();
    let (accepted, _) = world.seal(&upload());
    looks.insert(raw(&world, &accepted).await);
    // A replay.
    looks.insert(raw(&world, &accepted).await);
    looks.insert(raw(&world, &nonsense(&world)).await);
    // The first was sent above.
    for (_, request, status) in each_kind().into_iter().skip(1) {
        let (sealed, opener) = world.seal(&request);
        looks.insert(raw(&world, &sealed).await);
        // Sent once more to be looked into: it is remembered, or refused again.
        inside.push((opener.open(world.post(world.gateway, sealed).await.body()).unwrap().status, status));
    }
    assert!(inside.iter().all(|(is, expected)| is == expected), "{inside:?}");
    assert_eq!(world.count(Outcome::Invalid), 1);
    assert_eq!(looks.len(), 1, "{looks:?}");
    assert_eq!(looks.first().unwrap().1, 1024);
}

/// RFC 9458 6.3. Whatever is said takes a step at least, though each needs less; that it leaves at the end of a step
/// follows from how the moment is computed. Only the lower bound is looked at: a busy machine is late and never early.
#[tokio::test]
async fn on_a_grid_the_time_of_an_answer_does_not_tell_what_is_inside() {
    let step = Duration::from_secs(3);
    let (world, _dead) = world(step).await;
    let world = Arc::new(world);
    let mut kinds: Vec<_> = each_kind()
        .into_iter()
        .map(|(kind, request, status)| {
            let (sealed, opener) = world.seal(&request);
            (kind, sealed, Some((opener, status)))
        })
        .collect();
    // What finds the memory full, or its own answer in it, comes after the others.
    let mut later = kinds.split_off(kinds.len() - 1);
    later.push(("again", kinds[0].1.clone(), None));
    later.push(("invalid", nonsense(&world), None));
    let mut times = Vec::new();
    for kinds in [kinds, later] {
        let all = kinds.into_iter().map(|(kind, sealed, inside)| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let begun = Instant::now();
                let answer = world.post(world.gateway, sealed).await;
                let time = begun.elapsed();
                if let Some((opener, status)) = inside {
                    assert_eq!(open(answer, opener).1.status, status, "{kind}");
                }
                (kind, time)
            })
        });
        for one in all.collect::<Vec<_>>() {
            times.push(one.await.unwrap());
        }
    }
    assert_eq!((world.count(Outcome::Invalid), world.count(Outcome::Again)), (1, 1));
    let early: Vec<_> = times.iter().filter(|(_, time)| *time < step).collect();
    assert!(early.is_empty(), "{early:?}");
}
