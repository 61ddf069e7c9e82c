//! The walls a single package lacks: floors, sizes, words, names.
//!
//! Reads the sources as text; every complaint names file, line and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A file's floor by its top-level module. A file may name its own module and those on lower
/// floors.
const FLOORS: &[(&str, u8)] = &[
    ("model", 0),
    ("clock", 0),
    ("config", 0),
    ("metrics", 0),
    ("series", 0),
    ("sys", 0),
    ("state", 1),
    ("tls", 1),
    ("net", 1),
    ("logs", 1),
    ("secrets", 1),
    ("auth", 2),
    ("rules", 2),
    ("balance", 2),
    ("health", 2),
    ("zone", 2),
    ("connect", 2),
    ("routing", 3),
    ("http", 4),
    ("l4", 4),
    ("dns", 4),
    ("runtime", 4),
    ("orchestrator", 5),
    ("api", 6),
    ("console", 6),
    ("cli", 7),
    ("app", 7),
    ("main", 7),
];

/// Modules of one floor that may see each other: the leaves (metrics are counted in model's words),
/// the wiring.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("config", "model"),
    ("model", "clock"),
    ("series", "model"),
    ("series", "clock"),
    ("cli", "app"),
    ("main", "cli"),
];

/// The runtimes see the nouns and nothing else, whatever floor they are drawn on.
const LEAF_ONLY: &[&str] = &["runtime"];

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;
const MAX_LINE: usize = 100;
const BANNED: &[&str] = &["upstream", "backend", "node", "manager", "handler", "helper", "util"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, path relative to the package and text.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

fn all() -> Vec<(String, String)> {
    ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder)).collect()
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The text with comments and string literals blanked, so that prose is not taken for code.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            if !in_string && c == '/' && chars.peek() == Some(&'/') {
                break;
            }
            if c == '"' && previous != '\\' && previous != '\'' {
                in_string = !in_string;
            } else if !in_string {
                out.push(c);
            }
            previous = if previous == '\\' && c == '\\' { ' ' } else { c };
        }
        out.push('\n');
    }
    out
}

fn module_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

#[test]
fn files_import_from_their_own_folder_and_lower_floors_only() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            complaints.push(format!("{path}: module {module} stands on no floor"));
            continue;
        };
        for (number, line) in code(&text).lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let name: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(other) = floors.get(name.as_str()) else { continue };
                let allowed = name == module
                    || if LEAF_ONLY.contains(&module) { *other == 0 } else { other < floor }
                    || NEIGHBOURS.contains(&(module, name.as_str()));
                if !allowed {
                    complaints.push(format!("{path}:{}: {module} must not see {name}", number + 1));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn every_file_opens_with_its_purpose() {
    let silent = all().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(silent.map(|(path, _)| format!("{path}: does not open with //!")).collect());
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut complaints = Vec::new();
    for (path, text) in all() {
        let count = text.lines().count();
        if count > MAX_FILE {
            complaints.push(format!("{path}: {count} lines, at most {MAX_FILE}"));
        }
        for (number, line) in text.lines().enumerate() {
            let is_text = line.contains("= \"") || line.trim_start().starts_with('"');
            if line.chars().count() > MAX_LINE && !is_text {
                complaints.push(format!("{path}:{}: longer than {MAX_LINE}", number + 1));
            }
        }
        long_functions(&path, &text, &mut complaints);
    }
    none(complaints);
}

/// rustfmt puts a function's closing brace in the column of its `fn`.
fn long_functions(path: &str, text: &str, complaints: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function =
            ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn "]
                .iter()
                .any(|opening| trimmed.starts_with(opening))
                || (trimmed.starts_with("pub(") && trimmed.contains(" fn "));
        if !is_function {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let Some(length) = lines[start..].iter().position(|line| *line == closing) else {
            continue;
        };
        if length + 1 > MAX_FUNCTION {
            complaints.push(format!(
                "{path}:{}: function of {} lines, at most {MAX_FUNCTION}",
                start + 1,
                length + 1
            ));
        }
    }
}

#[test]
fn identifiers_avoid_the_banned_words() {
    // Names that libraries impose.
    let imposed = [
        "RequestHandler",
        "ResponseHandler",
        "upstream_",
        "Upstream",
        "_upstream",
        "handler::",
        "tokio_util",
        "futures_util",
        "http_body_util",
        "hyper_util",
    ];
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        for (number, line) in code(&text).lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            for word in words.filter(|word| !imposed.iter().any(|name| word.contains(name))) {
                for part in word.split([':', '_']) {
                    let part = part.to_ascii_lowercase();
                    if BANNED.contains(&part.as_str()) {
                        complaints.push(format!("{path}:{}: {word}", number + 1));
                    }
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn only_the_clock_reads_a_clock_and_only_sys_is_unsafe() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        let code = code(&text);
        for (number, line) in code.lines().enumerate() {
            let reads = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
            if path != "src/clock.rs" && reads.iter().any(|read| line.contains(read)) {
                complaints.push(format!("{path}:{}: reads a clock", number + 1));
            }
            let is_unsafe = line.contains("unsafe ") || line.contains("allow(unsafe_code");
            if !path.starts_with("src/sys") && is_unsafe {
                complaints.push(format!("{path}:{}: unsafe code", number + 1));
            }
        }
    }
    none(complaints);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["todo!", "unimplemented!", "dbg!(", "FIXME", "XXX", "#[ignore"];
    let mut complaints = Vec::new();
    for (path, text) in all().into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                complaints.push(format!("{path}:{}: {mark}", number + 1));
            }
        }
    }
    none(complaints);
}

