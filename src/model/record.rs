//! Hosted zones and their record sets: what Route 53 keeps and DNS answers.
//!
//! Values keep the text they were given in, which is Route 53's: a zone file's without directives.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BadKey, HostedZoneId, NameCheckId};
use crate::clock::Timestamp;

/// A character string of a TXT record (RFC 1035 section 3.3).
const MOST_STRING: usize = 255;

/// A private zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedZone {
    pub id: HostedZoneId,
    /// Lower case, without the final dot.
    pub name: String,
    pub caller_reference: String,
    pub comment: Option<String>,
    /// Every client of this DNS is in all of them.
    pub vpcs: Vec<ZoneVpc>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneVpc {
    pub region: Option<String>,
    pub id: String,
}

macro_rules! kinds {
    ($($name:ident $text:literal $code:literal,)*) => {
        /// The type of a record set; in Route 53's order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum RecordKind {
            $($name,)*
        }

        impl RecordKind {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Its number on the wire (IANA's registry of DNS parameters).
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }

        impl FromStr for RecordKind {
            type Err = BadKey;

            fn from_str(text: &str) -> Result<Self, BadKey> {
                match text {
                    $($text => Ok(Self::$name),)*
                    _ => Err(BadKey(text.to_owned())),
                }
            }
        }
    };
}

kinds! {
    A "A" 1,
    Aaaa "AAAA" 28,
    Caa "CAA" 257,
    Cname "CNAME" 5,
    Mx "MX" 15,
    Ns "NS" 2,
    Ptr "PTR" 12,
    Srv "SRV" 33,
    Txt "TXT" 16,
}

/// A record set: a name, a type, and an identifier where the routing policy has several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordSetKey {
    pub zone: HostedZoneId,
    /// Lower case, without the final dot.
    pub name: String,
    pub kind: RecordKind,
    pub set: Option<String>,
}

impl RecordSetKey {
    /// No key of this zone and name is before it.
    #[must_use]
    pub fn first(zone: &HostedZoneId, name: &str) -> Self {
        Self { zone: zone.clone(), name: name.to_owned(), kind: RecordKind::A, set: None }
    }
}

/// Slashes in a name are `%2F` in its key's text, percent signs `%25`.
impl fmt::Display for RecordSetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}/{name}", self.zone, self.kind.as_str())?;
        self.set.as_ref().map_or(Ok(()), |set| write!(f, "/{set}"))
    }
}

impl FromStr for RecordSetKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let mut parts = text.splitn(4, '/');
        let mut part = || parts.next().ok_or_else(|| BadKey(text.to_owned()));
        let (zone, kind, name) = (part()?, part()?, part()?);
        let name = name.replace("%2F", "/").replace("%25", "%");
        let set = part().ok().map(str::to_owned);
        Ok(Self { zone: zone.into(), name, kind: kind.parse()?, set })
    }
}

/// Which of the record sets of a name and type answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordRouting {
    /// The only one.
    Simple,
    /// In proportion to the weight; all of weight zero: each as often as the others.
    Weighted(u8),
    /// Up to eight of them.
    Multivalue,
    /// The primary while it is healthy, else the secondary.
    Failover { primary: bool },
}

/// Answered with what another name has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// As it was given.
    pub zone: String,
    /// As it was given.
    pub name: String,
    pub evaluate_target_health: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    pub key: RecordSetKey,
    /// Of an alias: none, for its target has one.
    pub ttl: Option<Duration>,
    pub values: Vec<String>,
    pub routing: RecordRouting,
    pub alias: Option<AliasTarget>,
    /// While it is unhealthy, others are answered in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<NameCheckId>,
}

/// A record's value, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// The name that a CNAME, NS or PTR record holds.
    Name(String),
    Mx {
        preference: u16,
        name: String,
    },
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        name: String,
    },
    Txt(Vec<Vec<u8>>),
    Caa {
        flags: u8,
        tag: String,
        value: Vec<u8>,
    },
}

