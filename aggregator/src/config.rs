//! The configuration file of one aggregator: where it listens, where it keeps things, which tasks it
//! serves and under which policy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mica_service::listener::BodyPace;
use mica_service::operators;
use mica_service::tls::{ListenTls, PeerTls};
use serde::Deserialize;

use crate::hpke_keys::Schedule;
use crate::shared::Limits;
use crate::task::Role;
use crate::taskprov::TaskprovConfig;

/// `leader.toml` or `helper.toml`. Paths are taken from the folder of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on, such as `127.0.0.1:8481`.
    pub listen: SocketAddr,
    /// `sqlite:FILE` or `postgres://...`.
    pub database: String,
    /// The policy file: how much noise, and how much budget.
    pub policy: PathBuf,
    /// The warnings of the policy file that its operator has read and means, such as `W032`; any other keeps the file
    /// from being served.
    #[serde(default)]
    pub policy_allow: Vec<String>,
    /// Task files for this role, written by `mica task new`: put into the database at the start. Others are added with
    /// `mica task import` or through the admin API.
    #[serde(default)]
    pub tasks: Vec<PathBuf>,
    /// What is asked of new tasks.
    #[serde(default)]
    pub limits: TaskLimits,
    /// Where the end of the ledger is written down outside the database.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// Takes part in tasks that come with a request.
    #[serde(default)]
    pub taskprov: Option<TaskprovConfig>,
    /// Where the operator's admin API listens, if anywhere: on loopback, or inside the TLS of `[tls]`.
    #[serde(default)]
    pub admin_listen: Option<SocketAddr>,
    /// SHA-256 of the admin token, 64 hexadecimal digits.
    #[serde(default)]
    pub admin_token_sha256: Option<String>,
    /// The file of the admin token, in place of its hash.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// Who this aggregator is to those who connect; without it, it speaks plain HTTP, on loopback only.
    #[serde(default)]
    pub tls: Option<ListenTls>,
    /// Leader: whom it takes for the helper, and who it is to it.
    #[serde(default)]
    pub peer_tls: PeerTls,
    /// Takes plain HTTP from other machines: for aggregators behind a proxy that speaks TLS.
    #[serde(default)]
    pub insecure: bool,
    /// Asks the helper over plain HTTP on another machine too: where something else guards the way there.
    #[serde(default)]
    pub insecure_peers: bool,
    /// How long the keys live that clients seal to, and for which algorithms they are.
    #[serde(default)]
    pub hpke_keys: Schedule,
    /// The largest upload in bytes.
    #[serde(default = "default_upload_bytes")]
    pub max_upload_bytes: usize,
    /// The most reports in one aggregation job.
    #[serde(default = "default_job_reports")]
    pub max_job_reports: usize,
    /// The most bytes of reports in one aggregation job; stay below what the helper accepts.
    #[serde(default = "default_job_bytes")]
    pub max_job_bytes: usize,
    /// The most bytes of uploads or aggregation jobs in memory at once, whole or on their way; when there are more,
    /// clients or the leader are told 503. A quarter is kept for requests of no more than 64 KiB.
    #[serde(default = "default_buffered_bytes")]
    pub max_buffered_bytes: usize,
    /// How fast the bodies of requests must come; slower ones are told 408.
    #[serde(default)]
    pub bodies: BodyPace,
    /// Leader: the most collections of one task that are open at once; more are told 429.
    #[serde(default = "default_open_collections")]
    pub max_open_collections: u64,
    /// Helper: the most aggregation jobs that are worked on at once; more are told 503. A task gets half of what the
    /// others leave.
    #[serde(default = "default_helper_jobs")]
    pub max_helper_jobs: usize,
    /// Helper: `at-once`, or `deferred` to take requests in and answer them when the leader asks again.
    #[serde(default)]
    pub answers: Answers,
    /// Who runs this aggregator.
    #[serde(default)]
    pub operator: Option<String>,
    /// Helper: who runs the leader: somebody else.
    #[serde(default)]
    pub leader_operator: Option<String>,
    /// Leader: who runs the helper: somebody else.
    #[serde(default)]
    pub helper_operator: Option<String>,
    /// Leader: who runs the relay that clients report through: somebody else.
    #[serde(default)]
    pub relay_operator: Option<String>,
    /// Starts although one operator runs both: for trials, in which nothing is hidden from that operator.
    #[serde(default)]
    pub insecure_one_operator: bool,
}

/// How the ledger of privacy budgets is kept from going back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// The file that remembers how far the ledger had come, each process its own. With SQLite it lies beside the database
    /// when nothing is said; with PostgreSQL it must be named.
    pub high_water_mark: Option<PathBuf>,
}

