//! Attributes: one table per resource says which there are, for which kinds, their defaults and
//! values, and what becomes of them.
//!
//! The tables themselves stand with their resources. **Invariant:** every attribute of the API is
//! honoured, or kept and named with the reason, or refused in any value but the one that is true
//! here; none is silently left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::Error;

/// One attribute of `T`.
pub(super) struct Attribute<T> {
    pub(super) key: &'static str,
    /// Its default for this row; none where the row's kind does not have it. A key that means
    /// other things for other kinds stands in the table once for each.
    pub(super) default: fn(&T) -> Option<&'static str>,
    pub(super) values: Values,
    pub(super) kept: Kept<T>,
}

/// What it may be.
pub(super) enum Values {
    Flag,
    OneOf(&'static [&'static str]),
    Number(RangeInclusive<u32>),
    /// A number, or 0.
    ZeroOr(RangeInclusive<u32>),
    /// A number, or `off`.
    OffOr(RangeInclusive<u32>),
    Text,
    /// What may stand behind a header's name; empty: no header.
    HeaderValue,
}

/// What becomes of it.
pub(super) enum Kept<T> {
    /// A field of the row that something acts upon.
    Honoured(fn(&T) -> String, fn(&mut T, &str)),
    /// Kept and shown; why nothing acts upon it.
    Stored(&'static str),
    /// Only the default is taken; why.
    Fixed(&'static str),
}

/// All attributes of a kind of resource.
pub(super) struct Table<T: 'static> {
    /// As messages name it: `Load balancer`.
    pub(super) of: &'static str,
    pub(super) rows: &'static [Attribute<T>],
    pub(super) stored: fn(&T) -> &BTreeMap<String, String>,
    pub(super) stored_mut: fn(&mut T) -> &mut BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Given {
    key: String,
    #[serde(default)]
    value: String,
}

impl Values {
    /// What is wrong with a value.
    fn check(&self, value: &str) -> Result<(), String> {
        let number = |range: &RangeInclusive<u32>| {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            digits && value.parse::<u32>().is_ok_and(|number| range.contains(&number))
        };
        let good = match self {
            Self::Flag => matches!(value, "true" | "false"),
            Self::OneOf(values) => values.contains(&value),
            Self::Number(range) => number(range),
            Self::ZeroOr(range) => value == "0" || number(range),
            Self::OffOr(range) => value == "off" || number(range),
            Self::Text => value.len() <= 1024,
            Self::HeaderValue => {
                value.len() <= 1024 && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
            }
        };
        let wanted = || match self {
            Self::Flag => "must be 'true' or 'false'".to_owned(),
            Self::OneOf(values) => format!("must be one of '{}'", values.join("', '")),
            Self::Number(range) => {
                format!("must be between {} and {}", range.start(), range.end())
            }
            Self::ZeroOr(range) => {
                format!("must be 0 or between {} and {}", range.start(), range.end())
            }
            Self::OffOr(range) => {
                format!("must be 'off' or between {} and {}", range.start(), range.end())
            }
            Self::Text => "must be at most 1024 characters".to_owned(),
            Self::HeaderValue => "must be at most 1024 visible characters".to_owned(),
        };
        if good { Ok(()) } else { Err(wanted()) }
    }
}

impl<T> Table<T> {
    /// As the API shows them, in the table's order.
    pub(super) fn shown(&self, row: &T) -> Vec<Value> {
        let value = |attribute: &Attribute<T>| {
            let default = (attribute.default)(row)?;
            let value = match &attribute.kept {
                Kept::Honoured(get, _) => get(row),
                Kept::Stored(_) => {
                    let stored = (self.stored)(row).get(attribute.key);
                    stored.cloned().unwrap_or_else(|| default.to_owned())
                }
                Kept::Fixed(_) => default.to_owned(),
            };
            Some(json!({"Key": attribute.key, "Value": value}))
        };
        self.rows.iter().filter_map(value).collect()
    }

    /// Writes what was given into the row.
    ///
    /// # Errors
    /// An attribute that there is not, not of this kind, of another value, or given twice.
    pub(super) fn modify(&self, row: &mut T, given: &[Given]) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for Given { key, value } in given {
            let named = format!("{} attribute key '{key}'", self.of);
            if !seen.insert(key) {
                return Err(Error::invalid(format!("{named} is given twice")));
            }
            let mut known = self.rows.iter().filter(|attribute| attribute.key == key).peekable();
            if known.peek().is_none() {
                return Err(Error::invalid(format!("{named} is not recognized")));
            }
            let of_kind =
                |attribute: &'static Attribute<T>| Some((attribute, (attribute.default)(row)?));
            let Some((attribute, default)) = known.find_map(of_kind) else {
                let message = format!("{named} is not supported for this type of resource");
                return Err(Error::new("InvalidConfigurationRequestException", message));
            };
            let wrong = |reason| Error::invalid(format!("{named} {reason}"));
            attribute.values.check(value).map_err(wrong)?;
            match &attribute.kept {
                Kept::Honoured(_, set) => set(row, value),
                Kept::Stored(_) if value == default => {
                    (self.stored_mut)(row).remove(key);
                }
                Kept::Stored(_) => {
                    (self.stored_mut)(row).insert(key.clone(), value.clone());
                }
                Kept::Fixed(_) if value == default => {}
                Kept::Fixed(why) => {
                    let message = format!("{named} can only be '{default}' here: {why}");
                    return Err(Error::unsupported(message));
                }
            }
        }
        Ok(())
    }

    /// The attributes that are kept and not acted upon, with the reason: for the README.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.rows.iter().filter_map(|attribute| match attribute.kept {
            Kept::Stored(why) => Some((attribute.key, why)),
            _ => None,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn values_are_checked_by_their_kind() {
        let check = |values: &Values, good: &[&str], bad: &[&str]| {
            for value in good {
                assert_eq!(values.check(value), Ok(()), "{value}");
            }
            for value in bad {
                assert!(values.check(value).is_err(), "{value}");
            }
        };
        check(&Values::Flag, &["true", "false"], &["", "True", "1"]);
        check(&Values::OneOf(&["a", "b"]), &["a", "b"], &["", "c"]);
        check(&Values::Number(0..=300), &["0", "300"], &["", "301", "-1", "+1", "1s", "1.5"]);
        check(&Values::OffOr(1..=100), &["off", "1"], &["0", "on", ""]);
        check(&Values::Text, &["", "x"], &[&"x".repeat(1025)]);
    }

    /// What every table keeps to.
    pub(in crate::api::elb) fn keeps_to_the_rules<T>(table: &Table<T>, rows: &[T]) {
        for row in rows {
            let mut keys = BTreeSet::new();
            for attribute in table.rows {
                let Some(default) = (attribute.default)(row) else { continue };
                assert!(keys.insert(attribute.key), "{} twice", attribute.key);
                assert_eq!(attribute.values.check(default), Ok(()), "{}", attribute.key);
            }
        }
        for attribute in table.rows {
            let of_some = rows.iter().any(|row| (attribute.default)(row).is_some());
            assert!(of_some, "{} is of no kind", attribute.key);
        }
        assert!(table.accepted().all(|(_, why)| !why.is_empty()));
    }
}
