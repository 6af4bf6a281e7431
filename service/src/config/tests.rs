use serde::Deserialize;

use super::{ConfigError, Loaded, Sources};
use crate::secret::Secret;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    listen: String,
    #[serde(default)]
    token: Option<Secret<String>>,
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    connections: u32,
    names: Vec<String>,
}

const FILE: &str = "# a leader\nlisten = \"127.0.0.1:1\"\n\n[limits]\nconnections = 5\n";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<Role>, ConfigError> {
    Sources::text("mica.toml", text).environment("leader", variables.iter().copied()).load()
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let loaded =
        load(FILE, &[("MICA_LEADER__LIMITS__CONNECTIONS", "9"), ("MICA_HELPER__LISTEN", "no")]).unwrap();
    assert_eq!((loaded.config.listen.as_str(), loaded.config.limits.connections), ("127.0.0.1:1", 9));
    let origin = |key: &str| loaded.provenance.of(key).map(ToString::to_string);
    assert_eq!(origin("listen").as_deref(), Some("mica.toml:2"));
    let variable = "environment variable MICA_LEADER__LIMITS__CONNECTIONS";
    assert_eq!(origin("limits.connections").as_deref(), Some(variable));
    assert_eq!(origin("token"), None);

    let sources = Sources::text("mica.toml", FILE)
        .environment("leader", [("MICA_LEADER__LISTEN", "127.0.0.1:2")])
        .flag("--listen", "listen", "127.0.0.1:3");
    let loaded = sources.load::<Role>().unwrap();
    assert_eq!(loaded.config.listen, "127.0.0.1:3");
    assert_eq!(loaded.provenance.of("listen").unwrap().to_string(), "flag --listen");
}

#[test]
fn a_required_key_may_come_from_the_environment_alone() {
    let loaded = load("", &[("MICA_LEADER__LISTEN", "127.0.0.1:2")]).unwrap();
    assert_eq!(loaded.config.listen, "127.0.0.1:2");
}

#[test]
fn values_are_numbers_lists_or_text_as_the_key_wants_them() {
    let variables = [("MICA_LEADER__TOKEN", "12345"), ("MICA_LEADER__LIMITS__NAMES", "[\"a\", \"b\"]")];
    let loaded = load(FILE, &variables).unwrap();
    assert_eq!(loaded.config.token.as_ref().unwrap().expose(), "12345");
    assert_eq!(loaded.config.limits.names, ["a", "b"]);
    assert!(!format!("{loaded:?}").contains("12345"));
}

#[test]
fn an_unknown_key_is_blamed_on_its_line_also_when_the_environment_speaks() {
    let text = "listen = \"x\"\n\n[limits]\nconections = 5\n";
    let expected = "mica.toml:4:1: C001: unknown key \"conections\"; did you mean \"connections\"?";
    assert_eq!(complaint(text, &[]), expected);
    assert_eq!(complaint(text, &[("MICA_LEADER__TOKEN", "t")]), expected);
    let text = "[limits]\nconections = 5\n";
    let expected = "mica.toml:2:1: C001: unknown key \"conections\"; did you mean \"connections\"?";
    assert_eq!(complaint(text, &[("MICA_LEADER__LISTEN", "x")]), expected);
}

#[test]
fn an_unknown_or_wrong_variable_is_blamed_by_its_name() {
    assert_eq!(
        complaint(FILE, &[("MICA_LEADER__LISTNE", "x")]),
        "environment variable MICA_LEADER__LISTNE: unknown key \"listne\"; did you mean \"listen\"?"
    );
    let said = complaint(FILE, &[("MICA_LEADER__LIMITS__CONNECTIONS", "many")]);
    assert!(said.starts_with("environment variable MICA_LEADER__LIMITS__CONNECTIONS: "), "{said}");
    let said = complaint(FILE, &[("MICA_LEADER__LISTEN__PORT", "1")]);
    assert!(said.starts_with("environment variable MICA_LEADER__LISTEN__PORT: "), "{said}");
}

#[test]
fn a_missing_key_and_a_missing_file_are_told_apart() {
    assert!(complaint("", &[]).contains("the key \"listen\" is missing"));
    assert!(complaint("", &[("MICA_LEADER__TOKEN", "t")]).contains("the key \"listen\" is missing"));
    let error = Sources::file(std::path::Path::new("/nowhere/mica.toml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the configuration /nowhere/mica.toml: "), "{error}");
}
