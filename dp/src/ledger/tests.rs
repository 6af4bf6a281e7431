//! Granting, refusing, giving back, and finding what was tampered with.

mod verification;

use mica_dap::vdaf_config::VdafConfig;

use super::*;
use crate::accountant::{Rolling, Window};
use crate::policy::{Decision, Policy, TaskFacts, Variant};
use crate::units::UNITS_PER_ONE;

const TWO_BUDGETS: &str = include_str!("../../tests/two-budgets.toml");

const DAY: u64 = 1_795_564_800;

fn plan(label: &str) -> ReleasePlan {
    let policy = Policy::parse("two-budgets.toml", TWO_BUDGETS).unwrap();
    let facts = TaskFacts::new(label, &VdafConfig::Count, 10);
    let Ok(Decision::Release(plan)) = policy.release_for(&facts) else { panic!("the release matches") };
    *plan
}

fn request(batch: &str) -> ChargeRequest {
    ChargeRequest {
        key: ReleaseKey::new([7; 32], batch.as_bytes(), b""),
        report_count: 10,
        data: Span::of_reports(DAY, DAY + 3600).unwrap(),
        now: 1_795_000_000,
    }
}

/// A store in memory: what a transaction loads and keeps.
#[derive(Default)]
struct Store {
    entries: Vec<LedgerEntry>,
}

impl Store {
    fn head(&self) -> ChainHead {
        self.entries.last().map_or(ChainHead::EMPTY, LedgerEntry::head)
    }

    fn states(&self) -> Vec<BudgetState> {
        let books = verify_chain(&self.entries).expect("the ledger follows its own rules");
        let uses: Vec<Use> = books.into_iter().flat_map(|book| book.uses).collect();
        ["small", "large"]
            .map(|id| BudgetState {
                budget_id: id.to_owned(),
                uses: uses.iter().filter(|usage| usage.budget_id == id).cloned().collect(),
            })
            .to_vec()
    }

    fn spent(&self) -> Vec<i64> {
        let cost = |usage: &Use| usage.units * i64::try_from(usage.releases).unwrap();
        self.states().iter().map(|it| it.uses.iter().map(cost).sum()).collect()
    }

    fn charge(&mut self, plan: &ReleasePlan, batch: &str) -> Result<Grant, ChargeError> {
        let charged = charge(plan, request(batch), &self.states(), self.head())?;
        self.entries.extend_from_slice(charged.entries());
        assert_eq!(charged.head(), self.head());
        Ok(charged.recorded(&self.of(batch)).expect("it is stored"))
    }

    fn of(&self, batch: &str) -> Vec<LedgerEntry> {
        let key = request(batch).key;
        self.entries.iter().filter(|it| it.key == key).cloned().collect()
    }

    fn commit(&mut self, batch: &str) -> Result<(), SettleError> {
        let entries = commit(&self.of(batch), 1_795_000_001, self.head())?;
        self.entries.extend(entries);
        Ok(())
    }

    fn refund(&mut self, batch: &str) -> Result<(), SettleError> {
        let entries = refund(&self.of(batch), 1_795_000_001, self.head())?;
        self.entries.extend(entries);
        Ok(())
    }
}

#[test]
fn a_budget_for_three_releases_grants_exactly_three() {
    // The small budget is 0.3 and a release costs 0.1: binary numbers would refuse the third.
    let (plan, mut store) = (plan("cheap"), Store::default());
    let granted = (0..30).filter(|batch| store.charge(&plan, &batch.to_string()).is_ok()).count();
    assert_eq!(granted, 3);
    assert_eq!(store.spent()[0], 3 * UNITS_PER_ONE / 10);
    assert!(verify_chain(&store.entries).is_ok());
}

#[test]
fn a_budget_warns_once_when_it_comes_to_its_part() {
    let text = TWO_BUDGETS.replacen("on_exhausted", "warn_at = 0.6\non_exhausted", 1);
    let policy = Policy::parse("two-budgets.toml", &text).unwrap();
    let facts = TaskFacts::new("cheap", &VdafConfig::Count, 10);
    let Ok(Decision::Release(plan)) = policy.release_for(&facts) else { panic!("the release matches") };
    let mut store = Store::default();
    let mut warned = Vec::new();
    for batch in ["one", "two", "three"] {
        let charged = charge(&plan, request(batch), &store.states(), store.head()).unwrap();
        warned.push(charged.warned().iter().map(|it| (it.budget_id.clone(), it.spent)).collect::<Vec<_>>());
        store.entries.extend_from_slice(charged.entries());
    }
    // Two thirds of 0.3 are the first part that is not below 0.6 of it.
    assert_eq!(warned, [vec![], vec![("small".to_owned(), UNITS_PER_ONE / 5)], vec![]]);
}

