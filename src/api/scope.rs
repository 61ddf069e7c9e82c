//! What a credential is for: the region and the service of its scope.
//!
//! Not here: whether the signature is right (`sigv4`). **Invariant:** a region that is not served
//! is told, and never answered with an empty account.

use http::request::Parts;

use super::error::Error;
use super::wire::query;
use crate::model::Account;

/// Region and service of a credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) region: String,
    pub(super) service: String,
}

impl Scope {
    /// Of the `Authorization` header or of a presigned URL; not verified yet.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let header = parts.headers.get(http::header::AUTHORIZATION);
        let credential = match header.and_then(|value| value.to_str().ok()) {
            Some(value) => value.split("Credential=").nth(1)?.split([',', ' ']).next()?.to_owned(),
            None => {
                let pairs = query::pairs(parts.uri.query().unwrap_or_default());
                pairs.into_iter().find(|(name, _)| name == "X-Amz-Credential")?.1
            }
        };
        let mut parts = credential.split('/').skip(2).map(str::to_owned);
        Some(Self { region: parts.next()?, service: parts.next()? })
    }

    /// The account as calls of the region see it.
    ///
    /// # Errors
    /// The region is not served.
    pub(super) fn account(&self, home: &Account) -> Result<Account, Error> {
        home.visited(&self.region).ok_or_else(|| {
            let (own, asked) = (&home.region, &self.region);
            let text = match home.others.is_empty() {
                true => format!("the region {own}, not {asked}: set AWS_REGION={own}"),
                false => {
                    let others = home.others.join(", ");
                    format!(
                        "the regions {own}, {others}, not {asked}: set AWS_REGION to one of them, \
                         or add it to `regions` of the configuration file"
                    )
                }
            };
            Error::new("InvalidRegion", format!("this endpoint serves {text}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_is_not_served_is_told() {
        let check = |others: &[&str], region: &str, expected: Result<(&str, bool), &str>| {
            let others = others.iter().map(|other| (*other).to_owned()).collect();
            let home = Account { others, ..Account::new("local", "000000000000") };
            let scope = Scope { region: region.to_owned(), service: "ecs".to_owned() };
            let found = scope.account(&home).map_err(|error| error.to_string());
            let found = found.as_ref().map(|account| (account.region.as_str(), account.is_away));
            let expected = expected.map_err(|text| format!("InvalidRegion: {text}"));
            assert_eq!(found.map_err(Clone::clone), expected, "{region}");
        };
        check(&[], "local", Ok(("local", false)));
        let text = "this endpoint serves the region local, not eu-west-1: set AWS_REGION=local";
        check(&[], "eu-west-1", Err(text));
        check(&["eu-west-1"], "local", Ok(("local", false)));
        check(&["eu-west-1"], "eu-west-1", Ok(("eu-west-1", true)));
        let text = "this endpoint serves the regions local, eu-west-1, not eu-wset-1: set \
                    AWS_REGION to one of them, or add it to `regions` of the configuration file";
        check(&["eu-west-1"], "eu-wset-1", Err(text));
    }

    #[test]
    fn scopes_are_read_from_headers_and_urls() {
        let of = |uri: &str, header: Option<&str>| {
            let mut request = http::Request::get(uri);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let scope = Scope::of(&request.body(()).unwrap().into_parts().0);
            scope.map(|scope| format!("{} {}", scope.region, scope.service))
        };
        let credential = "AKIA/20261121/eu-west-1/ecs/aws4_request";
        let header = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host");
        assert_eq!(of("/", Some(&header)).as_deref(), Some("eu-west-1 ecs"));
        let uri = format!("/?X-Amz-Credential={}", credential.replace('/', "%2F"));
        assert_eq!(of(&uri, None).as_deref(), Some("eu-west-1 ecs"));
        assert_eq!(of("/", Some("Basic x")), None);
        assert_eq!(of("/", None), None);
    }
}
