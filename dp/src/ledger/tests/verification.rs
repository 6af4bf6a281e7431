//! Whether a written ledger holds: its chain, its rules, and every charge from the policy that it names.

use super::*;
use crate::accountant::Span;

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

/// A step that counts at one time for one budget and at another for the next would leave one of them too little.
#[test]
fn a_release_whose_budgets_count_it_at_different_times_is_found() {
    let policy = Policy::parse("two-budgets.toml", TWO_BUDGETS).unwrap();
    let mut store = Store::default();
    let _ = store.charge(&plan("cheap"), "one").unwrap();
    let mut moved = store.entries.clone();
    let counted = moved[1].counted.as_mut().unwrap();
    counted.data = Span::of_reports(DAY + 86_400, DAY + 2 * 86_400).unwrap();
    moved[1].entry_hash = moved[1].hash();
    verify_chain(&moved).expect("each budget by itself is in order");
    let wrong = verify_charges(&moved, std::slice::from_ref(&policy)).unwrap_err().to_string();
    assert!(wrong.contains("has no entry for budget \"small\""), "{wrong}");
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