impl RecordData {
    /// Reads a value of a type; none when it is none. Names are not looked into.
    #[must_use]
    pub fn parse(kind: RecordKind, text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let data = match kind {
            RecordKind::A => Self::A(text.parse().ok()?),
            RecordKind::Aaaa => Self::Aaaa(text.parse().ok()?),
            RecordKind::Txt => return Some(Self::Txt(strings(text)?)),
            RecordKind::Cname | RecordKind::Ns | RecordKind::Ptr => {
                Self::Name(words.next()?.to_owned())
            }
            RecordKind::Mx => {
                Self::Mx { preference: words.next()?.parse().ok()?, name: words.next()?.to_owned() }
            }
            RecordKind::Srv => Self::Srv {
                priority: words.next()?.parse().ok()?,
                weight: words.next()?.parse().ok()?,
                port: words.next()?.parse().ok()?,
                name: words.next()?.to_owned(),
            },
            RecordKind::Caa => {
                let mut parts = text.splitn(3, ' ');
                let (flags, tag) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
                let mut values = strings(parts.next()?)?;
                let value = values.pop().filter(|_| values.is_empty())?;
                let is_tag = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric());
                return (is_tag && tag.len() <= 15).then_some(Self::Caa { flags, tag, value });
            }
        };
        let single = matches!(kind, RecordKind::A | RecordKind::Aaaa);
        (single || words.next().is_none()).then_some(data)
    }
}

/// Quoted strings with spaces between them; `\"`, `\\` and `\DDD` (three octal digits) stand for
/// one byte.
fn strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut bytes = text.bytes().peekable();
    let mut all = Vec::new();
    loop {
        while bytes.next_if(|b| matches!(b, b' ' | b'\t')).is_some() {}
        let Some(quote) = bytes.next() else { break };
        if quote != b'"' {
            return None;
        }
        let mut string = Vec::new();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => string.push(escaped(&mut bytes)?),
                byte => string.push(byte),
            }
        }
        if string.len() > MOST_STRING {
            return None;
        }
        all.push(string);
    }
    (!all.is_empty()).then_some(all)
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    let digit = |byte: u8| char::from(byte).to_digit(8);
    let Some(high) = digit(first) else { return Some(first) };
    let (middle, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
    u8::try_from(high * 64 + middle * 8 + low).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(kind: &str, text: &str, expected: &str) {
        let data = RecordData::parse(kind.parse().unwrap(), text);
        let shown = data.map_or_else(|| "none".to_owned(), |data| format!("{data:?}"));
        assert_eq!(shown, expected, "{kind} {text}");
    }

    #[test]
    fn values_are_read_in_route_53s_form() {
        check("A", "10.0.0.1", "A(10.0.0.1)");
        check("A", "10.0.0", "none");
        check("A", "10.0.0.1 10.0.0.2", "none");
        check("AAAA", "fd00::1", "Aaaa(fd00::1)");
        check("CNAME", "a.b.", r#"Name("a.b.")"#);
        check("CNAME", "a.b. c", "none");
        check("MX", "10 mail.b", r#"Mx { preference: 10, name: "mail.b" }"#);
        check("MX", "mail.b", "none");
        let srv = r#"Srv { priority: 1, weight: 2, port: 80, name: "a.b" }"#;
        check("SRV", "1 2 80 a.b", srv);
        check("SRV", "1 2 a.b", "none");
        check("TXT", r#""ab" "c d""#, "Txt([[97, 98], [99, 32, 100]])");
        check("TXT", r#""a\"\\\101""#, "Txt([[97, 34, 92, 65]])");
        check("TXT", "bare", "none");
        check("TXT", r#""open"#, "none");
        check("TXT", &format!("\"{}\"", "x".repeat(256)), "none");
        let caa = r#"Caa { flags: 0, tag: "issue", value: [99, 97] }"#;
        check("CAA", r#"0 issue "ca""#, caa);
        check("CAA", "0 issue ca", "none");
    }

    #[test]
    fn keys_read_back_what_they_print() {
        for (name, set) in [("a.b", None), ("0/25.%2f.b", Some("x/y")), ("*.b", Some(""))] {
            let set = set.map(str::to_owned);
            let key =
                RecordSetKey { zone: "Z1".into(), name: name.into(), kind: RecordKind::A, set };
            assert_eq!(key.to_string().parse::<RecordSetKey>().unwrap(), key);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ -~]{0,40}", kind in 0usize..3) {
            let kind = [RecordKind::Txt, RecordKind::Caa, RecordKind::Srv][kind];
            let _ = RecordData::parse(kind, &text);
        }
    }
}
