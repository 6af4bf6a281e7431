//! What a run leaves behind says nothing about who measured what.
//!
//! Clients with addresses, values and identifiers that stand out go all the way, under the most talkative logs there are.
//! Then every log and every database of the run is searched for them, and for every secret. That the search would have found
//! them is tested as well.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_dap::codec::Encode as _;
use mica_dap::id::ReportId;
use mica_dap::media::Media;
use mica_dap::report::Report;
use mica_dap::resource::Resource;
use mica_dap::vdaf::{Measurement, vdaf_context};
use mica_dap::vdaf_config::VdafConfig;
use mica_tests::{
    Courier, Database, Dev, Finding, Front, Haystack, Needle, Parties, Plan, Process, Task, interval_of,
};

const CLIENTS: u8 = 12;

/// Values are long enough to be told from any other number.
const LARGEST: u64 = (1 << 40) - 1;

/// A run that has ended, and what must not be found in it.
struct Run {
    dev: Dev,
    /// Nowhere.
    clients: Vec<Needle>,
    /// In no log.
    reports: Vec<Needle>,
    /// In no log.
    secrets: Vec<Needle>,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_and_no_database_says_who_measured_what() {
    let run = run().await;
    let everything = Haystack::of(run.dev.folder());
    let (logs, databases) = (everything.logs(), everything.databases());
    for role in ["relay", "gateway", "leader", "helper"] {
        assert!(
            logs.names().iter().any(|name| name.contains(role)),
            "no log of {role}: {:?}",
            everything.names()
        );
    }
    for role in ["gateway", "leader", "helper"] {
        assert!(databases.names().iter().any(|name| name.contains(role)), "no database of {role}");
    }
    assert_eq!(everything.search(&run.clients), [], "of a client, anywhere");
    assert_eq!(logs.search(&run.reports), [], "of a report, in a log");
    assert_eq!(logs.search(&run.secrets), [], "a secret, in a log");

    let task = &run.dev.task;
    let at_relay = logs.only(|name| name.contains("relay"));
    assert_eq!(
        at_relay.search(&[Needle::bytes("the task", task.id.as_bytes())]),
        [],
        "the relay knows tasks"
    );
    let at_gateway = databases.only(|name| name.contains("gateway"));
    assert_eq!(at_gateway.search(&run.reports), [], "the gateway keeps what passes through");
    // Who expects a token knows its hash; the collector's key is the collector's alone.
    let tokens = [Needle::text("the collector's token", &task.collector_to_leader), collector_key(&run.dev)];
    assert_eq!(databases.search(&tokens), [], "in a database");
    let leaders = [Needle::text("the leader's token", &task.leader_to_helper)];
    assert_eq!(databases.only(|name| name.contains("helper")).search(&leaders), [], "at the helper");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_is_found() {
    let run = run().await;
    let folder = run.dev.folder();
    let [report, ..] = run.reports.as_slice() else { panic!("there were reports") };
    let share = run.clients.iter().find(|needle| needle.name.contains("share")).expect("there were shares");
    // One of each spelling: bytes in a row of a database, hexadecimal digits and base64url in a log.
    let mut helper = run.dev.database("helper").await;
    let digits = hex::encode(share.first_spelling());
    let columns = "id, task, request_digest, response, created_at";
    let row = format!("x'00', 0, x'00', x'00{digits}00', 0");
    helper.execute(&format!("INSERT INTO helper_jobs ({columns}) VALUES ({row})")).await;
    drop(helper);
    let line = format!("INFO took a report id={} from 127.0.77.3:1\n", hex::encode(report.first_spelling()));
    std::fs::write(folder.join("planted.log"), line).unwrap();

    let everything = Haystack::of(folder);
    let found: Vec<Finding> = everything.search(&run.clients);
    let names: Vec<&str> = found.iter().map(|finding| finding.needle.as_str()).collect();
    assert!(names.contains(&share.name.as_str()), "a share in a database was not found: {found:?}");
    assert!(names.contains(&"the address of client 3"), "an address in a log was not found: {found:?}");
    let found = everything.logs().search(&run.reports);
    assert_eq!(found, [Finding { needle: report.name.clone(), place: "planted.log".to_owned() }]);
    // What is in a database on purpose is found there: the search reads what the database wrote.
    let leader = everything.databases().only(|name| name.contains("leader"));
    assert_eq!(leader.search(&run.reports).len(), run.reports.len().min(usize::from(CLIENTS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_between_the_hops_learns_no_more_than_the_next_hop_may() {
    let parties = Parties::start(&Plan::without_dp(VdafConfig::Sum { max_measurement: LARGEST })).await;
    let front = Front::start(&parties).await;
    let (mut clients, mut reports, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=CLIENTS {
        let address = Ipv4Addr::new(127, 0, 77, number);
        let (report, needles) = client(&parties.task, front.courier(address), address, value()).await;
        clients.extend(needles);
        reports.push(Needle::bytes("a report", report.metadata.report_id.as_bytes()));
        sent.push(report);
    }
    let collector = parties.task.collector();
    let collection = collector.collect(interval_of(&sent)).await.unwrap();
    let outcome = collector.wait(&collection, || ()).await.unwrap();
    assert_eq!(outcome.report_count, u64::from(CLIENTS));

    let to_gateway = Haystack::of_bytes("before the gateway", front.before_gateway.heard());
    let to_leader = Haystack::of_bytes("before the leader", front.before_leader.heard());
    let asked: Vec<_> = parties.proxy.seen("").into_iter().flat_map(|exchange| exchange.request).collect();
    let to_helper = Haystack::of_bytes("before the helper", asked);
    for heard in [&to_gateway, &to_leader, &to_helper] {
        assert_eq!(heard.search(&clients), [], "of a client");
    }
    // What relay and gateway say to each other is about no task and no report.
    let task = [Needle::bytes("the task", parties.task.id.as_bytes())];
    assert_eq!(to_gateway.search(&task), []);
    assert_eq!(to_gateway.search(&reports), []);
    // The tap was in the right place, and the search works on it.
    assert_eq!(to_leader.search(&task).len(), 1);
    assert_eq!(to_leader.search(&reports).len(), 1);
    // The relay sends the same few header fields for everybody.
    let heard = front.before_gateway.heard();
    let heard = String::from_utf8_lossy(&heard).to_ascii_lowercase();
    for field in
        ["user-agent:", "cookie:", "forwarded:", "x-forwarded-for:", "authorization:", "via:", "traceparent:"]
    {
        assert!(!heard.contains(&format!("\n{field}")), "the relay sent {field}");
    }
    let logs = Haystack::of(parties.folder()).logs();
    assert_eq!(logs.search(&clients), []);
    assert_eq!(logs.search(&reports), []);
    assert_eq!(logs.only(|name| name.contains("relay")).search(&task), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_leaves_no_identifier_and_no_key_in_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let arguments =
        ["demo", "--once", "--json", "--clients", "60", "--log", "trace", "--keep", kept.to_str().unwrap()];
    let mut demo = Process::start("demo", folder.path(), arguments);
    let told = demo.first_json(Duration::from_secs(25));
    assert_eq!(told["second_release"]["refused"], true, "{told}");
    drop(demo);
    let everything = Haystack::of(folder.path());
    let mut needles = Vec::new();
    for database in databases_below(&kept) {
        let mut open = Database::open(&format!("sqlite:{}", database.display())).await;
        for (table, column) in
            [("report_ids", "report_id"), ("hpke_keys", "private_key"), ("tasks", "verify_key")]
        {
            if open.has_table(table).await {
                let secrets = open.bytes(&format!("SELECT {column} FROM {table}")).await;
                needles
                    .extend(secrets.iter().map(|secret| Needle::bytes(&format!("{table}.{column}"), secret)));
            }
        }
    }
    assert!(needles.len() > 60, "only {} needles in {:?}", needles.len(), everything.names());
    let found = everything.logs().search(&needles);
    assert_eq!(found, [], "in the logs {:?}", everything.logs().names());
}

/// Clients that stand out, all the way to the total, and the end of every server.
async fn run() -> Run {
    let largest = LARGEST.to_string();
    let flags = ["--no-dp", "--vdaf", "sum", "--max", &largest, "--min-batch-size", "5", "--log", "trace"];
    let dev = Dev::start(flags);
    let mut clients = Vec::new();
    let mut reports = Vec::new();
    let mut sent = Vec::new();
    let mut total = 0;
    for number in 1..=CLIENTS {
        let value = value();
        total += value;
        let name = |what: &str| format!("{what} of client {number}");
        clients.push(Needle::number(&name("the value"), value));
        let address = Ipv4Addr::new(127, 0, 77, number);
        let (report, needles) = client(&dev.task, dev.courier(address), address, value).await;
        clients.extend(needles);
        reports.push(Needle::bytes(&name("the report"), report.metadata.report_id.as_bytes()));
        sent.push(report);
    }
    clients.push(Needle::number("the total", total));
    let collected = dev.collect(interval_of(&sent)).await;
    assert_eq!(collected.values, [i128::from(total)]);
    let secrets = secrets(&dev).await;
    let mut dev = dev;
    dev.terminate();
    Run { dev, clients, reports, secrets }
}

/// One client at `address`, with loud header fields, and a report of `value`. Returns what nobody may find.
async fn client(task: &Task, courier: Courier, address: Ipv4Addr, value: u64) -> (Report, Vec<Needle>) {
    let [.., number] = address.octets();
    let agent = format!("canary-agent-{}", hex::encode(rand::random::<[u8; 8]>()));
    let elsewhere = format!("203.0.113.{number}");
    let courier = courier.with_fields(vec![
        ("user-agent", agent.clone()),
        ("cookie", format!("session={agent}")),
        ("x-forwarded-for", elsewhere.clone()),
        ("forwarded", format!("for={elsewhere}")),
        ("authorization", format!("Bearer {agent}")),
    ]);
    for endpoint in [task.configuration.leader_url(), task.configuration.helper_url()] {
        let keys = courier.ask("GET", &Resource::HpkeConfig.url(endpoint), None).await.response;
        assert_eq!(keys.status, 200);
    }
    let report_id = ReportId::random(&mut rand::rng());
    let vdaf = task.vdaf().instantiate().expect("the VDAF of a test");
    let domain = vdaf_context(task.draft, &task.id);
    let sharded = vdaf.shard(&domain, &Measurement::Integer(value), &report_id).expect("it can be shared");
    let report = task.builder().await.seal(report_id, task.current_time(), &sharded).expect("a report");
    let content = (Media::UploadReq.header(), report.encoded());
    let delivery = courier.ask("POST", &task.reports_url(), Some(content)).await;
    assert_eq!((delivery.response.status, delivery.response.body.len()), (200, 0));

    let [leader_share, helper_share] = &sharded.input_shares;
    let socket = [address.octets().as_slice(), &delivery.source.port().to_be_bytes()].concat();
    let needles = vec![
        Needle::text(&format!("the address of client {number}"), &format!("127.0.77.{number}")),
        Needle::bytes(&format!("the socket of client {number}"), &socket),
        Needle::text(&format!("a header field of client {number}"), &agent),
        Needle::text(&format!("the claimed address of client {number}"), &elsewhere),
        Needle::bytes(&format!("the leader's share of client {number}"), &leader_share[..32]),
        Needle::bytes(&format!("the helper's share of client {number}"), &helper_share[..32]),
    ];
    (report, needles)
}

fn value() -> u64 {
    rand::random_range(1 << 39..=LARGEST)
}

/// Every key and token of the run.
async fn secrets(dev: &Dev) -> Vec<Needle> {
    let task = &dev.task;
    let mut secrets = vec![
        Needle::text("the leader's token", &task.leader_to_helper),
        Needle::text("the collector's token", &task.collector_to_leader),
        Needle::bytes("the verification key", &task.verify_key),
        collector_key(dev),
    ];
    for role in ["leader", "helper"] {
        let keys = dev.database(role).await.bytes("SELECT private_key FROM hpke_keys").await;
        assert!(!keys.is_empty());
        secrets.extend(keys.iter().map(|key| Needle::bytes(&format!("a private key of the {role}"), key)));
    }
    secrets
}

fn collector_key(dev: &Dev) -> Needle {
    Needle::bytes("the collector's private key", &*dev.task.collector.private_key.to_bytes())
}

fn databases_below(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).expect("it was kept").map(|entry| entry.expect("it was kept").path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "db")).collect()
}
