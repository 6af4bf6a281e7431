//! Relays as processes: what signals do, and what strangers can do to them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::world::{Folder, free_port};

/// A gateway of HTTP/1.1 that answers every request with 1,024 bytes.
struct Gateway {
    port: u16,
    seen: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let (seen, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (count, log) = (Arc::clone(&seen), Arc::clone(&heads));
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, log) = (Arc::clone(&count), Arc::clone(&log));
                spawn(move || answer(stream, &count, &log));
            }
        });
        Self { port, seen, heads }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, seen: &AtomicUsize, heads: &Mutex<Vec<String>>) {
    while let Some((head, _)) = read_message(&mut stream) {
        heads.lock().expect("nobody panics").push(head);
        seen.fetch_add(1, Ordering::SeqCst);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 1024\r\n\r\n";
        if stream.write_all(&[head.as_bytes(), &[7; 1024]].concat()).is_err() {
            return;
        }
    }
}

/// The head and the body of a message with a length.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Sends one sealed block and returns the status and the head of the answer.
pub(crate) fn send(port: u16) -> Option<(u16, String)> {
    send_over(TcpStream::connect(("127.0.0.1", port)).ok()?)
}

/// The same from 127.0.0.2, which is somebody else.
fn send_from_elsewhere(port: u16) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
    let connecting = async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((std::net::Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
        socket.connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await?.into_std()
    };
    let stream = runtime.block_on(connecting).ok()?;
    stream.set_nonblocking(false).ok()?;
    send_over(stream)
}

fn send_over(mut stream: TcpStream) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: 512\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &[5; 512]].concat()).ok()?;
    status(&mut stream)
}

fn get(stream: &mut TcpStream, path: &str) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let (head, body) = read_message(stream)?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

fn status(stream: &mut TcpStream) -> Option<(u16, String)> {
    let (head, _) = read_message(stream)?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, head))
}

fn config(port: u16, gateway: &Gateway, further: &str) -> String {
    format!(
        "role = \"relay\"\nlisten = \"127.0.0.1:{port}\"\ngateway_url = \"http://127.0.0.1:{}/\"\n\
         gateway_protocol = \"h1\"\n{further}",
        gateway.port
    )
}

fn several(port: u16, many: usize) -> Vec<JoinHandle<Option<(u16, String)>>> {
    (0..many).map(|_| spawn(move || send(port))).collect()
}

/// Waits for something.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ok(answers: Vec<JoinHandle<Option<(u16, String)>>>) {
    for answer in answers {
        let answer = answer.join().expect("no panic").expect("an answer");
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
}

#[test]
fn a_relay_that_is_told_to_stop_sends_off_its_pool_first() {
    let (folder, gateway, port, admin) = (Folder::new(), Gateway::start(), free_port(), free_port());
    let further = format!("admin_listen = \"127.0.0.1:{admin}\"\n[mixing]\nrequests = 50\nwait = \"12s\"\n");
    folder.write("relay.toml", &config(port, &gateway, &further));
    let server = folder.serve("relay");
    let clients = several(port, 5);
    let figures = || get(&mut TcpStream::connect(("127.0.0.1", admin)).ok()?, "/metrics");
    until("five wait", || figures().is_some_and(|(_, text)| text.contains("\nmica_relay_waiting 5\n")));
    assert_eq!(gateway.seen(), 0);
    let since = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    ok(clients);
    assert_eq!(gateway.seen(), 5);
    assert!(since.elapsed() < Duration::from_secs(10), "nobody waited for the time to pass");
    let log = folder.read("relay.log");
    assert!(log.contains("requests are mixed"), "it is announced");
    assert_eq!(
        log.matches("listening").count(),
        1,
        "whoever waits for that word waits for clients' address: {log}"
    );
}

