//! Configuration files: every mistake is one line with its place and what to do.

use mica_service::config::Sources;

use crate::world::{Folder, POLICY, aggregator, free_port};

const GATEWAY: &str = "role = \"gateway\"\nlisten = \"127.0.0.1:8483\"\ndatabase = \"sqlite:gateway.db\"\n";
const RELAY: &str =
    "role = \"relay\"\nlisten = \"127.0.0.1:8484\"\ngateway_url = \"http://127.0.0.1:8483/\"\n";

/// What `mica config check` says of a wrong file called `c.toml`.
fn complaint(text: &str) -> String {
    let folder = Folder::with_task(8481, 8482);
    folder.write("c.toml", text);
    folder.mica(&["config", "check", "c.toml"]).one_line(3).to_owned()
}

#[test]
fn right_files_of_all_four_roles_are_ok() {
    let folder = Folder::with_task(8481, 8482);
    folder.write("relay.toml", RELAY);
    folder.write("gateway.toml", GATEWAY);
    for role in ["relay", "gateway", "leader", "helper"] {
        let file = format!("{role}.toml");
        let ran = folder.mica(&["config", "check", &file]);
        assert_eq!((ran.code, ran.out), (0, format!("{file}: ok ({role})\n")), "{}", ran.err);
        assert_eq!(folder.mica(&["config", "check", &file, "--role", role]).code, 0);
    }
    assert!(!folder.path("leader.db").exists() && !folder.path("gateway.db").exists(), "nothing was started");
}

/// As `mica gateway --leader` would start them.
#[test]
fn a_gateway_is_checked_together_with_the_leader_in_its_process() {
    let folder = Folder::with_task(8481, 8482);
    let route = |target: &str| {
        format!(
            "[[routes]]\nmethod = \"POST\"\nauthority = \"leader.example\"\npath = \"/tasks/{{task}}/reports\"\n\
             content_type = \"application/ppm-dap;message=upload-req\"\ntarget = \"{target}\"\n"
        )
    };
    let together = |gateway: &str, target: &str| {
        folder.write("gateway.toml", &format!("{gateway}{}", route(target)));
        folder.mica(&["config", "check", "gateway.toml", "--leader", "leader.toml"])
    };
    let both = together(GATEWAY, "http://localhost:8481/");
    let ok = "gateway.toml: ok (gateway)\nleader.toml: ok (leader)\n";
    assert_eq!((both.code, both.out.as_str()), (0, ok), "{}", both.err);
    let said = together(GATEWAY, "https://elsewhere.example").one_line(3).to_owned();
    assert!(
        said.contains(
            "no route of gateway.toml leads to the leader; write target = \"http://127.0.0.1:8481\""
        )
    );
    let target = "http://127.0.0.1:8481";
    for (gateway, start) in [
        (
            GATEWAY.replace(":8483", ":8481"),
            "gateway.toml:2:10: C003: the leader in this process listens on 127.",
        ),
        (
            format!("{GATEWAY}admin_listen = \"127.0.0.1:8481\"\n"),
            "gateway.toml:4:16: C003: the leader in this",
        ),
        (
            GATEWAY.replace("gateway.db", "./leader.db"),
            "gateway.toml:3:12: C003: this is the database of the leader",
        ),
    ] {
        let said = together(&gateway, target).one_line(3).to_owned();
        assert!(said.starts_with(start), "{said}");
    }
    folder.write("leader.toml", &aggregator("leader", 8481, "nonsense = 1\n"));
    let said = together(GATEWAY, target).one_line(3).to_owned();
    assert!(said.starts_with("leader.toml:6:1: C001: unknown key"), "{said}");
    folder.write("leader.toml", &aggregator("helper", 8481, ""));
    assert!(together(GATEWAY, target).one_line(3).starts_with("leader.toml:1:1: C002: "));
    folder.write("leader.toml", &aggregator("leader", 8481, ""));
    let alone = folder.mica(&["config", "check", "helper.toml", "--leader", "leader.toml"]);
    assert!(alone.one_line(2).contains("--leader goes with the configuration of a gateway"), "{}", alone.err);
    assert!(!folder.path("leader.db").exists() && !folder.path("gateway.db").exists(), "nothing was started");
}

#[test]
fn an_unknown_key_has_its_place_and_a_guess() {
    let said = complaint(&aggregator("leader", 8481, "max_job_report = 3\n"));
    assert_eq!(said, "c.toml:6:1: C001: unknown key \"max_job_report\"; did you mean \"max_job_reports\"?");
    let said = complaint(&format!("{RELAY}pth = \"/\"\n"));
    assert_eq!(said, "c.toml:4:1: C001: unknown key \"pth\"; did you mean \"path\"?");
}

