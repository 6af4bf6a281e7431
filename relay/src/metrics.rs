//! What a relay counts. It must never count by client.

use std::sync::Arc;

use mica_service::listener::Gauge;
use mica_service::metrics::{Text, Times};
use mica_service::room::Room;

use crate::counters::{Counters, Outcome};
use crate::pool::{Pool, Release};

/// Where the figures are.
pub(crate) struct Seen {
    pub(crate) counters: Counters,
    pub(crate) pool: Arc<Pool>,
    pub(crate) room: Arc<Room>,
    pub(crate) times: Arc<Times>,
    pub(crate) gauge: Gauge,
}

impl Seen {
    /// The figures of this moment.
    pub(crate) fn render(&self) -> String {
        let mut text = Text::default();
        let help = "Requests to the relay resource by what became of them";
        text.family("mica_relay_requests_total", "counter", help);
        for outcome in Outcome::ALL {
            let count = self.counters.count(outcome);
            text.sample("mica_relay_requests_total", &[("outcome", outcome.label())], count);
        }
        let help = "Pools of requests that left together, by why they did";
        text.family("mica_relay_pools_total", "counter", help);
        for why in Release::ALL {
            text.sample("mica_relay_pools_total", &[("why", why.label())], self.pool.released(why));
        }
        text.single("mica_relay_waiting", "gauge", "Requests that wait for others", self.pool.waiting());
        text.single("mica_connections", "gauge", "Connections", self.gauge.open());
        let stalled = u8::from(self.gauge.is_stalled());
        text.single("mica_stalled", "gauge", "Whether connections cannot be accepted", stalled);
        text.single("mica_free_bytes", "gauge", "Memory that is free for bodies", self.room.free_bytes());
        let help = "How long requests took from their last byte to the answer of the gateway";
        text.times("mica_relay_seconds", help, &self.times);
        text.into_string()
    }
}
