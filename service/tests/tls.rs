//! TLS of the listener and of the client, over real sockets, with certificates made for each test.
#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

#[path = "tls/stranger.rs"]
mod stranger;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use bytes::Bytes;
use mica_service::http::{HttpClient, HttpOptions, PeerError};
use mica_service::listener::{Limits, bind, serve_over};
use mica_service::shutdown::Shutdown;
use mica_service::testing::{Authority, Folder, Issued, restrict};
use mica_service::tls::{Acceptor, ClientCertificate, ListenTls, PeerTls, Peers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Says what version of HTTP it was asked in, and by whom.
async fn introduce(request: Request) -> String {
    let client = request.extensions().get::<Arc<ClientCertificate>>();
    let name = client.and_then(|client| client.names.first().cloned()).unwrap_or_else(|| "nobody".to_owned());
    format!("{:?} {name}", request.version())
}

async fn listen(tls: &Acceptor, limits: Limits) -> SocketAddr {
    let router = Router::new().route("/", get(introduce));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_over(Some(tls.clone()), listener, router, limits, Shutdown::new()));
    address
}

/// A server with this certificate, which asks clients for one of `clients` if there is one.
async fn server(folder: &Folder, identity: &Issued, clients: Option<(&Authority, bool)>) -> SocketAddr {
    let listen_tls = listen_tls(folder, identity, clients);
    listen(&Acceptor::load(&listen_tls).unwrap(), Limits::default()).await
}

fn listen_tls(folder: &Folder, identity: &Issued, clients: Option<(&Authority, bool)>) -> ListenTls {
    let (certificate, private_key) = folder.identity("server", identity);
    ListenTls {
        certificate,
        private_key,
        client_roots: clients.map(|(authority, _)| folder.write("clients.pem", &authority.pem())),
        require_client_certificate: clients.is_some_and(|(_, required)| required),
    }
}

fn client(folder: &Folder, trusted: &Authority, identity: Option<&Issued>) -> HttpClient {
    HttpClient::new(HttpOptions { peers: peers(folder, trusted, identity), ..HttpOptions::default() })
}

fn peers(folder: &Folder, trusted: &Authority, identity: Option<&Issued>) -> Peers {
    let files = identity.map(|identity| folder.identity("client", identity));
    let (certificate, private_key) = files.unzip();
    let roots = Some(folder.write("roots.pem", &trusted.pem()));
    Peers::load(&PeerTls { roots, system_roots: false, certificate, private_key }, false).unwrap()
}

async fn ask(client: &HttpClient, host: &str, address: SocketAddr) -> Result<String, PeerError> {
    let url = format!("https://{host}:{}/", address.port());
    let answer = client.send(http::Request::get(url).body(Bytes::new()).unwrap()).await?;
    assert_eq!(answer.status(), 200);
    Ok(String::from_utf8(answer.into_body().to_vec()).unwrap())
}

#[tokio::test]
async fn peers_agree_on_http_2_inside_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let address = server(&folder, &authority.issue(&["localhost", "127.0.0.1"]), None).await;
    for host in ["localhost", "127.0.0.1"] {
        let answer = ask(&client(&folder, &authority, None), host, address).await;
        assert_eq!(answer.unwrap(), "HTTP/2.0 nobody", "{host}");
    }
}

#[tokio::test]
async fn a_client_without_http_2_is_answered_inside_tls_as_well() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let address = server(&folder, &authority.issue(&["localhost"]), None).await;
    let mut stream = stranger::connect(&authority, address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("HTTP/1.1 nobody"), "{answer}");
}

