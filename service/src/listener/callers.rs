//! Tells callers apart without knowing who they are.
//!
//! Whoever limits how much one client may ask needs to know the same client again, and nothing else. What handlers get is
//! a hash of the address under a key that is drawn when the process starts and dies with it: it cannot be turned back, it is
//! another one after a restart, and it must never be logged or sent on.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};

/// Makes a [`Caller`] of an address.
#[derive(Clone)]
pub struct Callers {
    key: RandomState,
    ipv6_prefix: u8,
}

/// One client, as far as anybody here needs to know. An extension of its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caller(u64);

impl Callers {
    /// Under a fresh key. Addresses of IPv6 that share so many leading bits are one caller's: a household has as many
    /// addresses as it likes below a /64.
    pub fn new(ipv6_prefix: u8) -> Self {
        Self { key: RandomState::new(), ipv6_prefix: ipv6_prefix.min(128) }
    }

    /// Who has this address.
    pub fn of(&self, address: IpAddr) -> Caller {
        let network = match address {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => IpAddr::V4(address),
                None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & self.mask())),
            },
        };
        Caller(self.key.hash_one(network))
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.ipv6_prefix)).unwrap_or(0)
    }
}

impl Caller {
    /// The hash, to look something up by.
    pub fn hash(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callers(..)")
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::Callers;

    #[test]
    fn a_caller_is_an_address_or_a_network_and_another_one_in_another_process() {
        let callers = Callers::new(64);
        let of = |text: &str| callers.of(text.parse().unwrap());
        assert!(of("192.0.2.1") == of("192.0.2.1") && of("192.0.2.1") != of("192.0.2.2"));
        assert!(of("192.0.2.1") == of("::ffff:192.0.2.1"));
        assert!(
            of("2001:db8::1") == of("2001:db8:0:0:ffff::2") && of("2001:db8::1") != of("2001:db8:0:1::1")
        );
        let exact = Callers::new(128);
        assert!(exact.of("2001:db8::1".parse().unwrap()) != exact.of("2001:db8::2".parse().unwrap()));
        let wide = Callers::new(0);
        assert!(wide.of("2001:db8::1".parse().unwrap()) == wide.of("::2".parse().unwrap()));
        let another = Callers::new(64).of("192.0.2.1".parse().unwrap());
        assert!(another != of("192.0.2.1"));
        assert_eq!(format!("{another:?} {callers:?}"), "Caller(..) Callers(..)");
    }
}
