//! Logins of private registries: the `auths` of Docker's own `config.json`.
//!
//! Nothing is kept in memory: the file is read for every pull, so a login that changes needs no
//! restart. **Invariant:** a login goes to the registry of its image alone; no part of it is in a
//! log, a `Debug` or an error; a file that others may read is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::model::SecretText;

/// Ours: keeps a mistaken path from filling memory.
const LARGEST: u64 = 1 << 20;
/// The registry of images that name none, and what it is called in `auths`.
const HUB: &str = "docker.io";
const HUB_INDEX: &str = "index.docker.io";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Written>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Written {
    /// `USER:PASSWORD` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The Engine API's `AuthConfig`.
#[derive(Serialize)]
struct Login<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identitytoken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registrytoken: Option<String>,
    serveraddress: &'a str,
}

/// The registry that an image comes from: a first part that looks like a host (as Docker reads
/// references), else Docker Hub.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => named(host),
        _ => HUB,
    }
}

/// The host of a key of `auths`, which may be a whole address.
fn named(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = bare.unwrap_or(key).split('/').next().unwrap_or_default();
    if host == HUB_INDEX { HUB } else { host }
}

/// The value of `X-Registry-Auth` for a pull of `image`. None: nobody logs in there. Blocks.
///
/// # Errors
/// Why the file cannot be taken, in words that hold no part of a login.
pub(super) fn login(file: &Path, image: &str) -> Result<Option<SecretText>, String> {
    let text = read(file).map_err(|why| format!("credentials {}: {why}", file.display()))?;
    of(&text, image).map_err(|why| format!("credentials {}: {why}", file.display()))
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.mode() & 0o077 != 0 {
        return Err("others may read it: give it mode 600".to_owned());
    }
    if !about.is_file() || about.len() > LARGEST {
        return Err("is no file of at most 1 MiB".to_owned());
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn of(text: &str, image: &str) -> Result<Option<SecretText>, String> {
    // serde's own words would quote the text.
    let config: Config = serde_json::from_str(text)
        .map_err(|error| format!("line {} is not as in a Docker config.json", error.line()))?;
    if config.store.is_some() || !config.helpers.is_empty() {
        return Err("credential helpers (credsStore, credHelpers) are not run".to_owned());
    }
    let wanted = registry(image);
    let found = config.auths.into_iter().find(|(key, _)| named(key) == wanted);
    found.map(|(key, written)| header(&key, written)).transpose()
}

fn header(key: &str, written: Written) -> Result<SecretText, String> {
    let bad = || format!("auths: {key}: auth must be USER:PASSWORD in base64");
    let (mut username, mut password) = (written.username, written.password);
    if let Some(auth) = written.auth.filter(|auth| !auth.is_empty()) {
        let plain = STANDARD.decode(auth.trim()).map_err(|_| bad())?;
        let plain = String::from_utf8(plain).map_err(|_| bad())?;
        let (user, word) = plain.split_once(':').ok_or_else(bad)?;
        // Docker's own files have had zeros behind it.
        (username, password) = (Some(user.into()), Some(word.trim_end_matches('\0').into()));
    }
    let login = Login {
        username,
        password,
        identitytoken: written.identitytoken,
        registrytoken: written.registrytoken,
        serveraddress: key,
    };
    let json = serde_json::to_string(&login).map_err(|_| bad())?;
    // RFC 4648, section 5: the engine takes a login in the other alphabet for none at all.
    Ok(SecretText::new(URL_SAFE.encode(json)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What the registry of `image` is shown.
    fn check(text: &str, image: &str, expected: &str) {
        let told = match of(text, image) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(header)) => {
                String::from_utf8(URL_SAFE.decode(header.reveal()).unwrap()).unwrap()
            }
            Err(why) => why,
        };
        assert_eq!(told, expected, "{image}");
    }

    #[test]
    fn a_login_goes_to_the_registry_of_its_image_alone() {
        // "app:~~~???>>>", whose base64 differs between the alphabets.
        let text = r#"{"auths": {
            "registry.test:5000": {"auth": "YXBwOn5+fj8/Pz4+Pg=="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "word"},
            "https://other.test/v2/": {"identitytoken": "token"},
            "empty.test": {}
        }, "HttpHeaders": {}}"#;
        let own =
            r#"{"username":"app","password":"~~~???>>>","serveraddress":"registry.test:5000"}"#;
        check(text, "registry.test:5000/team/app:1", own);
        let hub =
            r#"{"username":"hub","password":"word","serveraddress":"https://index.docker.io/v1/"}"#;
        for image in ["app:1", "library/app", "docker.io/library/app", "index.docker.io/a/b:1"] {
            check(text, image, hub);
        }
        let other = r#"{"identitytoken":"token","serveraddress":"https://other.test/v2/"}"#;
        check(text, "other.test/app@sha256:0", other);
        check(text, "empty.test/app", r#"{"serveraddress":"empty.test"}"#);
        for image in ["registry.test/app", "localhost/app", "registry.test:5001/app"] {
            check(text, image, "nothing");
        }
        check("{}", "app", "nothing");
    }

    #[test]
    fn a_bad_file_is_told_without_its_words() {
        let helpers = "credential helpers (credsStore, credHelpers) are not run";
        check(r#"{"credsStore": "pass"}"#, "app", helpers);
        check(r#"{"credHelpers": {"a.test": "pass"}}"#, "app", helpers);
        let auth = "auths: a.test: auth must be USER:PASSWORD in base64";
        check(r#"{"auths": {"a.test": {"auth": "c2VzYW1l"}}}"#, "a.test/app", auth);
        check(r#"{"auths": {"a.test": {"auth": "sesame!"}}}"#, "a.test/app", auth);
        let line = "line 1 is not as in a Docker config.json";
        check(r#"{"auths": {"a.test": {"auth": "sesame}}}"#, "a.test/app", line);
        check(r#"{"auths": "sesame"}"#, "a.test/app", line);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, r#"{"auths": {"docker.io": {"username": "sesame"}}}"#).unwrap();
        for (mode, expected) in [(0o644, Some("give it mode 600")), (0o600, None)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = login(&path, "app");
            assert!(!format!("{told:?}").contains("sesame"), "{told:?}");
            match (told, expected) {
                (Err(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
                (Ok(header), None) => assert!(header.is_some()),
                (told, _) => panic!("{mode:o}: {told:?}"),
            }
        }
        assert!(login(&directory.path().join("none"), "app").is_err());
    }
}
