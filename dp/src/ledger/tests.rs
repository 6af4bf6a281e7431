//! Granting, refusing, giving back, and finding what was tampered with.

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

#[test]
fn any_change_of_a_written_ledger_is_found() {
    let (plan, mut store) = (plan("cheap"), Store::default());
    let _ = store.charge(&plan, "one").unwrap();
    store.commit("one").unwrap();
    let _ = store.charge(&plan, "two").unwrap();
    store.refund("two").unwrap();
    assert!(verify_chain(&store.entries).is_ok());
    assert!(verify_chain(&[]).unwrap().is_empty());

    let changes: [fn(&mut LedgerEntry); 13] = [
        |it| it.sequence += 1,
        |it| it.kind = if it.kind == EntryKind::Charge { EntryKind::Commit } else { EntryKind::Charge },
        |it| it.budget_id.push('x'),
        |it| it.units -= 1,
        |it| it.limit += 1,
        |it| it.key = ReleaseKey::new([8; 32], b"one", b""),
        |it| it.mechanism.push('0'),
        |it| it.release_id.push('0'),
        |it| it.policy.version += 1,
        |it| it.created_at += 1,
        |it| it.counted = None,
        |it| it.counted.as_mut().unwrap().data = Span::ALL,
        |it| it.entry_hash[0] ^= 1,
    ];
    for at in 0..store.entries.len() {
        for change in changes {
            let mut entries = store.entries.clone();
            change(&mut entries[at]);
            assert!(verify_chain(&entries).is_err());
        }
        let mut entries = store.entries.clone();
        entries.remove(at);
        assert_eq!(verify_chain(&entries).is_ok(), at + 1 == store.entries.len());
        if at > 0 {
            let mut entries = store.entries.clone();
            entries.swap(at, at - 1);
            assert!(verify_chain(&entries).is_err());
        }
    }
}

