//! What can be wrong with a leader or a helper: its database, its keys, its tasks, its peers, and its stuck work.

use std::collections::{BTreeMap, BTreeSet};

use mica_aggregator::agreement::{self, Agreement};
use mica_aggregator::budget::{self, BudgetStatus};
use mica_aggregator::high_water::HighWater;
use mica_aggregator::metrics::Figures;
use mica_aggregator::store::tasks::TaskRow;
use mica_aggregator::store::{self, stuck, tasks};
use mica_aggregator::task::Task;
use mica_aggregator::{Config, Reason, Role, TaskFile};
use mica_dap::id::CollectionJobId;
use mica_dap::task::TaskConfiguration;
use mica_dp::accountant::format_second;
use mica_dp::units::format_units;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::store::Store;
use mica_service::tls::Peers;

use super::finding::Finding;
use super::{peers, warned};
use crate::commands::warnings;
use crate::exit::{Exit, Failure};
use crate::settings::{RoleName, Settings};
use crate::{files, print};

/// Everything below the configuration, which is known to be valid.
pub(super) async fn examine(settings: &Settings, role: Role, findings: &mut Vec<Finding>) {
    let Ok(config) = configuration(settings) else { return };
    findings.extend(warned(warnings::of_aggregator(&config)));
    let store = match Store::open(&config.database, store::migrator()).await {
        Ok(store) => store,
        Err(error) => {
            let failure = Failure::from(error);
            findings.push(Finding::fail("database", "the database", failure.to_string(), failure.exit()));
            return;
        }
    };
    findings.push(Finding::ok("database", "the database can be written and has this version's tables"));
    if let Err(failure) = inside(&store, &config, (role, settings.name()), findings).await {
        findings.push(Finding::fail("database", "reading the database", failure.to_string(), failure.exit()));
    }
    store.close().await;
}

fn configuration(settings: &Settings) -> Result<Config, Failure> {
    Ok(settings.load::<Config>()?.config.relative_to(settings.folder()))
}

async fn inside(
    store: &Store,
    config: &Config,
    (role, config_file): (Role, &str),
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let (rows, keys) = store
        .read("doctor", |mut tx| async move {
            let rows = tasks::all_tasks(&mut tx).await?;
            let keys = store::hpke_keys::keys(&mut tx).await?.len();
            Ok((tx, (rows, keys)))
        })
        .await?;
    findings.push(match keys {
        0 => Finding::warn("keys", "there is no HPKE key yet", "start the server once: it makes one"),
        _ => Finding::ok("keys", format!("{keys} HPKE keys")),
    });
    findings.push(match rows.len() {
        0 => Finding::warn("tasks", "there is no task", "start the server once, or use `mica task import`"),
        tasks => Finding::ok("tasks", format!("{tasks} tasks")),
    });
    findings.push(ledger(store, config).await?);
    budgets(store, config, findings).await?;
    let mut endpoints = BTreeSet::new();
    let mut names = BTreeMap::new();
    // Also of those that are retired: what they took is still added and collected.
    for row in &rows {
        names.insert(row.key, row.task.task_id.to_string());
        if let Ok(task) = TaskConfiguration::parse(&row.task.configuration, row.task.draft) {
            let peer = if role == Role::Leader { task.helper_url() } else { task.leader_url() };
            endpoints.insert(peer.to_owned());
        }
    }
    let trust = Peers::load(&config.peer_tls, config.insecure_peers).map_err(Failure::invalid)?;
    let http = HttpClient::new(HttpOptions { peers: trust, ..HttpOptions::default() });
    super::server::examine(&http, &config.listen.to_string(), config.tls.is_some(), findings).await;
    for endpoint in endpoints.iter().take(MOST_PEERS) {
        peers::examine(&http, endpoint, findings).await;
    }
    if role == Role::Leader {
        agreements(&http, config, rows, findings).await?;
    }
    if role == Role::Leader { waiting(store, &names, config_file, findings).await } else { Ok(()) }
}

/// Whether the helper of each task promises what this leader does.
async fn agreements(
    http: &HttpClient,
    config: &Config,
    rows: Vec<TaskRow>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let policy = files::policy(&config.policy)?;
    for row in rows.into_iter().filter(|row| row.retired_at.is_none()).take(MOST_PEERS) {
        let key = row.key;
        let task = TaskFile::from_row(row.task).map(|file| Task::resolve(key, file, &policy));
        // Why a task is not served is told when the server starts, and by `mica config check`.
        let Ok(Ok(task)) = task else { continue };
        let agreement = agreement::compare(http, &task).await;
        let what = format!("task {}: {agreement}", task.id);
        findings.push(match agreement {
            Agreement::NoStatement | Agreement::Agrees => Finding::ok("statement", what),
            Agreement::Differs(_) => {
                let todo = "it is not collected; make the task anew, under one statement";
                Finding::fail("statement", what, todo, Exit::Invalid)
            }
            Agreement::NotVerified | Agreement::Unknown(_) => {
                Finding::warn("statement", what, "the guarantee rests on this leader's noise alone")
            }
        });
    }
    Ok(())
}

/// Whether the ledger of privacy budgets is where it had come to.
async fn ledger(store: &Store, config: &Config) -> Result<Finding, Failure> {
    let Some(path) = config.high_water_mark() else {
        return Ok(Finding::fail("ledger", "its high-water mark", "name the file", Exit::Invalid));
    };
    let setback = HighWater::at(&path)?.setback(store).await?;
    Ok(match setback {
        None if config.mark_is_beside_database() => {
            let what = "the ledger of budgets is where it had come to, by a mark beside the database: if both are restored \
                        together, nothing is noticed";
            Finding::warn(
                "ledger",
                what,
                "name [ledger] high_water_mark on another disk, and move the file there",
            )
        }
        None => Finding::ok("ledger", "the ledger of budgets is where it had come to"),
        Some(setback) => Finding::fail("ledger", "nothing is released", setback.to_string(), Exit::NotReady),
    })
}

