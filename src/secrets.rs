//! The local secret store: one file per secret, and the names that task definitions give them.
//!
//! Under the data directory, `secrets/secretsmanager/NAME` and `secrets/ssm/NAME`; a name with
//! slashes is a path. A file's whole text is the value, less one newline at its end. Not here: who
//! may ask (a task definition names what it gets), AWS's APIs. **Invariant:** a value is in no log,
//! no `Debug`, no State and no description; a file that others may read is no secret and is
//! refused.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::{Arn, SecretText};

/// Secrets Manager's limit.
const LARGEST: u64 = 64 * 1024;
/// The version that is meant when none is said.
const CURRENT: &str = "AWSCURRENT";
/// What Secrets Manager adds to a name in its ARN: a hyphen and six characters.
const SUFFIX: usize = 7;

/// What a container's `valueFrom` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Secret {
        /// As in the ARN, with or without the suffix.
        name: String,
        /// The member of a JSON object that is the value.
        json_key: Option<String>,
    },
    /// Of Systems Manager's parameter store.
    Parameter { name: String },
}

/// A text that names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadReference(&'static str);

impl FromStr for Reference {
    type Err = BadReference;

    /// `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME[:JSON_KEY:VERSION_STAGE:VERSION_ID]`,
    /// `arn:aws:ssm:REGION:ACCOUNT:parameter/NAME`, or a parameter's name alone (ECS developer
    /// guide, "Pass sensitive data to an Amazon ECS container").
    fn from_str(text: &str) -> Result<Self, BadReference> {
        const SHAPE: BadReference = BadReference(
            "must be the ARN of a secret of Secrets Manager or of a parameter, or a parameter's \
             name",
        );
        if !text.starts_with("arn:") {
            return Ok(Self::Parameter { name: checked(text)? });
        }
        let arn: Arn = text.parse().map_err(|_| SHAPE)?;
        let resource = arn.resource.as_str();
        if arn.service == "ssm" {
            let name = resource.strip_prefix("parameter/").ok_or(SHAPE)?;
            return Ok(Self::Parameter { name: checked(name)? });
        }
        let rest = resource.strip_prefix("secret:").filter(|_| arn.service == "secretsmanager");
        let parts: Vec<&str> = rest.ok_or(SHAPE)?.split(':').collect();
        let (name, json_key, stage, version) = match parts.as_slice() {
            [name] => (*name, "", "", ""),
            [name, json_key, stage, version] => (*name, *json_key, *stage, *version),
            _ => return Err(SHAPE),
        };
        if !["", CURRENT].contains(&stage) || !version.is_empty() {
            return Err(BadReference("names a version: only the current one is kept"));
        }
        let json_key = Some(json_key.to_owned()).filter(|key| !key.is_empty());
        Ok(Self::Secret { name: checked(name)?, json_key })
    }
}

/// A name that is a path of files inside the store, and no way out of it.
fn checked(name: &str) -> Result<String, BadReference> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || "_+=.@-".contains(c);
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(good);
    if name.len() <= 512 && name.split('/').all(part) {
        Ok(name.to_owned())
    } else {
        Err(BadReference("must be a name of letters, digits and /_+=.@-"))
    }
}

/// The store. Nothing is kept in memory: a value is read when it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    directory: Option<PathBuf>,
}

impl Secrets {
    /// A store in `directory`, which need not be there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()) }
    }

    /// The value that `value_from` names. Blocks.
    ///
    /// # Errors
    /// Why there is none, in words that hold no part of any value.
    pub fn value(&self, value_from: &str) -> Result<SecretText, String> {
        let reference: Reference = value_from.parse().map_err(|error| format!("{error}"))?;
        let directory = self.directory.as_ref().ok_or("there is no secret store")?;
        match reference {
            Reference::Parameter { name } => {
                let found = read(&directory.join("ssm").join(&name))?;
                found.ok_or_else(|| format!("there is no parameter {name}"))
            }
            Reference::Secret { name, json_key } => {
                let folder = directory.join("secretsmanager");
                let bare = name.len().checked_sub(SUFFIX).and_then(|at| name.split_at_checked(at));
                let bare = bare.filter(|(bare, suffix)| {
                    !bare.is_empty() && !bare.ends_with('/') && suffix.starts_with('-')
                });
                let found = match (read(&folder.join(&name))?, bare) {
                    (None, Some((bare, _))) => read(&folder.join(bare))?,
                    (found, _) => found,
                };
                let found = found.ok_or_else(|| format!("there is no secret {name}"))?;
                match json_key {
                    None => Ok(found),
                    Some(key) => member(&found, &name, &key),
                }
            }
        }
    }
}

fn member(secret: &SecretText, name: &str, key: &str) -> Result<SecretText, String> {
    // serde's own words would quote the text.
    let object: serde_json::Value = serde_json::from_str(secret.reveal())
        .map_err(|_| format!("secret {name} is no JSON object"))?;
    match object.get(key) {
        Some(serde_json::Value::String(text)) => Ok(SecretText::new(text.clone())),
        Some(value) => Ok(SecretText::new(value.to_string())),
        None => Err(format!("secret {name} has no key {key}")),
    }
}

