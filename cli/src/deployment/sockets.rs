//! Where the roles of a deployment listen: bound before anything else, because the addresses go into the task's
//! configuration and through it into every report.

use mica_service::listener;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::exit::Failure;

/// Which aggregators run here. Relay and gateway run where the leader does: clients upload to no one else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Leader and helper.
    Both,
    /// The leader; somebody else runs the helper.
    LeaderOnly {
        /// Where that is.
        helper_url: String,
    },
    /// The helper; somebody else runs the leader.
    HelperOnly {
        /// Where that is.
        leader_url: String,
    },
}

/// The ports of loopback; 0 where there is no such role, or any port will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ports {
    pub(crate) relay: u16,
    pub(crate) gateway: u16,
    pub(crate) leader: u16,
    pub(crate) helper: u16,
}

/// Listening, and not answering yet.
pub(crate) struct Sockets {
    pub(super) relay: Option<TcpListener>,
    pub(super) gateway: Option<TcpListener>,
    pub(super) leader: Option<TcpListener>,
    pub(super) helper: Option<TcpListener>,
    addresses: Addresses,
}

/// The URLs of all roles; of those that do not run here as they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) relay: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) leader: String,
    pub(crate) helper: String,
    /// What was bound.
    pub(crate) ports: Ports,
}

impl Sockets {
    /// Binds a port of loopback for every role that runs here.
    ///
    /// # Errors
    /// When a port is taken.
    pub(crate) async fn bind(cast: &Cast, ports: Ports) -> Result<Self, Failure> {
        let with_leader = !matches!(cast, Cast::HelperOnly { .. });
        let with_helper = !matches!(cast, Cast::LeaderOnly { .. });
        let leader = bind(with_leader, ports.leader).await?;
        let helper = bind(with_helper, ports.helper).await?;
        let gateway = bind(with_leader, ports.gateway).await?;
        let relay = bind(with_leader, ports.relay).await?;
        let bound = |listener: &Option<TcpListener>| -> Result<u16, Failure> {
            let Some(listener) = listener else { return Ok(0) };
            listener.local_addr().map(|address| address.port()).map_err(Failure::unexpected)
        };
        let ports = Ports {
            relay: bound(&relay)?,
            gateway: bound(&gateway)?,
            leader: bound(&leader)?,
            helper: bound(&helper)?,
        };
        let addresses = Addresses {
            relay: with_leader.then(|| url(ports.relay)),
            gateway: with_leader.then(|| url(ports.gateway)),
            leader: match cast {
                Cast::HelperOnly { leader_url } => leader_url.clone(),
                _ => url(ports.leader),
            },
            helper: match cast {
                Cast::LeaderOnly { helper_url } => helper_url.clone(),
                _ => url(ports.helper),
            },
            ports,
        };
        Ok(Self { relay, gateway, leader, helper, addresses })
    }

    /// Where everybody is.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

async fn bind(wanted: bool, port: u16) -> Result<Option<TcpListener>, Failure> {
    if !wanted {
        return Ok(None);
    }
    Ok(Some(listener::bind(format!("127.0.0.1:{port}")).await?))
}

/// With the slash that a URL library would add, so that nobody who writes it anew changes its bytes.
fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_roles_that_run_here_are_bound() {
        let cast = Cast::HelperOnly { leader_url: "http://198.51.100.7/dap/".to_owned() };
        let sockets = Sockets::bind(&cast, Ports::default()).await.unwrap();
        let addresses = sockets.addresses();
        assert_eq!((&addresses.relay, &addresses.gateway), (&None, &None));
        assert_eq!(addresses.leader, "http://198.51.100.7/dap/");
        assert_eq!(addresses.helper, format!("http://127.0.0.1:{}/", addresses.ports.helper));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_a_wrong_setting() {
        let first = Sockets::bind(&Cast::Both, Ports::default()).await.unwrap();
        let again = Sockets::bind(&Cast::Both, first.addresses().ports).await.err().unwrap();
        assert_eq!(again.exit(), crate::exit::Exit::Invalid);
        assert!(again.to_string().contains("already in use"), "{again}");
    }
}
