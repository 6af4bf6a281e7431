//! Gateways as processes: what becomes of a file that has changed.

use crate::relays::{send, until};
use crate::world::{Folder, free_port};

const RELAYS: &str = "[[relays]]\nname = \"edge\"\ntoken_file = \"edge.token\"\n";
const MERGING: &str = "[[routes]]\nmethod = \"POST\"\nauthority = \"a.example\"\npath = \"/a\"\n\
                       content_type = \"application/ppm-dap;message=upload-req\"\ntarget = \"http://127.0.0.1:1\"\n\
                       merge = { reports = 2, wait = \"1s\" }\n";

/// What a start refuses is not taken up later either, and is said in the same words.
#[test]
fn a_value_out_of_bounds_is_said_with_its_place_at_sighup_and_the_old_file_stays_in_force() {
    let (folder, port) = (Folder::new(), free_port());
    folder.write("edge.token", "of-the-relay\n");
    let text = |further: &str, date_window: &str, tables: &str| {
        format!(
            "role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:gateway.db\"\n{further}\
             [replay]\nwindow = \"1m\"\ndate_window = \"{date_window}\"\n{tables}"
        )
    };
    folder.write("gateway.toml", &text("", "30s", ""));
    let server = folder.serve("gateway");
    let is_served = || send(port).expect("an answer").0;
    assert_eq!(is_served(), 400, "it is no sealed request, and everybody may send one");
    for (further, date_window, tables, said) in [
        ("max_streams = 0\n", "30s", "", "gateway.toml:4:15: C003: `max_streams` is from 1 to"),
        (
            "answer_grid = \"11s\"\n",
            "30s",
            "",
            "gateway.toml:4:15: C003: answers that wait for more than 10 s",
        ),
        ("", "31s", "", "gateway.toml:6:15: C003: `date_window` (31 s"),
        ("", "30s", MERGING, "gateway.toml:5:10: C003: an answer is to be remembered for 62 s at least"),
    ] {
        folder.write("gateway.toml", &text(further, date_window, &format!("{RELAYS}{tables}")));
        let checked = folder.mica(&["config", "check", "gateway.toml"]);
        assert!(checked.one_line(3).starts_with(said), "{}", checked.err);
        server.hang_up();
        until(said, || folder.read("gateway.log").contains(said));
        assert_eq!(is_served(), 400, "{said}: the old file is in force");
    }
    let log = folder.read("gateway.log");
    assert_eq!(log.matches("does not do; the old one stays in force").count(), 4, "{log}");
    folder.write("gateway.toml", &text("", "30s", RELAYS));
    server.hang_up();
    until("it is in force", || folder.read("gateway.log").contains("read again and is in force"));
    assert_eq!(is_served(), 403, "only those who show the token");
    assert_eq!(server.terminate(), Some(0));
}
