//! Bounds of values in configurations: what cannot work is refused with its key before anything listens.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
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
        Some(admin) if admin.port() != 0 && is_own(listen, admin.ip(), admin.port()) => {
            Err(("admin_listen", "`listen` has this address already".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Whether a URL, as far as can be seen without a resolver, is that of our own listener.
pub fn is_own_url(listen: &str, url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(default);
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    if host.eq_ignore_ascii_case("localhost") {
        return [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]
            .into_iter()
            .any(|ip| is_own(listen, ip, port));
    }
    host.parse().is_ok_and(|ip| is_own(listen, ip, port))
}

fn is_own(listen: &str, ip: IpAddr, port: u16) -> bool {
    let ours: Vec<SocketAddr> = listen.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let takes =
        |ours: IpAddr| ours == ip || (ours.is_unspecified() && ip.is_loopback()) || ip.is_unspecified();
    ours.iter().any(|ours| ours.port() == port && takes(ours.ip()))
}

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
}