#[test]
fn a_changed_file_is_taken_up_at_sighup_and_nobody_is_dropped() {
    let (folder, gateway, port) = (Folder::new(), Gateway::start(), free_port());
    folder.write("relay.toml", &config(port, &gateway, "[mixing]\nrequests = 50\nwait = \"12s\"\n"));
    let server = folder.serve("relay");
    let clients = several(port, 3);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(gateway.seen(), 0);

    folder.write("relay.toml", &config(free_port(), &gateway, ""));
    server.hang_up();
    until("the refusal is logged", || folder.read("relay.log").contains("`listen` cannot change while"));
    folder.write("relay.toml", &config(port, &gateway, "[mixing]\nrequests = 1\n"));
    server.hang_up();
    let said = "relay.toml:6:12: C003: a pool holds";
    until("the refusal is logged", || folder.read("relay.log").contains(said));
    assert_eq!(gateway.seen(), 0, "the old file is in force");

    let limited = "[rate_limit]\nrequests = 2\nper = \"1h\"\n";
    folder.write("relay.toml", &config(port, &gateway, limited));
    server.hang_up();
    ok(clients);
    until("it is in force", || folder.read("relay.log").contains("read again and is in force"));
    ok(several(port, 2));
    let (status, head) = send(port).expect("an answer");
    assert!(status == 429 && head.contains("\r\nretry-after: 1800\r\n"), "{head}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_relay_without_file_descriptors_is_not_ready_and_recovers() {
    let (folder, gateway, port) = (Folder::new(), Gateway::start(), free_port());
    // Else who holds what was begun would soon make room.
    folder.write("relay.toml", &config(port, &gateway, "[bodies]\ngrace = \"1m\"\n"));
    let begun = std::time::Instant::now();
    let server = folder.serve_with_descriptors("relay", 40);
    let mut known = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    assert_eq!(get(&mut known, "/ready").expect("an answer").0, 200);
    let head =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: 9999\r\n\r\n";
    let mut holders = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the queue of the system takes it");
        stream.write_all(head.as_bytes()).expect("the queue of the system takes it");
        holders.push(stream);
    }
    until("it notices", || folder.read("relay.log").contains("cannot accept connections for a moment"));
    // The own connection stays open only if it asks: silent ones make room.
    until("it says so", || get(&mut known, "/ready").is_some_and(|(status, _)| status == 503));
    drop(holders);
    until("it serves again", || send(port).is_some_and(|(status, _)| status == 200));
    let mut new = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    until("it is ready again", || get(&mut new, "/ready").is_some_and(|(status, _)| status == 200));
    let log = folder.read("relay.log");
    let told = log.lines().filter(|line| line.contains("cannot accept connections for a moment")).count();
    assert!(told as u64 <= 1 + begun.elapsed().as_secs() / 60, "strangers fill no log:\n{log}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn hostile_connections_cost_little_memory_and_honest_clients_are_served() {
    let (folder, gateway, port) = (Folder::new(), Gateway::start(), free_port());
    let limits = "max_connections = 300\nmax_connections_per_client = 290\nmax_buffered_bytes = 4194304\n";
    folder.write("relay.toml", &config(port, &gateway, limits));
    let server = folder.serve("relay");
    assert_eq!(send(port).expect("an answer").0, 200);
    let before = server.resident_kib();
    let mut hostile = Vec::new();
    let open = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n";
    let huge = format!("{open}x: {}", "a".repeat(100_000));
    let body = format!("{open}content-length: 4000000\r\n\r\n{}", "b".repeat(50_000));
    for kind in [open, "P", "", &huge, &body, "GET / HTTP/1.1\r\n"] {
        for _ in 0..100 {
            let mut stream =
                TcpStream::connect(("127.0.0.1", port)).expect("the queue of the system takes it");
            stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            drop(stream.write_all(kind.as_bytes()));
            hostile.push(stream);
        }
    }
    // One byte now and then keeps none of them.
    let dripping = spawn(move || {
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(250));
            for stream in &mut hostile {
                drop(stream.write_all(b"c"));
            }
        }
    });
    let mut most = 0;
    for _ in 0..10 {
        let (status, head) = send_from_elsewhere(port).expect("an honest client is answered");
        assert_eq!(status, 200, "{head}");
        most = server.resident_kib().max(most);
    }
    dripping.join().expect("no panic");
    until("an honest client is served", || send(port).is_some_and(|(status, _)| status == 200));
    let grown = most.saturating_sub(before);
    // 300 connections of at most 128 KiB, and 4 MiB of bodies.
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    let heads = gateway.heads.lock().expect("nobody panics");
    // The request line, three fields, and an empty line.
    assert!(heads.iter().all(|head| head.lines().count() == 5), "{heads:?}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_relay_whose_token_the_gateway_does_not_know_is_found_by_doctor() {
    let (folder, port, gateway) = (Folder::new(), free_port(), free_port());
    folder.write("known.token", "of-the-relay\n");
    folder.write(
        "gateway.toml",
        &format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:{gateway}\"\ndatabase = \"sqlite:gateway.db\"\n\
             [[relays]]\nname = \"edge\"\ntoken_file = \"known.token\"\n"
        ),
    );
    folder.write(
        "relay.toml",
        &format!(
            "role = \"relay\"\nlisten = \"127.0.0.1:{port}\"\ngateway_url = \"http://127.0.0.1:{gateway}/\"\n\
             gateway_token_file = \"own.token\"\n"
        ),
    );
    folder.write("own.token", "of-nobody\n");
    let _gateway = folder.serve("gateway");
    let relay = folder.serve("relay");
    let wrong = folder.mica(&["doctor", "--config", "relay.toml"]);
    assert_eq!(wrong.code, 7, "{}{}", wrong.out, wrong.err);
    let said = wrong.out.lines().find(|line| line.starts_with("fail  admitted ")).expect("a line about it");
    assert!(said.contains("gateway_token_file") && !wrong.out.contains("of-nobody"), "{said}");
    assert_eq!(send(port).expect("an answer").0, 502, "it is not the client's fault");
    assert!(folder.read("relay.log").contains("the gateway does not accept this relay"));

    folder.write("own.token", "of-the-relay\n");
    relay.hang_up();
    until("it is in force", || folder.read("relay.log").contains("read again and is in force"));
    let right = folder.mica(&["doctor", "--config", "relay.toml"]);
    assert_eq!(right.code, 0, "{}{}", right.out, right.err);
    assert_eq!(send(port).expect("an answer").0, 400, "what it sends is nonsense, and the gateway says so");
    assert!(
        folder.read("gateway.log").contains("requests of none of the relays that are served were refused")
    );
}