/// What an aggregator asks of new tasks, whichever way they come.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawTaskLimits")]
pub struct TaskLimits {
    /// No task with a smaller minimum batch size is taken. The smaller a batch, the more its total says about each
    /// report in it.
    pub min_batch_size_floor: u64,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTaskLimits {
    min_batch_size_floor: u64,
    /// Says that nobody's reports are counted here. Without it, no floor is below [`LEAST_FLOOR`].
    for_tests: bool,
}

/// A batch of one report is that report.
const LEAST_FLOOR: u64 = 2;

impl Default for TaskLimits {
    fn default() -> Self {
        Self { min_batch_size_floor: LEAST_FLOOR }
    }
}

impl Default for RawTaskLimits {
    fn default() -> Self {
        Self { min_batch_size_floor: LEAST_FLOOR, for_tests: false }
    }
}

impl TryFrom<RawTaskLimits> for TaskLimits {
    type Error = String;

    fn try_from(raw: RawTaskLimits) -> Result<Self, String> {
        let RawTaskLimits { min_batch_size_floor, for_tests } = raw;
        let least = if for_tests { 1 } else { LEAST_FLOOR };
        if min_batch_size_floor < least {
            return Err(format!(
                "min_batch_size_floor is below {least}: a batch of one report is that report"
            ));
        }
        Ok(Self { min_batch_size_floor })
    }
}

/// When the helper answers aggregation jobs and requests for aggregate shares (DAP 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// In the response to the request.
    #[default]
    AtOnce,
    /// Later: the request is taken in, and the leader asks again.
    Deferred,
}

impl Config {
    /// The same configuration with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.policy = folder.join(&self.policy);
        self.ledger.high_water_mark = self.ledger.high_water_mark.map(|file| folder.join(file));
        self.taskprov = self.taskprov.map(|taskprov| taskprov.relative_to(folder));
        self.admin_token_file = self.admin_token_file.map(|file| folder.join(file));
        self.tls = self.tls.map(|tls| tls.relative_to(folder));
        self.peer_tls = self.peer_tls.relative_to(folder);
        for task in &mut self.tasks {
            *task = folder.join(&task);
        }
        if let Some(file) = self.database.strip_prefix("sqlite:").filter(|file| !file.starts_with('/')) {
            self.database = format!("sqlite:{}", folder.join(file).display());
        }
        self
    }

    /// The file that remembers how far the ledger had come; nothing where one must be named and is not.
    #[must_use]
    pub fn high_water_mark(&self) -> Option<PathBuf> {
        let beside = || Some(PathBuf::from(format!("{}.mark", self.database.strip_prefix("sqlite:")?)));
        self.ledger.high_water_mark.clone().or_else(beside)
    }

    /// Whether whoever copies the folder of the database copies that file with it.
    #[must_use]
    pub fn mark_is_beside_database(&self) -> bool {
        let file = self.database.strip_prefix("sqlite:").map(|file| file.split('?').next().unwrap_or(file));
        let folder = |file: &Path| file.parent().map(Path::to_owned);
        let (mark, database) = (self.high_water_mark(), file.map(Path::new));
        mark.as_deref().and_then(folder).is_some_and(|mark| Some(mark) == database.and_then(folder))
    }

    /// The key and the sentence about a party that must not be run by the operator of this one.
    ///
    /// # Errors
    /// When there is one, unless that is said to be meant.
    pub fn check_operators(&self, role: Role) -> Result<(), (&'static str, String)> {
        let others = [
            ("leader_operator", Role::Helper, "leader", &self.leader_operator),
            ("helper_operator", Role::Leader, "helper", &self.helper_operator),
            ("relay_operator", Role::Leader, "relay", &self.relay_operator),
        ];
        for (key, whose, other, theirs) in others {
            let Some(theirs) = theirs else { continue };
            if role != whose {
                return Err((
                    key,
                    format!("this is for the {whose}, and this is the {role}; leave it out here"),
                ));
            }
            let ours = self.operator.as_ref().filter(|ours| operators::is_same(ours, theirs));
            if let Some(ours) = ours.filter(|_| !self.insecure_one_operator) {
                return Err((key, operators::refusal(ours, &role.to_string(), other)));
            }
        }
        Ok(())
    }

    /// The limits this configuration sets; the rest keep their defaults.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            upload_bytes: self.max_upload_bytes,
            job_reports: self.max_job_reports,
            job_bytes: self.max_job_bytes,
            queued_bytes: self.max_buffered_bytes,
            body_pace: self.bodies,
            answers: self.answers,
            open_collections: self.max_open_collections,
            helper_jobs: self.max_helper_jobs,
            min_batch_size_floor: self.limits.min_batch_size_floor,
            ..Limits::default()
        }
    }
}

fn default_upload_bytes() -> usize {
    Limits::default().upload_bytes
}

