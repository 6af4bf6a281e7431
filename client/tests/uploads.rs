//! A client against a relay, gateway and aggregators that say what a test tells them to: what it asks for, what it takes
//! for an answer, and when it tries again.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use mica_client::{Client, ClientError, TaskBundle};
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{self, HpkeKeypair, InputShareAad, Label, Role};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig, HpkeConfigList};
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::report::{PlaintextInputShare, Report, ReportUploadStatus, UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::taskprov;
use mica_dap::time::{Time, TimePrecision};
use mica_dap::vdaf::{InputShareRef, Measurement, VerifyKey, vdaf_context};
use mica_dap::vdaf_config::VdafConfig;
use mica_envelope::{
    GatewayKey, GatewayKeys, InnerRequest, InnerResponse, Kem, KeyConfigList, Unwrap as _, media,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NOW: u64 = 1_800_000_059;
const LEADER: &str = "https://leader.example/a/dap/";
const HELPER: &str = "https://helper.example/b/";

/// Everybody whom a client talks to.
struct World {
    draft: Draft,
    task: TaskId,
    configuration: TaskConfiguration,
    relay: String,
    gateway: GatewayKeys,
    leader: HpkeKeypair,
    helper: HpkeKeypair,
    /// What the leader and the helper answer when they are asked for their keys: media type and body.
    lists: Mutex<[(String, Vec<u8>); 2]>,
    /// What the leader finds wrong with the one report of an upload; nothing once all are told.
    verdicts: Mutex<VecDeque<ReportError>>,
    /// How many uploads are refused because the leader does not know the task.
    unknown: Mutex<usize>,
    /// Refuses sealed requests as a gateway does that has other keys by now.
    stale: bool,
    seen: Mutex<Vec<InnerRequest>>,
}

impl World {
    async fn start(draft: Draft, change: impl FnOnce(&mut Self)) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut rng = rand::rng();
        let parameters = TaskParameters {
            task_info: b"clients".to_vec(),
            leader_url: LEADER.to_owned(),
            helper_url: HELPER.to_owned(),
            time_precision: TimePrecision::new(60).unwrap(),
            min_batch_size: 3,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::Sum { max_measurement: 9 },
            task_interval: None,
        };
        let (leader, helper) = (HpkeKeypair::generate(5, &mut rng), HpkeKeypair::generate(6, &mut rng));
        let media = Media::HpkeConfigList.header().to_owned();
        let list = |config: &HpkeConfig| HpkeConfigList::new(vec![config.clone()]).unwrap().encoded();
        let mut world = Self {
            draft,
            task: TaskId::random(&mut rng),
            configuration: parameters.build(draft).unwrap(),
            relay: format!("http://{}/", listener.local_addr().unwrap()),
            gateway: GatewayKeys::new(vec![GatewayKey::generate(7, Kem::X25519HkdfSha256).unwrap()]).unwrap(),
            lists: Mutex::new([(media.clone(), list(&leader.config)), (media, list(&helper.config))]),
            leader,
            helper,
            verdicts: Mutex::default(),
            unknown: Mutex::default(),
            stale: false,
            seen: Mutex::default(),
        };
        change(&mut world);
        let world = Arc::new(world);
        tokio::spawn(serve(listener, Arc::clone(&world)));
        world
    }

    fn client(&self) -> Client {
        Client::new(TaskBundle {
            task_id: self.task,
            draft: self.draft,
            configuration: self.configuration.clone(),
            relay: self.relay.clone(),
            ohttp_keys: KeyConfigList::parse(self.gateway.config_list().to_vec()).unwrap(),
            history_key: None,
        })
    }

    /// Where each request went, in order.
    fn asked(&self) -> Vec<String> {
        let url = |it: &InnerRequest| format!("{} {}://{}{}", it.method, it.scheme, it.authority, it.path);
        self.seen.lock().unwrap().iter().map(url).collect()
    }

    /// The bodies of all uploads.
    fn uploads(&self) -> Vec<Vec<u8>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| it.method == "POST").map(|it| it.body.to_vec()).collect()
    }

    /// The one report of each upload.
    fn reports(&self) -> Vec<Report> {
        let read = |body: Vec<u8>| UploadRequest::decode_reports(&body, 1).unwrap().remove(0).report;
        self.uploads().into_iter().map(read).collect()
    }

    fn answer(&self, request: &InnerRequest) -> InnerResponse {
        self.seen.lock().unwrap().push(request.clone());
        let mut unknown = self.unknown.lock().unwrap();
        if request.method == "POST" && *unknown > 0 {
            *unknown -= 1;
            let headers = vec![("content-type".to_owned(), media::PROBLEM_JSON.as_bytes().to_vec())];
            let body = ProblemDocument::new(Problem::UnrecognizedTask).to_json();
            return InnerResponse { status: 404, headers, body: body.into() };
        }
        let (media, body) = match (request.method.as_str(), request.authority.as_str()) {
            ("GET", "leader.example") => self.lists.lock().unwrap()[0].clone(),
            ("GET", _) => self.lists.lock().unwrap()[1].clone(),
            _ => match self.verdicts.lock().unwrap().pop_front() {
                None => return InnerResponse { status: 202, headers: Vec::new(), body: Vec::new().into() },
                Some(error) => {
                    let report = UploadRequest::decode_reports(&request.body, 1).unwrap().remove(0).report;
                    let status = ReportUploadStatus::new(report.metadata.report_id, error, self.draft);
                    (
                        Media::UploadErrors.header().to_owned(),
                        UploadErrors { statuses: vec![status] }.encoded(),
                    )
                }
            },
        };
        let headers = vec![("content-type".to_owned(), media.into_bytes())];
        InnerResponse { status: 200, headers, body: body.into() }
    }
}

