//! ECS: one file per resource; operations in the order Create, Describe, Update, Delete,
//! List.
//!
//! Not here: wire forms and checks against the model, which are done before an operation sees its
//! input. **Invariant:** [`call`] is the list of what is served.

mod account;
mod cluster;
mod deployment;
pub(crate) mod events;
mod instance;
mod launch;
pub(crate) mod metadata;
mod names;
pub(crate) mod protection;
pub(in crate::api) mod service;
mod tag;
mod task;
mod task_definition;
mod task_set;
mod task_shown;

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;

pub(super) use names::newest as newest_definition;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    kept("CreateCluster.settings"),
    kept("UpdateCluster.settings"),
    kept("UpdateClusterSettings.settings"),
    placed("CreateCluster.capacityProviders"),
    placed("CreateCluster.defaultCapacityProviderStrategy"),
    placed("PutClusterCapacityProviders.capacityProviders"),
    placed("PutClusterCapacityProviders.defaultCapacityProviderStrategy"),
    placed("*.capacityProviderStrategy"),
    placed("*.launchType"),
    placed("*.platformVersion"),
    placed("*.networkConfiguration"),
    placed("*.placementConstraints"),
    placed("*.placementStrategy"),
    placed("*.availabilityZoneRebalancing"),
    kept("CreateService.role"),
    Accepted { member: "*.overrides.taskRoleArn", why: "kept and shown; there are no roles" },
    Accepted { member: "*.overrides.executionRoleArn", why: "kept and shown; there are no roles" },
    Accepted {
        member: "*.loadBalancers.advancedConfiguration.roleArn",
        why: "kept and shown; there are no roles",
    },
    Accepted {
        member: "*.deploymentConfiguration.lifecycleHooks.roleArn",
        why: "kept and shown; there are no roles",
    },
    Accepted { member: "RunTask.referenceId", why: "only ever seen by its caller" },
    Accepted { member: "StartTask.referenceId", why: "only ever seen by its caller" },
    Accepted { member: "*.principalArn", why: "settings are the same for everybody" },
];

/// Operations that are told why they are not served.
const REFUSED: &[(&str, &str)] = &[
    ("RegisterContainerInstance", ONLY),
    ("DeregisterContainerInstance", ONLY),
    ("PutAttributes", ONLY),
    ("DeleteAttributes", ONLY),
    ("CreateCapacityProvider", PROVIDERS),
    ("UpdateCapacityProvider", PROVIDERS),
    ("DeleteCapacityProvider", PROVIDERS),
];
const ONLY: &str = "this machine is every cluster's only container instance";
const PROVIDERS: &str = "every task runs on this machine; FARGATE and FARGATE_SPOT are there";

const fn kept(member: &'static str) -> Accepted {
    Accepted { member, why: "kept and shown" }
}

const fn placed(member: &'static str) -> Accepted {
    Accepted { member, why: "checked, kept and shown; every task runs on this machine" }
}

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "CreateCluster" => cluster::create(call, input).await,
        "DescribeClusters" => cluster::describe(call, input),
        "UpdateCluster" | "UpdateClusterSettings" => cluster::update(call, input).await,
        "PutClusterCapacityProviders" => cluster::put_providers(call, input).await,
        "DeleteCluster" => cluster::delete(call, input).await,
        "ListClusters" => cluster::list(call, input),
        "RegisterTaskDefinition" => task_definition::register(call, input).await,
        "DescribeTaskDefinition" => task_definition::describe(call, input),
        "DeregisterTaskDefinition" => task_definition::deregister(call, input).await,
        "DeleteTaskDefinitions" => task_definition::delete(call, input).await,
        "ListTaskDefinitions" => task_definition::list(call, input),
        "ListTaskDefinitionFamilies" => task_definition::list_families(call, input),
        "CreateService" => service::create(call, input).await,
        "DescribeServices" => service::describe(call, input),
        "UpdateService" => service::update(call, input).await,
        "DeleteService" => service::delete(call, input).await,
        "ListServices" => service::list(call, input),
        "ListServicesByNamespace" => service::list_by_namespace(call, input),
        "RunTask" => task::run(call, input).await,
        "StartTask" => task::start_on(call, input).await,
        "DescribeTasks" => task::describe(call, input),
        "StopTask" => task::stop(call, input).await,
        "ListTasks" => task::list(call, input),
        "CreateTaskSet" | "UpdateTaskSet" | "UpdateServicePrimaryTaskSet" | "DeleteTaskSet" => {
            task_set::refuse(call, &input)
        }
        "DescribeTaskSets" => task_set::describe(call, &input),
        "DescribeServiceDeployments" => deployment::describe(call, input),
        "StopServiceDeployment" => deployment::stop(call, input).await,
        "ContinueServiceDeployment" => deployment::go_on(call, input).await,
        "DescribeServiceRevisions" => deployment::describe_revisions(call, input),
        "ListServiceDeployments" => deployment::list(call, input),
        "DescribeContainerInstances" => instance::describe(call, input),
        "UpdateContainerInstancesState" => instance::update_state(call, input),
        "ListContainerInstances" => instance::list(call, input),
        "ListAttributes" => instance::list_attributes(call, input),
        "TagResource" => tag::tag(call, input).await,
        "UntagResource" => tag::untag(call, input).await,
        "ListTagsForResource" => tag::list(call, input),
        "PutAccountSetting" | "PutAccountSettingDefault" => account::put_setting(call, input),
        "ListAccountSettings" => account::list_settings(call, input),
        "DescribeCapacityProviders" => account::describe_providers(call, input),
        "GetTaskProtection" => protection::get(call, input),
        "UpdateTaskProtection" => protection::update(call, input).await,
        name => match REFUSED.iter().find(|(operation, _)| *operation == name) {
            Some((_, why)) => {
                Err(Error::unsupported(format!("{name} is not supported here: {why}")))
            }
            None => Err(call.unknown()),
        },
    }
}

/// 64 hexadecimal digits that follow from a text.
fn digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
