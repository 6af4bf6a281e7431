//! What a helper's refusals cost the leader's ledger, however the batches are chosen.

use mica_dap::problem::Problem;
use mica_dp::accountant::format_second;
use serde_json::{Map, Value};

use super::*;
use crate::error::{Abort, BUDGET_EXHAUSTED};
use crate::store::{refused_releases, refused_windows};

/// A budget of the helper that has no room for data of 1970-01-01 from this minute up to that.
fn exhausted(budget: &str, window: Option<(&str, &str)>) -> Abort {
    let texts = [
        ("budget", Some(budget)),
        ("window_from", window.map(|(from, _)| from)),
        ("window_to", window.map(|(_, to)| to)),
    ];
    let members: Map<String, Value> =
        texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?)))).collect();
    Abort::budget_exhausted("there is no room".to_owned(), members)
}

/// The first half of an hour, in which the reports are.
const HALF: Option<(&str, &str)> = Some(("1970-01-01T00:00:00Z", "1970-01-01T00:30:00Z"));

impl World {
    /// A release costs too little to bring the budget to its `warn_at`: a test next door reads what is logged of that, and
    /// a line of the log that is reached first by a thread without a log is silent in all.
    async fn that_warns_of_nothing() -> Vec<Self> {
        let mut worlds = Self::all().await;
        for world in &mut worlds {
            let (file, policy) = file_for("1/20");
            world.task = Arc::new(Task::resolve(1, file, &policy).expect("the policy covers the task"));
        }
        worlds
    }

