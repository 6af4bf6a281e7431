//! Who is let in (DAP 3.5): by token, by certificate, by both, over real TLS; and what all others are told.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_aggregator::aggregator::Options;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::credential::{Credential, KnownCertificate};
use mica_aggregator::enrol::{Rules, enrol};
use mica_aggregator::registry::Tasks;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::migrator;
use mica_aggregator::task_file::Tokens;
use mica_aggregator::{Aggregator, Role, TaskFile};
use mica_dap::id::TaskId;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::shutdown::Shutdown;
use mica_service::testing::{Authority, Folder, Issued, TestDatabase};
use mica_service::tls::{Acceptor, ListenTls, PeerTls, Peers};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::support::{NOW, TestTask};

/// A server with four tasks: known by the token `a`, by the token `b`, by a certificate, by the token `d` and a name.
struct World {
    role: Role,
    origin: String,
    tasks: [TaskId; 4],
    folder: Folder,
    clients: Authority,
    peer: Issued,
}

/// What a caller shows.
#[derive(Clone, Copy)]
struct Shown<'a> {
    authorization: Option<&'a str>,
    certificate: Option<&'a Issued>,
}

/// All of an answer that can tell one task from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: String,
}

impl World {
    async fn start(role: Role, database: &TestDatabase) -> Self {
        let (folder, servers, clients) = (Folder::new(), Authority::new(), Authority::new());
        let peer = clients.issue(&["peer.example"]);
        let tasks = [TestTask::plain(), TestTask::plain(), TestTask::plain(), TestTask::plain()];
        let fingerprint = KnownCertificate::Sha256(Sha256::digest(peer.der()).into());
        let name = KnownCertificate::Name("peer.example".to_owned());
        let expected = [
            Credential::from(TokenHash::of("a")),
            Credential::from(TokenHash::of("b")),
            Credential::new(None, vec![fingerprint]).expect("a certificate"),
            Credential::new(Some(TokenHash::of("d")), vec![name]).expect("a token and a certificate"),
        ];
        let files = tasks.iter().zip(expected).map(|(task, expected)| file(task, role, expected)).collect();
        let (certificate, private_key) = folder.identity("server", &servers.issue(&["localhost"]));
        folder.write("servers.pem", &servers.pem());
        let client_roots = Some(folder.write("clients.pem", &clients.pem()));
        let listen = ListenTls { certificate, private_key, client_roots, require_client_certificate: false };
        let options = Options {
            role,
            store: database.open(migrator()).await.expect("the database of the test"),
            clock: Clock::manual(NOW),
            compute: ComputePool::with_threads(1),
            http: HttpClient::new(HttpOptions::default()),
            policy: tasks[0].policy(),
            tasks: files,
            limits: Limits::default(),
        };
        let server = Aggregator::build(options).await.expect("the tasks can be served");
        let tls = Acceptor::load(&listen).expect("the files belong together");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(server.with_tls(Some(tls)).run(listener, Shutdown::new()));
        let origin = format!("https://localhost:{port}/api/dap/tasks");
        Self { role, origin, tasks: tasks.map(|task| task.id), folder, clients, peer }
    }

    /// Everything that only a peer may ask for.
    fn guarded(&self) -> Vec<(Method, &'static str)> {
        let one = |name: &'static str| (Method::POST, name);
        match self.role {
            Role::Leader => {
                vec![one("collection_jobs"), (Method::GET, COLLECTION_JOB), (Method::DELETE, COLLECTION_JOB)]
            }
            Role::Helper => vec![
                one("aggregation_jobs"),
                one("aggregate_shares"),
                (Method::GET, AGGREGATION_JOB),
                (Method::POST, AGGREGATION_JOB),
                (Method::DELETE, AGGREGATION_JOB),
                (Method::GET, "aggregate_shares/AAAAAAAAAAAAAAAAAAAAAA"),
            ],
        }
    }

