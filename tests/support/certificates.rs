//! Self-signed certificates of the moment, as files.

use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair};

/// Writes `NAME.pem` and `NAME.key` into `folder`: a certificate for `NAME.test` and
/// `*.NAME.test`; of an RSA key where `rsa`.
pub(crate) fn write(folder: &Path, name: &str, rsa: bool) {
    let algorithm = if rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params =
        CertificateParams::new(vec![format!("{name}.test"), format!("*.{name}.test")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("{name}.test"));
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A folder with `one` (RSA), `two` and `three`.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rsa) in [("one", true), ("two", false), ("three", false)] {
        write(folder.path(), name, rsa);
    }
    folder
}
