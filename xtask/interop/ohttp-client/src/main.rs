//! The crate `ohttp-client`, and the library `ohttp` by itself, asking a target through a relay and a gateway.
//!
//! Prints one JSON object per line: what was checked, and how it went.

use std::io::Cursor;
use std::process::ExitCode;

use bhttp::{Message, Mode};
use ohttp_client::{OHTTP_REQ_CONTENT_TYPE, OhttpClient, Url, parse_key_config};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, relay, target, payload, ..] = arguments.as_slice() else {
        return Err("needs the URLs of the relay and of the target, and a file".into());
    };
    let keys = bitreq::get(format!("{relay}.well-known/ohttp-gateway")).send()?;
    let world = World {
        relay: relay.clone(),
        target: target.clone(),
        payload: std::fs::read(payload)?,
        keys: keys.as_bytes().to_vec(),
    };
    let checks = [
        (
            "it takes our list of key configurations",
            parse_key_config(&world.keys).map(|_| ()).map_err(Into::into),
        ),
        ("its answer opens, and is the target's", world.ask().await),
        ("the same bytes sent again are answered alike, under another nonce", world.ask_twice()),
        ("a key that the gateway never had is refused with `ohttp-key`", world.ask_with_an_unknown_key()),
        (
            "padding that is not of zeros is refused inside the envelope",
            world.ask_with_random_padding().await,
        ),
        ("a tunnel to the gateway's keys is refused by the relay", world.ask_for_a_tunnel().await),
        (
            "the library ohttp 0.8.0 seals to the last key of the list, and is answered",
            world.ask_with_the_library(),
        ),
    ];
    let mut passed = true;
    for (check, outcome) in checks {
        let why = outcome.as_ref().err().map(ToString::to_string);
        println!("{}", json!({ "check": check, "ok": outcome.is_ok(), "why": why }));
        passed &= outcome.is_ok();
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct World {
    relay: String,
    target: String,
    payload: Vec<u8>,
    keys: Vec<u8>,
}

impl World {
    fn client(&self) -> Result<OhttpClient, Failure> {
        Ok(OhttpClient::new(
            Url::parse(&self.relay)?,
            Url::parse(&self.target)?,
            parse_key_config(&self.keys)?,
        ))
    }

    async fn ask(&self) -> Result<(), Failure> {
        let client = self.client()?;
        let asked = client.post(PATH).header("content-type", MEDIA).body(self.payload.clone());
        let answer = asked.send().await?;
        self.expect(answer.status(), answer.body())
    }

    fn ask_twice(&self) -> Result<(), Failure> {
        let headers = [("content-type", MEDIA)];
        let (request, context) =
            self.client()?.encapsulate("POST", PATH, &headers, &[], Some(&self.payload))?;
        let (first, second) = (self.send(&request.body)?, self.send(&request.body)?);
        if (first.status_code, second.status_code) != (200, 200) {
            return Err(format!("answered {} and {}", first.status_code, second.status_code).into());
        }
        if first.as_bytes() == second.as_bytes() || first.as_bytes().len() != second.as_bytes().len() {
            return Err("the answers are the same bytes, or of other sizes".into());
        }
        let answer = context.decapsulate(second.as_bytes())?;
        self.expect(answer.status(), answer.body())
    }

    fn ask_with_an_unknown_key(&self) -> Result<(), Failure> {
        let (mut request, _) = self.client()?.encapsulate("POST", PATH, &[], &[], None)?;
        request.body[0] ^= 0x80;
        let answer = self.send(&request.body)?;
        if answer.status_code != 400 || !answer.as_str()?.contains("http-problem-types#ohttp-key") {
            return Err(format!("answered {}: {}", answer.status_code, answer.as_str()?).into());
        }
        Ok(())
    }

    async fn ask_with_random_padding(&self) -> Result<(), Failure> {
        let client = self.client()?.known_length(self.payload.len() + 500);
        let asked = client.post(PATH).header("content-type", MEDIA).body(self.payload.clone());
        let answer = asked.send().await?;
        if answer.status() == 400 { Ok(()) } else { Err(format!("answered {}", answer.status()).into()) }
    }

    async fn ask_for_a_tunnel(&self) -> Result<(), Failure> {
        let (relay, target) = (Url::parse(&self.relay)?, Url::parse(&self.target)?);
        let keys = format!("{}.well-known/ohttp-gateway", self.relay);
        match OhttpClient::from_gateway(relay, target, &keys).await {
            Ok(_) => Err("the relay made one".into()),
            Err(_) => Ok(()),
        }
    }

    fn ask_with_the_library(&self) -> Result<(), Failure> {
        let (scheme, host) = self.target.trim_end_matches('/').split_once("://").ok_or("no scheme")?;
        let mut message = Message::request("POST".into(), scheme.into(), host.into(), PATH.into());
        message.put_header("content-type", MEDIA);
        message.write_content(&self.payload);
        let mut plain = Vec::new();
        message.write_bhttp(Mode::KnownLength, &mut plain)?;
        let request = ohttp::ClientRequest::from_encoded_config_list(&self.keys)?;
        let (sealed, context) = request.encapsulate(&plain)?;
        let last = self.last_kem().ok_or("the list cannot be read")?;
        if sealed.get(1..3) != Some(&last) {
            return Err(format!("sealed for KEM {:02x?}, the last is {last:02x?}", sealed.get(1..3)).into());
        }
        let answer = self.send(&sealed)?;
        if answer.status_code != 200 {
            return Err(format!("answered {}", answer.status_code).into());
        }
        let opened = context.decapsulate(answer.as_bytes())?;
        let message = Message::read_bhttp(&mut Cursor::new(&opened))?;
        let status = message.control().status().ok_or("not an answer")?.code();
        self.expect(status, message.content())
    }

    /// The KEM of the last configuration.
    fn last_kem(&self) -> Option<[u8; 2]> {
        let (mut rest, mut last) = (self.keys.as_slice(), None);
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            last = entry.get(1..3).and_then(|kem| kem.try_into().ok());
            rest = after;
        }
        last
    }

    fn send(&self, sealed: &[u8]) -> Result<bitreq::Response, Failure> {
        let asked = bitreq::post(self.relay.as_str()).with_header("content-type", OHTTP_REQ_CONTENT_TYPE);
        Ok(asked.with_body(sealed).send()?)
    }

    fn expect(&self, status: u16, body: &[u8]) -> Result<(), Failure> {
        let expected = format!("kept {} bytes", self.payload.len());
        if status == 201 && body == expected.as_bytes() {
            return Ok(());
        }
        Err(format!("answered {status}: {}", String::from_utf8_lossy(body)).into())
    }
}

const PATH: &str = "/kept";
const MEDIA: &str = "application/octet-stream";