    async fn ask(&self, shown: Shown<'_>, task: &str, (method, resource): &(Method, &str)) -> Told {
        let files = shown.certificate.map(|identity| self.folder.identity("client", identity));
        let (certificate, private_key) = files.unzip();
        let roots = Some(self.folder.path("servers.pem"));
        let peers = PeerTls { roots, system_roots: false, certificate, private_key };
        let peers = Peers::load(&peers, false).expect("the files belong together");
        let client = HttpClient::new(HttpOptions { peers, ..HttpOptions::default() });
        let mut request =
            Request::builder().method(method.clone()).uri(format!("{}/{task}/{resource}", self.origin));
        if let Some(authorization) = shown.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = client.send(request.body(Bytes::new()).expect("a request")).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let headers = head.headers.iter().filter(|(name, _)| *name != header::DATE);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(task, "TASK");
        Told {
            status: head.status,
            headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
            body: text(&body),
        }
    }

    /// What is told about each of the four tasks, and about one that does not exist.
    async fn ask_about_all(&self, shown: Shown<'_>, resource: &(Method, &str)) -> (Vec<Told>, Told) {
        let mut told = Vec::new();
        for task in &self.tasks {
            told.push(self.ask(shown, &task.to_string(), resource).await);
        }
        let nobody = TaskId::random(&mut rand::rng());
        (told, self.ask(shown, &nobody.to_string(), resource).await)
    }
}

fn file(task: &TestTask, role: Role, expected: Credential) -> TaskFile {
    let tokens = match role {
        Role::Leader => {
            Tokens::Leader { to_helper: Some(Bearer::new("x").expect("a token")), of_collector: expected }
        }
        Role::Helper => Tokens::Helper { of_leader: expected },
    };
    TaskFile { tokens, ..task.file(role) }
}

