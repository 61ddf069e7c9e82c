//! Matchers of health checks: the status codes that pass, as `200-299,404`, or gRPC's, as `0,12`.
//!
//! Pure. Grammar: the API reference of `Matcher`.

use std::ops::RangeInclusive;

/// What the matcher of a gRPC group may name.
pub(in crate::api) const GRPC_CODES: RangeInclusive<u16> = 0..=99;

/// Codes and ranges of codes, separated by commas; none where one is outside `codes`.
pub(in crate::api) fn parse(
    text: &str,
    codes: &RangeInclusive<u16>,
) -> Option<Vec<RangeInclusive<u16>>> {
    let code = |text: &str| {
        let text = text.trim();
        let plain =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|code| plain && codes.contains(code))
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

    #[test]
    fn grpcs_codes_have_one_or_two_digits() {
        let parse = |text| parse(text, &GRPC_CODES);
        assert_eq!(parse("0-99"), Some(vec![0..=99]));
        assert_eq!(parse("0,1, 12"), Some(vec![0..=0, 1..=1, 12..=12]));
        for bad in ["100", "00", "01", "-1", "12-0", "200", ""] {
            assert_eq!(parse(bad), None, "{bad}");
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
