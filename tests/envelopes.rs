//! Envelopes that are sent again, to a gateway that was killed in between.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use mica_envelope::{ClientEnvelope, InnerRequest, KeyConfigList};
use mica_service::listener::{self, Limits};
use mica_service::shutdown::Shutdown;
use mica_tests::{Process, Wire, eventually, free_port};
use tokio::net::TcpListener;

/// A target that numbers its answers, and how many it has given.
async fn target() -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let router = Router::new().fallback(async move || {
        let number = counting.fetch_add(1, Ordering::SeqCst);
        format!("answer {number}")
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
    (format!("http://{address}"), count)
}

async fn alive(url: &str) {
    let wire = Wire::default();
    eventually("a gateway to answer", Duration::from_secs(30), async || {
        let reply = wire.try_send(http::Method::GET, &format!("{url}health"), &[], Vec::new()).await;
        reply.is_ok_and(|reply| reply.status == 200).then_some(())
    })
    .await;
}

/// What was answered is answered again after SIGKILL, and the target is not asked a second time.
#[tokio::test]
async fn an_envelope_sent_again_after_the_gateway_was_killed_gets_its_first_answer() {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let (target, asked) = target().await;
    let port = free_port();
    let config = format!(
        "role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:gateway.db\"\n\
         [[routes]]\nmethod = \"POST\"\nauthority = \"leader.example\"\npath = \"/reports\"\ntarget = \"{target}\"\n"
    );
    fs::write(folder.path().join("gateway.toml"), config).expect("the folder can be written");
    let start = || Process::start("gateway", folder.path(), ["gateway", "--config", "gateway.toml"]);
    let url = format!("http://127.0.0.1:{port}/");
    let mut gateway = start();
    alive(&url).await;
    let wire = Wire::default();
    let keys = KeyConfigList::parse(wire.get(&format!("{url}ohttp-keys")).await.body).expect("its keys");
    let request = InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/reports".into(),
        headers: vec![],
        body: "".into(),
    };
    let fields = [("content-type", "message/ohttp-req")];
    let mut sealed = Vec::new();
    for round in 0..5 {
        let (envelope, opener) = ClientEnvelope::seal(&keys, &request).expect("it can be sealed");
        let first = wire.send(http::Method::POST, &url, &fields, envelope.clone()).await;
        assert_eq!(first.status, 200);
        sealed.push((envelope, opener));
        gateway.kill();
        gateway = start();
        alive(&url).await;
        assert_eq!(asked.load(Ordering::SeqCst), round + 1);
    }
    for (number, (envelope, opener)) in sealed.into_iter().enumerate() {
        let again = Wire::default().send(http::Method::POST, &url, &fields, envelope).await;
        let inside = opener.open(&again.body).expect("it is sealed to this request");
        assert_eq!(inside.body, format!("answer {number}"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5, "the target was asked once for each");
    gateway.kill();
}