#[test]
fn a_bad_value_has_its_place() {
    for (text, start) in [
        (aggregator("leader", 8481, "max_job_reports = \"many\"\n"), "c.toml:6:19: C001: "),
        (
            aggregator("leader", 8481, "[limits]\nmin_batch_size_floor = 1\n"),
            "c.toml:7:24: C001: min_batch_size_floor is below 2",
        ),
        (RELAY.replace("127.0.0.1:8484", "nowhere"), "c.toml:2:10: C003: \"nowhere\" is not an address"),
        (RELAY.replace("http://127.0.0.1:8483/", "gateway"), "c.toml:3:15: C003: "),
        (format!("{RELAY}timeout = \"soon\"\n"), "c.toml:4:11: C001: `soon` is no time"),
        (GATEWAY.replace("sqlite:gateway.db", "gateway.db"), "c.toml:3:12: C003: this is not the URL"),
        (GATEWAY.replace("sqlite:", "sqlite:nowhere/"), "c.toml:3:12: C003: there is no folder nowhere"),
        (
            format!("{GATEWAY}[replay]\nwindow = \"30s\"\n"),
            "c.toml:5:10: C003: an answer is to be remembered for 60 s at least",
        ),
        (
            format!("{GATEWAY}[replay]\nwindow = \"1m\"\n"),
            "c.toml:4:1: C003: `date_window` (300 s; 300 s where nothing is said) is more than half",
        ),
        (
            aggregator("leader", 8481, "").replace("policy.toml", "nothing.toml"),
            "c.toml:4:10: C003: there is no file",
        ),
        (
            aggregator("leader", 8481, "operator = \"A\"\nhelper_operator = \"a\"\n"),
            "c.toml:7:19: C003: the leader and the helper are both of the operator `A`",
        ),
        (
            aggregator("helper", 8481, "operator = \"A\"\nleader_operator = \"A.\"\n"),
            "c.toml:7:19: C003: the helper and the leader are both of the operator `A`",
        ),
        (
            aggregator("helper", 8481, "helper_operator = \"A\"\n"),
            "c.toml:6:19: C003: this is for the leader, and this is the helper; leave it out here",
        ),
        (format!("{RELAY}path = \n"), "c.toml:4:"),
    ] {
        let said = complaint(&text);
        assert!(said.starts_with(start), "{said}");
    }
}

#[test]
fn a_bad_route_is_found_by_its_number() {
    let route = |path: &str| {
        format!(
            "\n[[routes]]\nmethod = \"GET\"\nauthority = \"leader.example\"\npath = \"{path}\"\n\
             target = \"http://127.0.0.1:8481\"\n"
        )
    };
    let said = complaint(&format!("{GATEWAY}{}{}", route("/hpke_config"), route("/../secrets")));
    assert!(said.starts_with("c.toml:14:8: C003: route 2: `/../secrets` is not a path"), "{said}");
}

#[test]
fn a_value_of_a_route_or_a_relay_is_found_where_it_is() {
    let route = |further: &str| {
        format!(
            "{GATEWAY}\n[[routes]]\nmethod = \"POST\"\nauthority = \"a.example\"\npath = \"/a\"\n\
             content_type = \"text/plain\"\ntarget = \"http://127.0.0.1:8481\"\n{further}"
        )
    };
    for (text, start) in [
        (route("").replace("POST", "PSOT"), "c.toml:6:10: C003: route 1: `PSOT` is not a method"),
        (route("").replace("http:", "ftp:"), "c.toml:10:10: C003: route 1: target: "),
        (
            route("max_bytes = 99999999\n"),
            "c.toml:11:13: C003: route 1: `99999999` is not within `max_request",
        ),
        (route("max_bytes = 0\n"), "c.toml:11:13: C003: route 1: `0` is not a size"),
        (route("forward_headers = [\"cookie\"]\n"), "c.toml:11:19: C003: route 1: `cookie` is not"),
        (
            format!("{GATEWAY}[[relays]]\nname = \"a\"\ntoken_file = \"none\"\n"),
            "c.toml:6:14: C003: relay 1: ",
        ),
        (format!("{GATEWAY}[[relays]]\nname = \"a\"\n"), "c.toml:4:1: C003: relay 1: "),
        (format!("{GATEWAY}max_streams = 0\n"), "c.toml:4:15: C003: `max_streams` is from 1 to"),
        (
            format!("{GATEWAY}max_buffered_bytes = 1\n"),
            "c.toml:4:22: C003: `max_buffered_bytes` is at least 512;",
        ),
        (
            format!("{GATEWAY}max_streams = -1\n"),
            "c.toml:4:15: C001: invalid value: the number `-1`, expected a whole",
        ),
        (
            format!("{RELAY}max_connections = 20\nmax_connections_per_client = 21\n"),
            "c.toml:5:30: C003: `max_connections_per_client` is from 1 to 20",
        ),
        (
            format!("{RELAY}max_connections_per_client = 0\n"),
            "c.toml:4:30: C001: invalid value: the number `0`, expected a whole number, not below 1",
        ),
        (
            format!("{GATEWAY}[keys]\n\nkems = [\"x25519\", \"p256\"]\n"),
            "c.toml:6:8: C001: kems: there is no KEM `p256`",
        ),
        (
            format!("{GATEWAY}[keys]\ncache_for = \"1d\"\nrotate_every = \"2d\"\n"),
            "c.toml:6:16: C001: rotate_every must be",
        ),
    ] {
        let said = complaint(&text);
        assert!(said.starts_with(start), "{said}\n{start}");
    }
}

