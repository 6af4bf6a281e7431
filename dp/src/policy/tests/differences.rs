//! `mica policy diff`: every way to promise less is found, and what promises more is not called weaker.

use super::*;

/// What the new text weakens.
fn weaker(old: &str, new: &str) -> Vec<String> {
    let changes = policy(new).changes_since(&policy(old));
    changes.iter().filter(|it| it.weakens()).map(|it| format!("{} {}", it.subject(), it.what())).collect()
}

/// The first promises more than the second; that is found in one direction only.
#[track_caller]
fn better(strong: &str, weak: &str, said: &str) {
    let found = weaker(strong, weak);
    assert!(found.iter().any(|it| it.contains(said)), "{found:#?}");
    let back = policy(strong).changes_since(&policy(weak));
    assert_eq!(weaker(weak, strong), Vec::<String>::new());
    assert!(!back.is_empty(), "a change is told, if it weakens nothing");
}

fn laplace(epsilon: &str) -> String {
    let mechanism = format!("mechanism = \"discrete_laplace\"\nepsilon_per_release = {epsilon}");
    with("mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025", &mechanism)
}

#[test]
fn the_same_policy_weakens_nothing() {
    assert!(policy(GOOD).changes_since(&policy(GOOD)).is_empty());
    let reworded = edited(&[("version = 7", "version = 8"), ("DPIA-2026-114", "DPIA-2026-115")]);
    assert!(policy(&reworded).changes_since(&policy(GOOD)).is_empty());
    assert!(weaker(GOOD, &format!("{GOOD}# again")).is_empty());
}

#[test]
fn a_budget_that_gives_away_more_is_weaker() {
    let lifetime = "kind = \"lifetime\"";
    let rolling = with(lifetime, "kind = \"rolling\", length = \"30d\", epoch = \"1d\"");
    better(GOOD, &with("rho = 0.25", "rho = 0.5"), "budget \"a\" rho goes from 0.25 to 0.5");
    better(GOOD, &with("report_delta = 1e-8", "report_delta = 1e-6"), "report_delta goes from 1e-8 to 1e-6");
    // A limit that is renewed allows more over time; a cap over a shorter time covers more clients.
    let found = weaker(GOOD, &rolling);
    assert!(
        found
            .iter()
            .any(|it| it.contains("holds for any 30 days that begin at midnight UTC and held for the life")),
        "{found:#?}"
    );
    let shorter = rolling.replacen("30d", "7d", 1).replacen("\"30d\"", "\"7d\"", 1);
    assert!(weaker(&rolling, &shorter)[0].contains("more can be lost over time"));
    let special = with("\"replace_one\"", "\"replace_special\"");
    better(GOOD, &special, "is about replace_special and was about replace_one");
    let other = with("\"zcdp\"\nrho = 0.25\nreport_delta = 1e-8", "\"approx\"\nepsilon = 1\ndelta = 1e-8");
    assert!(weaker(GOOD, &other)[0].contains("the two do not compare"));
    let second = |text: &str| text.replacen("[[release]]", SECOND_BUDGET, 1);
    assert!(weaker(&second(GOOD), GOOD)[0].contains("budget \"b\" is removed"));
    assert!(weaker(GOOD, &second(GOOD)).is_empty(), "a budget that nobody charges allows nothing");
}

#[test]
fn a_ceiling_that_is_raised_or_passed_is_weaker() {
    let ceiling = |epsilon: &str| with("version = 7", &format!("version = 7\nepsilon_ceiling = {epsilon}"));
    better(&ceiling("5"), &ceiling("8"), "policy epsilon_ceiling goes from 5 to 8");
    better(&ceiling("5"), GOOD, "policy epsilon_ceiling 5 is removed");
    let passed = |epsilon: &str| {
        let exception = format!(
            "on_exhausted = \"refuse\"\nepsilon_ceiling_override = {{ epsilon = {epsilon}, justification = \"x\" }}"
        );
        ceiling("5").replacen("on_exhausted = \"refuse\"", &exception, 1)
    };
    better(&ceiling("5"), &passed("9"), "has an epsilon_ceiling_override of 9");
    better(&passed("6"), &passed("9"), "epsilon_ceiling_override goes from 6 to 9");
}

