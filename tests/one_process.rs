//! A gateway that runs its leader in the same process: what goes to the leader is handed over without a network, and
//! nothing that was taken is lost when both stop.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadRequest};
use mica_dap::resource::Resource;
use mica_dap::vdaf_config::VdafConfig;
use mica_envelope::{ClientEnvelope, InnerRequest, InnerResponse, KeyConfigList};
use mica_service::testing::{Authority, restrict};
use mica_tests::{Parties, Plan, Process, Wire, eventually, free_port, mica};

const REPORTS: u64 = 20;

/// A leader whose certificate nobody believes: over a network the gateway would not ask it.
fn write_leader(folder: &Path) {
    let identity = Authority::new().issue(&["localhost"]);
    fs::write(folder.join("leader.pem"), identity.pem()).expect("the folder can be written");
    fs::write(folder.join("leader.key"), identity.key_pem()).expect("the folder can be written");
    restrict(&folder.join("leader.key"), 0o600);
    let plain = fs::read_to_string(folder.join("leader.toml")).expect("it was written");
    let tls = "[tls]\ncertificate = \"leader.pem\"\nprivate_key = \"leader.key\"\n";
    let mounted = folder.join("mounted.toml");
    fs::write(&mounted, format!("{plain}{tls}")).expect("the folder can be written");
    restrict(&mounted, 0o600);
}

fn write_gateway(folder: &Path, listen: u16, target: &str) {
    let config = format!(
        "role = \"gateway\"\nlisten = \"127.0.0.1:{listen}\"\ndatabase = \"sqlite:gateway.db\"\n\
         [[routes]]\nmethod = \"POST\"\nauthority = \"leader.example\"\npath = \"/tasks/{{task}}/reports\"\n\
         content_type = \"{}\"\ntarget = \"{target}\"\n",
        Media::UploadReq.header()
    );
    fs::write(folder.join("gateway.toml"), config).expect("the folder can be written");
}

/// Uploads in an envelope of its own.
async fn upload(gateway: &str, parties: &Parties, reports: &[Report]) -> InnerResponse {
    let wire = Wire::default();
    let keys = KeyConfigList::parse(wire.get(&format!("{gateway}ohttp-keys")).await.body).expect("its keys");
    let request = InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: Resource::Reports(parties.task.id).absolute_path("https://leader.example/"),
        headers: vec![("content-type".into(), Media::UploadReq.header().as_bytes().to_vec())],
        body: UploadRequest { reports: reports.to_vec() }.encoded().into(),
    };
    let (sealed, opener) = ClientEnvelope::seal(&keys, &request).expect("it fits");
    let fields = [("content-type", "message/ohttp-req")];
    let reply = wire.send(http::Method::POST, gateway, &fields, sealed).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    opener.open(&reply.body).expect("it is sealed to us")
}

#[tokio::test]
async fn a_leader_in_the_process_of_its_gateway_is_handed_reports_without_a_network() {
    let mut parties = Parties::start(&Plan::without_dp(VdafConfig::Count)).await;
    let sample = parties.task.sample(REPORTS);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    parties.kill_leader();

    let (folder, port) = (parties.folder().to_owned(), free_port());
    write_leader(&folder);
    write_gateway(&folder, port, &format!("https://127.0.0.1:{}", parties.leader_port()));
    let arguments = ["gateway", "--config", "gateway.toml", "--leader", "mounted.toml"];
    let both = Process::start("gateway", &folder, arguments);
    let gateway = format!("http://127.0.0.1:{port}/");
    eventually("a gateway to answer", Duration::from_secs(30), async || {
        let reply =
            Wire::default().try_send(http::Method::GET, &format!("{gateway}health"), &[], Vec::new()).await;
        reply.is_ok_and(|reply| reply.status == 200).then_some(())
    })
    .await;
    let taken = upload(&gateway, &parties, &reports).await;
    assert_eq!((taken.status, taken.body.len()), (200, 0), "all are taken");
    let again = upload(&gateway, &parties, &reports).await;
    assert!(again.status == 200 && !again.body.is_empty(), "each is refused: it was taken");
    assert!(TcpStream::connect(("127.0.0.1", parties.leader_port())).is_ok(), "the leader listens too");
    assert!(both.terminate(Duration::from_mins(1)).success(), "both stop, the leader last");

    parties.start_leader().await;
    eventually("the reports to be counted", Duration::from_mins(1), async || {
        let counted = parties.leader_database().await.tally("aggregated").await;
        (counted == REPORTS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_without_a_route_to_the_leader_in_its_process_does_not_start() {
    let mut parties = Parties::start(&Plan::without_dp(VdafConfig::Count)).await;
    parties.kill_leader();
    write_gateway(parties.folder(), free_port(), "https://elsewhere.example");
    let arguments = ["gateway", "--config", "gateway.toml", "--leader", "leader.toml"];
    let refused = Command::new(mica()).args(arguments).current_dir(parties.folder()).output();
    let refused = refused.expect("the program is there");
    let words = String::from_utf8_lossy(&refused.stderr);
    let target = format!("write target = \"http://127.0.0.1:{}\"", parties.leader_port());
    assert!(refused.status.code() == Some(3) && words.contains(&target), "{:?} {words}", refused.status);
}
