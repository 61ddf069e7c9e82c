//! The AWS APIs, driven by unmodified clients.

use crate::support::aws::client;
use crate::support::certificates;
use crate::support::world::{PROGRAM, Service, World};
use crate::support::{scrape, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_answers_in_the_form_it_was_asked_in() {
    let running = World::new().open_api().start().await;
    client(&running, "entry.py", &["none"]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_good_signature_are_refused_alike() {
    let running = World::new().start().await;
    let clients = client(&running, "entry.py", &["sigv4"]).await;
    let log = running.world.audit_log();
    let lines = || std::fs::read_to_string(&log).unwrap();
    if clients {
        // Two calls, two without a signature, four of strangers, one for another region.
        until("the audit log's lines", || lines().lines().count() == 9).await;
        let mut outcomes: std::collections::BTreeMap<_, usize> = Default::default();
        for line in lines().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let outcome = line["outcome"].as_str().unwrap().to_owned();
            let known = line["caller"].as_str().is_some_and(|key| key.starts_with("AKIA"));
            assert_eq!(known, ["OK", "InvalidRegion"].contains(&outcome.as_str()), "{line}");
            *outcomes.entry(outcome).or_default() += 1;
        }
        let expected = [
            ("InvalidRegion", 1),
            ("InvalidSignatureException", 2),
            ("MissingAuthenticationToken", 1),
            ("MissingAuthenticationTokenException", 1),
            ("OK", 2),
            ("SignatureDoesNotMatch", 2),
        ];
        assert_eq!(outcomes, expected.map(|(code, count)| (code.to_owned(), count)).into());
        let metrics = scrape(running.app.as_ref().unwrap().metrics_address()).await;
        let series = "roadstead_api_calls_total{service=\"sts\",\
                      operation=\"GetCallerIdentity\",code=\"OK\"} 2";
        let calls: Vec<_> = metrics.lines().filter(|line| line.contains("api_calls")).collect();
        assert!(calls.contains(&series), "{calls:#?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_made_changed_and_deleted_by_the_stock_command() {
    let (running, folder) = (World::new().start().await, certificates::folder());
    client(&running, "journey.py", &[folder.path().to_str().unwrap(), PROGRAM]).await;
    let left = running.state().tasks.values().filter(|task| task.is_live()).count();
    assert_eq!(left, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_kept_for_those_who_ask_for_them() {
    let running = World::new().open_api().start().await;
    client(&running, "ec2.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_clusters_and_what_is_fixed_about_them() {
    let cluster = "[[cluster]]\nname = \"files\"";
    let running = World::new().open_api().setting(cluster).start().await;
    client(&running, "ecs_clusters.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_task_definitions_are_numbered_revisions() {
    let running = World::new().open_api().start().await;
    client(&running, "ecs_definitions.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_services_come_and_go_as_their_waiters_expect() {
    let running = World::new().open_api().service(Service::http("web", 1)).start().await;
    client(&running, "ecs_services.py", &[PROGRAM]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_deployments_that_fail_go_back() {
    let running = World::new().open_api().service(Service::http("web", 1)).start().await;
    client(&running, "ecs_deployments.py", &[PROGRAM]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_deployments_shift_traffic_in_stages() {
    let running = World::new().open_api().start().await;
    client(&running, "ecs_gradual.py", &[PROGRAM]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecs_tasks_run_without_a_service() {
    let running = World::new().open_api().start().await;
    client(&running, "ecs_tasks.py", &[PROGRAM]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_map_keeps_names_that_dns_answers() {
    let running = World::new().open_api().start().await;
    client(&running, "cloudmap.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_and_target_groups_are_what_was_asked_for() {
    let running = World::new().open_api().start().await;
    client(&running, "elb_load_balancers.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_a_certificate_speaks_https_alone() {
    let folder = certificates::folder();
    let running = World::new().secure_api(folder.path(), "one").start().await;
    client(&running, "secure.py", &[folder.path().to_str().unwrap()]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_imported_presented_and_deleted() {
    let (running, folder) = (World::new().open_api().start().await, certificates::folder());
    client(&running, "certificates.py", &[folder.path().to_str().unwrap()]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_rules_and_targets_are_what_was_asked_for() {
    let running = World::new().open_api().start().await;
    client(&running, "elb_listeners.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_of_the_api_carries_traffic_until_it_is_deleted() {
    let running = World::new().open_api().start().await;
    client(&running, "elb_journey.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_owns_is_shown_and_changed_in_its_weights_alone() {
    let running = World::new().open_api().service(Service::http("web", 1)).start().await;
    running.settled("web", 1).await;
    client(&running, "elb_file.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn route_53_keeps_records_that_dns_answers() {
    let running = World::new().open_api().start().await;
    client(&running, "route53.py", &[]).await;
    running.stop().await;
}