#[test]
fn a_ledger_that_was_rewritten_with_good_hashes_still_breaks_its_rules() {
    let plan = plan("cheap");
    let mut store = Store::default();
    let _ = store.charge(&plan, "one").unwrap();
    let refunds = refund(&store.of("one"), 0, store.head()).unwrap();
    store.commit("one").unwrap();
    // Refunds of a committed charge, linked properly.
    let mut entries = store.entries.clone();
    for refunded in &refunds {
        let head = entries.last().unwrap().head();
        entries.push(refunded.settled(EntryKind::Refund, 0, head));
    }
    assert!(verify_chain(&entries).is_err());
    // The same release charged twice.
    let twice = charge(&plan, request("one"), &Store::default().states(), store.head()).unwrap();
    let entries = [store.entries.clone(), twice.entries().to_vec()].concat();
    assert_eq!(verify_chain(&entries).unwrap_err().what, "the same release is charged twice");
    // More charges than the limit allows.
    let mut store = Store::default();
    for batch in ["1", "2", "3", "4"] {
        let charged = charge(&plan, request(batch), &Store::default().states(), store.head()).unwrap();
        store.entries.extend_from_slice(charged.entries());
    }
    assert_eq!(verify_chain(&store.entries).unwrap_err().what, "the budget was already exhausted");
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

#[test]
fn a_ledger_whose_windows_change_does_not_hold() {
    let mut store = Store::default();
    store.charge_day(&weekly("cheap"), 0).unwrap();
    let states = store.states();
    let other = charge(&plan("cheap"), request("other"), &states, store.head()).unwrap();
    store.entries.extend_from_slice(other.entries());
    let broken = verify_chain(&store.entries).unwrap_err();
    assert_eq!((broken.sequence, broken.what), (3, "the window of its budget is another than before"));
}

#[test]
fn a_ledger_whose_budget_counts_something_else_than_before_does_not_hold() {
    let (mut store, mut other) = (Store::default(), plan("cheap"));
    let _ = store.charge(&plan("cheap"), "one").unwrap();
    for payer in &mut other.payers {
        payer.variant = match payer.variant {
            Variant::Pure => Variant::Zcdp,
            Variant::Zcdp => Variant::Pure,
        };
    }
    let charged = charge(&other, request("two"), &store.states(), store.head()).unwrap();
    store.entries.extend_from_slice(charged.entries());
    let broken = verify_chain(&store.entries).unwrap_err();
    assert_eq!((broken.sequence, broken.what), (3, "the measure of its budget is another than before"));
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

#[test]
fn every_charge_is_derived_again_from_the_policy_it_names() {
    let policy = |text: &str| Policy::parse("two-budgets.toml", text).unwrap();
    let mut store = Store::default();
    let _ = store.charge(&plan("cheap"), "one").unwrap();
    store.commit("one").unwrap();
    let _ = store.charge(&plan("dear"), "two").unwrap_err();
    let ours = policy(TWO_BUDGETS);
    let verify = |entries: &[LedgerEntry], policy: &Policy| {
        verify_charges(entries, std::slice::from_ref(policy)).map_err(|wrong| wrong.to_string())
    };
    assert_eq!(verify(&store.entries, &ours), Ok(()));
    assert_eq!(verify_charges(&[], &[]), Ok(()));
    let missing = verify_charges(&store.entries, &[]).unwrap_err();
    assert_eq!(missing.to_string(), "ledger entry 1: the text of policy two-budgets v3 is not kept");
    let other = policy(&format!("{TWO_BUDGETS}\n# other\n"));
    assert!(verify(&store.entries, &other).unwrap_err().contains("another text"));
    let changes: [(Change, &str); 6] = [
        (|it| it.units -= 1, "its cost is 4999999999, and the policy gives 5000000000"),
        (|it| it.limit += 1, "its limit is 1000000000001"),
        (|it| it.mechanism.push('0'), "its mechanism is discrete_laplace(scale=10)0"),
        (|it| it.release_id.push('0'), "has no release \"cheap0\""),
        (|it| it.budget_id.push('0'), "does not charge budget \"large0\""),
        (
            |it| {
                it.counted.as_mut().unwrap().caps.window =
                    Window::Calendar(crate::accountant::CalendarUnit::Day);
            },
            "caps",
        ),
    ];
    for (change, what) in changes {
        let mut entries = store.entries.clone();
        change(&mut entries[0]);
        let wrong = verify(&entries, &ours).unwrap_err();
        assert!(wrong.starts_with("ledger entry 1: ") && wrong.contains(what), "{wrong}");
    }
}

#[test]
fn a_release_that_is_not_charged_or_settled_at_all_its_budgets_is_found() {
    let policy = Policy::parse("two-budgets.toml", TWO_BUDGETS).unwrap();
    let mut store = Store::default();
    let _ = store.charge(&plan("cheap"), "one").unwrap();
    store.commit("one").unwrap();
    let _ = store.charge(&plan("cheap"), "two").unwrap();
    store.refund("two").unwrap();
    // What is left of the ledger, linked again with good hashes.
    let verify = |kept: &[usize]| {
        let mut head = ChainHead::EMPTY;
        let entries: Vec<_> = kept
            .iter()
            .map(|at| {
                let entry = store.entries[*at].clone();
                let linked =
                    LedgerEntry { units: entry.units, ..entry.settled(entry.kind, entry.created_at, head) };
                let linked = LedgerEntry { entry_hash: linked.hash(), ..linked };
                head = linked.head();
                linked
            })
            .collect();
        verify_chain(&entries).expect("by itself, each budget is in order");
        verify_charges(&entries, std::slice::from_ref(&policy)).map_err(|wrong| wrong.to_string())
    };
    assert_eq!(verify(&[0, 1, 2, 3, 4, 5, 6, 7]), Ok(()));
    assert_eq!(verify(&[0, 1, 4, 5]), Ok(()), "neither is settled yet");
    let without = |kind: &str, budget: &str, at: u64| {
        Err(format!(
            "ledger entry {at}: the {kind} of its release has no entry for budget \"{budget}\", which release \
             \"cheap\" charges"
        ))
    };
    assert_eq!(verify(&[0, 2]), without("charge", "small", 1), "one of two budgets, charged and committed");
    assert_eq!(verify(&[1, 3]), without("charge", "large", 1));
    assert_eq!(verify(&[0, 1, 2]), without("commit", "small", 3), "one is committed, the other not");
    assert_eq!(verify(&[0, 1, 2, 3, 4, 5, 7]), without("refund", "large", 7));
    assert_eq!(verify(&[0, 1, 4, 5, 2, 7]), without("commit", "small", 5));
}

#[test]
fn entries_from_before_there_were_windows_count_in_full_for_all_time() {
    let mut store = Store::default();
    let mut head = ChainHead::EMPTY;
    for batch in ["one", "two"] {
        let charged = charge(&plan("cheap"), request(batch), &Store::default().states(), head).unwrap();
        let mut entry = charged.entries()[1].clone();
        entry.counted = None;
        let entry = entry.settled(EntryKind::Charge, 5, head);
        // Settling a charge as a charge keeps all but its units.
        let entry = LedgerEntry { units: UNITS_PER_ONE / 10, ..entry };
        let entry = LedgerEntry { entry_hash: entry.hash(), ..entry };
        head = entry.head();
        store.entries.push(entry);
    }
    let books = verify_chain(&store.entries).unwrap();
    assert_eq!(books[0].fullest().spent, UNITS_PER_ONE / 5);
    assert_eq!(books[0].uses.len(), 1, "like with like");
    assert!(store.charge_day(&plan("cheap"), 0).is_ok());
    assert!(store.charge_day(&plan("cheap"), 0).is_err());
}

/// Who takes on a restored ledger is in it for ever; nothing is spent or given back by it.
#[test]
fn an_accepted_restore_is_part_of_the_chain_and_moves_nothing() {
    let mut store = Store::default();
    let plan = plan("cheap");
    drop(store.charge(&plan, "one").expect("the budgets last"));
    let spent = store.spent();
    let note = "alice: the disk failed (the ledger had come to entry 5)".to_owned();
    let accepted = LedgerEntry::accepted_restore(note, DAY, store.head());
    store.entries.push(accepted.clone());
    assert_eq!(store.spent(), spent);
    drop(store.charge(&plan, "two").expect("releases go on from there"));
    let at = store.entries.iter().position(|entry| *entry == accepted).expect("it is there");
    verify_chain(&store.entries).expect("the chain is whole");
    let changes: [fn(&mut LedgerEntry); 6] = [
        |entry| entry.note = Some("nobody".to_owned()),
        |entry| entry.note = None,
        |entry| entry.created_at += 1,
        |entry| entry.units = -1,
        |entry| entry.budget_id = "small".to_owned(),
        |entry| entry.kind = EntryKind::Refund,
    ];
    for change in changes {
        let mut entries = store.entries[..=at].to_vec();
        change(&mut entries[at]);
        assert_eq!(verify_chain(&entries).expect_err("it was changed").sequence, accepted.sequence);
        // Also whoever writes the hash anew cannot have such an entry move anything.
        entries[at].entry_hash = entries[at].hash();
        let honest = EntryKind::AcceptedRestore;
        let moves = |entry: &LedgerEntry| entry.units != 0 || !entry.budget_id.is_empty();
        if moves(&entries[at]) || entries[at].kind != honest || entries[at].note.is_none() {
            let broken = verify_chain(&entries).expect_err("it is of no kind that there is");
            assert_eq!(broken.sequence, accepted.sequence);
        }
    }
    let mut noted = store.entries[0].clone();
    noted.note = Some("a note".to_owned());
    noted.entry_hash = noted.hash();
    let broken = verify_chain(&[noted]).expect_err("a charge has no note");
    assert_eq!(broken.what, "an entry of a release has a note");
}

/// The rule that [`verify_chain`] follows many entries at a time, entry by entry.
fn first_over(entries: &[LedgerEntry]) -> Option<u64> {
    let mut uses: Vec<Use> = Vec::new();
    for entry in entries {
        match entry.kind {
            EntryKind::Charge => match entry.account().admit(&uses, &entry.proposal()) {
                Ok(admitted) => uses.push(admitted.usage),
                Err(_) => return Some(entry.sequence),
            },
            EntryKind::Refund => {
                let at = uses.iter().position(|it| it.is_like(&entry.usage())).expect("it was counted");
                uses.swap_remove(at);
            }
            EntryKind::Commit | EntryKind::AcceptedRestore => {}
        }
    }
    None
}

/// Charges and refunds as `next` decides, whether or not they fit: chained, and perhaps wrong.
fn chained(count: u64, mut next: impl FnMut(u64) -> u64) -> Vec<LedgerEntry> {
    let plan = plan("cheap");
    let small = plan.charges().iter().find(|charge| charge.budget_id == "small").unwrap();
    let (mut entries, mut open): (Vec<LedgerEntry>, Vec<LedgerEntry>) = (Vec::new(), Vec::new());
    for batch in 0..count {
        let head = entries.last().map_or(ChainHead::EMPTY, LedgerEntry::head);
        let what = next(4);
        let entry = if what == 0 && !open.is_empty() {
            let at = usize::try_from(next(open.len() as u64)).unwrap();
            open.swap_remove(at).settled(EntryKind::Refund, DAY, head)
        } else {
            let mut charge = LedgerEntry::charge(&plan, small, &request(&batch.to_string()), head);
            let counted = charge.counted.as_mut().unwrap();
            counted.window = Window::Rolling(Rolling::new(2 * 86_400, 86_400).unwrap());
            counted.caps = crate::accountant::Caps::ONE_REPORT;
            let from = DAY + next(20) * 86_400;
            counted.data = Span::of_reports(from, from + 86_400).unwrap();
            charge.key = ReleaseKey::new([u8::try_from(next(200)).unwrap(); 32], &batch.to_be_bytes(), b"");
            // Now and then the policy changes.
            charge.limit = charge.units * i64::try_from(3 + next(60) / 50).unwrap();
            charge = charge.settled(EntryKind::Charge, DAY, head);
            charge.units = plan.charges().iter().find(|it| it.budget_id == "small").unwrap().units;
            charge.entry_hash = charge.hash();
            open.push(charge.clone());
            charge
        };
        entries.push(entry);
    }
    entries
}

#[test]
fn a_ledger_is_judged_many_entries_at_a_time_as_it_would_be_one_by_one() {
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut over, mut fit) = (0, 0);
    for length in [1, 3, 8, 12, 20, 25, 30, 35, 40, 60] {
        for _ in 0..30 {
            let entries = chained(length, &mut next);
            let wrong = verify_chain(&entries).err();
            assert_eq!(wrong.as_ref().map(|it| it.sequence), first_over(&entries));
            match wrong {
                Some(wrong) => {
                    over += 1;
                    assert_eq!(wrong.what, "the budget was already exhausted");
                }
                None => fit += 1,
            }
        }
    }
    assert!(over > 50 && fit > 50, "both were seen: {over} and {fit}");
}

#[test]
fn the_time_to_verify_grows_with_the_ledger_and_not_with_its_square() {
    let ledger = |tasks: u32| {
        let plan = plan("cheap");
        let small = plan.charges().iter().find(|charge| charge.budget_id == "small").unwrap();
        let mut entries: Vec<LedgerEntry> = Vec::new();
        for task in 0..tasks {
            let head = entries.last().map_or(ChainHead::EMPTY, LedgerEntry::head);
            let mut id = [0; 32];
            id[..4].copy_from_slice(&task.to_be_bytes());
            let request = ChargeRequest { key: ReleaseKey::new(id, b"batch", b""), ..request("one") };
            let mut charge = LedgerEntry::charge(&plan, small, &request, head);
            charge.limit = i64::MAX;
            charge.entry_hash = charge.hash();
            entries.push(charge);
        }
        entries
    };
    let time = |entries: &[LedgerEntry]| {
        let begun = std::time::Instant::now();
        assert_eq!(verify_chain(entries).expect("it follows")[0].uses.len(), entries.len());
        begun.elapsed()
    };
    // Sixteen short ones are as many entries as a long one: whatever else the machine does slows both.
    let (short, long) = (ledger(1_000), ledger(16_000));
    let (short, long) = ((0..16).map(|_| time(&short)).sum::<std::time::Duration>(), time(&long));
    // Every entry held against all others would take sixteen times as long.
    assert!(long < short * 6, "{short:?} for 16 times 1000 and {long:?} for 16000");
}