    /// Asks for the batch; the helper refuses what comes to it. Whether it was asked.
    async fn refused(&self, abort: &Abort) -> bool {
        match self.reserve().await {
            Ok(release) => {
                self.refund(release).await.expect("it was reserved");
                let remembered = self.store.tx("remember", move |mut tx| async move {
                    crate::release::remember(&mut tx, &self.task, release, abort, self.now).await?;
                    Ok((tx, ()))
                });
                remembered.await.expect("the database answers");
                true
            }
            Err(ReleaseError::Refused(Refused::ByHelper(said))) => {
                assert!(said.to_string().contains("times in a row; it is asked again from "), "{said}");
                false
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Asks for so many intervals that hold the reports, one after the other. How often the helper was asked.
    async fn asked_for(&mut self, intervals: u64, abort: &Abort) -> usize {
        let mut asked = 0;
        for number in 0..intervals {
            let start = number % 11;
            self.query = Interval::new(Time(start), Duration(11 - start + number / 11)).expect("an interval");
            asked += usize::from(self.refused(abort).await);
        }
        asked
    }

    async fn entries(&self) -> usize {
        let entries = self.store.read("entries", |mut tx| async move {
            let entries = ledger::entries(&mut tx).await?;
            Ok((tx, entries.len()))
        });
        entries.await.expect("the database answers")
    }

    /// How many batches and windows are remembered.
    async fn remembered(&self) -> (u64, u64) {
        let counted = self.store.read("count", |mut tx| async move {
            let batches = refused_releases::count(&mut tx, self.task.key).await?;
            let windows = refused_windows::count(&mut tx, self.task.key).await?;
            Ok((tx, (batches, windows)))
        });
        counted.await.expect("the database answers")
    }
}

#[tokio::test]
async fn the_many_intervals_of_an_exhausted_window_are_worth_two_charges_together() {
    for mut world in World::that_warns_of_nothing().await {
        let no = exhausted("daily", HALF);
        assert_eq!(world.asked_for(200, &no).await, 2);
        assert_eq!((world.entries().await, world.remembered().await), (4, (0, 1)));
        world.now += 301;
        assert_eq!(world.asked_for(50, &no).await, 1, "asked again, once");
        world.now += 301;
        assert_eq!(world.asked_for(50, &no).await, 0, "and believed for longer");
        world.now += 300;
        assert_eq!(world.asked_for(50, &no).await, 1);
        assert_eq!(world.entries().await, 8);
    }
}

#[tokio::test]
async fn a_window_without_room_says_nothing_of_data_that_it_does_not_hold() {
    for mut world in World::that_warns_of_nothing().await {
        let early = exhausted("daily", Some(("1970-01-01T00:00:00Z", "1970-01-01T00:05:00Z")));
        world.query = Interval::new(Time(0), Duration(11)).expect("it begins in the window");
        assert!(world.refused(&early).await && world.refused(&early).await);
        assert!(!world.refused(&early).await);
        world.query = Interval::new(Time(5), Duration(6)).expect("it begins where the window ends");
        let release = world.reserve().await.expect("the helper is asked");
        world.commit(release).await.expect("it was reserved");
        assert_eq!(world.remembered().await, (0, 1));
    }
}

/// Ten years ahead for the time of two refusals, of a window and of a batch, and right again.
#[tokio::test]
async fn what_a_clock_remembered_that_was_ahead_does_not_hold() {
    const AHEAD: u64 = 315_576_000;
    for no in [exhausted("daily", HALF), Abort::new(Problem::BatchMismatch, "not the same reports")] {
        for mut world in World::that_warns_of_nothing().await {
            world.now += AHEAD;
            assert!(world.refused(&no).await && world.refused(&no).await);
            assert!(!world.refused(&no).await, "it holds by that clock");
            world.now -= AHEAD;
            assert!(world.refused(&no).await, "and by no other");
            world.now += 1;
            assert_eq!(
                world.asked_for(30, &no).await,
                if no.problem_type() == BUDGET_EXHAUSTED { 1 } else { 30 }
            );
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_a_little_behind_remembers_as_well() {
    for mut world in World::that_warns_of_nothing().await {
        let no = exhausted("daily", HALF);
        for _ in 0..8 {
            assert!(world.refused(&no).await);
            world.now += 3_601;
        }
        assert!(world.refused(&no).await, "by now the pause has its full length");
        world.now -= 60;
        assert_eq!(world.asked_for(20, &no).await, 0);
    }
}

#[tokio::test]
async fn a_release_of_the_window_ends_its_memory() {
    for mut world in World::that_warns_of_nothing().await {
        assert_eq!(world.asked_for(3, &exhausted("daily", HALF)).await, 2);
        world.now += 301;
        let release = world.reserve().await.expect("the helper is asked again");
        world.commit(release).await.expect("it was reserved");
        assert_eq!(world.remembered().await, (0, 0));
    }
}

#[tokio::test]
async fn a_budget_that_never_renews_or_a_window_that_is_none_holds_for_the_whole_task() {
    let elsewhere = Some(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"));
    let nonsense = Some(("yesterday", "1970-01-01T00:30:00Z"));
    for window in [None, elsewhere, nonsense] {
        for mut world in World::that_warns_of_nothing().await {
            assert_eq!(world.asked_for(100, &exhausted("ever", window)).await, 2, "{window:?}");
        }
    }
}

#[tokio::test]
async fn a_helper_that_names_ever_new_windows_is_not_asked_without_end() {
    for mut world in World::that_warns_of_nothing().await {
        let mut asked = 0;
        // Each batch ends where the window does that the helper names of the one before begins.
        for end in (12..162).rev() {
            world.query = Interval::new(Time(10), Duration(end - 10)).expect("an interval");
            let [from, to] = [end - 1, end].map(|minute| format_second(minute.cast_signed() * 60));
            let no = exhausted("minutely", Some((&from, &to)));
            for _ in 0..3 {
                asked += usize::from(world.refused(&no).await);
            }
        }
        assert_eq!(asked, 2 * (128 + 1));
        assert_eq!(world.remembered().await, (0, 128 + 1));
    }
}

#[tokio::test]
async fn refusals_of_too_many_batches_hold_for_the_whole_task_and_are_forgotten_after_a_day() {
    for mut world in World::that_warns_of_nothing().await {
        let no = Abort::new(Problem::BatchMismatch, "not the same reports");
        assert_eq!(world.asked_for(300, &no).await, 128 + 2);
        assert_eq!(world.remembered().await, (128, 1));
        world.now += 86_400 + 301;
        world.query = Interval::new(Time(10), Duration(1)).expect("an interval");
        assert!(world.refused(&no).await);
        assert_eq!(world.remembered().await, (1, 0), "what is old is cleaned up");
    }
}