#[tokio::test]
async fn who_shows_nothing_that_is_known_is_told_the_same_whether_there_is_such_a_task_or_not() {
    for role in [Role::Leader, Role::Helper] {
        let database = mica_service::testing::sqlite();
        let world = World::start(role, &database).await;
        let stranger = world.clients.issue(&["stranger.example"]);
        for (authorization, certificate, status) in [
            (None, None, StatusCode::UNAUTHORIZED),
            (Some("Basic a"), None, StatusCode::UNAUTHORIZED),
            (Some("Bearer "), None, StatusCode::UNAUTHORIZED),
            (Some("Bearer wrong"), None, StatusCode::FORBIDDEN),
            (Some("Bearer d"), None, StatusCode::FORBIDDEN),
            (None, Some(&stranger), StatusCode::FORBIDDEN),
            (Some("Bearer d"), Some(&stranger), StatusCode::FORBIDDEN),
        ] {
            let shown = Shown { authorization, certificate };
            for resource in world.guarded() {
                let (about_tasks, about_none) = world.ask_about_all(shown, &resource).await;
                assert_eq!(about_none.status, status, "{role} {resource:?} {authorization:?}");
                for told in about_tasks {
                    assert_eq!(told, about_none, "{role} {resource:?} {authorization:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_opens_one_task_opens_nothing_of_another() {
    for role in [Role::Leader, Role::Helper] {
        let database = mica_service::testing::sqlite();
        let world = World::start(role, &database).await;
        for (authorization, certificate, opens) in [
            (Some("Bearer a"), None, [true, false, false, false]),
            (Some("Bearer b"), None, [false, true, false, false]),
            (None, Some(&world.peer), [false, false, true, false]),
            (Some("Bearer d"), Some(&world.peer), [false, false, true, true]),
            (Some("Bearer a"), Some(&world.peer), [true, false, true, false]),
        ] {
            let shown = Shown { authorization, certificate };
            for resource in world.guarded() {
                let (about_tasks, about_none) = world.ask_about_all(shown, &resource).await;
                assert_eq!(about_none.status, StatusCode::NOT_FOUND);
                assert!(about_none.body.contains("unrecognizedTask"), "{about_none:?}");
                for (task, (told, opens)) in about_tasks.into_iter().zip(opens).enumerate() {
                    assert_eq!(
                        told != about_none,
                        opens,
                        "{role} {resource:?} {authorization:?} task {task}: {told:?}"
                    );
                }
            }
        }
    }
}

const COLLECTION_JOB: &str = "collection_jobs/AAAAAAAAAAAAAAAAAAAAAA";
const AGGREGATION_JOB: &str = "aggregation_jobs/AAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn a_task_file_says_which_certificates_are_known() {
    let known = "name:peer.example";
    let expected = || {
        let certificate = known.parse().expect("a name");
        Credential::new(None, vec![certificate]).expect("a certificate")
    };
    for role in [Role::Leader, Role::Helper] {
        let text = file(&TestTask::plain(), role, expected()).to_toml();
        let read = TaskFile::parse("t.toml", &text).expect("it reads what it writes");
        let (Tokens::Leader { of_collector: read, .. } | Tokens::Helper { of_leader: read }) = read.tokens;
        assert!(read == expected());
        let wrong = text.replace(known, "peer.example");
        let said = TaskFile::parse("t.toml", &wrong).err().expect("it is wrong").to_string();
        assert!(
            said.contains("_certificates has an entry that is neither sha256:HEX nor name:NAME"),
            "{said}"
        );
        let nothing: String =
            text.lines().filter(|line| !line.contains(known)).flat_map(|line| [line, "\n"]).collect();
        assert!(TaskFile::parse("t.toml", &nothing).is_err(), "nobody is let in for nothing");
    }
}

#[test]
fn a_leader_that_shows_a_certificate_needs_no_token_for_the_helper() {
    let task = TestTask::plain();
    let tokens = Tokens::Leader { to_helper: None, of_collector: TokenHash::of("a").into() };
    let text = TaskFile { tokens, ..task.file(Role::Leader) }.to_toml();
    assert!(!text.contains("peer_token"), "nothing is made up");
    let read = TaskFile::parse("t.toml", &text).expect("it reads what it writes");
    assert!(matches!(read.tokens, Tokens::Leader { to_helper: None, .. }));
    assert!(read.for_helper().is_none(), "the leader does not know how the helper knows it");
    let broken = format!("peer_token = \"a b\"\n{}", *text);
    let said = TaskFile::parse("t.toml", &broken).err().expect("it is wrong").to_string();
    assert!(said.contains("peer_token cannot be a bearer token"), "{said}");

    let (folder, authority) = (Folder::new(), Authority::new());
    let (certificate, private_key) = folder.identity("leader", &authority.issue(&["leader.example"]));
    let shown =
        PeerTls { certificate: Some(certificate), private_key: Some(private_key), ..PeerTls::default() };
    let policy = task.policy();
    for (peers, is_taken) in [(shown, true), (PeerTls::default(), false)] {
        let peers = Peers::load(&peers, false).expect("the files belong together");
        let http = &HttpClient::new(HttpOptions { peers, ..HttpOptions::default() });
        let rules = Rules { role: Role::Leader, policy: &policy, min_batch_size_floor: 0, http };
        let checked = rules.check(&read);
        assert_eq!(checked.is_ok(), is_taken);
        if let Err(why) = checked {
            assert!(why.to_string().contains("neither a token nor a certificate"), "{why}");
        }
    }
}

/// The row of the database, and a request to the helper, have none either.
#[tokio::test]
async fn a_leader_without_a_token_sends_none() {
    let database = mica_service::testing::sqlite();
    let store = database.open(migrator()).await.expect("the database of the test");
    let tokens = Tokens::Leader { to_helper: None, of_collector: TokenHash::of("a").into() };
    let task = TestTask::plain();
    let file = TaskFile { tokens, ..task.file(Role::Leader) };
    let (folder, authority) = (Folder::new(), Authority::new());
    let (certificate, private_key) = folder.identity("leader", &authority.issue(&["leader.example"]));
    let shown =
        PeerTls { certificate: Some(certificate), private_key: Some(private_key), ..PeerTls::default() };
    let peers = Peers::load(&shown, false).expect("the files belong together");
    let http = HttpClient::new(HttpOptions { peers, ..HttpOptions::default() });
    let policy = task.policy();
    let rules = Rules { role: Role::Leader, policy: &policy, min_batch_size_floor: 0, http: &http };
    enrol(&store, &file, &rules, NOW).await.expect("it is taken");
    let tasks =
        Tasks::load(store, Clock::manual(NOW), Role::Leader, task.policy()).await.expect("the database");
    let served = tasks.by_id(&task.id).expect("it is served");
    assert!(served.token_to_helper().is_none());
}
