//! The grammars of names: ECS's, Elastic Load Balancing's, and DNS's.
//!
//! Pure; each function says what is wrong with a name. Sources: the API references of ECS and of
//! Elastic Load Balancing, RFC 1035 section 2.3.

/// ECS: clusters, families, services, containers.
pub(in crate::api) fn ecs(name: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=255).contains(&name.len()) && name.bytes().all(good) {
        Ok(())
    } else {
        Err("must be 1 to 255 letters, digits, hyphens and underscores")
    }
}

/// ECS: names of port mappings.
pub(in crate::api) fn port(name: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let length = (1..=64).contains(&name.len());
    if length && !name.starts_with('-') && name.bytes().all(good) {
        Ok(())
    } else {
        Err("must be 1 to 64 lower-case letters, digits, hyphens and underscores")
    }
}

/// Elastic Load Balancing: load balancers and target groups.
pub(in crate::api) fn elb(name: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let length = (1..=32).contains(&name.len());
    if length && !name.starts_with('-') && !name.ends_with('-') && name.bytes().all(good) {
        Ok(())
    } else {
        Err("must be 1 to 32 letters, digits and hyphens, with no hyphen at either end")
    }
}

/// A DNS name in lower case, without the final dot; labels may begin with an underscore (RFC 2782).
pub(super) fn dns(name: &str) -> Result<(), &'static str> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(inner)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(())
    } else {
        Err("must be a DNS name in lower case, such as demo.internal")
    }
}

#[cfg(test)]
mod tests {
    type Grammar = fn(&str) -> Result<(), &'static str>;

    fn check(grammar: Grammar, good: &[&str], bad: &[&str]) {
        for name in good {
            assert!(grammar(name).is_ok(), "{name}");
        }
        for name in bad {
            assert!(grammar(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_follow_their_grammars() {
        check(super::ecs, &["web", "Web_1-x"], &["", "a b", "a.b", "ä", &"x".repeat(256)]);
        check(super::port, &["http", "h_2-x"], &["", "-a", "A", &"x".repeat(65)]);
        check(super::elb, &["web", "Web-1"], &["", "-a", "a-", "a_b", &"x".repeat(33)]);
        let bad = ["", ".", "a.", "A.b", "-a.b", "a b", &"x".repeat(64)];
        check(super::dns, &["internal", "demo.internal", "_sip._udp.a"], &bad);
    }
}