async fn serve(listener: TcpListener, world: Arc<World>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&world)));
    }
}

/// Relay and gateway in one, by hand: one request after the other on one connection.
async fn converse(mut stream: TcpStream, world: Arc<World>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        };
        let fields = String::from_utf8(read[..head].to_vec()).ok()?.to_ascii_lowercase();
        assert!(fields.contains("content-type: message/ohttp-req\r\n"), "{fields}");
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = head + length.unwrap().parse::<usize>().unwrap();
        while read.len() < end {
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        }
        let sealed: Vec<u8> = read.drain(..end).skip(head).collect();
        let (status, media, body) = if world.stale {
            let problem = format!(r#"{{"type":"{}"}}"#, media::PROBLEM_OHTTP_KEY);
            ("401 Unauthorized", media::PROBLEM_JSON, problem.into_bytes())
        } else {
            let opened = world.gateway.open(&sealed).unwrap();
            let answer = world.answer(&opened.request.unwrap());
            ("200 OK", media::OHTTP_RESPONSE, opened.sealer.seal(&answer).unwrap())
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()?;
    }
}

/// C1, C6 to C11, S133: both lists come through the envelope, and each share opens for its aggregator alone, as a fresh report
/// that is bound to its task.
#[tokio::test]
async fn a_report_is_made_with_the_keys_of_both_aggregators_and_opens_for_each_alone() {
    for draft in Draft::ALL {
        let world = World::start(draft, |_| ()).await;
        for _ in 0..2 {
            let outcome = world.client().report(&Measurement::Integer(4), NOW).await.unwrap();
            assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0));
        }
        let requests = [
            format!("GET {LEADER}hpke_config"),
            format!("GET {HELPER}hpke_config"),
            format!("POST {LEADER}tasks/{}/reports", world.task),
        ];
        assert_eq!(world.asked(), [requests.clone(), requests].concat(), "{draft}");
        let upload = world.seen.lock().unwrap()[2].clone();
        assert_eq!(upload.header("content-type"), Some(Media::UploadReq.header().as_bytes()));
        let [one, two] = <[Report; 2]>::try_from(world.reports()).unwrap();
        assert_ne!(one.metadata.report_id, two.metadata.report_id);
        assert_ne!(shares(&world, &one), shares(&world, &two), "the same measurement, other randomness");
        assert_eq!(one.metadata.time, Time(NOW / 60), "rounded down");
        assert_verifies(&world, &one);
    }
}

/// RFC 9458 6.5.1 would have a `Date` inside; who counts time in another way than others could be told by it.
#[tokio::test]
async fn no_request_of_a_client_says_when_it_was_made() {
    let world = World::start(Draft::V18, |_| ()).await;
    world.client().report(&Measurement::Integer(4), NOW).await.unwrap();
    let seen = world.seen.lock().unwrap();
    let fields = |it: &InnerRequest| it.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let asked: Vec<(&str, Vec<String>)> = seen.iter().map(|it| (it.method.as_str(), fields(it))).collect();
    let [("GET", leader), ("GET", helper), ("POST", upload)] = &asked[..] else { panic!("{asked:?}") };
    for fields in [leader, helper, upload] {
        assert!(!fields.iter().any(|name| name.eq_ignore_ascii_case("date")), "{fields:?}");
    }
    assert!(upload.contains(&"content-type".to_owned()), "the fields of an upload were seen: {upload:?}");
}

