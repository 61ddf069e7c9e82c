//! Expressions over small series, text in and text out.

use proptest::prelude::*;

use super::*;

/// A line of values at minutes, from the first on; `-`: there is none.
fn line(label: &str, text: &str) -> Line {
    let word = |(minute, word): (usize, &str)| Some((at(minute), word.parse().ok()?));
    let points = text.split_whitespace().enumerate().filter_map(word).collect();
    Line { label: label.to_owned(), points }
}

fn at(minute: usize) -> Timestamp {
    Timestamp(u64::try_from(minute).unwrap() * 60_000_000)
}

fn shown(line: &Line) -> String {
    let value = |minute| line.at(at(minute)).map_or_else(|| "-".to_owned(), |v| v.to_string());
    (0..4).map(value).collect::<Vec<_>>().join(" ")
}

/// Over a = `1 2 - 4`, b = `10 0 30 40`, c = `2 2 2 -` and d, which is empty.
fn check(text: &str, expected: &str) {
    let lines = [("a", "1 2 - 4"), ("b", "10 0 30 40"), ("c", "2 2 2 -"), ("d", "")];
    let values = lines.iter().map(|(id, text)| (*id, Value::Line(line(id, text)))).collect();
    let metrics = vec!["a", "b", "c", "d"];
    let period = Duration::from_secs(60);
    let found = vec![vec![line("a", "1 2 - 4"), line("d", ""), line("c", "2 2 2 -")]];
    let scope = Scope { values, metrics, found, from: at(0), to: at(4), period };
    let found = Expression::parse(text).and_then(|expression| expression.evaluate(&scope));
    let found = match found {
        Ok(Value::Scalar(number)) => format!("= {number}"),
        Ok(Value::Line(line)) => shown(&line),
        Ok(Value::Lines(lines)) => {
            let one = |line: &Line| format!("{}: {}", line.label, shown(line));
            lines.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Err(bad) => format!("! {bad}"),
    };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn numbers_are_reckoned_as_everywhere() {
    check("1 + 2 * 3", "= 7");
    check("(1 + 2) * 3", "= 9");
    check("10 - 4 - 3", "= 3");
    check("2 ^ 3 ^ 2", "= 512");
    check("-2 ^ 2", "= -4");
    check("2 * -3", "= -6");
    check(".5 + 1e1 + 2E-1", "= 10.7");
    check("1 < 2 && 2 >= 2 AND 1 != 2", "= 1");
    check("1 > 2 || 0 == 1 OR 0", "= 0");
    check("1 + 1 == 2", "= 1");
}

#[test]
fn series_meet_at_the_times_that_both_have() {
    check("a", "1 2 - 4");
    check("a + b", "11 2 - 44");
    check("b / a", "10 0 - 10");
    check("a * 100", "100 200 - 400");
    check("100 - a", "99 98 - 96");
    check("-a", "-1 -2 - -4");
    check("a > 1", "0 1 - 1");
    // There is no value where one would not be finite.
    check("a / b", "0.1 - - 0.1");
    check("a / 0", "- - - -");
    check("a + d", "- - - -");
}

#[test]
fn lists_are_summed_where_any_has_a_value() {
    check("SUM([a, b])", "11 2 30 44");
    check("SUM(METRICS())", "13 4 32 44");
    check("AVG(METRICS())", "4.333333333333333 1.3333333333333333 16 22");
    check("MIN([a, b])", "1 0 30 4");
    check("MAX([a, c])", "2 2 2 4");
    check("SUM(METRICS(\"b\"))", "10 0 30 40");
    check("METRICS('a')", "a: 1 2 - 4");
    check("[a, c] * 2", "a: 2 4 - 8; c: 4 4 4 -");
    check("a / [b, c]", "b: 0.1 - - 0.1; c: 0.5 1 - -");
    check("100 * SUM([a, c]) / b", "30 - 6.666666666666667 10");
    check("METRIC_COUNT(METRICS())", "= 4");
    check("REMOVE_EMPTY([a, d])", "a: 1 2 - 4");
    check("DATAPOINT_COUNT([a, c])", "2 2 1 1");
}

#[test]
fn a_series_is_summed_to_a_number() {
    check("SUM(a)", "= 7");
    check("AVG(b)", "= 20");
    check("MIN(b)", "= 0");
    check("MAX(a)", "= 4");
    check("STDDEV(c)", "= 0");
    check("DATAPOINT_COUNT(a)", "= 3");
    check("FIRST(a) + LAST(a)", "= 5");
    check("a / MAX(a)", "0.25 0.5 - 1");
    check("a - AVG(d)", "- - - -");
    check("PERIOD(a)", "= 60");
    check("b / PERIOD(b)", &format!("{} 0 0.5 {}", 10.0 / 60.0, 40.0 / 60.0));
    check("TIME_SERIES(SUM(a))", "7 7 7 7");
}

#[test]
fn gaps_are_filled() {
    check("FILL(a, 0)", "1 2 0 4");
    check("FILL(a, b)", "1 2 30 4");
    check("FILL(a, REPEAT)", "1 2 2 4");
    check("FILL(a, LINEAR)", "1 2 3 4");
    check("FILL(c, LINEAR)", "2 2 2 -");
    check("FILL(d, 0) + a", "1 2 - 4");
    check("FILL(METRICS('d'), 1)", "d: 1 1 1 1");
    check("SUM(FILL([a, c], 0))", "3 4 2 4");
}

#[test]
fn what_changes_is_told_per_step_and_per_second() {
    check("DIFF(b)", "- -10 30 10");
    check("RATE(b)", &format!("- {} 0.5 {}", -10.0 / 60.0, 10.0 / 60.0));
    check("DIFF_TIME(a)", "- 60 - 120");
    check("RUNNING_SUM(a)", "1 3 - 7");
    check("ABS(DIFF(b))", "- 10 30 10");
    check("CEIL(a / 3) + FLOOR(a / 3)", "1 1 - 3");
}

#[test]
fn conditions_choose_point_by_point() {
    check("IF(a > 1, b, 0)", "0 0 - 40");
    check("IF(b, a / b, 0)", "0.1 0 - 0.1");
    check("IF(a > 1, a)", "- 2 - 4");
    check("IF(a > 1 AND b > 1, 1, -1)", "-1 -1 - 1");
    check("IF(SUM(a) > 5, a, b)", "1 2 - 4");
    check("IF(1, 2, 3)", "= 2");
}

#[test]
fn the_first_few_of_several_are_told() {
    check("SORT(METRICS(), MAX, DESC, 2)", "b: 10 0 30 40; a: 1 2 - 4");
    check("SORT(METRICS(), MIN, ASC)", "b: 10 0 30 40; a: 1 2 - 4; c: 2 2 2 -; d: - - - -");
    check("SORT([c, a], SUM, DESC)", "a: 1 2 - 4; c: 2 2 2 -");
    check("FIRST(SORT([c, b], AVG, DESC))", "10 0 30 40");
    check("SLICE(METRICS(), 2)", "c: 2 2 2 -; d: - - - -");
    check("SLICE(METRICS(), 1, 2)", "b: 10 0 30 40");
    check("SLICE(METRICS(), 9)", "");
    check("SLICE(METRICS(), 3, 1)", "");
    check("SORT(METRICS(), MEDIAN, ASC)", "! SORT sorts by AVG, MAX, MIN or SUM");
    check("SORT(METRICS(), AVG, UP)", "! SORT sorts ASC or DESC");
    check("SORT(a, AVG, ASC)", "! SORT takes a list of time series");
    check("SLICE(METRICS(), -1)", "! SLICE counts with numbers that are not negative");
    check("SLICE(METRICS(), a)", "! SLICE counts with numbers that are not negative");
}

#[test]
fn what_is_searched_for_is_a_list() {
    check("SEARCH('x', 'Sum', 60)", "a: 1 2 - 4; d: - - - -; c: 2 2 2 -");
    check("SUM(REMOVE_EMPTY(SEARCH('x', 'Sum')))", "3 4 2 4");
    check("AVG(SEARCH('x', 'Sum')) / a", "1.5 1 - 1");
    check("METRIC_COUNT(SEARCH('x', 'Sum'))", "= 3");
}

#[test]
fn what_means_nothing_is_refused() {
    check("", "! at character 1: the expression ends here");
    check("a +", "! at character 4: the expression ends here");
    check("a b", "! at character 3: what follows is not expected");
    check("(a", "! at character 3: ) is expected");
    check("[a, b", "! at character 6: ] is expected");
    check("a + * b", "! at character 5: a value is expected");
    check("é + a", "! at character 1: a sign is not known");
    check("'a", "! at character 1: the quote has no end");
    check(".", "! at character 1: a number is expected");
    check("1e999", "! at character 1: a number is expected");
    check("x + 1", "! x is the Id of no query");
    check("REPEAT", "! REPEAT is no value");
    check("\"a\" + 1", "! \"a\" is a text, not a value");
    check("[a, b] + [a, b]", "! an operator takes one list of time series, not two");
    check("[1]", "! a list has time series alone");
    check("RATE(1)", "! RATE takes time series");
    check("FILL(1, a)", "! FILL takes time series");
    check("FILL(a)", "! FILL takes 2 values");
    check("IF(a)", "! IF takes 2 to 3 values");
    check("IF([a], 1, 2)", "! IF takes numbers and single time series");
    check("SUM(a, b)", "! SUM takes 1 values");
    check("METRICS(a)", "! METRICS takes a text in quotes, or nothing");
    check("TIME_SERIES(a)", "! TIME_SERIES takes a number");
    let deep = format!("{}a{}", "(".repeat(50), ")".repeat(50));
    check(&deep, "! at character 41: the expression is nested too deeply");
    let why = Expression::parse("LOG(a)").unwrap_err().to_string();
    assert!(why.starts_with("the function LOG is not supported here; there are ABS, "), "{why}");
    assert!(Expression::parse(&"1+".repeat(1025)).is_err());
}

#[test]
fn ids_are_those_that_it_names() {
    let expression = Expression::parse("SUM([a, b2]) / IF(c > 1, a, METRICS('x'))").unwrap();
    assert_eq!(expression.ids().iter().collect::<Vec<_>>(), ["a", "b2", "c"]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in prop_oneof![
            "[abFILSUMRE0-9 .,()+*/<>=&|^'\"\\[\\]-]{0,60}",
            "(SEARCH|SORT|SLICE)\\(.{0,30}",
            ".{0,30}",
        ],
    ) {
        if let Ok(expression) = Expression::parse(&text) {
            let (values, metrics) = (BTreeMap::from([("a", Value::Scalar(1.0))]), vec!["a"]);
            let period = Duration::from_secs(60);
            let found = Vec::new();
            let scope = Scope { values, metrics, found, from: at(0), to: at(3), period };
            let _ = expression.evaluate(&scope);
        }
    }
}
