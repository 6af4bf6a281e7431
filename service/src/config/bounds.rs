//! Bounds of values in configurations: what cannot work is refused with its key before anything listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use http::Uri;

/// A key, and a sentence about its value.
pub type Wrong = (&'static str, String);

/// The most threads of a process that look after connections.
pub const THREADS: usize = 1_024;

/// A number from `least` to `most`.
///
/// # Errors
/// When it is another.
pub fn number(key: &'static str, value: usize, [least, most]: [usize; 2]) -> Result<(), Wrong> {
    if value < least || value > most {
        let range =
            if most == usize::MAX { format!("at least {least}") } else { format!("from {least} to {most}") };
        return Err((key, format!("`{key}` is {range}")));
    }
    Ok(())
}

/// A time of more than nothing and at most `most`.
///
/// # Errors
/// When it is another.
pub fn time(key: &'static str, value: Duration, most: Duration) -> Result<(), Wrong> {
    if value.is_zero() || value > most {
        return Err((key, format!("`{key}` is more than nothing and at most {} s", most.as_secs())));
    }
    Ok(())
}

/// The operator's listener is another one than that of everybody.
///
/// # Errors
/// When they are one.
pub fn apart(listen: &str, admin_listen: Option<SocketAddr>) -> Result<(), Wrong> {
    match admin_listen {
        Some(admin) if meets(listen, admin) => {
            Err(("admin_listen", "`listen` has this address already".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Whether two listeners would have one address.
pub fn meets(listen: &str, other: SocketAddr) -> bool {
    other.port() != 0 && is_own(&addresses(listen), other.ip(), other.port())
}

/// Whether a URL, as far as can be seen without a resolver, is that of our own listener.
pub fn is_own_url(listen: &str, url: &str) -> bool {
    url.parse().is_ok_and(|url| is_own_uri(&addresses(listen), &url))
}

/// The same of a listener whose addresses are known, and of a URL that was read.
pub fn is_own_uri(ours: &[SocketAddr], url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    if host.eq_ignore_ascii_case("localhost") {
        return LOOPBACK.into_iter().any(|ip| is_own(ours, ip, port_of(url)));
    }
    host.parse().is_ok_and(|ip| is_own(ours, ip, port_of(url)))
}

/// The port that a URL leads to, said or not.
pub fn port_of(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Where a listener of this machine is asked on this machine: one on every address, on loopback.
#[must_use]
pub fn asked_at(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let [v4, v6] = LOOPBACK;
        listen.set_ip(if listen.is_ipv4() { v4 } else { v6 });
    }
    listen
}

fn addresses(listen: &str) -> Vec<SocketAddr> {
    listen.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

fn is_own(ours: &[SocketAddr], ip: IpAddr, port: u16) -> bool {
    let takes =
        |ours: IpAddr| ours == ip || (ours.is_unspecified() && ip.is_loopback()) || ip.is_unspecified();
    ours.iter().any(|ours| ours.port() == port && takes(ours.ip()))
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_knows_its_own_address_in_other_words() {
        for (listen, url, own) in [
            ("127.0.0.1:8484", "http://127.0.0.1:8484/", true),
            ("127.0.0.1:8484", "http://localhost:8484/x", true),
            ("0.0.0.0:8484", "http://127.0.0.1:8484", true),
            ("[::1]:80", "http://[::1]/", true),
            ("0.0.0.0:443", "https://localhost/", true),
            ("127.0.0.1:8484", "http://127.0.0.1:8483/", false),
            ("127.0.0.1:8484", "http://10.0.0.1:8484/", false),
            ("127.0.0.1:8484", "https://gateway.example:8484/", false),
        ] {
            assert_eq!(is_own_url(listen, url), own, "{listen} {url}");
        }
    }

    #[test]
    fn two_listeners_with_one_address_are_found() {
        let meets = |listen, other: &str| meets(listen, other.parse().expect("an address"));
        assert!(meets("127.0.0.1:8484", "127.0.0.1:8484") && meets("0.0.0.0:8484", "127.0.0.1:8484"));
        assert!(!meets("127.0.0.1:8484", "127.0.0.1:8485") && !meets("127.0.0.1:0", "127.0.0.1:0"));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let asked = |listen: &str| asked_at(listen.parse().expect("an address")).to_string();
        assert_eq!(asked("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(asked("[::]:80"), "[::1]:80");
        assert_eq!(asked("10.0.0.1:80"), "10.0.0.1:80");
    }
}
