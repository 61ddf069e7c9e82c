//! The words of a command, as a shell would split them: quotes and backslashes mean what they mean
//! there, nothing else does.
//!
//! ECS gives the member `command` to no shell. Source: POSIX, "Shell Command Language", 2.2.

/// # Errors
/// There is no word, or a quote that does not end.
pub(crate) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    const OPEN: &str = "the command has a quote or a backslash that does not end";
    let (mut all, mut word) = (Vec::new(), None::<String>);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or(OPEN)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or(OPEN)? {
                        '"' => break,
                        '\\' => match rest.next().ok_or(OPEN)? {
                            '\n' => {}
                            c @ ('$' | '`' | '"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match rest.next().ok_or(OPEN)? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c if c.is_ascii_whitespace() => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    if all.is_empty() { Err("the command has no word") } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_splits_them() {
        let check = |text: &str, expected: &str| {
            let found = match words(text) {
                Ok(words) => words.join("|"),
                Err(why) => format!("! {why}"),
            };
            assert_eq!(found, expected, "{text}");
        };
        let open = "! the command has a quote or a backslash that does not end";
        check("/bin/sh", "/bin/sh");
        check("  ls\t-l \n /tmp ", "ls|-l|/tmp");
        check("sh -c 'echo \"$A\" \\n'", "sh|-c|echo \"$A\" \\n");
        check(r#"sh -c "echo \"a b\" \$A \n""#, r#"sh|-c|echo "a b" $A \n"#);
        check(r"a\ b c\\d", r"a b|c\d");
        check("a\\\nb", "ab");
        check("a''b '' \"\"", "ab||");
        check("echo # no comment; $(id) | cat", "echo|#|no|comment;|$(id)|||cat");
        check("", "! the command has no word");
        check(" \n", "! the command has no word");
        check("echo 'a", open);
        check("echo \"a", open);
        check("echo \"a\\", open);
        check("echo \\", open);
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(all in prop::collection::vec("[ -~\n]{0,12}", 1..5)) {
            let quoted: Vec<_> =
                all.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(words(&quoted.join(" ")), Ok(all));
        }
    }
}