/// Both input shares, opened as DAP 4.5.3.3 says; neither opens for the other role.
fn shares(world: &World, report: &Report) -> [Vec<u8>; 2] {
    let aad = InputShareAad {
        task_id: &world.task,
        task_configuration: world.configuration.bytes(),
        metadata: &report.metadata.encoded(),
        public_share: &report.public_share,
    }
    .encoded();
    let open = |keypair: &HpkeKeypair, role: Role, sealed: &HpkeCiphertext| {
        hpke::open(keypair, &Label::InputShare(role).info(world.draft), &aad, sealed)
    };
    let (leader, helper) = (&report.leader_encrypted_input_share, &report.helper_encrypted_input_share);
    assert_eq!((leader.config_id, helper.config_id), (5, 6));
    assert!(open(&world.leader, Role::Helper, leader).is_err());
    assert!(open(&world.helper, Role::Leader, helper).is_err());
    let plain = [open(&world.leader, Role::Leader, leader), open(&world.helper, Role::Helper, helper)];
    plain.map(|share| {
        let share = PlaintextInputShare::decoded(&share.unwrap()).unwrap();
        assert_eq!(share.private_extensions, []);
        share.payload.clone()
    })
}

/// Sharded for this context and under its own identifier: it verifies there and nowhere else.
fn assert_verifies(world: &World, report: &Report) {
    let vdaf = world.configuration.vdaf().instantiate().unwrap();
    let [leader, helper] = shares(world, report);
    let key = VerifyKey::new([7; 32]);
    let verifies = |draft: Draft| {
        let context = vdaf_context(draft, &world.task);
        let share = |input_share| InputShareRef {
            nonce: &report.metadata.report_id,
            public_share: &report.public_share,
            input_share,
        };
        let begun = vdaf.leader_init(&key, &context, &[], &share(leader.as_slice())).unwrap();
        vdaf.helper_init(&key, &context, &[], &share(helper.as_slice()), &begun.message).is_ok()
    };
    let other = if world.draft == Draft::V18 { Draft::V19 } else { Draft::V18 };
    assert!(verifies(world.draft) && !verifies(other));
}

fn unusable() -> HpkeConfig {
    HpkeConfig { id: 1, kem_id: 0x7777, kdf_id: 1, aead_id: 1, public_key: vec![1; 32] }
}

/// C2 to C4, S3.
#[tokio::test]
async fn a_client_without_usable_keys_of_both_aggregators_sends_nothing() {
    for whose in [0, 1] {
        let world = World::start(Draft::V18, |_| ()).await;
        let (media, good) = world.lists.lock().unwrap()[whose].clone();
        let unsupported = HpkeConfigList::new(vec![unusable()]).unwrap().encoded();
        let twice = [&good[2..], &good[2..]].concat();
        let twice = [&u16::try_from(twice.len()).unwrap().to_be_bytes(), twice.as_slice()].concat();
        for (what, media, list) in [
            ("empty", media.as_str(), vec![0, 0]),
            ("no bytes", &media, Vec::new()),
            ("truncated", &media, good[..good.len() - 1].to_vec()),
            ("trailing", &media, [good.as_slice(), &[0]].concat()),
            ("one identifier twice", &media, twice),
            ("unsupported suites only", &media, unsupported),
            ("another media type", "application/octet-stream", good.clone()),
        ] {
            world.lists.lock().unwrap()[whose] = (media.to_owned(), list);
            let refused = world.client().report(&Measurement::Integer(4), NOW).await.unwrap_err();
            let expected = matches!(refused, ClientError::Answer(_) | ClientError::NoUsableKey(_));
            assert!(expected, "{what}: {refused:?}");
        }
        assert_eq!(world.uploads().len(), 0);
        world.lists.lock().unwrap()[whose] = (media, good);
        assert_eq!(world.client().report(&Measurement::Integer(4), NOW).await.unwrap().accepted, 1);
    }
}

