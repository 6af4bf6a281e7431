//! Ports for servers that must keep theirs over a restart, because a task names it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of the loopback address that nobody listens on, and that no other test is given.
///
/// Below the ports that the system hands out by itself, so that no outgoing connection takes it in the meantime.
#[must_use]
pub fn free_port() -> u16 {
    static FIRST: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = *FIRST.get_or_init(rand::random);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = LOWEST + number % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

const LOWEST: u16 = 12_000;
const COUNT: u16 = 20_000;
