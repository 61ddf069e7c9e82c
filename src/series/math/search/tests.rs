//! Searches over a few metrics, text in and labels out.

use proptest::prelude::*;

use super::*;

fn metrics() -> Vec<MetricId> {
    let id = |namespace: &str, name: &str, dimensions: &str| {
        let dimensions = dimensions.split_whitespace().filter_map(|pair| pair.split_once('='));
        MetricId::new(namespace, name, &dimensions.collect::<Vec<_>>())
    };
    vec![
        id("AWS/ECS", "CPUUtilization", "ClusterName=shop ServiceName=web"),
        id("AWS/ECS", "CPUUtilization", "ClusterName=shop ServiceName=web-admin"),
        id("AWS/ECS", "MemoryUtilization", "ClusterName=shop ServiceName=web"),
        id("AWS/ECS", "CPUUtilization", "ClusterName=shop"),
        id("AWS/ApplicationELB", "HTTPCode_Target_2XX_Count", "LoadBalancer=app/front/0a1b"),
        id("Own", "CustomCount1", "Kind=t2.micro"),
        id("Own", "SDBFailure", "Dimension@Name=Network-Errors_2"),
        id("Own", r"Europe\France Traffic(Network)", ""),
    ]
}

/// The numbers of what is found, from 1 on.
fn check(text: &str, expected: &str) {
    let metrics = metrics();
    let shown = match Search::read(text, "Sum", None) {
        Ok(search) => {
            let found = search.find(&metrics);
            let is_found = |id: &MetricId| found.contains(&id);
            let numbers = (1..).zip(&metrics).filter(|(_, id)| is_found(id));
            numbers.map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" ")
        }
        Err(bad) => format!("! {bad}"),
    };
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn schema_is_a_namespace_and_all_names_of_dimensions() {
    check("{AWS/ECS, ClusterName, ServiceName}", "1 2 3");
    check("{AWS/ECS,ServiceName,ClusterName}", "1 2 3");
    check("{AWS/ECS,ClusterName}", "4");
    check("{AWS/ECS,ServiceName}", "");
    check("{AWS/ECS}", "");
    check("{Own}", "8");
    check(r#" {"Own", "Dimension@Name"}"#, "7");
    check(r#"{AWS/ECS,ClusterName}, MetricName="CPUUtilization""#, "4");
}

#[test]
fn quotes_find_the_whole_alone() {
    check(r#""CPUUtilization""#, "1 2 4");
    check(r#""cpuutilization""#, "");
    check(r#""CPU""#, "");
    check(r#""web""#, "1 3");
    check(r#""ServiceName""#, "1 2 3");
    check(r#""AWS/ECS""#, "1 2 3 4");
    check(r#""Europe\\France Traffic\(Network\)""#, "8");
    check(r#""Network-Errors_2""#, "7");
    check(r#""Network_Errors_2""#, "");
}

#[test]
fn words_are_found_as_cloudwatch_takes_names_apart() {
    check("utilization", "1 2 3 4");
    check("cpuutilization", "1 2 4");
    check("CPU", "1 2 4");
    for text in ["count", "Count", "COUNT"] {
        check(text, "5 6");
    }
    for text in ["couNT", "customcount", "count1", "Coun"] {
        check(text, "");
    }
    for text in ["CustomCount", "Count1", "CustomCount1", "custom-count"] {
        check(text, "6");
    }
    for text in ["network/errors", "network+errors", "network-errors", "Network_Errors"] {
        check(text, "7");
    }
    check("errors-network", "");
    check("httpcode_target_2xx_count", "5");
    check("2XX", "5");
    check("sdb", "7");
    check("micro", "6");
    check("web-admin", "2");
    check("AWS/ECS admin", "2");
}

#[test]
fn terms_are_joined() {
    check("CPU web", "1 2");
    check("CPU AND web", "1 2");
    check("CPU NOT admin", "1 4");
    check("CPU AND NOT admin", "1 4");
    check("memory OR sdb", "3 7");
    check("CPU admin OR sdb", "2 7");
    check("CPU (admin OR sdb)", "2");
    check("NOT Namespace=AWS", "6 7 8");
    check(r#"{AWS/ECS,ClusterName,ServiceName} MetricName="CPUUtilization" NOT "web""#, "2");
    check("not sdb", "");
    check("NOT (CPU OR count) NOT Own", "3");
}

#[test]
fn properties_narrow_what_is_searched() {
    check(r#"MetricName="CPUUtilization""#, "1 2 4");
    check("MetricName=web", "");
    check("ServiceName=web", "1 2 3");
    check(r#"ServiceName="web""#, "1 3");
    check(r#"ServiceName = "web" MetricName = memory"#, "3");
    check(r#"Namespace="Own""#, "6 7 8");
    check(r#""Dimension@Name"=errors"#, "7");
    // As Grafana writes it.
    let text = r#"{"AWS/ECS","ClusterName","ServiceName"} MetricName="CPUUtilization"
        "ClusterName"="shop" "ServiceName"=("web" OR "web-admin")"#;
    check(text, "1 2");
    check("MetricName=(NOT CPU) Own", "6 7 8");
}

#[test]
fn what_means_nothing_is_refused() {
    let expected = "! SEARCH: at character 1: there is neither a metric schema nor a term";
    check("", expected);
    check("{", "! SEARCH: at character 2: a name is expected in the metric schema");
    check("{}", "! SEARCH: at character 2: a name is expected in the metric schema");
    check("{a,}", "! SEARCH: at character 4: a name is expected in the metric schema");
    check("{a", "! SEARCH: at character 3: the metric schema has no end");
    check("{\"a", "! SEARCH: at character 2: the quote has no end");
    check("{\"a\" b}", "! SEARCH: at character 6: the metric schema has no end");
    check("a OR", "! SEARCH: at character 5: a term is expected");
    check("OR a", "! SEARCH: at character 1: a term is expected");
    check("a AND", "! SEARCH: at character 6: a term is expected");
    check("a AND OR b", "! SEARCH: at character 7: a term is expected");
    check("NOT", "! SEARCH: at character 4: a term is expected");
    check("(a", "! SEARCH: at character 3: ) is expected");
    check("a)", "! SEARCH: at character 2: what follows is not expected");
    check("\"a", "! SEARCH: at character 1: the quote has no end");
    check("MetricName=", "! SEARCH: at character 12: a term is expected");
    check("=a", "! SEARCH: at character 1: a term is expected");
    check("a - b", "! SEARCH: at character 3: a letter or a digit is expected in a term");
    let expected =
        "! SEARCH: at character 3: there is one account here, and no property of accounts";
    check("a :aws.AccountId=\"1\"", expected);
    let deep = format!("{}a{}", "(".repeat(50), ")".repeat(50));
    check(&deep, "! SEARCH: at character 41: the search is nested too deeply");
    check(&"a".repeat(1025), "! SEARCH: a search has at most 1024 characters");
    let read = |statistic, period| Search::read("a", statistic, period).map_err(|b| b.to_string());
    assert_eq!(
        read("p99", None),
        Err("SEARCH: the statistic \"p99\" is not supported here".to_owned())
    );
    for period in [7.0, 0.0, -60.0, 90.0, 60.5, 1e300] {
        assert!(read("Sum", Some(period)).unwrap_err().ends_with("a multiple of 60"), "{period}");
    }
    assert_eq!(read("Sum", Some(300.0)).unwrap().period, Some(300));
}

#[test]
fn labels_are_what_differs() {
    let check = |text: &str, expected: &[&str]| {
        let metrics = metrics();
        let found = Search::read(text, "Sum", None).unwrap();
        assert_eq!(labels(&found.find(&metrics)), expected, "{text}");
    };
    check("{AWS/ECS,ClusterName}", &["CPUUtilization"]);
    check("{AWS/ECS,ClusterName,ServiceName} CPU", &["web", "web-admin"]);
    check(
        "{AWS/ECS,ClusterName,ServiceName}",
        &["CPUUtilization web", "CPUUtilization web-admin", "MemoryUtilization web"],
    );
    check("MetricName=CPU", &["web", "web-admin", "CPUUtilization"]);
    check("nothing", &[]);
}

#[test]
fn words_begin_with_capitals_digits_and_behind_signs() {
    let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text}");
    check("CustomCount1", &["Custom", "Count", "1"]);
    check("SDBFailure", &["SDB", "Failure"]);
    check("Project2-trial333", &["Project", "2", "trial", "333"]);
    check("--", &[]);
    check("", &[]);
    check("HTTPCode_Target_2XX", &["HTTP", "Code", "Target", "2", "XX"]);
    check("ÄrgerÜber", &["Ärger", "Über"]);
}

proptest! {
    #[test]
    fn no_text_makes_the_search_reader_panic(
        text in prop_oneof![
            r#"[{}A-Za-z0-9 =()",\\:/-]{0,60}"#,
            r#"( |NOT|OR|AND|a|"b"|c=|\(|\)|\{d\}){0,20}"#,
            ".{0,30}",
        ],
    ) {
        if let Ok(search) = Search::read(&text, "Sum", None) {
            let metrics = metrics();
            labels(&search.find(&metrics));
        }
    }
}
