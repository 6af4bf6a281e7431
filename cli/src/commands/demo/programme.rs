//! The words of the demonstration, in the order they appear. Nothing is decided here.

use std::time::Duration;

use mica_dap::codec::Decode as _;
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::time::{Interval, TimePrecision};
use mica_dp::units::format_units;
use mica_dp::{Book, NeighboringRelation, ReleasePlan, Variant, printed_factor};
use mica_envelope::KeyConfigList;

use super::clients::Uploads;
use super::release::Tallies;
use super::scene::Scene;
use super::stage::Stage;
use crate::deployment::Running;
use crate::screen::{Row, Signs, thousands};

pub(super) fn roles(running: &Running, stage: &Stage, signs: Signs) -> String {
    let hpke_key = |list: &[u8]| {
        let list = HpkeConfigList::decoded(list).ok();
        list.and_then(|list| list.preferred().map(|config| config.id))
            .map_or_else(|| "no key".to_owned(), |id| format!("key {id} active"))
    };
    let gateway_key = KeyConfigList::parse(running.key_config.clone())
        .map_or_else(|_| "no key".to_owned(), |keys| format!("OHTTP key {}", keys.key_id()));
    let [leader_keys, helper_keys] = &running.hpke_configs;
    let addresses = &running.addresses;
    let line = |role: &str, url: &str, first: &str, second: &str| {
        format!("  {} {role:<9} {:<23} {first:<20} {second}", signs.tick(), url.trim_end_matches('/'))
    };
    let gateway = addresses.gateway.as_deref().unwrap_or_default();
    let relay = addresses.relay.as_deref().unwrap_or_default();
    [
        line("leader", &addresses.leader, &stage.database("leader"), &hpke_key(leader_keys)),
        line("helper", &addresses.helper, &stage.database("helper"), &hpke_key(helper_keys)),
        line("gateway", gateway, &gateway_key, "allows: this task's uploads, both aggregators' keys"),
        line("relay", relay, "forwards to: gateway", "keeps nothing"),
        format!(
            "  {} all roles run in ONE process here, and without TLS. Real deployments need relay, leader",
            signs.warning()
        ),
        "    and helper under different operators, or one of them sees everything.\n".to_owned(),
    ]
    .join("\n")
}

pub(super) fn policy(plan: &ReleasePlan, scene: &Scene, signs: Signs) -> String {
    let terms = plan.terms();
    let dot = signs.dot();
    let (name, odds) = match terms.loss.variant {
        Variant::Pure => (signs.choose("ε", "epsilon"), printed_factor(terms.loss.amount.approximate_up())),
        Variant::Zcdp => (signs.choose("ρ", "rho"), "inf".to_owned()),
    };
    let limit = plan.charges().iter().map(|charge| charge.limit).min().unwrap_or_default();
    let change = match terms.relation {
        NeighboringRelation::ReplaceOne => "what one report says",
        NeighboringRelation::ReplaceSpecial => "whether one report says anything",
    };
    format!(
        "Policy    demo-policy.toml {dot} task {} {dot} {}\n          min batch {} {dot} {name} = {} per release {dot} \
         budget {} for each report {dot} {}\n          In words: {change} changes the odds of any published \
         table by at most {odds}x.\n",
        scene.label,
        scene.shape,
        thousands(terms.min_batch_size),
        terms.loss.amount,
        format_units(limit),
        plan.mechanism().describe(),
    )
}

pub(super) fn reports(uploads: &Uploads, took: Duration, signs: Signs) -> String {
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is read to a few digits")]
    let rate = uploads.sent as f64 / seconds.max(0.001);
    format!(
        "Reports   {} sent, each in an envelope of its own {} {}/s {} {seconds:.1} s",
        thousands(uploads.sent),
        signs.dot(),
        thousands(whole(rate)),
        signs.dot(),
    )
}

#[expect(clippy::cast_possible_truncation, reason = "reports per second fit")]
fn whole(rate: f64) -> i128 {
    rate as i128
}