/// None: there is no such file.
fn read(path: &Path) -> Result<Option<SecretText>, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(error.to_string()))?,
    };
    let about = file.metadata().map_err(|error| failed(error.to_string()))?;
    if about.is_dir() {
        return Ok(None);
    }
    if about.mode() & 0o077 != 0 {
        return Err(failed("others may read it: give it mode 600".to_owned()));
    }
    if about.len() > LARGEST {
        return Err(failed("is longer than 64 KiB".to_owned()));
    }
    let mut text = String::new();
    let length = file.take(LARGEST).read_to_string(&mut text);
    length.map_err(|error| failed(error.to_string()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.contains('\0') {
        return Err(failed("holds a zero byte".to_owned()));
    }
    Ok(Some(SecretText::new(text)))
}

/// ECS's limit is the bucket's; ours keeps a mistaken path from filling memory.
const LARGEST_ENVIRONMENT: u64 = 1 << 20;

/// The variables of an environment file, in its order: `NAME=VALUE` lines, with everything behind
/// the sign as it stands; empty lines and those that begin with `#` are passed over (ECS developer
/// guide, "Pass environment variables"). Blocks.
///
/// # Errors
/// Why it cannot be read, naming the path and the line.
pub fn environment_file(path: &Path) -> Result<Vec<(String, String)>, String> {
    let failed = |why: &str| format!("environment file {}: {why}", path.display());
    let about = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    if !about.is_file() || about.len() > LARGEST_ENVIRONMENT {
        return Err(failed("is no file of at most 1 MiB"));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(&error.to_string()))?;
    parse_environment(&text).map_err(|line| failed(&format!("line {line} is not NAME=VALUE")))
}

/// The number of the first bad line, from 1.
fn parse_environment(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('=').filter(|(name, value)| {
            let bad = |c: char| c.is_whitespace() || c == '\0';
            !name.is_empty() && !name.contains(bad) && !value.contains('\0')
        });
        let (name, value) = pair.ok_or(index + 1)?;
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const SM: &str = "arn:aws:secretsmanager:r:1:secret:";

    fn check(text: &str, expected: &str) {
        let told = match text.parse::<Reference>() {
            Ok(Reference::Secret { name, json_key }) => {
                format!("secret {name} {}", json_key.unwrap_or_default()).trim_end().to_owned()
            }
            Ok(Reference::Parameter { name }) => format!("parameter {name}"),
            Err(error) => error.to_string().split(' ').take(2).collect::<Vec<_>>().join(" "),
        };
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn references_follow_aws_s_grammar() {
        check("arn:aws:ssm:r:1:parameter/app/key", "parameter app/key");
        check("/app/key", "parameter app/key");
        check("key", "parameter key");
        check(&format!("{SM}db-AbCdEf"), "secret db-AbCdEf");
        check(&format!("{SM}team/db:password::"), "secret team/db password");
        check(&format!("{SM}db::AWSCURRENT:"), "secret db");
        check(&format!("{SM}db::AWSPREVIOUS:"), "names a");
        check(&format!("{SM}db:::v1"), "names a");
        check(&format!("{SM}db:key"), "must be");
        for bad in ["", "..", "a/../b", "a//b", "a b", "arn:aws:s3:r:1:x", "arn:aws:ssm:r:1:x"] {
            check(bad, "must be");
        }
    }

    fn put(directory: &Path, name: &str, text: &str, mode: u32) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn values_are_read_from_files_that_only_their_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        put(root, "ssm/app/key", "k1\n", 0o600);
        put(root, "ssm/open", "k2", 0o640);
        put(root, "secretsmanager/db", r#"{"user":"u","port":5432}"#, 0o400);
        let secrets = Secrets::new(root);
        let value = |name: &str| secrets.value(name).map(|value| value.reveal().to_owned());
        let check = |name: &str, expected: Result<&str, &str>| match (value(name), expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{name}"),
            (Err(told), Err(expected)) => assert!(told.contains(expected), "{name}: {told}"),
            (told, _) => panic!("{name}: {told:?}"),
        };
        check("/app/key", Ok("k1"));
        check("arn:aws:ssm:r:1:parameter/app/key", Ok("k1"));
        check(&format!("{SM}db:user::"), Ok("u"));
        check(&format!("{SM}db-AbCdEf:port::"), Ok("5432"));
        check(&format!("{SM}db-AbCdEf"), Ok(r#"{"user":"u","port":5432}"#));
        check(&format!("{SM}db:none::"), Err("has no key none"));
        check(&format!("{SM}other"), Err("there is no secret other"));
        check("app", Err("there is no parameter app"));
        check("open", Err("give it mode 600"));
        assert!(Secrets::default().value("x").is_err());
        assert!(!format!("{:?}", secrets.value("/app/key")).contains("k1"));
    }

    #[test]
    fn environment_files_are_lines_of_names_and_values() {
        let check = |text: &str, expected: Result<&str, usize>| {
            let told = parse_environment(text);
            let told = told.map(|all| {
                all.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("|")
            });
            assert_eq!(told, expected.map(str::to_owned), "{text:?}");
        };
        check("A=1\n# no\n\nB=a=b \"c\"\r\nC=\n", Ok("A=1|B=a=b \"c\"|C="));
        check("A=1\nB\n", Err(2));
        check("=1", Err(1));
        check("A B=1", Err(1));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,80}") {
            let _ = text.parse::<Reference>();
            let _ = parse_environment(&text);
            let named = text.parse();
            if let Ok(Reference::Parameter { name } | Reference::Secret { name, .. }) = named {
                prop_assert!(!Path::new(&name).is_absolute() && !name.contains(".."));
            }
        }
    }
}
