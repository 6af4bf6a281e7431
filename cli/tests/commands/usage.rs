//! The command line itself.

use crate::world::Folder;

#[test]
fn an_unknown_flag_is_a_usage_error() {
    for args in [&["--wat"][..], &["report", "--wat", "x", "1"], &["leader", "--config", "x", "--wat"]] {
        let ran = Folder::new().mica(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("--wat") && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

#[test]
fn no_command_or_an_unknown_one_is_a_usage_error() {
    assert_eq!(Folder::new().mica(&[]).code, 2);
    let ran = Folder::new().mica(&["leadr"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("leader"), "it says what was probably meant: {}", ran.err);
}

#[test]
fn help_goes_to_standard_output_and_names_the_exit_codes() {
    for args in [&["--help"][..], &["-h"]] {
        let ran = Folder::new().mica(args);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("7 not authorised") && ran.err.is_empty(), "{}", ran.out);
    }
}

#[test]
fn a_server_without_a_configuration_is_a_usage_error() {
    for role in ["relay", "gateway", "leader", "helper"] {
        let ran = Folder::new().mica(&[role]);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains("--config"), "{}", ran.err);
    }
}

#[test]
fn a_batch_must_be_named_in_one_way() {
    let when = "2026-11-20T00:00Z";
    for args in [
        &["collect", "x", "--from", when][..],
        &["collect", "x", "--to", when],
        &["collect", "x", "--last", "1h", "--from", when, "--to", when],
        &["collect", "x", "--next", "--last", "1h"],
    ] {
        assert_eq!(Folder::new().mica(args).code, 2, "{args:?}");
    }
}

#[test]
fn whoever_stops_reading_ends_a_command_quietly() {
    let folder = Folder::new();
    folder.write("bad.toml", "schema = 1\n");
    folder.write("policy.toml", crate::world::POLICY);
    for (args, code) in [(["policy", "check", "bad.toml"], 3), (["policy", "explain", "policy.toml"], 0)] {
        assert_eq!(folder.mica_unread(&args), Some(code), "{args:?}");
    }
}

#[test]
fn what_is_wrong_with_a_flag_is_said_about_the_flag() {
    let folder = Folder::new();
    let ran = folder.mica(&["demo", "--once", "--epsilon", "0"]);
    assert!(ran.one_line(2).starts_with("--epsilon 0: "), "{}", ran.err);
    let ran = folder.mica(&["dev", "--min-batch-size", "0"]);
    assert!(ran.code == 2 && !ran.err.contains("policy.toml:"), "{}", ran.err);
}

#[test]
fn colour_is_left_out_by_the_flag_and_by_the_environment() {
    let folder = Folder::new();
    let forced = ("CLICOLOR_FORCE", "1");
    let escapes = |args: &[&str], variables: &[(&str, &str)]| {
        let ran = folder.mica_with(args, variables);
        format!("{}{}", ran.out, ran.err).contains('\u{1b}')
    };
    for said in [&["--help"][..], &["budget", "shwo"]] {
        assert!(escapes(said, &[forced]), "{said:?} has colour where a terminal would");
        assert!(!escapes(said, &[forced, ("NO_COLOR", "1")]), "{said:?}");
        assert!(!escapes(&[said, &["--no-color"]].concat(), &[forced]), "{said:?}");
        assert!(!escapes(said, &[]), "{said:?}: nobody sees it here");
    }
    let result = ["policy", "schema"];
    assert!(!escapes(&result, &[forced]), "results have none");
}