#[test]
fn a_gateway_url_whose_path_the_gateway_does_not_have_is_found_by_doctor() {
    let (folder, port, gateway) = (Folder::new(), free_port(), free_port());
    folder.write(
        "gateway.toml",
        &format!("role = \"gateway\"\nlisten = \"127.0.0.1:{gateway}\"\ndatabase = \"sqlite:gateway.db\"\n"),
    );
    folder.write(
        "relay.toml",
        &format!(
            "role = \"relay\"\nlisten = \"127.0.0.1:{port}\"\ngateway_url = \"http://127.0.0.1:{gateway}/foo\"\n"
        ),
    );
    let _gateway = folder.serve("gateway");
    let _relay = folder.serve("relay");
    let wrong = folder.mica(&["doctor", "--config", "relay.toml"]);
    assert_eq!(wrong.code, 6, "{}{}", wrong.out, wrong.err);
    let said = wrong.out.lines().find(|line| line.starts_with("fail  admitted ")).expect("a line about it");
    assert!(said.contains("404") && said.contains("gateway_url"), "{said}");
    assert_eq!(send(port).expect("an answer").0, 502);
    let log = folder.read("relay.log");
    let line =
        log.lines().find(|line| line.contains("answers what is not passed on")).expect("a line about it");
    assert!(line.contains("404"), "{line}");
}

