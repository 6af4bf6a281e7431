//! The wish to stop, told to everyone at once.

use tokio::sync::watch;

/// A switch that can be thrown once. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    switch: watch::Sender<bool>,
}

impl Shutdown {
    /// Not thrown yet.
    pub fn new() -> Self {
        Self { switch: watch::Sender::new(false) }
    }

    /// A switch that SIGTERM and Ctrl-C throw. Must be called inside a tokio runtime.
    pub fn on_signal() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let thrower = shutdown.clone();
        let terminated = terminated()?;
        tokio::spawn(async move {
            tokio::select! {
                () = terminated => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            tracing::info!("asked to stop");
            thrower.trigger();
        });
        Ok(shutdown)
    }

    /// Throws the switch.
    pub fn trigger(&self) {
        self.switch.send_replace(true);
    }

    /// Has it been thrown?
    pub fn is_triggered(&self) -> bool {
        *self.switch.borrow()
    }

    /// Returns when the switch is thrown, at once if it has been.
    pub async fn wait(&self) {
        // The sender is borrowed here, so it is still there: there is nothing else to wait for.
        let _ = self.switch.subscribe().wait_for(|thrown| *thrown).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(unix)]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        signal.recv().await;
    })
}

#[cfg(not(unix))]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}

#[cfg(test)]
mod tests {
    use super::Shutdown;

    #[tokio::test]
    async fn everyone_hears_it_also_those_who_come_late() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.wait().await }
        });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        early.await.unwrap();
        shutdown.clone().wait().await;
    }
}
