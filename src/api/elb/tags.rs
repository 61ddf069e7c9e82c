//! Tags of load balancers, target groups, listeners and rules.

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, change, own, tag_error};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::tags::{self, Tag};
use crate::model::Arn;

/// `DescribeTags` takes so many resources.
const MOST_DESCRIBED: usize = 20;

pub(super) async fn add(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        resource_arns: Vec<String>,
        tags: Vec<Tag>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    change(call, move |tx| {
        for arn in asked.resource_arns {
            let (owner, name) = find::resource(tx.state(), &account, &arn)?;
            own(owner, "resource", name)?;
            tags::add(tx, &parsed(&arn)?, asked.tags.clone()).map_err(tag_error)?;
        }
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        resource_arns: Vec<String>,
    }
    let asked: Asked = input.read()?;
    if asked.resource_arns.len() > MOST_DESCRIBED {
        return Err(Error::invalid(format!("At most {MOST_DESCRIBED} resources can be specified")));
    }
    let state = call.state();
    let described = asked.resource_arns.iter().map(|arn| {
        find::resource(&state, call.account(), arn)?;
        let tags = tags::of(&state, &parsed(arn)?);
        Ok(json!({"ResourceArn": arn, "Tags": tags::shown(tags)}))
    });
    let described: Vec<Value> = described.collect::<Result<_, Error>>()?;
    Ok(json!({"TagDescriptions": described}))
}

pub(super) async fn remove(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        resource_arns: Vec<String>,
        tag_keys: Vec<String>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    change(call, move |tx| {
        for arn in asked.resource_arns {
            let (owner, name) = find::resource(tx.state(), &account, &arn)?;
            own(owner, "resource", name)?;
            tags::remove(tx, &parsed(&arn)?, &asked.tag_keys);
        }
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

fn parsed(arn: &str) -> Result<Arn, Error> {
    arn.parse().map_err(|_| Error::invalid(format!("'{arn}' is not a valid ARN")))
}