#[test]
fn what_a_relay_cannot_do_is_said_at_the_key() {
    let (folder, gateway) = (Folder::new(), Gateway::start());
    for (further, place, what) in [
        ("[mixing]\nrequests = 4\nwait = \"30s\"\n", "relay.toml:7:8: C003: ", "shorter than `timeout`"),
        ("rate_limit = { requests = 1, per = \"2d\" }\n", "relay.toml:5:36: C003: ", "up to a day"),
        ("gateway_token_file = \"none\"\n", "relay.toml:5:22: C003: ", "cannot read the secret"),
        (
            "operator = \"A\"\ngateway_operator = \"a\"\n",
            "relay.toml:6:20: C003: ",
            "who would know who sent what",
        ),
        (
            "gateway_operator = \"B\"\nleader_operator = \"B\"\n",
            "relay.toml:5:20: C003: ",
            "without `operator`",
        ),
        (
            "[mirror]\nevery = \"5m\"\ngateway_token_file = \"gateway.token\"\n",
            "relay.toml:7:1: C001: ",
            "it belongs above the first table",
        ),
        ("max_connections = 0\n", "relay.toml:5:19: C003: ", "from 1 to"),
        (
            "max_connections = 20\nmax_connections_per_client = 21\n",
            "relay.toml:6:30: C003: ",
            "from 1 to 20",
        ),
        ("threads = 1025\n", "relay.toml:5:11: C003: ", "from 1 to 1024"),
        ("max_request_bytes = 0\n", "relay.toml:5:21: C003: ", "from 512 to"),
        ("max_buffered_bytes = 0\n", "relay.toml:5:22: C003: ", "at least 512"),
        ("max_response_bytes = 0\n", "relay.toml:5:22: C003: ", "from 512 to"),
        ("timeout = \"0s\"\n", "relay.toml:5:11: C003: ", "more than nothing"),
        ("path = \"/ohttp-keys\"\n", "relay.toml:5:8: C003: ", "shows something else"),
        ("path = \"/.well-known/ohttp-gateway\"\n", "relay.toml:5:8: C003: ", "shows something else"),
        ("admin_listen = \"127.0.0.1:1\"\n", "relay.toml:5:16: C003: ", "`listen` has this address"),
        ("admin_listen = \"0.0.0.0:1\"\n", "relay.toml:5:16: C003: ", "without TLS or without a token"),
        (
            "admin_listen = \"127.0.0.1:2\"\nadmin_token_sha256 = \"00\"\n",
            "relay.toml:6:22: C003: ",
            "not the hash",
        ),
    ] {
        folder.write("relay.toml", &config(1, &gateway, further));
        let ran = folder.mica(&["config", "check", "relay.toml"]);
        let said = ran.one_line(3);
        assert!(said.starts_with(place) && said.contains(what), "{said}");
    }
}

#[test]
fn a_relay_whose_gateway_is_itself_is_refused() {
    let folder = Folder::new();
    let own = "role = \"relay\"\nlisten = \"0.0.0.0:8484\"\ninsecure = true\ngateway_url = \"http://localhost:8484/\"\n";
    folder.write("relay.toml", own);
    let ran = folder.mica(&["config", "check", "relay.toml"]);
    let said = ran.one_line(3);
    assert!(said.starts_with("relay.toml:4:15: C003: ") && said.contains("the relay itself"), "{said}");
}