/// C4: what cannot be used is passed over, and the first that can be used is preferred.
#[tokio::test]
async fn a_client_takes_the_first_key_that_it_can_use() {
    let world = World::start(Draft::V18, |_| ()).await;
    let spare = HpkeKeypair::generate(9, &mut rand::rng()).config;
    let list = HpkeConfigList::new(vec![unusable(), world.leader.config.clone(), spare]).unwrap();
    world.lists.lock().unwrap()[0].1 = list.encoded();
    assert_eq!(world.client().report(&Measurement::Integer(4), NOW).await.unwrap().accepted, 1);
    shares(&world, &world.reports()[0]);
}

/// C12, C13, S5: a fresh list, once. The report stays the same, sealed anew: a leader that keeps what it calls outdated
/// has no second report of the measurement, for the helper counts an identifier once.
#[tokio::test]
async fn a_client_whose_keys_are_outdated_fetches_them_and_seals_its_report_anew_once() {
    for (draft, outdated) in
        [(Draft::V18, ReportError::OutdatedConfig), (Draft::V19, ReportError::HpkeUnknownConfigId)]
    {
        for (verdicts, accepted) in [(1, 1), (2, 0)] {
            let world = World::start(draft, |_| ()).await;
            *world.verdicts.lock().unwrap() = vec![outdated; verdicts].into();
            let outcome = world.client().report(&Measurement::Integer(4), NOW).await.unwrap();
            assert_eq!((outcome.accepted, outcome.rejected.len()), (accepted, 1 - accepted));
            let [first, second] = <[Report; 2]>::try_from(world.reports()).unwrap();
            assert_eq!(
                first.metadata, second.metadata,
                "one report for the helper, whatever the leader keeps"
            );
            assert_eq!(first.public_share, second.public_share);
            assert_eq!(shares(&world, &first), shares(&world, &second));
            assert_ne!(
                first.helper_encrypted_input_share, second.helper_encrypted_input_share,
                "sealed anew"
            );
            let fetched = world.asked().iter().filter(|asked| asked.starts_with("GET")).count();
            assert_eq!(fetched, 4, "both lists are fetched again");
        }
    }
}

/// C14: what was too early is as good later; and no other refusal makes the client try again.
#[tokio::test]
async fn a_report_that_was_too_early_can_be_uploaded_later_as_it_is() {
    let world = World::start(Draft::V18, |_| ()).await;
    let client = world.client();
    let report = client.builder().await.unwrap().report(&Measurement::Integer(4), NOW).unwrap();
    *world.verdicts.lock().unwrap() = [ReportError::ReportTooEarly].into();
    let refused = client.upload(std::slice::from_ref(&report)).await.unwrap();
    assert_eq!(refused.rejected, [(report.metadata.report_id, ReportError::ReportTooEarly)]);
    assert_eq!(client.upload(std::slice::from_ref(&report)).await.unwrap().accepted, 1);
    let uploads = world.uploads();
    assert_eq!((uploads.len(), &uploads[0]), (2, &uploads[1]));
    *world.verdicts.lock().unwrap() = [ReportError::ReportReplayed].into();
    let outcome = client.report(&Measurement::Integer(4), NOW).await.unwrap();
    assert_eq!((outcome.accepted, world.uploads().len()), (0, 3));
}

/// S131: who has an old bundle is told to fetch a new one.
#[tokio::test]
async fn a_client_whose_bundle_names_a_key_that_the_gateway_has_no_more_is_told_so() {
    let world = World::start(Draft::V18, |world| world.stale = true).await;
    let refused = world.client().report(&Measurement::Integer(4), NOW).await;
    assert!(matches!(refused, Err(ClientError::StaleOhttpKey(_))), "{refused:?}");
    assert_eq!(world.asked(), [""; 0]);
}

/// T7: a leader that does not know the task is told of it, once, where the identifier is that of the configuration.
#[tokio::test]
async fn a_client_tells_a_leader_of_its_task_when_that_does_not_know_it() {
    for (unknown, derived, accepted) in [(1, true, true), (2, true, false), (1, false, false)] {
        let change = |world: &mut World| {
            world.unknown = Mutex::new(unknown);
            if derived {
                world.task = world.configuration.derived_task_id();
            }
        };
        let world = World::start(Draft::V18, change).await;
        let outcome = world.client().report(&Measurement::Integer(4), NOW).await;
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        let value = taskprov::header_value(&world.configuration);
        let expected: &[Option<&[u8]>] = if derived { &[None, Some(value.as_bytes())] } else { &[None] };
        let seen = world.seen.lock().unwrap();
        let told: Vec<_> =
            seen.iter().filter(|it| it.method == "POST").map(|it| it.header(taskprov::HEADER)).collect();
        assert_eq!(told, expected);
    }
}