#[test]
fn a_release_that_tells_more_is_weaker() {
    better(GOOD, &with("= 0.0025", "= 0.01"), "release \"x\" a release costs rho 0.01 and cost rho 0.0025");
    let found = weaker(&laplace("0.05"), GOOD);
    assert!(found.iter().any(|it| it.contains("not pure differential privacy any more")), "{found:#?}");
    assert!(weaker(GOOD, &laplace("0.05")).is_empty());
    assert!(weaker(GOOD, &laplace("0.1"))[0].contains("a release costs epsilon 0.1"));
    let smaller = "min_batch_size = 500";
    better(GOOD, &with("min_batch_size = 1000", smaller), "min_batch_size goes from 1000 to 500");
    let two = |text: &str| {
        let second =
            SECOND_BUDGET.replacen("\"pure\"\nepsilon = 2", "\"zcdp\"\nrho = 2\nreport_delta = 1e-8", 1);
        text.replacen("[[release]]", &second, 1)
    };
    let both = two(GOOD).replacen("charge = [\"a\"]", "charge = [\"a\", \"b\"]", 1);
    better(&both, &two(GOOD), "does not charge budget \"b\" any more");
}

#[test]
fn caps_that_fewer_clients_keep_are_weaker() {
    // Fewer cover fewer clients, more let each lose more: either way somebody has to think about it.
    let fewer = with("max_reports_per_window = 30", "max_reports_per_window = 9");
    assert!(weaker(GOOD, &fewer)[0].contains("who sends more is not covered"));
    assert!(weaker(&fewer, GOOD)[0].contains("may lose more in a window"));
    let twice = with("max_reports_per_batch = 1", "max_reports_per_batch = 2");
    let found = weaker(&twice, GOOD);
    assert!(found.iter().any(|it| it.contains("max_reports_per_batch goes from 2 to 1")), "{found:#?}");
    assert!(found.iter().any(|it| it.contains("standard deviation 20.00 and had 40.00")), "{found:#?}");
    let cells = |length: &str| with("batch_window = \"30d\"", &format!("batch_window = \"{length}\""));
    // Whoever kept to one report in thirty days sends no more than one in any half of them.
    better(
        &cells("15d"),
        GOOD,
        "capped them in each 15 days (UTC, counted from 1970): who sends more in that time",
    );
    assert!(
        weaker(&cells("15d"), &cells("10d"))[0].contains("not covered"),
        "pieces that lie across the old ones"
    );
    let none = |k: u32| {
        let window = format!("max_reports_per_window = {k}");
        with("batch_window = \"30d\", max_reports_per_window = 30", &window)
    };
    // One in all is one in any piece of time.
    let found = weaker(&none(1), GOOD);
    assert!(found.iter().all(|it| it.contains("max_reports_per_window goes from 1 to 30")), "{found:#?}");
    let found = weaker(GOOD, &none(1));
    assert!(found.iter().all(|it| it.contains("max_reports_per_window goes from 30 to 1")), "{found:#?}");
    // Nothing here checks tokens: they are worth no more than a client's word, and no less.
    let tokens = with("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"");
    assert_eq!(weaker(&tokens, GOOD), Vec::<String>::new());
    assert_eq!(weaker(GOOD, &tokens), Vec::<String>::new());
    let told = policy(GOOD).changes_since(&policy(&tokens));
    assert!(told.iter().any(|it| it.what().contains("by client and were by privacy-pass")), "{told:#?}");
    let report = edited(&[
        ("privacy_unit = \"client\"", "privacy_unit = \"report\""),
        (
            "contribution = { max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 30, enforced_by = \"client\" }\n",
            "",
        ),
    ]);
    let found = weaker(GOOD, &report);
    assert!(
        found.iter().any(|it| it.contains("protects single reports and no more whole clients")),
        "{found:#?}"
    );
}

#[test]
fn a_window_that_begins_elsewhere_is_told_with_where() {
    let rolling = |epoch: &str| {
        with("kind = \"lifetime\"", &format!("kind = \"rolling\", length = \"30d\", epoch = \"{epoch}\""))
    };
    let told = policy(&rolling("6h")).changes_since(&policy(&rolling("1d")));
    let said = "counts a client's reports in any 30 days that begin on the grid of every 6 hours (UTC) and counted them in any \
                30 days that begin at midnight UTC";
    assert!(told.iter().any(|it| it.what().contains(said)), "{told:#?}");
}

#[test]
fn what_leaves_without_noise_is_weaker() {
    let open = |day: &str| {
        let written = format!("action = \"release_without_dp\"\njustification = \"x\"\nexpires = {day}");
        with("action = \"refuse\"", &written)
    };
    better(GOOD, &open("2027-01-01"), "tasks that no release matches leave without noise");
    better(&open("2027-01-01"), &open("2027-02-01"), "leave without noise 31 days longer");
    let renamed = open("2027-01-01").replacen("\"page-load\"", "\"page-view\"", 1);
    assert!(weaker(&open("2027-01-01"), &renamed)[0].contains("can leave without noise"));
    assert!(weaker(GOOD, &with("\"page-load\"", "\"page-view\"")).is_empty());
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let without = |text: &str| text.replacen(&format!("[[release]]{release}"), "", 1);
    assert!(weaker(&open("2027-01-01"), &without(&open("2027-01-01")))[0].contains("is removed"));
    assert!(weaker(GOOD, &without(GOOD)).is_empty());
}

#[test]
fn a_new_release_is_weaker_if_no_old_budget_pays_for_it() {
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let second = release.replacen("\"x\"", "\"y\"", 1).replacen("\"page-load\"", "\"page-view\"", 1);
    let added = |second: &str| GOOD.replacen("[unmatched]", &format!("[[release]]{second}[unmatched]"), 1);
    assert!(weaker(GOOD, &added(&second)).is_empty());
    let budget = SECOND_BUDGET.replacen("\"pure\"\nepsilon = 2", "\"zcdp\"\nrho = 2\nreport_delta = 1e-8", 1);
    let paid = added(&second.replacen("[\"a\"]", "[\"b\"]", 1)).replacen("[[release]]", &budget, 1);
    let found = weaker(GOOD, &paid);
    assert!(found[0].contains("is paid for by new budgets only"), "{found:#?}");
}

/// What a task is promised depends on the release that it gets, whatever that is called.
#[test]
fn a_task_that_gets_another_release_is_compared_with_what_it_had() {
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let loose = release
        .replacen("\"x\"", "\"y\"", 1)
        .replacen("\"page-load\"", "\"page-view\"", 1)
        .replacen("= 0.0025", "= 0.02", 1);
    let both = GOOD.replacen("[unmatched]", &format!("[[release]]{loose}[unmatched]"), 1);
    // The strict one is left for nobody, and the loose one takes its tasks.
    let rerouted =
        both.replacen("\"page-load\"", "\"nobody\"", 1).replacen("\"page-view\"", "\"page-load\"", 1);
    let found = weaker(&both, &rerouted);
    assert!(
        found
            .iter()
            .any(|it| it.contains("release \"y\"") && it.contains("costs rho 0.02 and cost rho 0.0025")),
        "{found:#?}"
    );
    // Another name alone weakens nothing, and says whose place it takes.
    let renamed = with("id = \"x\"", "id = \"z\"");
    assert!(weaker(GOOD, &renamed).is_empty());
    let changes = policy(&renamed).changes_since(&policy(GOOD));
    assert!(changes.iter().any(|it| it.what() == "takes the place of release \"x\""), "{changes:#?}");
    assert!(
        changes.iter().all(|it| !it.what().contains("is new") && !it.what().contains("is removed")),
        "{changes:#?}"
    );
    let weakened = renamed.replacen("= 0.0025", "= 0.02", 1);
    assert!(weaker(GOOD, &weakened).iter().any(|it| it.contains("costs rho 0.02")));
}

#[test]
fn a_task_that_is_named_is_compared_with_what_its_label_could_have_had() {
    let id = mica_dap::id::TaskId::new([7; 32]);
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let named = release
        .replacen("\"x\"", "\"y\"", 1)
        .replacen("label = \"page-load\"", &format!("task_ids = [\"{id}\"]"), 1)
        .replacen("= 0.0025", "= 0.02", 1);
    let new = GOOD.replacen("[unmatched]", &format!("[[release]]{named}[unmatched]"), 1);
    let found = weaker(GOOD, &new);
    assert!(
        found.iter().any(|it| it.contains(&format!("for task {id}")) && it.contains("costs rho 0.02")),
        "{found:#?}"
    );
    assert!(weaker(&new, GOOD).is_empty(), "{:#?}", weaker(&new, GOOD));
}
