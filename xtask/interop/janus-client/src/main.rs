//! Janus's client, uploading one report through a relay and a gateway that it did not choose.
//!
//! Its draft of DAP is not ours: what is in the envelope goes to a target that only keeps it. Prints one JSON object per
//! line: what was checked, and how it went.

use std::process::ExitCode;
use std::time::Duration;

use backoff::ExponentialBackoff;
use janus_client::{Client, OhttpConfig};
use janus_messages::{
    HpkeAeadId, HpkeConfig, HpkeConfigId, HpkeKdfId, HpkeKemId, HpkePublicKey, TaskId, Time,
};
use prio::vdaf::prio3::Prio3Count;
use serde_json::json;
use url::Url;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, relay, target, ..] = arguments.as_slice() else {
        return Err("needs the URLs of the relay and of the target".into());
    };
    let relay = Url::parse(relay)?;
    let mut passed = true;
    let client = client(relay, Url::parse(target)?).await;
    passed &= say("it takes our list of key configurations", client.as_ref());
    if let Ok(client) = client {
        let uploaded = client.upload_with_time(&true, Time::from_seconds_since_epoch(1_700_000_000)).await;
        passed &= say("its upload succeeds although the first answer is lost on the way", uploaded);
        let uploaded = client.upload_with_time(&false, Time::from_seconds_since_epoch(1_700_000_000)).await;
        passed &= say("its second upload succeeds", uploaded);
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A client whose keys of the aggregators are made up: nobody opens these reports.
async fn client(relay: Url, target: Url) -> Result<Client<Prio3Count>, Failure> {
    let aggregator_key = |id: u8| {
        // The base point of the curve is a public key like any other.
        let mut point = vec![0; 32];
        point[0] = 9;
        HpkeConfig::new(
            HpkeConfigId::from(id),
            HpkeKemId::X25519HkdfSha256,
            HpkeKdfId::HkdfSha256,
            HpkeAeadId::Aes128Gcm,
            HpkePublicKey::from(point),
        )
    };
    let patience = ExponentialBackoff {
        initial_interval: Duration::from_millis(100),
        max_interval: Duration::from_secs(1),
        max_elapsed_time: Some(Duration::from_secs(20)),
        ..ExponentialBackoff::default()
    };
    let ohttp = OhttpConfig { key_configs: relay.join(".well-known/ohttp-gateway")?, relay };
    let client = Client::builder(
        TaskId::from([7; 32]),
        target.clone(),
        target,
        janus_messages::Duration::from_seconds(3600),
        Prio3Count::new_count(2)?,
    )
    .with_backoff(patience)
    .with_leader_hpke_config(aggregator_key(1))
    .with_helper_hpke_config(aggregator_key(2))
    .with_ohttp_config(ohttp)
    .build()
    .await?;
    Ok(client)
}

/// Prints one check.
fn say<T, Error: std::fmt::Display>(check: &str, outcome: Result<T, Error>) -> bool {
    let why = outcome.as_ref().err().map(ToString::to_string);
    println!("{}", json!({ "check": check, "ok": outcome.is_ok(), "why": why }));
    outcome.is_ok()
}