pub(super) fn aggregation(tallies: &Tallies, took: Duration, signs: Signs) -> String {
    let refused: u64 = tallies.rejected().map(|(_, reports)| reports).sum();
    let mut rejected: Vec<(&str, u64)> = tallies.rejected().collect();
    rejected.sort_by_key(|(_, reports)| std::cmp::Reverse(*reports));
    let reasons: Vec<String> = rejected
        .into_iter()
        .map(|(reason, reports)| format!("{} {}", words(reason), thousands(reports)))
        .collect();
    format!(
        "Aggregate {} verified by both and added up {} {:.1} s\n          accepted {} {} refused {} ({})",
        thousands(tallies.aggregated()),
        signs.dot(),
        took.as_secs_f64(),
        thousands(tallies.aggregated()),
        signs.dot(),
        thousands(refused),
        reasons.join(", "),
    )
}

/// The reason of a refusal, as people say it.
fn words(reason: &str) -> String {
    match reason {
        "vdaf_verify_error" => "invalid proof".to_owned(),
        "report_replayed" => "replayed".to_owned(),
        "report_too_early" => "too early".to_owned(),
        other => other.replace('_', " "),
    }
}

pub(super) fn collected(reports: u64, least: u64, batch: &str, signs: Signs) -> String {
    let (tick, least_sign) = (signs.tick(), signs.choose("≥", ">="));
    format!(
        "Collect   batch {batch}: {} {least_sign} {} {tick}   both shares noised {tick}   released once {tick}\n",
        thousands(reports),
        thousands(least),
    )
}

/// How to read the chart.
pub(super) fn legend(rows: &[Row], plan: &ReleasePlan, signs: Signs) -> String {
    let half_width = rows.first().map_or(0, |row| row.half_width);
    let inside = rows
        .iter()
        .filter(|row| row.truth.is_some_and(|truth| row.value.abs_diff(truth) <= u128::from(row.half_width)))
        .count();
    let noise = plan.mechanism().describe();
    let noise = noise.trim_end_matches(", each aggregator");
    let sign = signs.plus_minus();
    format!(
        "  {sign}{} is the 95 % band of the added noise (two servers {} {noise}). {inside} of {} \
         inside.\n  The true column exists only because this demo invented the clients. No server ever knew it.\n",
        thousands(half_width),
        signs.choose("×", "x"),
        rows.len(),
    )
}

/// What is promised of the result, in the words that come with every result.
pub(super) fn guarantee(plan: &ReleasePlan, signs: Signs) -> String {
    let words = plan.explain().replace('±', signs.plus_minus());
    let lines: Vec<String> = words.lines().map(|line| format!("  {line}")).collect();
    format!("Guarantee, as every result of this task comes with it:\n{}", lines.join("\n"))
}

pub(super) fn second(reason: &str, batch: &str, budgets: &[Book], signs: Signs) -> String {
    let spent: Vec<String> = budgets
        .iter()
        .map(|budget| {
            format!(
                "{} of {} spent in \"{}\"",
                format_units(budget.fullest().spent),
                format_units(budget.account.limit),
                budget.account.budget_id
            )
        })
        .collect();
    format!(
        "Asked again in the same words: the same answer, bit for bit. Nothing drawn, nothing charged.\n\
         Second release of the same batch {}\n  {} refused ({reason})\n    \
         The rule: a batch is released once. {batch} is closed, for any interval that touches it.\n    \
         Budget of each aggregator: {}, before and after.\n    Try: collect the next interval.\n",
        signs.choose("…", "..."),
        signs.cross(),
        spent.join(", "),
    )
}

/// `2026-11-21T09:00:00Z/1h`.
pub(super) fn batch(interval: &Interval, precision: TimePrecision) -> String {
    let start = i64::try_from(precision.start_of(interval.start())).ok();
    let start = start.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let seconds = precision.seconds_of(interval.duration());
    let length =
        if seconds.is_multiple_of(3600) { format!("{}h", seconds / 3600) } else { format!("{seconds}s") };
    start.map_or_else(|| "the batch".to_owned(), |start| format!("{start}/{length}"))
}
