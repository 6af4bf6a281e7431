//! Policy files.

use crate::world::{Folder, POLICY};

#[test]
fn a_right_policy_is_ok_and_explained_in_words() {
    let folder = Folder::new();
    folder.write("p.toml", POLICY);
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "p.toml: ok (policy counter, version 1)\n"), "{}", ran.err);
    let ran = folder.mica(&["policy", "explain", "p.toml"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("epsilon = 1") && ran.out.contains("Not protected"), "{}", ran.out);
    let ran = folder.mica(&["policy", "explain", "p.toml", "-o", "json"]);
    let read: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
    assert_eq!(read["releases"][0]["release"], "counter");
}

#[test]
fn every_mistake_in_a_policy_is_one_line_with_its_place() {
    let folder = Folder::new();
    let wrong =
        POLICY.replace("min_batch_size = 3", "min_batch_sizes = 3").replace("= \"pure\"", "= \"perfect\"");
    folder.write("p.toml", &wrong);
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!(ran.code, 3);
    let place = |text: &str| wrong.lines().position(|line| line.contains(text)).map_or(0, |line| line + 1);
    for line in [place("min_batch_sizes"), place("perfect")] {
        let start = format!("p.toml:{line}:");
        assert!(ran.err.lines().any(|said| said.starts_with(&start) && said.contains("; ")), "{}", ran.err);
    }
    assert!(ran.err.lines().all(|said| said.starts_with("p.toml:")), "{}", ran.err);
}

#[test]
fn the_policies_to_start_from_are_right() {
    let folder = Folder::new();
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    for entry in std::fs::read_dir(policies).expect("the folder of policies") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let ran = folder.mica(&["policy", "check", path.to_str().expect("UTF-8")]);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
    }
}

#[test]
fn a_plan_says_how_accurate_how_often_and_for_how_long() {
    let folder = Folder::new();
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/page-load-histogram.toml");
    let ran = folder.mica(&["policy", "plan", policy, "--wanted-half-width", "20"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for said in ["±55", "30 of 30", "discrete_gaussian is the better choice", "rho_per_release = 0.018"] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let ran = folder.mica(&["policy", "plan", policy, "--for", "60d", "-o", "json"]);
    let read: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
    let release = &read["releases"][0];
    assert_eq!(release["now"]["half_width"], 55);
    let epsilon = release["budgets"][0]["days"][59]["epsilon"].as_f64().expect("a number");
    assert!((2.17..2.19).contains(&epsilon), "{epsilon}");
    let ran = folder.mica(&["policy", "plan", policy, "--release", "page-load-histogram", "--svg"]);
    assert!(ran.out.starts_with("<svg") && ran.out.trim_end().ends_with("</svg>"), "{}", ran.out);
    let ran = folder.mica(&["policy", "plan", policy, "--release", "no-such"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("no release \"no-such\""), "{}", ran.err);
    let ran = folder.mica(&["policy", "plan", policy, "--releases-per-day", "10000"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}
