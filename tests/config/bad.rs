//! What is wrong with a configuration is said in one line: each kind of mistake, and its whole
//! message.
//!
//! The table is text: a file, a line `=> LINE: KEY: reason`, and an empty line. `BODY` stands for
//! 1025 bytes.

use std::path::Path;

use roadstead::api::file;

const TABLE: &str = include_str!("../data/bad_configurations.txt");

fn check(text: &str, expected: &str) {
    let text = text.replace("BODY", &"x".repeat(1025));
    let told = match file::parse(Path::new("r.toml"), &text) {
        Ok(_) => panic!("taken: {text}"),
        Err(problem) => problem.to_string(),
    };
    assert_eq!(told, format!("r.toml:{expected}"), "{text}");
}

#[test]
fn each_mistake_has_its_own_message() {
    let mut count = 0;
    let mut text = String::new();
    for line in TABLE.lines().filter(|line| !line.starts_with("##")) {
        match line.strip_prefix("=> ") {
            Some(expected) => {
                check(&text, expected);
                text.clear();
                count += 1;
            }
            // An empty line only parts two cases.
            None if line.is_empty() && text.is_empty() => {}
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(text.is_empty(), "a case without an end: {text}");
    assert!(count >= 30, "{count}");
}
