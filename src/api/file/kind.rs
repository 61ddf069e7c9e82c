//! The kinds of resources that a file makes, and the keys of their last written copies.

use std::fmt;

use crate::state::AppliedKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cluster,
    Namespace,
    DiscoveryService,
    TaskDefinition,
    /// One revision that the file registered: there until nothing uses it any more.
    Revision,
    Certificate,
    TrustStore,
    TargetGroup,
    Target,
    LoadBalancer,
    Listener,
    Service,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Cluster,
        Self::Namespace,
        Self::DiscoveryService,
        Self::TaskDefinition,
        Self::Revision,
        Self::Certificate,
        Self::TrustStore,
        Self::TargetGroup,
        Self::Target,
        Self::LoadBalancer,
        Self::Listener,
        Self::Service,
    ];

    /// As the State's refusals call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
            Self::DiscoveryService => "discovery service",
            Self::TaskDefinition => "task definition",
            Self::Revision => "revision",
            Self::Certificate => "certificate",
            Self::TrustStore => "trust store",
            Self::TargetGroup => "target group",
            Self::Target => "target",
            Self::LoadBalancer => "load balancer",
            Self::Listener => "listener",
            Self::Service => "service",
        }
    }

    /// As the file calls it.
    pub(super) fn slug(self) -> String {
        self.word().replace(' ', "_")
    }

    /// What a resource is called in messages.
    pub(super) fn label(self, name: impl fmt::Display) -> String {
        format!("{} {name}", self.word())
    }

    /// `target_group/web`
    pub(super) fn key(self, name: impl fmt::Display) -> AppliedKey {
        AppliedKey(format!("{}/{name}", self.slug()))
    }

    /// The kind and name that `key` was made of.
    pub(super) fn of(key: &AppliedKey) -> Option<(Self, &str)> {
        let (slug, name) = key.0.split_once('/')?;
        let kind = Self::ALL.into_iter().find(|kind| kind.slug() == slug)?;
        Some((kind, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_their_kind_and_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(&kind.key("a/b:1")), Some((kind, "a/b:1")));
        }
        assert_eq!(Kind::of(&AppliedKey("other/x".to_owned())), None);
        assert_eq!(Kind::TargetGroup.label("web"), "target group web");
    }
}