#[test]
fn a_refusal_names_the_numbers_and_changes_nothing() {
    let (cheap, dear, mut store) = (plan("cheap"), plan("dear"), Store::default());
    let _ = store.charge(&cheap, "one").unwrap();
    let before = store.entries.clone();
    let error = store.charge(&dear, "two").unwrap_err();
    assert_eq!(
        error.to_string(),
        "budget \"small\" is exhausted for all time: 0.1 of 0.3 spent, 0.25 requested, 0.2 left"
    );
    let ChargeError::Exhausted(exhausted) = error else { panic!("the budget is too small") };
    assert_eq!((exhausted.left, exhausted.fits), (UNITS_PER_ONE / 5, UNITS_PER_ONE / 5));
    assert_eq!(store.entries, before);
    // A later request that fits is granted.
    assert!(store.charge(&cheap, "three").is_ok());
}

#[test]
fn all_budgets_are_charged_or_none() {
    let (plan, mut store) = (plan("cheap"), Store::default());
    let grant = store.charge(&plan, "one").unwrap();
    assert_eq!(grant.key(), &request("one").key);
    let charged: Vec<_> = store.entries.iter().map(|it| (it.budget_id.as_str(), it.units)).collect();
    assert_eq!(charged, [("large", UNITS_PER_ONE / 200), ("small", UNITS_PER_ONE / 10)]);
    // The large budget has room, the small one has not: neither moves.
    let mut states = store.states();
    states[0].uses[0].releases = 3;
    let refused = charge(&plan, request("two"), &states, store.head()).unwrap_err();
    assert!(matches!(refused, ChargeError::Exhausted(it) if it.budget_id == "small" && it.left == 0));
    let unknown = charge(&plan, request("two"), &states[..1], store.head()).unwrap_err();
    assert_eq!(unknown, ChargeError::UnknownBudget("large".to_owned()));
}

#[test]
fn small_batches_and_wrapping_totals_are_refused_before_the_charge() {
    let (plan, store) = (plan("cheap"), Store::default());
    let ask = |report_count| {
        let request = ChargeRequest { report_count, ..request("one") };
        charge(&plan, request, &store.states(), store.head()).map(|it| it.entries().len())
    };
    assert_eq!(ask(9), Err(ChargeError::BatchTooSmall { report_count: 9, min_batch_size: 10 }));
    assert_eq!(ask(10), Ok(2));
    assert!(matches!(ask(1 << 63), Err(ChargeError::FieldOverflow(_))));
    assert_eq!(ask(1 << 62), Ok(2));
}

#[test]
fn a_charge_that_is_not_stored_whole_and_last_gives_no_grant() {
    let (plan, mut store) = (plan("cheap"), Store::default());
    let ask = |store: &Store| charge(&plan, request("one"), &store.states(), store.head()).unwrap();
    let entries = ask(&store).entries().to_vec();
    assert_eq!(entries.len(), 2);
    assert!(ask(&store).recorded(&entries).is_ok());
    for stored in [&[][..], &entries[..1], &entries[1..]] {
        assert_eq!(ask(&store).recorded(stored).err(), Some(NotRecorded));
    }
    let mut altered = entries.clone();
    altered[0].units -= 1;
    assert_eq!(ask(&store).recorded(&altered).err(), Some(NotRecorded));
    // An earlier charge of the same release, given back since, is not this one.
    store.entries = entries;
    store.refund("one").unwrap();
    assert_eq!(ask(&store).recorded(&store.of("one")).err(), Some(NotRecorded));
    assert!(store.charge(&plan, "one").is_ok());
}

