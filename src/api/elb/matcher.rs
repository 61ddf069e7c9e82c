//! Matchers of health checks: the status codes that pass, as `200-299,404`.
//!
//! Pure. Grammar: the API reference of `Matcher`.

use std::ops::RangeInclusive;

/// Codes and ranges of codes, separated by commas; none where one is outside `codes`.
pub(in crate::api) fn parse(
    text: &str,
    codes: &RangeInclusive<u16>,
) -> Option<Vec<RangeInclusive<u16>>> {
    let code = |text: &str| {
        let code = text.trim();
        let three = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
        code.parse::<u16>().ok().filter(|code| three && codes.contains(code))
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (code(first)?, code(last)?);
        (first <= last).then_some(first..=last)
    };
    text.split(',').map(range).collect()
}

/// As the API shows it; what [`parse`] reads back.
pub(in crate::api) fn text(ranges: &[RangeInclusive<u16>]) -> String {
    let range = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&[RangeInclusive<u16>]>) {
        assert_eq!(parse(text, &(200..=599)).as_deref(), expected, "{text}");
    }

    #[test]
    fn matchers_are_codes_and_ranges() {
        check("200", Some(&[200..=200]));
        check("200-299,404", Some(&[200..=299, 404..=404]));
        check("200, 202", Some(&[200..=200, 202..=202]));
        for bad in ["", ",", "99", "600", "299-200", "20x", "200-", "-200", "0200", "+20"] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn matchers_read_back_what_they_print(text in "[0-9,-]{0,12}") {
            if let Some(ranges) = parse(&text, &(200..=599)) {
                prop_assert_eq!(parse(&super::text(&ranges), &(200..=599)), Some(ranges));
            }
        }
    }
}
