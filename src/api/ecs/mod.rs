//! ECS: one file per resource; operations in the order Create, Describe, Update, Delete,
//! List.
//!
//! Not here: wire forms and checks against the model, which are done before an operation sees its
//! input. **Invariant:** [`call`] is the list of what is served.

mod account;
mod attribute;
mod capacity_provider;
mod cluster;
mod deployment;
pub(crate) mod events;
mod execute;
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

use sha2::{Digest as _, Sha256};

use super::call::{Accepted, Call, Input, Outcome};
use crate::model::hex;

pub(super) use names::newest as newest_definition;
pub(super) use tag::of_task as tags_of_task;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    kept("CreateCluster.settings"),
    kept("UpdateCluster.settings"),
    kept("UpdateClusterSettings.settings"),
    Accepted {
        member: "*.configuration.executeCommandConfiguration.logging",
        why: "kept and shown; what is said in sessions is not logged",
    },
    placed("CreateCluster.capacityProviders"),
    placed("CreateCluster.defaultCapacityProviderStrategy"),
    placed("PutClusterCapacityProviders.capacityProviders"),
    placed("PutClusterCapacityProviders.defaultCapacityProviderStrategy"),
    Accepted {
        member: "*.autoScalingGroupProvider",
        why: "kept and shown; nothing scales the group or stops its instances",
    },
    placed("*.capacityProviderStrategy"),
    placed("*.launchType"),
    placed("*.platformVersion"),
    placed("*.networkConfiguration"),
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
pub(crate) const REFUSED: &[(&str, &str)] =
    &[("RegisterContainerInstance", ONLY), ("DeregisterContainerInstance", ONLY)];
const ONLY: &str = "container instances stand in the configuration file";

const fn kept(member: &'static str) -> Accepted {
    Accepted { member, why: "kept and shown" }
}

const fn placed(member: &'static str) -> Accepted {
    Accepted {
        member,
        why: "checked, kept and shown; tasks run on the container instances of the file",
    }
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
        "ExecuteCommand" => execute::command(call, input),
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
        "UpdateContainerInstancesState" => instance::update_state(call, input).await,
        "ListContainerInstances" => instance::list(call, input),
        "PutAttributes" => attribute::put(call, input).await,
        "DeleteAttributes" => attribute::delete(call, input).await,
        "ListAttributes" => attribute::list(call, input),
        "TagResource" => tag::tag(call, input).await,
        "UntagResource" => tag::untag(call, input).await,
        "ListTagsForResource" => tag::list(call, input),
        "PutAccountSetting" | "PutAccountSettingDefault" => account::put_setting(call, input),
        "DeleteAccountSetting" => account::delete_setting(call, input),
        "ListAccountSettings" => account::list_settings(call, input),
        "CreateCapacityProvider" => capacity_provider::create(call, input).await,
        "DescribeCapacityProviders" => capacity_provider::describe(call, input),
        "UpdateCapacityProvider" => capacity_provider::update(call, input).await,
        "DeleteCapacityProvider" => capacity_provider::delete(call, input).await,
        "GetTaskProtection" => protection::get(call, input),
        "UpdateTaskProtection" => protection::update(call, input).await,
        _ => Err(call.not_served(REFUSED)),
    }
}

/// 64 hexadecimal digits that follow from a text.
fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
