//! Address pools: the ranges that load balancers and tasks get their addresses out of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A CIDR block. Its first and last address are never handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pool {
    network: IpAddr,
    prefix: u8,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address block such as 127.0.10.0/24")]
pub struct BadPool(String);

impl Pool {
    /// How many addresses [`addresses`](Self::addresses) may look at: no pool needs more.
    const MOST: u128 = 1 << 20;

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                mask(u128::from(address.to_bits()), self.prefix, 32)
                    == u128::from(network.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                mask(address.to_bits(), self.prefix, 128) == network.to_bits()
            }
            _ => false,
        }
    }

    /// Every address that may be handed out, ascending; the first 1,048,574 of a larger block.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (network, width) = match self.network {
            IpAddr::V4(network) => (u128::from(network.to_bits()), 32),
            IpAddr::V6(network) => (network.to_bits(), 128),
        };
        let size = 1u128
            .checked_shl(u32::from(width - self.prefix))
            .map_or(Self::MOST, |n| n.min(Self::MOST));
        let v4 = self.network.is_ipv4();
        (1..size.saturating_sub(1)).map(move |offset| {
            let bits = network + offset;
            if v4 {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        })
    }
}

/// `bits` with all but its first `prefix` of `width` bits cleared.
fn mask(bits: u128, prefix: u8, width: u8) -> u128 {
    let host = u32::from(width - prefix);
    bits.checked_shr(host).map_or(0, |kept| kept.checked_shl(host).unwrap_or(0))
}

impl FromStr for Pool {
    type Err = BadPool;

    fn from_str(text: &str) -> Result<Self, BadPool> {
        let bad = || BadPool(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        let network = match address {
            IpAddr::V4(address) => {
                let bits = mask(u128::from(address.to_bits()), prefix, 32);
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).map_err(|_| bad())?))
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(mask(address.to_bits(), prefix, 128)))
            }
        };
        // A block with host bits set is more likely a typing error than a wish.
        if network == address { Ok(Self { network, prefix }) } else { Err(bad()) }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<String> for Pool {
    type Error = BadPool;

    fn try_from(text: String) -> Result<Self, BadPool> {
        text.parse()
    }
}

impl From<Pool> for String {
    fn from(pool: Pool) -> Self {
        pool.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pool: &str, count: usize, first: &str, last: &str) {
        let pool: Pool = pool.parse().unwrap();
        let addresses: Vec<_> = pool.addresses().collect();
        assert_eq!(addresses.len(), count);
        assert_eq!(addresses[0].to_string(), first);
        assert_eq!(addresses[count - 1].to_string(), last);
        assert!(addresses.iter().all(|address| pool.contains(*address)));
    }

    #[test]
    fn network_and_broadcast_address_are_never_handed_out() {
        check("127.0.10.0/24", 254, "127.0.10.1", "127.0.10.254");
        check("127.64.0.0/16", 65534, "127.64.0.1", "127.64.255.254");
        check("fd00::/120", 254, "fd00::1", "fd00::fe");
    }

    #[test]
    fn bad_blocks_are_refused() {
        for text in
            ["", "127.0.0.1", "127.0.0.0/33", "127.0.0.1/24", "x/8", "fd00::/129", "127.0.0.0/-1"]
        {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_the_other_family_is_not_contained() {
        let pool: Pool = "0.0.0.0/0".parse().unwrap();
        assert!(pool.contains("9.9.9.9".parse().unwrap()));
        assert!(!pool.contains("::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:./]{0,24}") {
            if let Ok(pool) = text.parse::<Pool>() {
                prop_assert_eq!(pool.to_string().parse::<Pool>().unwrap(), pool);
            }
        }
    }
}
