//! The account against every window and every way a unit can place its reports.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;
/// 25 November 2026, a Wednesday: the days that follow pass the end of a week, of a month and, in time, of a quarter.
const FIRST: i64 = 1_795_564_800;
const DAYS: i64 = 9;

fn days(from: i64, to: i64) -> Span {
    Span::new(FIRST + from * DAY, FIRST + to * DAY).unwrap()
}

fn rolling(length: i64, epoch: i64) -> Window {
    let seconds = |days: i64| u64::try_from(days * DAY).unwrap();
    Window::Rolling(Rolling::new(seconds(length), seconds(epoch)).unwrap())
}

fn caps(per_batch: u32, per_window: u32, window: Window) -> Caps {
    let at_least_one = |number| NonZeroU32::new(number).unwrap();
    Caps { per_batch: at_least_one(per_batch), per_window: at_least_one(per_window), window }
}

fn account(window: Window, limit: i64) -> Account {
    Account { budget_id: "budget".to_owned(), window, measure: Measure::Rho, limit }
}

fn proposal(task: u8, span: Span, units: i64, caps: Caps) -> Proposal {
    let within = Within::Window(Window::Lifetime);
    Proposal { task: [task; 32], span, units, epsilon_units: None, caps, within }
}

/// What a store does with what was admitted.
fn store(uses: &mut Vec<Use>, new: Use) {
    match uses.iter_mut().find(|old| old.is_like(&new)) {
        Some(old) => old.releases += 1,
        None => uses.push(new),
    }
}

/// A release that has to fit.
fn pay(account: &Account, uses: &mut Vec<Use>, asked: &Proposal) {
    let admitted = account.admit(uses, asked).unwrap();
    store(uses, admitted.usage);
}

/// Every window of a budget that meets the days of these tests.
fn every_window(window: Window) -> Vec<Span> {
    let mut windows: Vec<Span> = match window {
        Window::Lifetime => vec![Span::ALL],
        Window::Calendar(unit) => (0..DAYS).map(|day| unit.containing(FIRST + day * DAY)).collect(),
        Window::Rolling(rolling) => (-40..DAYS)
            .map(|day| Window::Rolling(rolling).cell(FIRST + day * DAY).from())
            .map(|from| Span::new(from, from + rolling.length()).unwrap())
            .collect(),
    };
    windows.dedup();
    windows
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(Window::Lifetime),
        (0usize..3).prop_map(|unit| Window::Calendar(CalendarUnit::EVERY[unit])),
        (1i64..4, 1i64..4).prop_map(|(epochs, epoch)| rolling(epochs * epoch, epoch)),
    ]
}

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        9 => (0..DAYS, 1i64..4).prop_map(|(from, length)| days(from, from + length)),
        1 => Just(Span::ALL),
    ]
}

fn any_proposal(contribution: Window) -> impl Strategy<Value = Proposal> {
    (0u8..2, any_span(), 0i64..1000, 1u32..4, 0u32..5).prop_map(move |(task, span, units, c, more)| {
        proposal(task, span, units, caps(c, c + more, contribution))
    })
}

