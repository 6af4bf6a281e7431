//! A leader or a helper that dies by SIGKILL at one moment of one transaction: `mortal-aggregator CONFIG TRANSACTION MOMENT`.
//! It is otherwise what `mica leader` and `mica helper` are, on the same configuration.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mica_aggregator::aggregator::Options;
use mica_aggregator::store::migrator;
use mica_aggregator::{Aggregator, Config, Role, TaskFile};
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::store::{Moment, Store, Verdict, Watch};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, transaction, moment] = arguments.as_slice() else {
        panic!("usage: mortal-aggregator CONFIG TRANSACTION begin|commit|committed");
    };
    let moment = match moment.as_str() {
        "begin" => Moment::Begin,
        "commit" => Moment::Commit,
        "committed" => Moment::Committed,
        other => panic!("{other} is no moment of a transaction"),
    };
    let (role, config) = read(Path::new(file));
    let store = Store::open(&config.database, migrator()).await.expect("a database");
    let mortal = Mortal { transaction: transaction.clone(), moment };
    let policy = fs::read_to_string(&config.policy).expect("a policy file");
    let options = Options {
        role,
        store: store.watched_by(Arc::new(mortal)),
        clock: Clock::system(),
        compute: ComputePool::new(),
        http: HttpClient::new(HttpOptions::default()),
        policy: Policy::parse("policy.toml", &policy).expect("a policy"),
        tasks: config.tasks.iter().map(|path| TaskFile::load(path).expect("a task file")).collect(),
        limits: config.limits(),
    };
    let mark = config.high_water_mark().expect("a file beside the database");
    let aggregator = Aggregator::build(options).await.expect("a task that it can serve");
    let aggregator = aggregator.with_high_water_mark(&mark).await.expect("a place for the mark");
    let listener = listener::bind(config.listen).await.expect("a free port");
    aggregator.run(listener, Shutdown::on_signal().expect("signals")).await;
}

/// The configuration without the line that says whose it is.
fn read(file: &Path) -> (Role, Config) {
    let text = fs::read_to_string(file).expect("a configuration");
    let (first, rest) = text.split_once('\n').expect("more than one line");
    let role = if first.contains("leader") { Role::Leader } else { Role::Helper };
    let config: Config = toml::from_str(rest).expect("a configuration of an aggregator");
    (role, config.relative_to(file.parent().unwrap_or(Path::new("."))))
}

/// Where to die.
struct Mortal {
    transaction: String,
    moment: Moment,
}

impl Watch for Mortal {
    fn reach(&self, name: &'static str, moment: Moment) -> Verdict<'_> {
        let here = name == self.transaction && moment == self.moment;
        Box::pin(async move {
            if here {
                let pid = std::process::id().to_string();
                let killed = Command::new("kill").args(["-KILL", &pid]).status();
                panic!("SIGKILL came back: {killed:?}");
            }
            Ok(())
        })
    }
}
