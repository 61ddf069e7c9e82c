//! Filters of listings.
//!
//! **Invariant:** a filter that a listing does not know is refused, never passed over.

use serde::Deserialize;

use super::super::error::Error;

/// What every listing is asked with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<usize>,
    #[serde(default)]
    pub(super) filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filter {
    pub(super) name: String,
    values: Vec<String>,
    condition: Option<String>,
}

impl Filter {
    /// Whether `value` passes.
    ///
    /// # Errors
    /// Its condition does not fit its values.
    pub(super) fn lets(&self, value: &str) -> Result<bool, Error> {
        let one = || match self.values.as_slice() {
            [one] => Ok(one.as_str()),
            _ => Err(Error::invalid(format!("filter {} takes one value", self.name))),
        };
        match self.condition.as_deref() {
            None | Some("EQ") => Ok(one()? == value),
            Some("IN") => Ok(self.values.iter().any(|wanted| wanted == value)),
            Some("BEGINS_WITH") => Ok(value.starts_with(one()?)),
            Some(other) => {
                let text = format!("condition {other} is not valid for filter {}", self.name);
                Err(Error::invalid(text))
            }
        }
    }

    /// Whether a time lies between its two values, in seconds since 1970, ends included.
    ///
    /// # Errors
    /// Another condition, other values.
    pub(super) fn lets_time(&self, seconds: f64) -> Result<bool, Error> {
        let bad = || Error::invalid(format!("filter {} takes BETWEEN and two times", self.name));
        if self.condition.as_deref() != Some("BETWEEN") {
            return Err(bad());
        }
        let times: Vec<f64> = self.values.iter().filter_map(|text| text.parse().ok()).collect();
        match times[..] {
            [from, to] if self.values.len() == 2 => Ok((from..=to).contains(&seconds)),
            _ => Err(bad()),
        }
    }

    pub(super) fn unknown(&self) -> Error {
        Error::invalid(format!("filter {} is not valid here", self.name))
    }
}

/// Whether all `filters` let an item pass, of which `value` says what a filter looks at.
pub(super) fn passes<'a>(
    filters: &[Filter],
    value: impl Fn(&str) -> Option<&'a str>,
) -> Result<bool, Error> {
    for filter in filters {
        let value = value(&filter.name).ok_or_else(|| filter.unknown())?;
        if !filter.lets(value)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compare_by_their_condition() {
        let check = |condition: &str, values: &[&str], value: &str, expected: Option<bool>| {
            let filter = Filter {
                name: "NAME".into(),
                values: values.iter().map(ToString::to_string).collect(),
                condition: (!condition.is_empty()).then(|| condition.into()),
            };
            assert_eq!(filter.lets(value).ok(), expected, "{condition} {values:?} {value}");
        };
        check("", &["a"], "a", Some(true));
        check("EQ", &["a"], "b", Some(false));
        check("EQ", &["a", "b"], "a", None);
        check("IN", &["a", "b"], "b", Some(true));
        check("IN", &["a", "b"], "c", Some(false));
        check("BEGINS_WITH", &["de"], "demo", Some(true));
        check("BEGINS_WITH", &["de"], "d", Some(false));
        check("BETWEEN", &["a", "b"], "a", None);
    }
}