fn default_open_collections() -> u64 {
    Limits::default().open_collections
}

fn default_helper_jobs() -> usize {
    Limits::default().helper_jobs
}

fn default_buffered_bytes() -> usize {
    Limits::default().queued_bytes
}

fn default_job_reports() -> usize {
    Limits::default().job_reports
}

fn default_job_bytes() -> usize {
    Limits::default().job_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_folder_of_the_file() {
        let text = "listen = \"127.0.0.1:1\"\ndatabase = \"sqlite:leader.db\"\npolicy = \"p.toml\"\ntasks = [\"/abs/t.toml\", \"t.toml\"]\n";
        let config: Config = toml::from_str(text).expect("valid");
        let config = config.relative_to(Path::new("/etc/mica"));
        assert_eq!(config.database, "sqlite:/etc/mica/leader.db");
        assert_eq!(config.policy, Path::new("/etc/mica/p.toml"));
        assert_eq!(config.tasks, [Path::new("/abs/t.toml"), Path::new("/etc/mica/t.toml")]);
        assert_eq!(config.limits().job_reports, Limits::default().job_reports);
    }

    #[test]
    fn a_mark_that_is_copied_with_its_database_is_told_from_one_elsewhere() {
        let beside = |database: &str, ledger: &str| {
            let text =
                format!("listen = \"127.0.0.1:1\"\ndatabase = \"{database}\"\npolicy = \"p\"\n{ledger}");
            let config: Config = toml::from_str(&text).expect("valid");
            config.relative_to(Path::new("/etc/mica")).mark_is_beside_database()
        };
        assert!(beside("sqlite:leader.db", ""));
        assert!(beside("sqlite:/srv/leader.db", "[ledger]\nhigh_water_mark = \"/srv/leader.mark\""));
        assert!(!beside("sqlite:leader.db", "[ledger]\nhigh_water_mark = \"/srv/leader.mark\""));
        assert!(!beside("postgres://127.0.0.1/leader", "[ledger]\nhigh_water_mark = \"leader.mark\""));
    }

    #[test]
    fn no_configuration_file_takes_batches_of_one_unless_it_says_that_it_is_for_tests() {
        let floor = |table: &str| {
            let limits: Result<TaskLimits, _> = toml::from_str(table);
            limits.map(|limits| limits.min_batch_size_floor).map_err(|error| error.to_string())
        };
        assert_eq!(floor(""), Ok(2));
        assert_eq!(floor("min_batch_size_floor = 50"), Ok(50));
        assert_eq!(floor("min_batch_size_floor = 1\nfor_tests = true"), Ok(1));
        for refused in [
            "min_batch_size_floor = 1",
            "min_batch_size_floor = 0",
            "min_batch_size_floor = 1\nfor_tests = false",
            "min_batch_size_floor = 0\nfor_tests = true",
        ] {
            let why = floor(refused).expect_err("it is refused");
            assert!(why.contains("a batch of one report is that report"), "{why}");
        }
    }

    #[test]
    fn an_aggregator_of_the_operator_of_the_other_does_not_start_unless_that_is_said_to_be_a_trial() {
        let check = |role: Role, further: &str| {
            let text =
                format!("listen = \"127.0.0.1:1\"\ndatabase = \"sqlite:x\"\npolicy = \"p\"\n{further}");
            toml::from_str::<Config>(&text).expect("valid").check_operators(role)
        };
        let one = "operator = \"Example e.V.\"\n";
        for (role, key) in [
            (Role::Leader, "helper_operator"),
            (Role::Leader, "relay_operator"),
            (Role::Helper, "leader_operator"),
        ] {
            let same = format!("{one}{key} = \"example eV\"\n");
            let (named, what) = check(role, &same).expect_err("it is one operator");
            assert!(named == key && what.contains("insecure_one_operator = true"), "{what}");
            assert_eq!(what.contains("two shares"), key != "relay_operator", "{what}");
            assert_eq!(check(role, &format!("{same}insecure_one_operator = true\n")), Ok(()));
            assert_eq!(check(role, &format!("{one}{key} = \"Another\"\n")), Ok(()));
            assert_eq!(check(role, &format!("{key} = \"Another\"\n")), Ok(()), "nothing to compare it with");
            let other = if role == Role::Leader { Role::Helper } else { Role::Leader };
            let (named, what) = check(other, &format!("{key} = \"Another\"\n")).expect_err("not its to say");
            assert!(named == key && what.contains("leave it out"), "{what}");
        }
        assert_eq!(check(Role::Leader, one), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text =
            "listen = \"127.0.0.1:1\"\ndatabase = \"sqlite:x\"\npolicy = \"p\"\ntasks = []\nlimt = 1\n";
        assert!(toml::from_str::<Config>(text).is_err());
    }
}
