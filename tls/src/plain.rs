//! Where HTTP without TLS is allowed: between processes of one machine.

use std::net::IpAddr;

use http::Uri;

/// Whether the host of `uri` is this machine: `localhost`, `127.0.0.0/8` or `::1`. A name is not looked up.
pub fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `uri` is asked without TLS.
pub fn is_plain(uri: &Uri) -> bool {
    uri.scheme() == Some(&http::uri::Scheme::HTTP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_and_nothing_that_looks_like_it() {
        let of = |text: &str| is_loopback(&text.parse().expect("a URL"));
        for here in [
            "http://localhost/",
            "http://LOCALHOST:1/",
            "http://127.0.0.1/",
            "http://127.9.9.9:8/",
            "http://[::1]:8/",
        ] {
            assert!(of(here), "{here}");
        }
        for elsewhere in [
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://128.0.0.1/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://relay/",
        ] {
            assert!(!of(elsewhere), "{elsewhere}");
        }
    }
}
