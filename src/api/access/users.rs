//! Further keys, of the file's `[[api.key]]`: secrets and policies in files of their own.
//!
//! **Invariant:** a secret comes from a file that only its owner reads; a policy is read whole
//! before anybody is let in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::document::Document;
use crate::api::keys::Key;
use crate::config::{ApiSettings, KeySettings};
use crate::model::Account;

/// More bytes than this are no policy (IAM's are at most 6,144 without spaces).
const LONGEST_POLICY: u64 = 256 * 1024;

/// Whose key it is, and what they may do.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub name: String,
    /// None: everything.
    pub(super) policies: Option<Vec<Document>>,
}

impl User {
    /// Whether there is something that it may not do.
    pub(in crate::api) const fn is_bounded(&self) -> bool {
        self.policies.is_some()
    }

    #[must_use]
    pub fn arn(&self, account: &Account) -> String {
        format!("arn:aws:iam::{}:user/{}", account.id, self.name)
    }
}

/// Those of the file, by the ids of their keys.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: HashMap<String, Arc<User>>,
    keys: Vec<Key>,
}

impl Users {
    /// # Errors
    /// The setting that is to blame, and why.
    pub fn read(settings: &ApiSettings) -> Result<Self, (&'static str, String)> {
        let mut all = Self::default();
        for key in &settings.key {
            let bad = |why| ("api.key", format!("{}: {why}", key.name));
            let (made, user) = all.one(key).map_err(bad)?;
            all.users.insert(made.id.clone(), Arc::new(user));
            all.keys.push(made);
        }
        Ok(all)
    }

    fn one(&self, settings: &KeySettings) -> Result<(Key, User), String> {
        let KeySettings { name, id, secret_file, policies } = settings;
        let good = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        if !(1..=64).contains(&name.len()) || !name.chars().all(good) {
            return Err("name must be 1 to 64 letters, digits and +=,.@_-".to_owned());
        }
        if self.users.values().any(|user| user.name.eq_ignore_ascii_case(name)) {
            return Err("stands here twice".to_owned());
        }
        if self.users.contains_key(id) {
            return Err(format!("id {id} stands here twice"));
        }
        let key = Key::read(id, secret_file).map_err(|why| why.to_string())?;
        let policies = policies.as_ref().map(|paths| paths.iter().map(|path| policy(path)));
        let policies = policies.map(Iterator::collect::<Result<Vec<_>, _>>).transpose()?;
        for unknown in policies.iter().flatten().flat_map(Document::unknown_keys) {
            tracing::warn!(user = %name, key = %unknown, "no request here has this condition key");
        }
        Ok((key, User { name: name.clone(), policies }))
    }

    /// The user of a key; none has those of the data directory, which may do everything.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<User>> {
        self.users.get(key)
    }

    /// Keys to sign with.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

fn policy(path: &Path) -> Result<Document, String> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        if size > LONGEST_POLICY {
            return Err(std::io::Error::other("is too long"));
        }
        std::fs::read_to_string(path)
    };
    let text = read().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Document::read(&text).map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_of_the_file_are_read_with_their_policies() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let good = KeySettings {
            name: "ci".to_owned(),
            id: "AKIACI00000000000000".to_owned(),
            secret_file: write("secret", &format!("{}\n", "s".repeat(40)), 0o600),
            policies: Some(vec![write("policy", r#"{"Statement": []}"#, 0o644)]),
        };
        let check = |keys: &[&KeySettings], expected: Result<usize, &str>| {
            let key = keys.iter().map(|key| (*key).clone()).collect();
            let found = Users::read(&ApiSettings { key, ..ApiSettings::default() });
            let found = found.map(|users| users.keys().len()).map_err(|(_, why)| why);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        };
        check(&[], Ok(0));
        check(&[&good], Ok(1));
        check(&[&good, &good], Err("ci: stands here twice"));
        let with = |change: &dyn Fn(&mut KeySettings)| {
            let mut key = good.clone();
            change(&mut key);
            key
        };
        check(
            &[&good, &with(&|key| key.name = "other".into())],
            Err("AKIACI00000000000000 stands"),
        );
        check(&[&with(&|key| key.name = "a b".into())], Err("name must be"));
        check(&[&with(&|key| key.id = "short".into())], Err("aws_access_key_id: must be"));
        let gone = dir.path().join("gone");
        check(&[&with(&|key| key.secret_file = gone.clone())], Err("No such file"));
        check(&[&with(&|key| key.policies = Some(vec![gone.clone()]))], Err("cannot read"));
        let open = write("open", &"s".repeat(40), 0o644);
        check(&[&with(&|key| key.secret_file = open.clone())], Err("mode 644 lets others"));
        let short = write("short", "s", 0o600);
        check(&[&with(&|key| key.secret_file = short.clone())], Err("aws_secret_access_key: must"));
        let bad = write("bad", r#"{"Statement": [{}]}"#, 0o644);
        check(&[&with(&|key| key.policies = Some(vec![bad.clone()]))], Err("Statement[0].Effect"));
        let users = Users::read(&ApiSettings {
            key: vec![with(&|key| key.policies = None)],
            ..ApiSettings::default()
        });
        assert!(users.unwrap().get(&good.id).unwrap().policies.is_none());
    }
}