/// Which budgets are as far spent as the policy wants to be warned of.
async fn budgets(store: &Store, config: &Config, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let policy = files::policy(&config.policy)?;
    let now = Clock::system().now();
    if let Err(not_yet) = policy.in_force(now) {
        findings.push(Finding::warn("policy", not_yet.to_string(), "wait, or load a version that holds now"));
    }
    let mut all = budget::status(store, &policy, now).await?;
    all.retain(BudgetStatus::warns);
    if all.is_empty() {
        findings.push(Finding::ok("budgets", "no budget is spent as far as its warn_at"));
    }
    findings.extend(all.iter().map(|budget| {
        let (id, spent, limit) = (&budget.account.budget_id, budget.now.spent, budget.account.limit);
        let what = format!("{} of {} is spent of budget \"{id}\"", format_units(spent), format_units(limit));
        let renews = budget.renews.map_or_else(
            || "it does not renew".to_owned(),
            |second| format!("there is more again for data of {} and later", format_second(second)),
        );
        Finding::warn("budgets", what, format!("{renews}; `mica budget show` tells more"))
    }));
    Ok(())
}

/// What is stuck, and what waits for longer than it should.
async fn waiting(
    store: &Store,
    names: &BTreeMap<i64, String>,
    config_file: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let all = store.read("stuck", |mut tx| async move {
        let all = stuck::between(&mut tx, 0, i64::MAX).await?;
        Ok((tx, all))
    });
    let (all, now) = (all.await?, Clock::system().now());
    if all.is_empty() {
        findings.push(Finding::ok("stuck", "no job and no collection is stuck"));
    }
    for work in all {
        let task = names.get(&work.task).map_or("a task that is gone", String::as_str);
        let what = format!("{work}; for {} s, in task {task}", now.saturating_sub(work.since));
        let todo = Reason::todo(&work, config_file);
        findings.push(match work.reason.as_str() {
            "refused" | "too_large" | "unauthorized" | "local" => {
                Finding::fail("stuck", what, todo, Exit::NotReady)
            }
            _ => Finding::warn("stuck", what, todo),
        });
    }
    let figures = Figures::read(store).await?;
    let age = figures.oldest_report_at.map_or(0, |at| now.saturating_sub(at));
    let what = format!("the oldest report that is not aggregated is {age} s old");
    findings.push(if age <= PATIENCE_SECONDS {
        Finding::ok("reports", what)
    } else {
        Finding::warn("reports", what, "is the leader running, and does the helper answer?")
    });
    let open = |(state, _): &&(String, u64)| ["pending", "closing", "reserved"].contains(&state.as_str());
    let batches: u64 = figures.collections.iter().filter(open).map(|(_, collections)| collections).sum();
    findings
        .push(Finding::ok("batches", format!("{batches} collections wait for their batch or the helper")));
    Ok(())
}

/// Lets what waits for its next try be tried now: `all`, a job by its number, or a collection by its identifier.
pub(super) async fn retry(settings: &Settings, what: &str) -> Result<(), Failure> {
    if settings.role() != RoleName::Leader {
        return Err(Failure::usage("only a leader has work that is tried again; use its configuration"));
    }
    let (job, collection) = (what.parse::<i64>().ok(), what.parse::<CollectionJobId>().ok());
    if what != "all" && job.is_none() && collection.is_none() {
        return Err(Failure::usage(format!(
            "\"{what}\" is neither the number of a job nor a collection; write one as `mica doctor` shows it, or all"
        )));
    }
    let store = Store::open(&configuration(settings)?.database, store::migrator()).await?;
    let now = Clock::system().now();
    let retried = store.tx("retry_now", move |mut tx| async move {
        let retried = match (job, &collection) {
            (Some(job), _) => u64::from(stuck::retry_job(&mut tx, job).await?),
            (None, Some(id)) => stuck::retry_collections(&mut tx, Some(id), now).await?,
            (None, None) => {
                stuck::retry_jobs(&mut tx, now).await? + stuck::retry_collections(&mut tx, None, now).await?
            }
        };
        Ok((tx, retried))
    });
    let retried = retried.await?;
    store.close().await;
    if retried == 0 && what != "all" {
        return Err(Failure::new(
            Exit::Refused,
            format!("nothing called {what} waits for its next try; `mica doctor` lists what does"),
        ));
    }
    print::lines(&format!("{retried} are tried again now; a leader that runs notices within a second"))
}

/// Gives up a job.
pub(super) async fn abandon(settings: &Settings, job: i64) -> Result<(), Failure> {
    if settings.role() != RoleName::Leader {
        return Err(Failure::usage("only a leader has aggregation jobs to give up; use its configuration"));
    }
    let store = Store::open(&configuration(settings)?.database, store::migrator()).await?;
    let abandoned = store.tx("abandon_aggregation_job", move |mut tx| async move {
        let abandoned = stuck::abandon(&mut tx, job).await?;
        Ok((tx, abandoned))
    });
    let abandoned = abandoned.await?;
    store.close().await;
    match abandoned {
        Some(reports) => {
            print::lines(&format!("job {job} is given up: {reports} reports are counted as abandoned"))
        }
        None => Err(Failure::new(
            Exit::Refused,
            format!(
                "there is no job {job} that waits; `mica doctor` lists them, and one that is being tried is not given up"
            ),
        )),
    }
}

/// More are not asked in one go.
const MOST_PEERS: usize = 16;

/// A report is aggregated within seconds, if all is well.
const PATIENCE_SECONDS: u64 = 600;