#[test]
fn a_database_that_is_none_is_found_before_anything_starts() {
    let folder = Folder::new();
    folder.write("gateway.toml", GATEWAY);
    folder.write("gateway.db", "text, and quite a lot of it\n");
    for args in [
        &["config", "check", "gateway.toml"][..],
        &["gateway", "--config", "gateway.toml"],
        &["keys", "list", "--config", "gateway.toml"],
    ] {
        let ran = folder.mica(args);
        let said = ran.one_line(3);
        assert!(
            said.starts_with("gateway.toml:3:12: C003: gateway.db is there, and is no database"),
            "{said}"
        );
    }
}

#[test]
fn every_value_of_every_route_is_shown_with_its_line() {
    let folder = Folder::new();
    let route = |path: &str| {
        format!(
            "\n[[routes]]\nmethod = \"GET\"\nauthority = \"leader.example\"\npath = \"{path}\"\n\
             target = \"http://127.0.0.1:8481\"\n"
        )
    };
    let long = format!("forward_headers = [\n{}]\n", "  \"accept\",\n".repeat(20));
    folder.write("gateway.toml", &format!("{GATEWAY}{}{}{long}", route("/one"), route("/two")));
    let ran = folder.mica(&["config", "show", "gateway.toml", "--origin"]);
    for (key, value, origin) in
        [("routes[1].path", "\"/one\"", "gateway.toml:8"), ("routes[2].path", "\"/two\"", "gateway.toml:14")]
    {
        let line = ran.out.lines().find(|line| line.starts_with(key)).expect("a line about it");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [key, value, origin]);
    }
    assert!(ran.out.lines().all(|line| line.len() < 140), "{}", ran.out);
    let json = folder.mica(&["config", "show", "gateway.toml", "-o", "json"]);
    assert!(json.out.contains("routes[2].target") && json.out.contains("accept"), "{}", json.out);
}

#[test]
fn a_file_says_whose_it_is() {
    let said = complaint("listen = \"127.0.0.1:1\"\n");
    assert!(said.starts_with("c.toml:1:1: C002: the key \"role\" is missing; "), "{said}");
    let said = complaint("role = \"boss\"\n");
    assert!(said.starts_with("c.toml:1:8: C002: "), "{said}");
    let folder = Folder::new();
    folder.write("relay.toml", RELAY);
    for args in
        [&["gateway", "--config", "relay.toml"][..], &["config", "check", "relay.toml", "--role", "gateway"]]
    {
        let ran = folder.mica(args);
        let said = ran.one_line(3);
        assert!(said.starts_with("relay.toml:1:1: C002: this is the configuration of a relay"), "{said}");
    }
}

