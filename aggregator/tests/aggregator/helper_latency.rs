//! Whoever times the answers of a helper learns nothing of the noise in them: the larger a number, the longer it takes to
//! draw, and the leader knows everything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;
use mica_aggregator::Role;
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_dp::{Mechanism, Noise};
use mica_service::testing::sqlite;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

/// How many milliseconds a draw takes.
static TAKES: AtomicU64 = AtomicU64::new(0);

fn held_up(mechanism: &Mechanism, length: usize) -> Noise {
    thread::sleep(Duration::from_millis(TAKES.load(Ordering::SeqCst)));
    Noise::draw(mechanism, length, &mut rand::rng())
}

/// Each time the helper has just started, so that no noise is ready and its answer has to wait for a draw.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_http_takes_as_long_for_a_slow_draw_as_for_a_quick_one() {
    let (database, task) = (sqlite(), TestTask::noised());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let mut requests = Vec::new();
    for hour in 0..10 {
        let time = Time(now().0 - hour);
        let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
        leader.aggregate(&reports).await;
        requests.push(share_request(time, 1, &ids(&reports)).encoded());
    }
    server.kill();
    // The shortest of each: whatever else the machine does only makes an answer later.
    let mut shortest = [Duration::MAX; 2];
    for (at, request) in requests.into_iter().enumerate() {
        TAKES.store([0, DRAW][at % 2], Ordering::SeqCst);
        let server = Server::drawing(Role::Helper, &task, &database, held_up).await;
        let leader = ScriptedLeader::of(&task, &server);
        let begun = Instant::now();
        assert_eq!(leader.post_share(request).await.status, StatusCode::OK);
        shortest[at % 2] = shortest[at % 2].min(begun.elapsed());
        server.kill();
    }
    let [quick, slow] = shortest;
    assert!(quick >= GRID, "{quick:?}: it left when its draw was done");
    assert!(slow.abs_diff(quick) < Duration::from_millis(DRAW / 2), "{quick:?} and {slow:?}");
}

/// Less than a step of the grid on which noise is used.
const DRAW: u64 = 60;
const GRID: Duration = Duration::from_millis(100);
