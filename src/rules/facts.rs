//! What rules may look at: the borrowed view of one request.

/// A request's facts. A TCP flow has none of them: [`Facts::default`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// As sent in `Host` or the absolute form, port included.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
}

impl<'a> Facts<'a> {
    /// The host without its port: `[::1]:80` gives `[::1]`.
    #[must_use]
    pub fn host_name(&self) -> &'a str {
        match self.host.rfind(':') {
            Some(colon) if self.host.ends_with(|c: char| c.is_ascii_digit()) => {
                let (name, _) = self.host.split_at(colon);
                if name.contains(':') && !name.ends_with(']') { self.host } else { name }
            }
            Some(colon) if colon + 1 == self.host.len() => &self.host[..colon],
            _ => self.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, expected: &str) {
        assert_eq!(Facts { host, path: "/" }.host_name(), expected);
    }

    #[test]
    fn host_name_is_without_port() {
        check("example.com", "example.com");
        check("example.com:8080", "example.com");
        check("example.com:", "example.com");
        check("[::1]:80", "[::1]");
        check("[::1]", "[::1]");
        check("::1", "::1");
        check("", "");
    }
}
