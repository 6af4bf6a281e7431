//! TLS in configuration files: what is refused before anything listens, and in which words.

use mica_service::testing::{Authority, restrict};

use crate::world::{Folder, aggregator, free_port};

const RELAY: &str =
    "role = \"relay\"\nlisten = \"127.0.0.1:8484\"\ngateway_url = \"http://127.0.0.1:8483/\"\n";
const TLS: &str = "[tls]\ncertificate = \"relay.pem\"\nprivate_key = \"relay.key\"\n";

fn folder() -> Folder {
    let folder = Folder::new();
    let issued = Authority::new().issue(&["relay.example"]);
    folder.write("relay.pem", &issued.pem());
    folder.write("relay.key", &issued.key_pem());
    restrict(&folder.path("relay.key"), 0o600);
    folder
}

/// What `mica config check` says of a wrong file called `c.toml`.
fn complaint(folder: &Folder, text: &str) -> String {
    folder.write("c.toml", text);
    folder.mica(&["config", "check", "c.toml"]).one_line(3).to_owned()
}

#[test]
fn a_relay_with_a_certificate_may_be_reached_from_everywhere() {
    let folder = folder();
    folder.write("relay.toml", &format!("{}{TLS}", RELAY.replace("127.0.0.1:8484", "0.0.0.0:8484")));
    let ran = folder.mica(&["config", "check", "relay.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "relay.toml: ok (relay)\n"), "{}", ran.err);
}

#[test]
fn a_server_without_tls_listens_on_loopback_only() {
    let folder = folder();
    let port = free_port();
    let text = RELAY.replace("127.0.0.1:8484", &format!("0.0.0.0:{port}"));
    let said = complaint(&folder, &text);
    assert_eq!(
        said,
        format!(
            "c.toml:2:10: C003: \"0.0.0.0:{port}\" can be reached from other machines, and there is no TLS; \
             add a table [tls] with certificate and private_key, or listen on 127.0.0.1; \
             behind a proxy that speaks TLS, start with --insecure"
        )
    );
    // The server itself says the same, and so does one that is told where to listen by a flag.
    assert_eq!(folder.mica(&["relay", "--config", "c.toml"]).one_line(3), said);
    folder.write("relay.toml", RELAY);
    let listen = format!("[::]:{port}");
    let ran = folder.mica(&["relay", "--config", "relay.toml", "--listen", &listen]);
    assert!(ran.one_line(3).starts_with("flag --listen: \"[::]:"), "{}", ran.err);
    // To reach others without TLS is another decision than to be reached so.
    assert_eq!(folder.mica(&["relay", "--config", "c.toml", "--insecure-peers"]).one_line(3), said);
    folder.write("relay.toml", &format!("{text}insecure = true\n"));
    assert_eq!(folder.mica(&["config", "check", "relay.toml"]).code, 0);
    assert_eq!(folder.mica_briefly("relay"), Some(0));
}

#[test]
fn every_role_minds_where_it_listens() {
    let folder = Folder::with_task(8481, 8482);
    for role in ["leader", "helper"] {
        let said = complaint(&folder, &aggregator(role, 8481, "").replace("127.0.0.1:8481", "0.0.0.0:8481"));
        assert!(said.starts_with("c.toml:2:10: C003: ") && said.contains("no TLS"), "{said}");
    }
    let gateway = "role = \"gateway\"\nlisten = \"0.0.0.0:8483\"\ndatabase = \"sqlite:gateway.db\"\n";
    let said = complaint(&folder, gateway);
    assert!(said.starts_with("c.toml:2:10: C003: ") && said.contains("no TLS"), "{said}");
}

#[test]
fn no_peer_on_another_machine_is_asked_without_tls() {
    let folder = folder();
    let far = RELAY.replace("http://127.0.0.1:8483/", "http://gateway.example/");
    let said = complaint(&folder, &far);
    assert!(said.starts_with("c.toml:3:15: C003: http://gateway.example is plain HTTP"), "{said}");
    let gateway = "role = \"gateway\"\nlisten = \"127.0.0.1:8483\"\ndatabase = \"sqlite:gateway.db\"\n\
                   [[routes]]\nmethod = \"GET\"\nauthority = \"a\"\npath = \"/\"\ntarget = \"http://leader.example\"\n";
    let said = complaint(&folder, gateway);
    assert!(said.contains("route 1: target: http://leader.example is plain HTTP"), "{said}");
    for text in [far.as_str(), gateway] {
        // To be reached without TLS is another decision than to reach others so.
        for (key, code) in [("insecure", 3), ("insecure_peers", 0)] {
            let mut allowed = text.to_owned();
            for port in [8483, 8484] {
                let line = format!("127.0.0.1:{port}\"\n");
                allowed = allowed.replace(&line, &format!("{line}{key} = true\n"));
            }
            folder.write("ok.toml", &allowed);
            let ran = folder.mica(&["config", "check", "ok.toml"]);
            assert_eq!(ran.code, code, "{key}: {}", ran.err);
        }
    }
}

#[test]
fn a_leader_asks_no_helper_on_another_machine_without_tls() {
    let folder = Folder::with_task(8481, 8482);
    let urls =
        ["--leader", "https://leader.example/", "--helper", "http://helper.example/", "--insecure-peers"];
    let refused = folder.new_task("far", &urls[..4]);
    assert!(
        refused.one_line(3).starts_with("--helper: http://helper.example is plain HTTP"),
        "{}",
        refused.err
    );
    let made = folder.new_task("far", &urls);
    assert_eq!(made.code, 0, "{}", made.err);
    let said = complaint(&folder, &aggregator("leader", 8481, "").replace("task/", "far/"));
    assert!(said.starts_with("c.toml:5:9: C003: the helper of task "), "{said}");
    assert!(said.contains("http://helper.example is plain HTTP"), "{said}");
    // Nor is such a task taken by any other way.
    let config = aggregator("leader", 8481, "").replace("tasks = [\"task/leader.task.toml\"]\n", "");
    folder.write("c.toml", &config);
    let import = ["task", "import", "far/leader.task.toml", "--config", "c.toml"];
    let ran = folder.mica(&import);
    assert!(ran.code != 0 && ran.err.contains("http://helper.example is plain HTTP"), "{}", ran.err);
    folder.write("c.toml", &format!("{config}insecure_peers = true\n"));
    let ran = folder.mica(&import);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn each_file_of_tls_that_does_not_do_is_found_at_its_key() {
    let folder = folder();
    let authority = Authority::new();
    folder.write("expired.pem", &authority.issue_expired(&["relay.example"]).pem());
    folder.write("open.key", &folder.read("relay.key"));
    folder.write("other.key", &authority.issue(&["relay.example"]).key_pem());
    restrict(&folder.path("open.key"), 0o644);
    restrict(&folder.path("other.key"), 0o600);
    for (tls, start, fix) in [
        (TLS.replace("relay.pem", "no.pem"), "c.toml:5:15: C003: cannot read no.pem", "write the path"),
        (
            TLS.replace("relay.pem", "expired.pem"),
            "c.toml:5:15: C003: the certificate in expired.pem has expired",
            "renew",
        ),
        (
            TLS.replace("relay.pem", "relay.key"),
            "c.toml:5:15: C003: relay.key holds no certificate",
            "name a PEM file",
        ),
        (
            TLS.replace("relay.key", "other.key"),
            "c.toml:6:15: C003: other.key is not the key of relay.pem",
            "name the key",
        ),
        (
            TLS.replace("relay.key", "open.key"),
            "c.toml:6:15: C003: everybody on this machine may read open.key",
            "chmod 600",
        ),
        (
            format!("{TLS}client_roots = \"relay.key\"\n"),
            "c.toml:7:16: C003: relay.key holds no certificate",
            "name",
        ),
        (
            format!("{TLS}client_root = \"x\"\n"),
            "c.toml:7:1: C001: unknown key \"client_root\"",
            "client_roots",
        ),
        ("[tls]\ncertificate = \"relay.pem\"\n".to_owned(), "c.toml:4:1: C001: ", "private_key"),
        (
            format!("{TLS}[peer_tls]\nroots = \"no.pem\"\n"),
            "c.toml:8:9: C003: cannot read no.pem",
            "write the path",
        ),
        (
            format!("{TLS}[peer_tls]\ncertificate = \"relay.pem\"\n"),
            "c.toml:8:15: C003: this is a certificate without its key",
            "peer_tls.private_key",
        ),
    ] {
        let said = complaint(&folder, &format!("{RELAY}{tls}"));
        assert!(said.starts_with(start) && said.contains(fix), "{said}\n{start}");
    }
}

#[test]
fn an_operator_on_the_machine_itself_needs_no_certificate_whatever_clients_need() {
    use std::io::{Read as _, Write as _};
    let folder = Folder::new();
    let authority = Authority::new();
    let issued = authority.issue(&["gateway.example"]);
    folder.write("relay.pem", &issued.pem());
    folder.write("relay.key", &issued.key_pem());
    folder.write("ca.pem", &authority.pem());
    restrict(&folder.path("relay.key"), 0o600);
    let (port, admin) = (free_port(), free_port());
    folder.write(
        "gateway.toml",
        &format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:gateway.db\"\n\
             admin_listen = \"127.0.0.1:{admin}\"\n{TLS}client_roots = \"ca.pem\"\nrequire_client_certificate = true\n"
        ),
    );
    let server = folder.serve("gateway");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", admin)).expect("it listens for the operator");
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(server.terminate(), Some(0));
}
