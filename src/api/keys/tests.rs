//! Tests of `keys`.

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

const GOOD: &str = "# ours\n[default]\naws_access_key_id = AKIAAAAAAAAAAAAAAAAA\n\
    aws_secret_access_key=0123456789abcdef/+=9\n\n[ci]\naws_access_key_id = AKIABBBBBBBBBBBBBBBB\n\
    aws_secret_access_key = fedcba9876543210\n";

#[test]
fn profiles_are_keys() {
    let keys = Keys::parse(GOOD).unwrap();
    assert_eq!(keys.default_key().id, "AKIAAAAAAAAAAAAAAAAA");
    assert_eq!(keys.default_key().secret(), "0123456789abcdef/+=9");
    assert_eq!(keys.get("AKIABBBBBBBBBBBBBBBB").unwrap().secret(), "fedcba9876543210");
    assert_eq!(keys.get("AKIACCCCCCCCCCCCCCCC"), None);
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", Keys::parse(GOOD).unwrap());
    assert!(shown.contains("AKIABBBBBBBBBBBBBBBB"), "{shown}");
    assert!(!shown.contains("fedcba") && !shown.contains("012345"), "{shown}");
}

#[test]
fn mistakes_are_told_with_their_line() {
    let check = |from: &str, to: &str, expected: (usize, &str)| {
        assert!(GOOD.contains(from), "{from}");
        let (line, reason) = Keys::parse(&GOOD.replace(from, to)).unwrap_err();
        assert_eq!((line, reason.as_str()), expected, "{to}");
    };
    check("# ours", "x = 1", (1, "stands before a [profile]"));
    check("# ours", "x", (1, "must be key = value"));
    check("[ci]", "[ci", (6, "must be [profile]"));
    check("[ci]", "[]", (6, "must be [profile]"));
    check("[ci]", "[default]", (6, "profile default stands here twice"));
    check("[default]", "[main]", (1, "has no profile [default]"));
    check(
        "BBBBBBBBBBBBBBBB",
        "AAAAAAAAAAAAAAAA",
        (6, "key AKIAAAAAAAAAAAAAAAAA stands here twice"),
    );
    check(
        "BBBBBBBBBBBBBBBB",
        "B",
        (7, "aws_access_key_id: must be 16 to 128 letters, digits and _"),
    );
    check(
        "fedcba9876543210",
        "fedcba 9876543210",
        (8, "aws_secret_access_key: must be 16 to 128 printable characters"),
    );
    check(
        "# ours",
        "[x]\naws_session_token = y",
        (2, "aws_session_token: keys here are long-term keys"),
    );
    check(
        "aws_access_key_id = AKIAB",
        "colour = AKIAB",
        (7, "unknown key, only aws_access_key_id and aws_secret_access_key are known"),
    );
    check("aws_access_key_id = AKIAB", "# AKIAB", (6, "profile ci: aws_access_key_id is missing"));
    check("aws_secret_access_key = f", "; f", (6, "profile ci: aws_secret_access_key is missing"));
}

#[test]
fn first_start_makes_a_key_that_stays_and_nobody_else_reads() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(dir.path()).unwrap();
    let Key { id, secret } = keys.default_key();
    let (start, rest) = id.split_at(4);
    assert_eq!((start, rest.len(), secret.len()), ("AKIA", 16, 40));
    assert!(rest.bytes().all(|byte| BASE32.contains(&byte)), "{id}");
    assert!(secret.bytes().all(|byte| BASE64.contains(&byte)));
    assert_eq!(Keys::open(dir.path()).unwrap(), keys);
    let path = dir.path().join(FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(Keys::open(other.path()).unwrap().default_key().id, *id);
}

#[test]
fn files_that_others_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, GOOD).unwrap();
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match Keys::open(dir.path()) {
            Ok(_) => assert!(good, "{mode:o}"),
            Err(error) => {
                let told = format!(
                    "{}: mode {mode:o} lets others than its owner in, 600 is needed",
                    path.display()
                );
                assert!(!good);
                assert_eq!(error.to_string(), told);
            }
        }
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "[default]\nx\n").unwrap();
    let told = Keys::open(dir.path()).unwrap_err().to_string();
    assert_eq!(told, format!("{}:2: must be key = value", path.display()));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]=#; a-z_\n]{0,60}") {
        let _ = Keys::parse(&text);
    }
}