#[tokio::test]
async fn a_certificate_that_does_not_do_is_a_sentence_and_nothing_is_sent() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let other_name = authority.issue(&["other.example"]);
    let cases = [
        (&other_name, &authority, "it is for another name"),
        (
            &authority.issue(&["localhost"]),
            &Authority::new(),
            "it is not signed by an authority that is trusted here",
        ),
    ];
    for (identity, trusted, why) in cases {
        let address = server(&folder, identity, None).await;
        let refused =
            ask(&client(&folder, trusted, None), "localhost", address).await.unwrap_err().to_string();
        let start = format!("the certificate of localhost:{} is not valid: {why}", address.port());
        assert!(refused.starts_with(&start), "{refused}");
        assert!(refused.contains("; "), "what is to be done: {refused}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_client_and_by_its_own_server() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let expired = authority.issue_expired(&["localhost"]);
    let error = Acceptor::load(&listen_tls(&folder, &expired, None)).err().unwrap().to_string();
    assert!(error.starts_with("tls.certificate: ") && error.ends_with(" has expired; renew it"), "{error}");
    let address = stranger::serve_anything(&expired).await;
    let refused = ask(&client(&folder, &authority, None), "localhost", address).await.unwrap_err();
    assert!(matches!(&refused, PeerError::Certificate { why, .. } if why.contains("expired")), "{refused}");
}

#[tokio::test]
async fn handlers_are_told_the_certificate_of_the_client_and_strangers_are_turned_away() {
    let (folder, authority, clients) = (Folder::new(), Authority::new(), Authority::new());
    let identity = authority.issue(&["localhost"]);
    let known = clients.issue(&["leader.example"]);
    let stranger = Authority::new().issue(&["leader.example"]);
    for required in [false, true] {
        let address = server(&folder, &identity, Some((&clients, required))).await;
        let answer = ask(&client(&folder, &authority, Some(&known)), "localhost", address).await;
        assert_eq!(answer.unwrap(), "HTTP/2.0 leader.example");
        let without = ask(&client(&folder, &authority, None), "localhost", address).await;
        if required {
            let refused = without.unwrap_err();
            assert!(matches!(refused, PeerError::NotAccepted { .. }), "{refused}");
        } else {
            assert_eq!(without.unwrap(), "HTTP/2.0 nobody");
        }
        let refused = ask(&client(&folder, &authority, Some(&stranger)), "localhost", address).await;
        assert!(matches!(refused, Err(PeerError::NotAccepted { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn tls_and_plain_http_do_not_mix_and_say_so() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let address = server(&folder, &authority.issue(&["localhost"]), None).await;
    let plain = HttpClient::new(HttpOptions::default());
    let url = format!("http://127.0.0.1:{}/", address.port());
    let refused = plain.send(http::Request::get(url).body(Bytes::new()).unwrap()).await;
    assert!(matches!(refused, Err(PeerError::Unreachable { .. })), "{refused:?}");
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_over(None, listener, Router::new(), Limits::default(), Shutdown::new()));
    let refused = ask(&client(&folder, &authority, None), "localhost", address).await.unwrap_err();
    assert!(matches!(&refused, PeerError::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn a_stalled_handshake_holds_its_place_for_a_short_time_only() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let tls = Acceptor::load(&listen_tls(&folder, &authority.issue(&["localhost"]), None)).unwrap();
    let handshake_timeout = Duration::from_millis(500);
    let limits = Limits { max_connections: 2, handshake_timeout, ..Limits::default() };
    let address = listen(&tls, limits).await;
    let silent = TcpStream::connect(address).await.unwrap();
    // The beginning of a handshake, and then one byte now and then.
    let mut dripping = TcpStream::connect(address).await.unwrap();
    dripping.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
    let drip = tokio::spawn(async move {
        while dripping.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let asked = Instant::now();
    let answer = ask(&client(&folder, &authority, None), "localhost", address).await;
    assert_eq!(answer.unwrap(), "HTTP/2.0 nobody");
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(200), "both places were taken: {waited:?}");
    assert!(waited < Duration::from_secs(8), "neither is held for long: {waited:?}");
    drip.await.unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let listen_tls = listen_tls(&folder, &authority.issue(&["localhost"]), None);
    let tls = Acceptor::load(&listen_tls).unwrap();
    tls.watch(Duration::from_millis(20));
    let address = listen(&tls, Limits::default()).await;
    let peers = peers(&folder, &authority, None);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (peers, stop, asked) = (peers.clone(), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // A new client is a new handshake.
                    let client =
                        HttpClient::new(HttpOptions { peers: peers.clone(), ..HttpOptions::default() });
                    for _ in 0..3 {
                        ask(&client, "localhost", address).await.unwrap();
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let next = authority.issue(&["localhost"]);
        folder.identity("server", &next);
        let deadline = Instant::now() + Duration::from_secs(10);
        while stranger::shown_by(&authority, address).await != next.der() {
            assert!(Instant::now() < deadline, "the new certificate is never shown");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let shown = stranger::shown_by(&authority, address).await;
    // A file that is broken, and a key of another certificate: the last good one stays.
    for broken in ["no certificate at all".to_owned(), authority.issue(&["localhost"]).pem()] {
        std::fs::write(&listen_tls.certificate, broken).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stranger::shown_by(&authority, address).await, shown);
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 12, "there was load");
}

#[tokio::test]
async fn a_new_key_that_everybody_may_read_is_taken_up_once_it_is_closed() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let first = authority.issue(&["localhost"]);
    let listen_tls = listen_tls(&folder, &first, None);
    let acceptor = Acceptor::load(&listen_tls).unwrap();
    let address = listen(&acceptor, Limits::default()).await;
    let next = authority.issue(&["localhost"]);
    folder.identity("server", &next);
    restrict(&listen_tls.private_key, 0o644);
    acceptor.watch(Duration::from_millis(20));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stranger::shown_by(&authority, address).await, first.der());
    // What the files say stays the same.
    restrict(&listen_tls.private_key, 0o600);
    let deadline = Instant::now() + Duration::from_secs(10);
    while stranger::shown_by(&authority, address).await != next.der() {
        assert!(Instant::now() < deadline, "the new certificate is never shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn new_roots_and_a_new_client_certificate_are_taken_up_too() {
    let (folder, old, new) = (Folder::new(), Authority::new(), Authority::new());
    let clients = Authority::new();
    let address = server(&folder, &new.issue(&["localhost"]), Some((&clients, false))).await;
    let peers = peers(&folder, &old, Some(&clients.issue(&["first.example"])));
    peers.watch(Duration::from_millis(20));
    let fresh = || HttpClient::new(HttpOptions { peers: peers.clone(), ..HttpOptions::default() });
    assert!(matches!(ask(&fresh(), "localhost", address).await, Err(PeerError::Certificate { .. })));
    folder.write("roots.pem", &new.pem());
    folder.identity("client", &clients.issue(&["second.example"]));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = ask(&fresh(), "localhost", address).await;
        if answer.as_deref() == Ok("HTTP/2.0 second.example") {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn files_that_do_not_belong_together_or_are_open_to_all_are_refused() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let good = listen_tls(&folder, &authority.issue(&["localhost"]), None);
    let refusal = |listen: &ListenTls| Acceptor::load(listen).err().unwrap().to_string();
    let (_, other_key) = folder.identity("other", &authority.issue(&["localhost"]));
    let said = refusal(&ListenTls { private_key: other_key, ..good.clone() });
    assert!(said.starts_with("tls.private_key: ") && said.contains("is not the key of"), "{said}");
    let said = refusal(&ListenTls { certificate: folder.path("nothing.pem"), ..good.clone() });
    assert!(said.starts_with("tls.certificate: cannot read "), "{said}");
    let said = refusal(&ListenTls { certificate: good.private_key.clone(), ..good.clone() });
    assert!(said.contains("holds no certificate"), "{said}");
    let said = refusal(&ListenTls { require_client_certificate: true, ..good.clone() });
    assert!(said.starts_with("tls.require_client_certificate: "), "{said}");
    restrict(&good.private_key, 0o644);
    let said = refusal(&good);
    assert!(said.contains("everybody on this machine may read") && said.contains("; chmod 600 "), "{said}");
    let half = PeerTls { certificate: Some(good.certificate), ..PeerTls::default() };
    let said = Peers::load(&PeerTls { roots: Some(folder.write("r.pem", &authority.pem())), ..half }, false);
    assert!(said.err().unwrap().to_string().ends_with("give peer_tls.private_key too"));
}
