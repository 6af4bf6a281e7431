//! A gateway and the leader in its process: what is right of each alone and not of both together.

use std::path::PathBuf;

use mica_gateway::{Config, Place};
use mica_service::config::Provenance;
use mica_service::config::bounds::meets;

use super::aggregator::Parts;
use crate::exit::Failure;
use crate::settings::Settings;

/// Whether a route leads to the leader, and neither takes what is the other's.
pub(super) fn check(
    (settings, provenance): (&Settings, &Provenance),
    config: &Config,
    leader: &Parts,
) -> Result<(), Failure> {
    let wrong = |key: &str, what: &str| Err(settings.wrong(provenance, key, what, "give each its own"));
    let admin = leader.admin.as_ref().map(|admin| admin.address);
    for theirs in [Some(leader.config.listen), admin].into_iter().flatten() {
        let what = format!("the leader in this process listens on {theirs}");
        if meets(&config.listen, theirs) {
            return wrong("listen", &what);
        }
        if config.admin_listen.is_some_and(|ours| meets(&ours.to_string(), theirs)) {
            return wrong("admin_listen", &what);
        }
    }
    if is_same_database(&config.database, &leader.config.database) {
        return wrong("database", "this is the database of the leader in this process");
    }
    let places = leader.places();
    let is_led_to = |place: &Place| config.routes.iter().any(|route| place.is_led_to_by(route));
    if places.iter().any(is_led_to) {
        return Ok(());
    }
    let targets: Vec<String> = places.iter().map(Place::target).collect();
    Err(Failure::invalid(format!(
        "no route of {} leads to the leader; write target = \"{}\"",
        settings.name(),
        targets.join("\" or \"")
    )))
}

/// As far as their URLs tell.
fn is_same_database(one: &str, other: &str) -> bool {
    match (file_of(one), file_of(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// The one name of the file of a database that has one.
fn file_of(database: &str) -> Option<PathBuf> {
    let path = database.strip_prefix("sqlite:")?;
    let path = std::path::absolute(path.strip_prefix("//").unwrap_or(path)).ok()?;
    let (folder, name) = (path.parent()?, path.file_name()?);
    Some(
        path.canonicalize()
            .or_else(|_| folder.canonicalize().map(|folder| folder.join(name)))
            .unwrap_or(path),
    )
}

#[cfg(test)]
mod tests {
    use super::is_same_database;

    #[test]
    fn one_database_is_known_however_it_is_spelled() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        assert!(is_same_database(&url("a.db"), &url("./a.db")));
        assert!(is_same_database(&url("a.db"), &url("a.db").replace("sqlite:", "sqlite://")));
        assert!(!is_same_database(&url("a.db"), &url("b.db")));
        std::fs::write(folder.path().join("a.db"), "").expect("a file in a folder of our own");
        assert!(is_same_database(&url("a.db"), &url("./a.db")));
        assert!(is_same_database("postgres://h/a", "postgres://h/a"));
        assert!(!is_same_database("postgres://h/a", &url("a.db")));
    }
}
