//! Takes a changed policy or configuration up without a restart: SIGHUP has the file read again, with all the checks of a
//! start.

use std::path::PathBuf;

use mica_aggregator::policy::PolicyReload;
use mica_service::shutdown::Shutdown;

use crate::files;

/// Which file, and which warnings in it the operator has allowed.
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    pub(super) allowed: Vec<String>,
}

/// Follows the policy file at every SIGHUP until `shutdown`. A file that does not do leaves the policy as it was, and the
/// log says why.
pub(super) async fn follow(mut hangup: Hangup, policy: PolicyFile, reload: PolicyReload, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = hangup.next() => take_up(&policy, &reload).await,
            () = shutdown.wait() => return,
        }
    }
}

/// Calls `take_up` at every SIGHUP until `shutdown`.
pub(super) async fn at_hangup(mut hangup: Hangup, shutdown: &Shutdown, take_up: impl Fn()) {
    loop {
        tokio::select! {
            () = hangup.next() => take_up(),
            () = shutdown.wait() => return,
        }
    }
}

/// Says in the log what became of a configuration that was read again.
pub(super) fn say(done: Result<(), String>) {
    match done {
        Ok(()) => tracing::info!("the configuration was read again and is in force"),
        Err(why) => tracing::error!(why, "the changed configuration does not do; the old one stays in force"),
    }
}

async fn take_up(file: &PolicyFile, reload: &PolicyReload) {
    let policy = match files::policy_to_serve(&file.path, &file.allowed) {
        Ok(policy) => policy,
        Err(failure) => return refuse(&failure.to_string()),
    };
    if reload.is_in_force(&policy) {
        tracing::info!("the policy file has not changed");
        return;
    }
    let (id, version) = (policy.id().to_owned(), policy.version());
    match reload.adopt(policy).await {
        Ok(()) => tracing::info!(policy = id, version, "the policy was read again and is in force"),
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(why: &str) {
    tracing::error!(why, "the changed policy does not do; the old one stays in force");
}

/// The signal that has always meant "read your files again". From the moment at which there is one, the signal ends no server:
/// there is one before a server says that it listens.
pub(super) struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Hangup {
    /// # Errors
    /// When the operating system has no room for it.
    pub(super) fn new() -> std::io::Result<Self> {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        Ok(Self { signal })
    }

    async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
impl Hangup {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}