#[test]
fn a_charge_is_settled_once() {
    let (plan, mut store) = (plan("cheap"), Store::default());
    assert_eq!(store.commit("one"), Err(SettleError::NoCharge));
    let _ = store.charge(&plan, "one").unwrap();
    store.commit("one").unwrap();
    assert_eq!(store.refund("one"), Err(SettleError::Committed));
    assert_eq!(store.commit("one"), Err(SettleError::Committed));

    let _ = store.charge(&plan, "two").unwrap();
    let mixed = refund(&store.entries, 0, store.head());
    assert_eq!(mixed, Err(SettleError::MixedReleases));
    store.refund("two").unwrap();
    assert_eq!(store.spent(), [UNITS_PER_ONE / 10, UNITS_PER_ONE / 200]);
    assert_eq!(store.refund("two"), Err(SettleError::Refunded));
    assert_eq!(store.commit("two"), Err(SettleError::Refunded));
    // What was given back may be asked for again.
    let _ = store.charge(&plan, "two").unwrap();
    store.commit("two").unwrap();
    let totals = verify_chain(&store.entries).unwrap();
    assert_eq!(
        totals.iter().map(|it| it.fullest().spent).collect::<Vec<_>>(),
        [UNITS_PER_ONE / 100, UNITS_PER_ONE / 5]
    );
}

/// The plan with its first budget counted over any seven days.
fn weekly(label: &str) -> ReleasePlan {
    let mut plan = plan(label);
    for payer in &mut plan.payers {
        payer.window = Window::Rolling(Rolling::new(7 * 86_400, 86_400).unwrap());
    }
    plan
}

impl Store {
    /// One release of an hour of that day.
    fn charge_day(&mut self, plan: &ReleasePlan, day: u64) -> Result<(), ChargeError> {
        let from = DAY + day * 86_400;
        let batch = format!("{day} {}", self.entries.len());
        let data = Span::of_reports(from, from + 3600).unwrap();
        let request = ChargeRequest { data, ..request(&batch) };
        let charged = charge(plan, request, &self.states(), self.head())?;
        self.entries.extend_from_slice(charged.entries());
        Ok(())
    }
}

#[test]
fn a_weekly_budget_counts_days_of_data_and_renews() {
    let (plan, mut store) = (weekly("cheap"), Store::default());
    for day in [0, 1, 2] {
        store.charge_day(&plan, day).unwrap();
    }
    // The week that begins on day 2 holds one release; the data of day 6 is still in one week with all three.
    let ChargeError::Exhausted(refused) = store.charge_day(&plan, 6).unwrap_err() else {
        panic!("it is full")
    };
    assert_eq!((refused.left, refused.fits), (0, 0));
    assert_eq!(refused.renews, i64::try_from(DAY + 7 * 86_400).ok());
    store.charge_day(&plan, 7).unwrap();
    // A batch of long ago that is asked for late belongs to its own week.
    store.charge_day(&plan, 30).unwrap();
    assert!(store.charge_day(&plan, 3).is_err());
    assert_eq!(verify_chain(&store.entries).unwrap().len(), 2);
}

/// One report a day is the cap, so the noise is made for one report; a batch of two days may have two.
#[test]
fn a_batch_of_more_than_one_piece_of_time_is_refused_and_nothing_is_charged() {
    let mut store = Store::default();
    let plan = plan("cheap");
    for (from, to) in [(DAY, DAY + 2 * 86_400), (DAY + 3600, DAY + 86_400 + 60), (0, 30 * 86_400)] {
        let data = Span::of_reports(from, to).unwrap();
        let refused = charge(&plan, ChargeRequest { data, ..request("wide") }, &store.states(), store.head());
        assert!(
            matches!(refused, Err(ChargeError::TooWide(TooWide { span, .. })) if span == data),
            "{refused:?}"
        );
    }
    let unknown = ChargeRequest { data: Span::ALL, ..request("unknown") };
    assert!(matches!(charge(&plan, unknown, &store.states(), store.head()), Err(ChargeError::TooWide(_))));
    let _ = store.charge(&plan, "one").unwrap();
    // A ledger in which such a batch is written was not written under its policy.
    let policy = Policy::parse("two-budgets.toml", TWO_BUDGETS).unwrap();
    let mut entries = store.entries.clone();
    assert!(verify_charges(&entries, std::slice::from_ref(&policy)).is_ok());
    entries[0].counted.as_mut().unwrap().data = Span::of_reports(DAY, DAY + 2 * 86_400).unwrap();
    let wrong = verify_charges(&entries, &[policy]).unwrap_err();
    assert!(wrong.what.contains("a batch lies within one day (UTC)"), "{wrong}");
}

/// What somebody may do to an entry.
type Change = fn(&mut LedgerEntry);
