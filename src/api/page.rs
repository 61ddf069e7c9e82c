//! Pages of a listing: where the next one begins is an opaque token.
//!
//! **Invariant:** a token names the last item that was given, so that items that come and go
//! between two pages neither repeat nor skip the others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token that this endpoint never made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadToken;

/// The items behind `token`, at most `limit`, and the token of the next page. `items` ascend by
/// the key that `key` gives.
///
/// # Errors
/// The token is not ours.
pub(crate) fn page<T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
    token: Option<&str>,
    limit: usize,
) -> Result<(Vec<T>, Option<String>), BadToken> {
    let after = token.filter(|token| !token.is_empty()).map(decode).transpose()?;
    let mut rest = items
        .into_iter()
        .filter(|item| after.as_ref().is_none_or(|after| key(item).as_str() > after.as_str()));
    let page: Vec<T> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next = page.last().filter(|_| more).map(|last| encode(&key(last)));
    Ok((page, next))
}

fn encode(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{key}"))
}

fn decode(token: &str) -> Result<String, BadToken> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken)?;
    let text = String::from_utf8(bytes).map_err(|_| BadToken)?;
    text.strip_prefix("1:").map(str::to_owned).ok_or(BadToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let items = ["a", "b", "c", "d", "e"];
        let mut token = None;
        let mut pages = Vec::new();
        loop {
            let (page, next) = page(items, |item| (*item).to_owned(), token.as_deref(), 2).unwrap();
            pages.push(page.join(""));
            let Some(next) = next else { break };
            token = Some(next);
        }
        assert_eq!(pages, ["ab", "cd", "e"]);
    }

    #[test]
    fn tokens_that_are_not_ours_are_refused() {
        for token in ["x", "!", "YQ"] {
            let outcome = page(["a"], |item| (*item).to_owned(), Some(token), 1);
            assert_eq!(outcome, Err(BadToken), "{token}");
        }
    }
}