#[test]
fn the_files_that_a_configuration_names_are_checked_too() {
    let folder = Folder::with_task(8481, 8482);
    folder.write("policy.toml", &POLICY.replace("epsilon = 10", "epsilom = 10"));
    let ran = folder.mica(&["config", "check", "leader.toml"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.starts_with("policy.toml:"), "{}", ran.err);
    folder.write("policy.toml", &POLICY.replace("epsilon_per_release = 1", "epsilon_per_release = 2"));
    let ran = folder.mica(&["config", "check", "leader.toml"]);
    let said = ran.one_line(3);
    assert!(said.contains("bound to the release statement"), "{said}");
    folder.write("policy.toml", POLICY);
    folder.write("leader.toml", &aggregator("leader", 8481, "").replace("leader.task", "helper.task"));
    let ran = folder.mica(&["config", "check", "leader.toml"]);
    let said = ran.one_line(3);
    assert!(said.starts_with("leader.toml:5:9: C003: ") && said.contains("is for the helper"), "{said}");
}

#[test]
fn a_missing_file_is_one_sentence() {
    let ran = Folder::new().mica(&["relay", "--config", "nothing.toml"]);
    let said = ran.one_line(3);
    assert!(said.starts_with("cannot read the configuration nothing.toml: "), "{said}");
}

#[test]
fn the_environment_wins_over_the_file_and_is_named_when_it_is_wrong() {
    let folder = Folder::new();
    folder.write("relay.toml", RELAY);
    let ran = folder.mica_with(&["config", "check", "relay.toml"], &[("MICA_RELAY__LISTEN", "nowhere")]);
    let said = ran.one_line(3);
    assert!(
        said.starts_with("environment variable MICA_RELAY__LISTEN: \"nowhere\" is not an address"),
        "{said}"
    );
    let ran = folder.mica_with(&["config", "check", "relay.toml"], &[("MICA_RELAY__LISTENN", "127.0.0.1:1")]);
    assert!(ran.one_line(3).contains("MICA_RELAY__LISTENN"), "{}", ran.err);
}

#[test]
fn each_value_is_shown_with_its_origin_and_no_password() {
    let folder = Folder::with_task(8481, free_port());
    let variable = ("MICA_LEADER__DATABASE", "postgres://mica:hunter2@db.example/leader");
    let ran = folder.mica_with(&["config", "show", "leader.toml", "--origin"], &[variable]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let line = |key: &str| ran.out.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(line("listen").ends_with("leader.toml:2"), "{}", ran.out);
    assert!(line("database").contains("postgres://...@db.example/leader"), "{}", ran.out);
    assert!(line("database").ends_with("environment variable MICA_LEADER__DATABASE"), "{}", ran.out);
    assert!(!ran.out.contains("hunter2"), "{}", ran.out);
}

/// The blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line == format!("```{language}") {
            inside = true;
            blocks.push(String::new());
        } else if line == "```" {
            inside = false;
        } else if let Some(block) = blocks.last_mut().filter(|_| inside) {
            block.extend([line, "\n"]);
        }
    }
    blocks
}

/// Whether a file of some role may have this in it: above its tables, or below them.
fn is_of_some_role(piece: &str) -> bool {
    fn loads<T: serde::de::DeserializeOwned>(text: String) -> bool {
        Sources::text("shown", text).load::<T>().is_ok()
    }
    let route =
        "[[routes]]\nmethod = \"GET\"\nauthority = \"a\"\npath = \"/b\"\ntarget = \"http://127.0.0.1:1\"\n";
    let gateway = "listen = \"127.0.0.1:1\"\ndatabase = \"sqlite:a.db\"\n";
    let aggregator = format!("{gateway}policy = \"policy.toml\"\n");
    let relay = "listen = \"127.0.0.1:1\"\ngateway_url = \"https://gateway.example/\"\n";
    loads::<mica_relay::Config>(format!("{relay}{piece}"))
        || loads::<mica_gateway::Config>(format!("{gateway}{piece}"))
        || loads::<mica_gateway::Config>(format!("{gateway}{route}{piece}"))
        || loads::<mica_aggregator::Config>(format!("{aggregator}{piece}"))
}

#[test]
fn every_piece_of_a_configuration_that_the_pages_show_is_one() {
    let read = |page: &str| {
        let path = format!("{}/../docs/{page}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("the page is there")
    };
    let pieces = blocks(&read("operating.md"), "toml");
    assert!(pieces.len() >= 9, "{}", pieces.len());
    for piece in pieces {
        assert!(is_of_some_role(&piece), "{piece}");
    }
    assert!(!is_of_some_role("[mixing]\nrequests = 8\nwait = \"2s\"\nhow = \"well\"\n"));
    // Whole files are executed, and have every table that an operator of the two may want.
    let whole = blocks(&read("ohttp.md"), "sh").concat();
    for table in [
        "[tls]",
        "[peer_tls]",
        "[keys]",
        "[replay]",
        "[[relays]]",
        "[[routes]]",
        "[mixing]",
        "[rate_limit]",
        "[mirror]",
    ] {
        assert!(whole.contains(&format!("\n{table}")), "{table}");
    }
}
