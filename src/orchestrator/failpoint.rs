//! Places at which a test ends this process, as a power cut would: before and after each effect.
//!
//! **Invariant:** not in a release build.

/// Ends the process when `ROADSTEAD_FAILPOINT` names this place: `before-create`, `after-stop` …
#[cfg(debug_assertions)]
pub(super) fn reach(when: &str, effect: &str) {
    let named = std::env::var("ROADSTEAD_FAILPOINT").unwrap_or_default();
    if named.split_once('-') == Some((when, effect)) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn reach(_when: &str, _effect: &str) {}