/// A budget's window, the window its caps are counted in, and what is asked for.
fn any_history(most: usize) -> impl Strategy<Value = (Window, Vec<Proposal>)> {
    (any_window(), any_window()).prop_flat_map(move |(window, contribution)| {
        let proposals = proptest::collection::vec(any_proposal(contribution), 1..most);
        (Just(window), proposals)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The sweep sees what a look at every single window sees.
    #[test]
    fn the_fullest_window_is_found_without_looking_at_all((window, proposals) in any_history(12)) {
        let account = account(window, i64::MAX);
        let mut uses = Vec::new();
        for proposal in proposals {
            let admitted = account.admit(&uses, &proposal).unwrap();
            store(&mut uses, admitted.usage.clone());
            prop_assert_eq!(account.spent_in(&uses, admitted.window), admitted.after);
            if proposal.span != Span::ALL {
                let most = every_window(window)
                    .into_iter()
                    .filter(|it| it.meets(admitted.usage.span))
                    .map(|it| account.spent_in(&uses, it))
                    .max();
                prop_assert_eq!(most, Some(admitted.after), "{:?}", uses);
            }
        }
    }

    /// However requests come, no window is ever fuller than its limit; what is refused changes nothing, and what the
    /// refusal says would fit does, to the unit.
    #[test]
    fn no_window_is_ever_overspent_and_refusals_tell_what_fits(
        (window, proposals) in any_history(14),
        limit in 0i64..2500,
    ) {
        let account = account(window, limit);
        let mut uses: Vec<Use> = Vec::new();
        for proposal in proposals {
            match account.admit(&uses, &proposal) {
                Ok(admitted) => store(&mut uses, admitted.usage),
                Err(refusal) => {
                    prop_assert!(refusal.spent + refusal.requested > limit);
                    prop_assert_eq!(refusal.left, limit - refusal.spent);
                    let at = |units| account.admit(&uses, &Proposal { units, ..proposal.clone() });
                    prop_assert!(at(refusal.fits).is_ok(), "{refusal:?}");
                    prop_assert!(at(refusal.fits + 1).is_err(), "{refusal:?}");
                }
            }
            for one in every_window(window) {
                prop_assert!(account.spent_in(&uses, one) <= limit);
            }
        }
    }

    /// An equal release is granted at the time that a refusal names, and not on any day before it.
    #[test]
    fn a_refused_release_fits_when_the_refusal_says(
        (window, mut proposals) in any_history(14),
        limit in 0i64..2500,
        last in any_proposal(Window::Lifetime),
    ) {
        let account = account(window, limit);
        let contribution = proposals[0].caps.window;
        proposals.push(Proposal { caps: Caps { window: contribution, ..last.caps }, ..last });
        let mut uses = Vec::new();
        for proposal in proposals {
            let refusal = match account.admit(&uses, &proposal) {
                Ok(admitted) => {
                    store(&mut uses, admitted.usage);
                    continue;
                }
                Err(refusal) => refusal,
            };
            let grid = account.grid(&proposal.caps);
            let one_cell = grid.cell(proposal.span.from()) == account.usage(&proposal).span;
            let at = |from: i64| {
                let to = if one_cell { grid.cell(from).to() } else { from + proposal.span.seconds() };
                let span = Span::new(from, to).unwrap();
                account.admit(&uses, &Proposal { span, ..proposal.clone() }).is_ok()
            };
            if let Some(renews) = refusal.renews {
                prop_assert!(renews >= account.usage(&proposal).span.from());
                prop_assert!(at(renews), "{refusal:?}");
                let same_window = window == contribution || contribution == Window::Lifetime;
                let mut day = proposal.span.from();
                while same_window && day < renews {
                    if window.cell(day).from() == day {
                        prop_assert!(!at(day), "{refusal:?} {}", (day - FIRST) / DAY);
                    }
                    day += DAY;
                }
            }
        }
    }
}

/// The reports of one unit: how many it has in each release on each of its days.
type Placed = Vec<Vec<u32>>;

/// Whether the unit keeps its caps: it knows of days, and nothing of batches.
fn keeps(placed: &Placed, spans: &[(i64, i64)], caps: &Caps, pieces: Within) -> bool {
    let on = |first: i64, end: i64| -> u32 {
        let reports = placed.iter().zip(spans).flat_map(|(reports, (from, _))| (*from..).zip(reports));
        reports.filter(|(day, _)| first <= *day && *day < end).map(|(_, count)| count).sum()
    };
    let within = |first: i64, end: i64| on(first, end) <= caps.per_window.get();
    let in_cells = match pieces {
        Within::Cell(cells) => (0..DAYS).all(|day| {
            let cell = cells.cell(FIRST + day * DAY);
            on((cell.from() - FIRST) / DAY, (cell.to() - FIRST) / DAY) <= caps.per_batch.get()
        }),
        // As many in a batch as in a window, which is checked next.
        Within::Window(_) => caps.per_batch == caps.per_window,
    };
    in_cells
        && match caps.window {
            Window::Lifetime => within(0, DAYS),
            Window::Rolling(rolling) => (-40..DAYS).all(|day| within(day, day + rolling.length() / DAY)),
            Window::Calendar(unit) => (0..DAYS).all(|day| {
                let one = unit.containing(FIRST + day * DAY);
                within((one.from() - FIRST) / DAY, (one.to() - FIRST) / DAY)
            }),
        }
}

/// Every way to place up to `most` reports on each of `cells` days.
fn placements(cells: usize, most: u32) -> Vec<Vec<u32>> {
    (0..cells).fold(vec![vec![]], |all, _| {
        all.iter().flat_map(|one| (0..=most).map(move |count| [one.as_slice(), &[count]].concat())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// The heart of the capped charge: whatever a unit does that sends at most `c` reports in each cell and `k` in each
    /// window, and whatever batches the collector makes of them afterwards, also such as reach over the edge of a
    /// window or hold many cells, it loses no more than its window is charged.
    #[test]
    fn no_unit_within_its_caps_loses_more_than_its_window_is_charged(
        window in any_window(),
        contribution in any_window(),
        mut releases in proptest::collection::vec((0..DAYS - 3, 1i64..4, 1i64..6), 1..4),
        cell in 1u64..4,
        c in 1u32..3,
        more in 0u32..3,
    ) {
        // As many days together as can be looked at in every way.
        while releases.iter().map(|(_, length, _)| length).sum::<i64>() > 6 {
            releases.pop();
        }
        let caps = caps(c, c + more, contribution);
        let within = if more == 0 && cell == 1 {
            Within::Window(contribution)
        } else {
            Within::Cell(BatchWindow::new(cell * DAY.unsigned_abs()).unwrap())
        };
        let account = account(window, i64::MAX);
        let unit = i64::from(c * c);
        let mut uses = Vec::new();
        for (from, length, cost) in &releases {
            let asked = Proposal { within, ..proposal(1, days(*from, from + length), cost * unit, caps) };
            pay(&account, &mut uses, &asked);
        }
        let spans: Vec<(i64, i64)> = releases.iter().map(|(from, length, _)| (*from, from + length)).collect();
        let cells: usize = spans.iter().map(|(from, to)| usize::try_from(to - from).unwrap()).sum();
        for flat in placements(cells, c) {
            let mut rest = flat.as_slice();
            let placed: Placed = spans.iter().map(|(from, to)| {
                let (mine, others) = rest.split_at(usize::try_from(to - from).unwrap());
                rest = others;
                mine.to_vec()
            }).collect();
            if !keeps(&placed, &spans, &caps, within) {
                continue;
            }
            for one in every_window(window) {
                let lost: i64 = placed
                    .iter()
                    .zip(&releases)
                    .filter(|(_, (from, length, _))| days(*from, from + length).meets(one))
                    .map(|(reports, (_, _, cost))| cost * i64::from(reports.iter().sum::<u32>().pow(2)))
                    .sum();
                prop_assert!(lost <= account.spent_in(&uses, one), "{placed:?} {one}");
            }
        }
    }

    /// And no less than it can: with all releases inside one window of the cap, some unit loses all that is charged.
    #[test]
    fn some_unit_loses_exactly_what_an_undivided_window_is_charged(
        costs in proptest::collection::vec(1i64..6, 1..5),
        c in 1u32..4,
        more in 0u32..5,
    ) {
        let month = Window::Calendar(CalendarUnit::Month);
        let caps = caps(c, c + more, month);
        let account = account(month, i64::MAX);
        let unit = i64::from(c * c);
        let mut uses = Vec::new();
        for cost in &costs {
            pay(&account, &mut uses, &proposal(1, days(0, 2), cost * unit, caps));
        }
        let worst = placements(costs.len(), c)
            .into_iter()
            .filter(|placed| placed.iter().sum::<u32>() <= c + more)
            .map(|placed| placed.iter().zip(&costs).map(|(count, cost)| cost * i64::from(count.pow(2))).sum())
            .max();
        let charged = account.spent_in(&uses, month_of(0));
        prop_assert_eq!(worst, Some(charged));
    }
}

fn month_of(day: i64) -> Span {
    CalendarUnit::Month.containing(FIRST + day * DAY)
}

#[test]
fn a_batch_over_the_edge_of_a_window_is_paid_in_full_on_both_sides() {
    let month = Window::Calendar(CalendarUnit::Month);
    let account = account(month, i64::MAX);
    let caps = caps(1, 1, month);
    let mut uses = Vec::new();
    for span in [days(0, 1), days(1, 2), days(5, 7), days(6, 7)] {
        pay(&account, &mut uses, &proposal(1, span, 100, caps));
    }
    // The unit's one report of November is in the first batch or the second, and in the third it may have had one
    // of December; its one report of December may be in the fourth all the same.
    assert_eq!(account.spent_in(&uses, month_of(0)), 200);
    assert_eq!(account.spent_in(&uses, month_of(7)), 200);
}

#[test]
fn a_batch_over_the_edge_of_a_rolling_window_is_paid_in_full_in_those_that_it_is_not_all_in() {
    let account = account(rolling(3, 1), i64::MAX);
    let caps = caps(1, 1, rolling(3, 1));
    let mut uses = Vec::new();
    for span in [days(0, 1), days(1, 2), days(2, 4)] {
        pay(&account, &mut uses, &proposal(1, span, 100, caps));
    }
    let spent = |from: i64| account.spent_in(&uses, days(from, from + 3));
    // The first two share the unit's one report of days 0 to 2; in the third it may have one of day 3 as well.
    assert_eq!([-1, 0, 1, 2, 3].map(spent), [100, 200, 100, 100, 100]);
    assert_eq!(account.fullest(&uses, days(0, 1)), Filled { window: days(0, 3), spent: 200 });
}

/// One report a day and thirty in thirty days; and then the collector asks for all thirty days at once.
#[test]
fn a_batch_of_thirty_cells_costs_what_thirty_reports_in_it_lose() {
    let month = rolling(30, 1);
    let within = Within::Cell(BatchWindow::new(86_400).unwrap());
    let account = account(month, i64::MAX);
    let asked = Proposal { within, ..proposal(1, days(-20, 10), 100, caps(1, 30, month)) };
    assert_eq!(account.usage(&asked).units, 100 * 30 * 30);
    let pure = Account { measure: Measure::Epsilon, ..account.clone() };
    assert_eq!(pure.usage(&asked).units, 100 * 30);
    let day = Proposal { span: days(3, 4), ..asked.clone() };
    assert_eq!(account.usage(&day).units, 100);
    // A batch without an end that anybody knows is beyond all budgets, and nothing wraps.
    let ever = Proposal { span: Span::ALL, ..asked };
    assert!(account.usage(&Proposal { units: i64::MAX, ..ever }).units == i64::MAX);
}

#[test]
fn the_cost_for_single_reports_is_that_of_the_largest_release() {
    for window in [Window::Lifetime, rolling(3, 1), Window::Calendar(CalendarUnit::Week)] {
        let account = account(window, 150);
        let mut uses = Vec::new();
        for (day, units) in [(0, 100), (1, 150), (1, 120), (2, 150)] {
            let asked = proposal(1, days(day, day + 2), units, Caps::ONE_REPORT);
            pay(&account, &mut uses, &asked);
        }
        // Another task is other data: its costs add up.
        let other = account.admit(&uses, &proposal(2, days(1, 2), 1, Caps::ONE_REPORT));
        assert!(other.is_err(), "{window}");
    }
}

#[test]
fn a_long_budget_pays_for_each_block_in_which_reports_are_counted() {
    // Four reports a day at most 1 in any 3 days: the blocks of three days are days 2 to 4, 5 to 7 after the first.
    let account = account(Window::Lifetime, i64::MAX);
    let caps = caps(1, 1, rolling(3, 1));
    let block = rolling(3, 3).cell(FIRST).to();
    let first = (block - FIRST) / DAY;
    let mut uses = Vec::new();
    for day in first..first + 6 {
        for _ in 0..4 {
            pay(&account, &mut uses, &proposal(1, days(day, day + 1), 100, caps));
        }
    }
    assert_eq!(uses.len(), 2, "one group for each block");
    assert_eq!(account.spent_in(&uses, Span::ALL), 200);
    let over = proposal(1, days(first + 2, first + 4), 100, caps);
    pay(&account, &mut uses, &over);
    assert_eq!(account.spent_in(&uses, Span::ALL), 300);
}

#[test]
fn a_refusal_names_the_window_the_rest_and_the_day_it_renews() {
    let account = account(rolling(3, 1), 1000);
    let caps = caps(1, 30, rolling(3, 1));
    let mut uses = Vec::new();
    for day in [0, 0, 1] {
        pay(&account, &mut uses, &proposal(1, days(day, day + 1), 300, caps));
    }
    let asked = proposal(1, days(2, 3), 300, caps);
    let refusal = account.admit(&uses, &asked).unwrap_err();
    let expected = OverBudget {
        budget_id: "budget".to_owned(),
        window: days(0, 3),
        spent: 900,
        requested: 300,
        limit: 1000,
        left: 100,
        renews: Some(FIRST + 3 * DAY),
        fits: 100,
    };
    assert_eq!(refusal, expected);
    assert_eq!(
        refusal.to_string(),
        "budget \"budget\" is exhausted for 2026-11-25 to 2026-11-28: 0.0000000009 of 0.000000001 spent, \
         0.0000000003 requested, 0.0000000001 left"
    );
    // Nothing was spent by asking: what fits is granted, on that day and, in full, on the day named.
    assert!(account.admit(&uses, &Proposal { units: 100, ..asked.clone() }).is_ok());
    assert!(account.admit(&uses, &Proposal { span: days(3, 4), ..asked }).is_ok());
}

#[test]
fn a_budget_for_exactly_ten_releases_grants_exactly_ten() {
    let account = account(Window::Lifetime, 1000);
    let mut uses = Vec::new();
    let asked = proposal(1, days(0, 1), 100, caps(1, 1000, Window::Lifetime));
    let granted = (0..50).filter(|_| match account.admit(&uses, &asked) {
        Ok(admitted) => {
            store(&mut uses, admitted.usage);
            true
        }
        Err(refusal) => {
            assert_eq!((refusal.renews, refusal.fits), (None, 0));
            false
        }
    });
    assert_eq!(granted.count(), 10);
    assert_eq!(uses.len(), 1);
}

#[test]
fn a_limit_that_was_lowered_below_what_is_spent_refuses_and_panics_nowhere() {
    let mut uses = Vec::new();
    let asked = proposal(1, days(0, 1), 100, caps(1, 1, rolling(3, 1)));
    pay(&account(rolling(3, 1), 100), &mut uses, &asked);
    for limit in [50, 0, -1, i64::MIN] {
        let refusal = account(rolling(3, 1), limit).admit(&uses, &asked).unwrap_err();
        assert_eq!((refusal.spent, refusal.requested, refusal.left, refusal.fits), (100, 0, 0, 0));
    }
}

#[test]
fn a_month_of_hourly_releases_of_many_tasks_is_judged_at_once() {
    let hour = 3600;
    let month = Window::Rolling(Rolling::new(30 * 86_400, 3600).unwrap());
    let account = account(month, i64::MAX);
    let one = |task: u8, at: i64| {
        let span = Span::new(FIRST + at * hour, FIRST + (at + 1) * hour).unwrap();
        Use { releases: u64::MAX, ..account.usage(&proposal(task, span, 100, caps(2, 31, month))) }
    };
    let uses: Vec<Use> =
        (0..20).flat_map(|task| (0..1440).map(move |at| (task, at))).map(|(t, a)| one(t, a)).collect();
    let asked = proposal(3, Span::new(FIRST + 700 * hour, FIRST + 701 * hour).unwrap(), 100, uses[0].caps);
    let admitted = account.admit(&uses, &asked).unwrap();
    // 28,800 groups, each of more releases than could be looked at one by one: 15 in full and a quarter for each task.
    assert_eq!((admitted.before, admitted.after), (20 * 1525, 20 * 1525));
    let tight = Account { limit: 20 * 1525 - 1, ..account };
    assert_eq!(tight.admit(&uses, &asked).unwrap_err().requested, 0);
}

#[test]
fn uses_of_another_budget_and_uses_long_ago_do_not_count() {
    let account = account(rolling(3, 1), 100);
    let asked = proposal(1, days(5, 6), 100, caps(1, 9, rolling(3, 1)));
    let used = account.usage(&asked);
    let other = Use { budget_id: "other".to_owned(), ..used.clone() };
    assert!(account.admit(&[other], &asked).is_ok());
    assert!(account.admit(std::slice::from_ref(&used), &asked).is_err());
    // A use that ends at `needed_after` is in no window that meets the release; one that ends a day later is.
    let ending = |to: i64| Use { span: Span::new(to - DAY, to).unwrap(), ..used.clone() };
    let needed = account.needed_after(asked.span);
    assert!(account.admit(&[ending(needed)], &asked).is_ok());
    assert!(account.admit(&[ending(needed + 2 * DAY)], &asked).is_err());
}

#[test]
fn a_release_of_unknown_age_counts_in_every_window() {
    let account = account(rolling(3, 1), 150);
    let caps = caps(1, 1, rolling(3, 1));
    let mut uses = Vec::new();
    pay(&account, &mut uses, &proposal(1, Span::ALL, 100, caps));
    let refusal = account.admit(&uses, &proposal(1, days(0, 1), 100, caps)).unwrap_err();
    assert_eq!((refusal.spent, refusal.renews), (100, None));
    assert!(account.admit(&uses, &proposal(1, Span::ALL, 51, caps)).is_err());
}

#[test]
fn the_epsilon_of_a_window_is_the_smaller_of_sum_and_conversion() {
    let delta = "1e-6".parse().unwrap();
    let account = account(Window::Lifetime, i64::MAX);
    let caps = caps(1, 10, Window::Lifetime);
    // Laplace, epsilon 1/2 and so rho 1/8: of twenty releases a unit is in ten.
    let laplace =
        Proposal { epsilon_units: Some(500_000_000_000), ..proposal(1, days(0, 1), 125_000_000_000, caps) };
    let mut uses = Vec::new();
    for _ in 0..20 {
        pay(&account, &mut uses, &laplace);
    }
    let epsilon = |uses: &[Use]| account.epsilon_in(uses, Span::ALL, Some(&delta)).unwrap();
    assert!((epsilon(&uses) - 5.0).abs() < 1e-9);
    // One release of Gaussian noise, and only the conversion holds: rho 1.25 and 1/1000.
    pay(&account, &mut uses, &proposal(2, days(0, 1), 1_000_000_000, caps));
    assert_eq!(account.pure_epsilon_in(&uses, Span::ALL), None);
    assert!(epsilon(&uses) > 8.84 && epsilon(&uses) < 8.86);
    let pure = Account { measure: Measure::Epsilon, ..account.clone() };
    assert!((pure.epsilon_in(&uses, Span::ALL, None).unwrap() - 1.251).abs() < 1e-9);
}
