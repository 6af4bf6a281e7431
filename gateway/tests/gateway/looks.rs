//! What the relay sees of an answer: its bytes on the wire and its time. Neither tells what is inside.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::response::Response;
use bhttp::{Message, Mode};
use mica_envelope::InnerRequest;
use mica_gateway::{Outcome, RouteConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::world::{Target, UPLOAD, World, created, upload};

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
async fn world() -> (World, TcpListener) {
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
        config.timeout = Duration::from_millis(300);
        config.replay.max_requests = 6;
    })
    .await;
    (world, dead)
}

/// RFC 9458 5 and 6.3.
#[tokio::test]
async fn every_sealed_answer_looks_the_same_on_the_wire_whatever_is_inside() {
    let (world, _dead) = world().await;
    let mut looks = BTreeSet::new();
    let mut inside = Vec::new();
    let old = {
        let mut request = upload();
        request.headers.push(("date".to_owned(), b"Sun, 06 Nov 1994 08:49:37 GMT".to_vec()));
        request
    };
    let mut method = upload();
    method.method = "GET".into();
    let large = InnerRequest { body: vec![0; 2_001].into(), ..upload() };
    let (accepted, _) = world.seal(&upload());
    looks.insert(raw(&world, &accepted).await);
    // A replay.
    looks.insert(raw(&world, &accepted).await);
    looks.insert(raw(&world, &nonsense(&world)).await);
    for request in [
        to("/refused"),
        to("/failed"),
        to("/away"),
        to("/slow"),
        to("/dead"),
        to("/forbidden"),
        method,
        large,
        old,
        // The memory is full by now.
        upload(),
    ] {
        let (sealed, opener) = world.seal(&request);
        looks.insert(raw(&world, &sealed).await);
        // Sent once more to be looked into: it is remembered, or refused again.
        inside.push(opener.open(world.post(world.gateway, sealed).await.body()).unwrap().status);
    }
    assert_eq!(inside, [400, 500, 502, 504, 504, 404, 405, 413, 400, 503]);
    assert_eq!(world.count(Outcome::Invalid), 1);
    assert_eq!(looks.len(), 1, "{looks:?}");
    assert_eq!(looks.first().unwrap().1, 1024);
}

/// Seconds that one exchange takes, seen from the relay.
async fn seconds(world: &World, sealed: Vec<u8>) -> f64 {
    let begun = Instant::now();
    world.post(world.gateway, sealed).await;
    begun.elapsed().as_secs_f64()
}

/// How far the two distributions are apart, by the test of Kolmogorov and Smirnov, and the 95th percentile of both.
async fn measured(step: Duration) -> (f64, f64) {
    const EACH: usize = 100;
    let taking = Target::new(created).slow(Duration::from_millis(30)).start().await;
    let refusing = Target::new(|_| Response::builder().status(400).body("".into()).unwrap()).start().await;
    let world = World::start_with(taking, |config| {
        config.answer_grid = step;
        let target = format!("http://{refusing}");
        config.routes.push(RouteConfig::new("POST", "leader.example", "/refused", Some(UPLOAD), &target));
    })
    .await;
    let (accepted, refused) = (upload(), to("/refused"));
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..EACH {
        // Both kinds at once and first in turn, so that whatever slows the machine slows both.
        let [accepted, refused] = [&accepted, &refused].map(|request| world.seal(request).0);
        let (one, other) = if round % 2 == 0 {
            tokio::join!(seconds(&world, accepted), seconds(&world, refused))
        } else {
            let (other, one) = tokio::join!(seconds(&world, refused), seconds(&world, accepted));
            (one, other)
        };
        times[0].push(one);
        times[1].push(other);
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let part =
        |count: usize| f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(EACH).unwrap());
    let below = |times: &[f64], at: f64| part(times.partition_point(|time| *time <= at));
    let distance = times
        .iter()
        .flatten()
        .map(|at| (below(&times[0], *at) - below(&times[1], *at)).abs())
        .fold(0.0, f64::max);
    let mut both = times.concat();
    both.sort_by(f64::total_cmp);
    (distance, both[EACH * 2 * 95 / 100])
}

/// RFC 9458 6.3. With a hundred of each kind, two that are alike are farther apart than 0.276 once in a thousand times.
#[tokio::test]
async fn on_a_grid_the_time_of_an_answer_does_not_tell_accepted_from_refused() {
    let step = Duration::from_millis(100);
    let (apart, without) = measured(Duration::ZERO).await;
    let (together, with) = measured(step).await;
    println!(
        "distance {apart:.3} without a grid, {together:.3} with one; p95 {without:.4} s and {with:.4} s"
    );
    assert!(apart > 0.9, "without a grid the two are easily told apart: {apart}");
    assert!(together < 0.276, "{together}");
    assert!(with - without <= step.as_secs_f64(), "{without} {with}");
}
