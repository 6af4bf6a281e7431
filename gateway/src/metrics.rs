//! What a gateway counts. It must never count by task: a route is not a label.

use std::sync::Arc;

use mica_service::listener::Gauge;
use mica_service::metrics::{Text, Times};
use mica_service::room::Room;

use crate::{
    counters::{Counters, Outcome},
    replay::{Answers, Fill},
};

/// Where the figures are.
pub(crate) struct Seen {
    pub(crate) counters: Counters,
    pub(crate) room: Arc<Room>,
    pub(crate) times: Arc<Times>,
    pub(crate) gauge: Gauge,
    pub(crate) answers: Answers,
}

impl Seen {
    /// The figures of this moment.
    pub(crate) fn render(&self) -> String {
        let mut text = Text::default();
        let help = "What became of requests to the gateway resource, and what was noticed about them";
        text.family("mica_gateway_requests_total", "counter", help);
        for outcome in Outcome::ALL {
            let count = self.counters.count(outcome);
            text.sample("mica_gateway_requests_total", &[("outcome", outcome.label())], count);
        }
        text.single("mica_connections", "gauge", "Connections", self.gauge.open());
        let stalled = u8::from(self.gauge.is_stalled());
        text.single("mica_stalled", "gauge", "Whether connections cannot be accepted", stalled);
        text.single("mica_free_bytes", "gauge", "Memory that is free for bodies", self.room.free_bytes());
        let Fill { requests, bytes, max_requests, max_bytes } = self.answers.fill();
        for (name, help, requests, bytes) in [
            ("mica_gateway_remembered", "What is remembered of this window", requests, bytes),
            (
                "mica_gateway_remembered_limit",
                "What may be: new requests beyond are told 503, longer answers beyond half of the bytes are not kept",
                max_requests,
                max_bytes,
            ),
        ] {
            text.family(name, "gauge", help);
            text.sample(name, &[("of", "requests")], requests);
            text.sample(name, &[("of", "bytes")], bytes);
        }
        let help = "How long requests took from their last byte to the sealed answer";
        text.times("mica_gateway_seconds", help, &self.times);
        text.into_string()
    }
}
