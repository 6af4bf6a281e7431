//! What the documentation says of settings.

use std::time::Duration;

use mica_gateway::{Config, MergeConfig, Padding, ReplayConfig, RouteConfig};

const OPERATING: &str = include_str!("../../../docs/operating.md");

/// The block of TOML that begins with these words.
fn documented(begin: &str) -> &'static str {
    let mut blocks = OPERATING.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with(begin)).unwrap()
}

#[test]
fn the_documented_settings_of_the_memory_are_read_and_are_the_defaults() {
    let block = documented("answer_grid");
    let config: Config =
        toml::from_str(&format!("listen = \"127.0.0.1:0\"\ndatabase = \"sqlite:x.db\"\n{block}")).unwrap();
    assert_eq!((config.answer_grid, config.padding), (Duration::from_millis(50), Padding::default()));
    let (said, default) = (config.replay, ReplayConfig::default());
    assert_eq!((said.window, said.date_window), (default.window, default.date_window));
    assert_eq!((said.max_requests, said.max_bytes), (default.max_requests, default.max_bytes));
    assert_eq!(said.dates, default.dates);
    assert_eq!(Config::new("127.0.0.1:0", "sqlite:x.db", vec![]).answer_grid, Duration::ZERO);
}

#[test]
fn the_documented_merging_is_read() {
    let route = "method = \"POST\"\nauthority = \"a\"\npath = \"/\"\ntarget = \"https://a\"\n";
    let merged: RouteConfig = toml::from_str(&format!("{route}{}", documented("merge"))).unwrap();
    assert_eq!(merged.merge, Some(MergeConfig { reports: 64, wait: Duration::from_millis(5) }));
    let alone: RouteConfig = toml::from_str(route).unwrap();
    assert_eq!(alone.merge, None);
}

#[test]
fn the_documented_route_is_read_and_its_sizes_are_the_defaults() {
    let config: Config = toml::from_str(&format!(
        "listen = \"127.0.0.1:0\"\ndatabase = \"sqlite:x.db\"\n{}",
        documented("[[routes]]")
    ))
    .unwrap();
    let said = &config.routes[0];
    let default = RouteConfig::new("POST", "a", "/", None, "https://a");
    assert_eq!((said.max_bytes, said.protocol), (default.max_bytes, default.protocol));
}
