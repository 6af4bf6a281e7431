//! What the operator of a leader sees of work that is stuck, and what a command makes of it.

use std::process::{Command, Output};
use std::time::Duration;

use http::Method;
use mica_collector::Poll;
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadRequest};
use mica_dap::vdaf::Measurement;
use mica_dp::Policy;
use mica_tests::{Dev, Forge, LoneHelper, Wire, eventually, interval_of};

const FLAGS: [&str; 8] =
    ["--only", "leader", "--no-dp", "--vdaf", "count", "--min-batch-size", "3", "--helper-url"];

/// The commands of an operator, in the folder of the leader's configuration.
struct Operator<'d>(&'d Dev);

impl<'d> Operator<'d> {
    fn of(dev: &'d Dev) -> Self {
        let policy = Policy::for_release_without_dp("a test compares with plain sums", "2099-12-31");
        let database = dev.told["databases"]["leader"].as_str().expect("a leader has one");
        let endpoint = dev.told["leader"]["endpoint"].as_str().expect("a leader has an endpoint");
        let listen = endpoint.split('/').nth(2).expect("a URL has an authority");
        let config = format!(
            "role = \"leader\"\nlisten = \"{listen}\"\ndatabase = \"{database}\"\npolicy = \"policy.toml\"\n\
             policy_allow = [\"W045\"]\n"
        );
        std::fs::write(dev.folder().join("policy.toml"), policy).expect("a file");
        std::fs::write(dev.folder().join("leader.toml"), config).expect("a file");
        Self(dev)
    }

    /// Runs `mica` with the words of a line.
    fn types(&self, line: &str) -> Output {
        let words = line.strip_prefix("mica ").expect("a command of this program").split(' ');
        let mut command = Command::new(mica_tests::mica());
        command.args(words).current_dir(self.0.folder()).output().expect("the program runs")
    }

    /// What a command says on stdout, and how it ends.
    fn reads(&self, line: &str) -> (String, Option<i32>) {
        let output = self.types(line);
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }
}

async fn upload(dev: &Dev, reports: &[Report]) {
    let body = UploadRequest { reports: reports.to_vec() }.encoded();
    let media = [("content-type", Media::UploadReq.header())];
    let taken = Wire::default().send(Method::POST, &dev.task.reports_url(), &media, body).await;
    assert_eq!((taken.status, taken.body.len()), (200, 0), "every report is taken");
}

/// S73.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_waits_for_a_stuck_job_names_it_with_the_command_after_which_it_ends() {
    let helper = LoneHelper::start(false).await;
    let dev = Dev::start(FLAGS.into_iter().chain([helper.endpoint.as_str()]));
    helper.learn(&dev.task);
    let operator = Operator::of(&dev);
    let forge = Forge::of(&dev.task).await;
    let good = [true, true, false].map(|value| forge.good(&Measurement::Bool(value)));
    upload(&dev, &good).await;
    let counted = async || (dev.database("leader").await.tally("aggregated").await == 3).then_some(());
    eventually("the first three reports in their buckets", PATIENCE, counted).await;

    let bad = [forge.good(&Measurement::Bool(true))];
    helper.will_refuse_jobs_with(bad[0].metadata.report_id);
    upload(&dev, &bad).await;
    let interval = interval_of(good.iter().chain(&bad));
    let collector = dev.task.collector();
    let collection = collector.collect(interval).await.expect("the leader takes the request");
    let doctor = "mica doctor --config leader.toml";
    let seen = async || {
        let (said, code) = operator.reads(doctor);
        let line = said.lines().find(|line| line.contains(" waits for job ")).map(ToOwned::to_owned);
        line.map(|line| (line, said, code))
    };
    let (line, said, code) = eventually("the collection in what is stuck", PATIENCE, seen).await;
    assert_eq!(code, Some(5), "a person is needed: {said}");
    assert!(line.starts_with("fail  stuck     collection "), "{line}");
    assert!(
        line.contains(" (1 reports) refused, tried ") && line.contains("the helper refused the job"),
        "{line}"
    );
    assert!(line.contains(&format!("in task {}", dev.task.id)), "{line}");
    assert!(line.ends_with(" gives its reports up, and the collection goes on without them"), "{line}");
    let command = line.split('`').nth(1).expect("the command that helps");
    assert!(command.starts_with("mica doctor --config leader.toml --abandon "), "{line}");

    let (shown, code) = operator.reads(&format!("mica task show {} --config leader.toml", dev.task.id));
    assert_eq!(code, Some(0), "{shown}");
    let of_task =
        shown.lines().find(|line| line.contains(" waits for job ")).expect("a line of the collection");
    assert!(of_task.starts_with("stuck "), "{of_task}");
    assert!(of_task.contains(&command.replace("leader.toml", "FILE")), "{of_task}");
    assert!(matches!(collector.poll(&collection).await, Ok(Poll::Waiting { .. })), "it waits");

    let done = operator.types(command);
    assert!(done.status.success(), "{done:?}");
    let waiting = tokio::time::timeout(PATIENCE, collector.wait(&collection, || ()));
    let outcome = waiting.await.expect("it ends").expect("with the rest");
    assert_eq!((outcome.report_count, outcome.values), (3, vec![2]));
    let (said, code) = operator.reads(doctor);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no job and no collection is stuck"), "{said}");
    assert_eq!(dev.database("leader").await.tally("abandoned").await, 1);
}

const PATIENCE: Duration = Duration::from_secs(40);