#[test]
fn what_a_gateway_cannot_do_is_said_at_the_key_or_the_entry() {
    let folder = Folder::new();
    let route = |method: &str, target: &str| {
        format!(
            "[[routes]]\nmethod = \"{method}\"\nauthority = \"a\"\npath = \"/b/{{task}}\"\n\
             target = \"http://127.0.0.1:{target}\"\n"
        )
    };
    let relay =
        |name: &str, token: &str| format!("[[relays]]\nname = \"{name}\"\ntoken_file = \"{token}\"\n");
    for (name, token) in [("one.token", "a-token"), ("same.token", "a-token"), ("other.token", "another")] {
        folder.write(name, token);
        mica_service::testing::restrict(&folder.path(name), 0o600);
    }
    for (further, place, what) in [
        ("max_connections = 0\n".to_owned(), "4:19", "from 1 to"),
        ("max_request_bytes = 0\n".to_owned(), "4:21", "from 512 to"),
        ("max_buffered_bytes = 0\n".to_owned(), "4:22", "at least 512"),
        ("max_response_bytes = 0\n".to_owned(), "4:22", "from 512 to"),
        ("min_response_bytes = 100000000\n".to_owned(), "4:22", "from 0 to"),
        ("timeout = \"0s\"\n".to_owned(), "4:11", "more than nothing"),
        ("answer_grid = \"10m\"\n".to_owned(), "4:15", "too late for clients"),
        ("admin_listen = \"127.0.0.1:1\"\n".to_owned(), "4:16", "`listen` has this address"),
        ("[replay]\nmax_requests = 0\n".to_owned(), "5:16", "at least 1"),
        ("[replay]\nwindow = \"1s\"\n".to_owned(), "5:10", "is to be remembered for"),
        (route("post", "1"), "5:10", "a method, in capital letters"),
        (route("POST", "1") + &route("POST", "2"), "12:8", "one above takes all"),
        (relay("a", "one.token") + &relay("b", "same.token"), "9:14", "what another relay shows"),
        (relay("a", "one.token") + &relay("a", "other.token"), "8:8", "the name of another"),
        (relay("a", "one.token") + "operator = \"B\"\n", "7:12", "without `operator`"),
    ] {
        let text = format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:1\"\ndatabase = \"sqlite:gateway.db\"\n{further}"
        );
        folder.write("gateway.toml", &text);
        let ran = folder.mica(&["config", "check", "gateway.toml"]);
        let said = ran.one_line(3);
        let place = format!("gateway.toml:{place}: C003: ");
        assert!(said.starts_with(&place) && said.contains(what), "{further}{said}");
    }
}

#[test]
fn a_gateway_takes_changed_routes_up_at_sighup_and_says_what_it_cannot_change() {
    let (folder, port, admin) = (Folder::new(), free_port(), free_port());
    let config = |further: &str| {
        format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:gateway.db\"\n\
             admin_listen = \"127.0.0.1:{admin}\"\n{further}"
        )
    };
    folder.write("gateway.toml", &config(""));
    let server = folder.serve("gateway");
    let mut operator = TcpStream::connect(("127.0.0.1", admin)).expect("it listens for the operator");
    assert_eq!(get(&mut operator, "/ready").expect("an answer").0, 200);
    let (status, text) = get(&mut operator, "/metrics").expect("an answer");
    assert!(status == 200 && text.contains("mica_gateway_requests_total{outcome=\"key\"} 0\n"), "{text}");

    let log = |word: &str| until(word, || folder.read("gateway.log").contains(word));
    folder.write("gateway.toml", &config("timeout = \"3s\"\n"));
    server.hang_up();
    log("`timeout` cannot change while the gateway runs");
    let route =
        "[[routes]]\nmethod = \"GET\"\nauthority = \"a\"\npath = \"b\"\ntarget = \"http://127.0.0.1:1\"\n";
    folder.write("gateway.toml", &config(route));
    server.hang_up();
    log("gateway.toml:8:8: C003: route 1: `b` is not");
    folder.write("gateway.toml", &config("[[relays]]\nname = \"a\"\n"));
    server.hang_up();
    log("gateway.toml:5:1: C003: relay 1: it is known by token_file or by certificate_sha256");
    folder.write("gateway.toml", &config(&route.replace("\"b\"", "\"/b\"")));
    server.hang_up();
    log("the configuration was read again and is in force");
    assert_eq!(server.terminate(), Some(0));
}