#[test]
fn there_is_one_trait() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src") {
        for (number, line) in code(&text).lines().enumerate() {
            let line =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
            if line.starts_with("trait ") && !line.starts_with("trait Runtime") {
                complaints.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    none(complaints);
}

#[test]
fn metric_names_follow_prometheus_and_stand_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut complaints = Vec::new();
    for spec in roadstead::metrics::names::ALL {
        let name = spec.name;
        let shape = name.starts_with("roadstead_")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !shape {
            complaints.push(format!("{name}: not roadstead_[a-z0-9_]+"));
        }
        if !spec.help.ends_with('.') {
            complaints.push(format!("{name}: its help is no sentence"));
        }
        if !readme.contains(&format!("`{name}`")) {
            complaints.push(format!("{name}: not in the README's table"));
        }
    }
    none(complaints);
}

/// Words of the README that can only be names of tests: three underscores and more.
fn named_tests(text: &str) -> Vec<&str> {
    let is_name = |word: &&str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        word.bytes().all(known) && word.matches('_').count() > 2 && !word.starts_with("roadstead_")
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let texts: Vec<_> = all().into_iter().map(|(_, text)| text).collect();
    let has = |name: &&str| texts.iter().any(|text| text.contains(&format!("fn {name}(")));
    let named = named_tests(&readme);
    let missing: Vec<_> = named.iter().filter(|name| !has(name)).collect();
    assert!(named.len() > 40 && missing.is_empty(), "{missing:?}");
    // Rows that speak of both carriers have tests of both: by the macro that runs them on each, or
    // by a test that names both.
    let (_, table) = readme.split_once("| feature | test |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let on_both = |name: &&str| {
        texts.iter().any(|text| {
            let lists = text.split("on_both_carriers!(").skip(1);
            let mut lists = lists.filter_map(|rest| rest.split_once(')')).map(|(list, _)| list);
            lists.any(|list| list.split(',').any(|own| own.trim() == *name))
                || text.contains(&format!("fn {name}("))
                    && text.contains("carrier = \\\"pingora\\\"")
        })
    };
    let one: Vec<_> = named_tests(table).into_iter().filter(|name| !on_both(name)).collect();
    assert!(one.is_empty(), "{one:?}");
    assert!(table.lines().skip(1).all(|row| !named_tests(row).is_empty()), "{table}");
}

#[test]
fn every_example_in_readme_and_config_loads() {
    let mut complaints = String::new();
    let check = |name: &str, text: &str, complaints: &mut String| {
        if let Err(problem) = roadstead::api::file::parse(&root().join(name), text) {
            let _ = writeln!(complaints, "{problem}");
        }
    };
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for block in readme.split("```toml\n").skip(1) {
        check("README.md", block.split("```").next().unwrap_or_default(), &mut complaints);
    }
    let mut samples = 0;
    for entry in std::fs::read_dir(root().join("config")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") {
            samples += 1;
            let text = std::fs::read_to_string(entry.path()).unwrap();
            check(&format!("config/{name}"), &text, &mut complaints);
        }
    }
    assert!(samples >= 2 && complaints.is_empty(), "{samples} samples\n{complaints}");
}
