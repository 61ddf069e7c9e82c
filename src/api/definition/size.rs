//! Sizes of tasks as ECS takes them: a number, or a text with a unit.
//!
//! **Invariant:** any text gives a number or none; none is guessed.

use serde::Deserialize;

/// ECS takes these sizes as a number or as a text with a unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "must be a number or a text such as \"512\"")]
pub(in crate::api) enum Size {
    Number(u32),
    Text(String),
}

impl Size {
    /// In units of a thousand and twenty-four to one `units`: `"512"`, `".5 vCPU"`, `"1GB"`.
    pub(in crate::api) fn units(&self, units: &str) -> Option<u32> {
        let text = match self {
            Self::Number(number) => return Some(*number),
            Self::Text(text) => text.trim().to_ascii_lowercase(),
        };
        let Some(number) = text.strip_suffix(units) else { return text.parse().ok() };
        let number = number.trim();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
        if number.is_empty() || number == "." || !digits(whole) || !digits(fraction) {
            return None;
        }
        let number = format!("0{whole}.{fraction}0").parse::<f64>().ok()? * 1024.0;
        // At most seven digits times 1024: exact in the integers of a float.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let number = number.round() as u64;
        u32::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, units: &str, expected: Option<u32>) {
        assert_eq!(Size::Text(text.to_owned()).units(units), expected, "{text}");
    }

    #[test]
    fn sizes_are_taken_as_ecs_takes_them() {
        check("256", "vcpu", Some(256));
        check(".25 vCPU", "vcpu", Some(256));
        check("1 vcpu", "vcpu", Some(1024));
        check("512", "gb", Some(512));
        check("0.5GB", "gb", Some(512));
        check("2 GB", "gb", Some(2048));
        check("GB", "gb", None);
        check(".GB", "gb", None);
        check("-1 GB", "gb", None);
        check("1e3GB", "gb", None);
        check("much", "gb", None);
        assert_eq!(Size::Number(7).units("gb"), Some(7));
    }
}
