//! Executes what docs/operating.md and docs/ohttp.md tell an operator to type: five processes by hand, from a policy to a
//! noised count, and a relay and a gateway alone.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::spawn;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use mica_envelope::{ClientEnvelope, InnerRequest, KeyConfigList};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::tls::{PeerTls, Peers};

/// The blocks of a page that are for a shell, in order, as one script.
fn script(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    script
}

/// Ports that nobody used a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("it is bound").port())
}

/// A shell that stops at the first command that fails.
fn bash(script: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_mica")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").expect("there is a path");
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).current_dir(folder).stdin(Stdio::null());
    bash.env("PATH", format!("{}:{path}", program.display())).env("LC_ALL", "C.UTF-8").env_remove("MICA_LOG");
    bash
}

/// The page collects the last hour twice: it means the same hours unless one of them ends in between.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs that are tested live by the clock of the machine"
)]
fn stay_clear_of_the_full_hour() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let left = 3600 - now % 3600;
    if left < 30 {
        std::thread::sleep(Duration::from_secs(left));
    }
}

#[test]
fn the_walk_with_five_processes_by_hand_does_what_the_page_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
    let script = script(&fs::read_to_string(page).expect("the page is there"));
    assert!(script.contains("mica collect"), "the page has blocks for a shell");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = free_ports::<4>();
    let mut bash = bash(&script, folder.path());
    for (name, port) in ["LEADER_PORT", "HELPER_PORT", "GATEWAY_PORT", "RELAY_PORT"].iter().zip(ports) {
        bash.env(name, port.to_string());
    }
    stay_clear_of_the_full_hour();
    let output = bash.output().expect("there is a bash");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{err}\n{}", logs(folder.path()));

    assert_eq!(out.lines().filter(|line| *line == "accepted").count(), 8, "{out}");
    let value = out.lines().find(|line| line.trim_start().starts_with("value")).expect("a value was printed");
    assert!(value.contains('±') && value.contains("95 % confidence"), "{value}");
    let first = value.split_whitespace().nth(1).expect("a number");
    assert!(first.parse::<i64>().is_ok(), "{value}");
    assert!(out.contains("reports  8 "), "{out}");
    let json = &out[out.find("\n{\n").expect("the result as JSON")..];
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>();
    let again = values.next().expect("a value").expect("it is JSON");
    assert_eq!(again["values"][0].to_string(), first, "the same batch again is the same answer");
    assert!(out.contains("refused with exit code 4") && err.contains("batchOverlap"), "{out}\n{err}");

    for role in ["leader", "helper"] {
        let log = fs::read_to_string(folder.path().join(role).join(format!("{role}.log"))).expect("its log");
        assert!(log.contains("the policy was read again and is in force"), "the release for one task: {log}");
    }
    for port in ports {
        let free = TcpListener::bind(("127.0.0.1", port));
        assert!(free.is_ok(), "everything is stopped: {free:?}\n{}", logs(folder.path()));
    }
}

fn logs(folder: &Path) -> String {
    let log =
        |role: &str| fs::read_to_string(folder.join(role).join(format!("{role}.log"))).unwrap_or_default();
    ["helper", "leader", "gateway", "relay"].map(log).join("\n")
}

/// A service that knows nothing of OHTTP: it stores what it is sent, and says so.
fn service(listener: TcpListener) {
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            spawn(move || {
                while let Some(head) = head_of(&mut stream) {
                    let length =
                        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    let mut body = vec![0; length.unwrap_or(0)];
                    let said = format!("{} stored", head.split(' ').nth(1).unwrap_or_default());
                    let answer =
                        format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                    if stream
                        .read_exact(&mut body)
                        .and_then(|()| stream.write_all(answer.as_bytes()))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
}

/// The head of a message, in small letters.
fn head_of(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).to_ascii_lowercase())
}

/// What a client does that trusts the page's authority: fetches the keys from the mirror, and sends one sealed request.
async fn ask(folder: &Path, relay: u16) -> (u16, Bytes) {
    let trust = PeerTls { roots: Some(folder.join("tls/ca.pem")), ..PeerTls::default() };
    let peers = Peers::load(&trust, false).expect("the page made an authority");
    let http = HttpClient::new(HttpOptions { peers, ..HttpOptions::default() });
    let url = format!("https://localhost:{relay}/");
    let list = Request::get(format!("{url}ohttp-keys")).body(Bytes::new()).expect("a request");
    let list = http.send(list).await.expect("the mirror answers");
    let keys = KeyConfigList::parse(list.into_body()).expect("keys");
    let request = InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "service.example".into(),
        path: "/items/7".into(),
        headers: vec![("content-type".into(), b"application/json".to_vec())],
        body: Bytes::from_static(b"{}"),
    };
    let (sealed, opener) = ClientEnvelope::seal(&keys, &request).expect("it fits");
    let outer = Request::post(url).header("content-type", "message/ohttp-req").body(sealed.into());
    let outer = http.send(outer.expect("a request")).await.expect("the relay answers");
    assert_eq!(outer.status(), 200, "{:?}", outer.body());
    let inner = opener.open(outer.body()).expect("it is sealed to us");
    (inner.status, inner.body)
}

#[test]
fn the_walk_with_a_relay_and_a_gateway_alone_ends_with_a_service_that_is_asked() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ohttp.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (before, after) = page.split_once("## 7. Changes").expect("a client comes before anything changes");
    let script = format!("{}echo READY\nread -r _ || true\n{}", script(before), script(after));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let target_port = target.local_addr().expect("it is bound").port();
    service(target);
    let ports = free_ports::<4>();
    let mut bash = bash(&script, folder.path());
    bash.env("TARGET_PORT", target_port.to_string());
    let names = ["GATEWAY_PORT", "RELAY_PORT", "GATEWAY_ADMIN_PORT", "RELAY_ADMIN_PORT"];
    for (name, port) in names.iter().zip(ports) {
        bash.env(name, port.to_string());
    }
    let log = folder.path().join("stderr");
    bash.stderr(fs::File::create(&log).expect("a file in a folder of our own"));
    let mut walk = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a bash");
    let mut lines = BufReader::new(walk.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut out: Vec<String> = lines.by_ref().take_while(|line| line != "READY").collect();
    let told = || format!("{}{}", fs::read_to_string(&log).unwrap_or_default(), logs(folder.path()));
    assert!(out.iter().all(|line| !line.starts_with("fail") && !line.starts_with("warn")), "{out:?}");
    assert!(out.iter().any(|line| line.starts_with("mirror") && line.contains("yes")), "{out:?}\n{}", told());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (status, body) = runtime.block_on(ask(folder.path(), ports[1]));
    assert_eq!((status, &body[..]), (201, &b"/items/7 stored"[..]), "{}", told());
    let mut operator = TcpStream::connect(("127.0.0.1", ports[3])).expect("it listens for the operator");
    write!(operator, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut figures = String::new();
    operator.read_to_string(&mut figures).expect("it answers");
    assert!(figures.contains("mica_relay_requests_total{outcome=\"forwarded\"} 1\n"), "{figures}");

    drop(walk.stdin.take());
    out.extend(lines);
    let ended = walk.wait().expect("it is our child");
    assert!(ended.success(), "{out:?}\n{}", told());
    assert!(out.iter().any(|line| line.contains("pending")), "the key that was made: {out:?}");
    for port in ports {
        let free = TcpListener::bind(("127.0.0.1", port));
        assert!(free.is_ok(), "everything is stopped: {free:?}\n{}", told());
    }
}
