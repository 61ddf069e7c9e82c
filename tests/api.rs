//! The AWS APIs, driven by unmodified clients.

use crate::support::aws::client;
use crate::support::certificates;
use crate::support::trust;
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
async fn power_over_the_machine_is_for_signed_calls_alone() {
    for (world, auth) in [(World::new().open_api(), "none"), (World::new(), "sigv4")] {
        let running = world.start().await;
        client(&running, "dangers.py", &[auth]).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_go_where_strategies_constraints_and_room_send_them() {
    let size = "cpu = 1024\nmemory = 1024\n";
    let one = "name = \"one\"\nzone = \"zone-a\"\nattributes = { disk = \"ssd\" }";
    let two = "name = \"two\"\nzone = \"zone-a\"";
    let three = "name = \"three\"\nzone = \"zone-b\"\nreserve = { cpu = 24, memory = 24 }";
    let world = [one, two, three].iter().fold(World::new().open_api(), |world, instance| {
        world.setting(&format!("[[instance]]\n{instance}\n{size}"))
    });
    let running = world.start().await;
    client(&running, "ecs_instances.py", &[PROGRAM]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_do_what_their_policies_say() {
    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Sid": "Look", "Effect": "Allow", "Resource": "*",
         "Action": ["ecs:List*", "ecs:Describe*"]},
        {"Sid": "Blue", "Effect": "Allow", "Action": "ecs:*", "Resource": [
            "arn:aws:ecs:*:*:cluster/blue", "arn:aws:ecs:*:*:service/blue/*"]},
        {"Sid": "Keep", "Effect": "Deny", "Action": "ecs:DeleteCluster", "Resource": "*"},
        {"Sid": "Secret", "Effect": "Deny", "Action": "ecs:*", "NotResource": "arn:aws:ecs:*:*:*",
         "Condition": {"StringLike": {"aws:UserAgent": "*nobody*"}}},
        {"Sid": "Green", "Effect": "Deny", "Action": "ecs:ListServices", "Resource": "*",
         "Condition": {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:*:*:cluster/green"}}},
        {"Sid": "Made", "Effect": "Allow", "Resource": "*", "Action": [
            "elasticloadbalancing:CreateTargetGroup", "elasticloadbalancing:AddTags"],
         "Condition": {"StringEquals": {"aws:RequestTag/team": "${aws:username}"},
            "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "name"]}}},
        {"Sid": "Own", "Effect": "Allow",
         "Resource": "arn:aws:elasticloadbalancing:*:*:targetgroup/*",
         "Action": "elasticloadbalancing:DeleteTargetGroup",
         "Condition": {"StringEquals": {"aws:ResourceTag/team": "${aws:username}"}}},
        {"Sid": "Here", "Effect": "Allow", "Resource": "*", "Action": "route53:ListHostedZones",
         "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"},
            "DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}},
        {"Sid": "Elsewhere", "Effect": "Allow", "Resource": "*", "Action": "logs:DescribeLogGroups",
         "Condition": {"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}},
        {"Sid": "Net", "Effect": "Allow", "Resource": [
            "arn:aws:ec2:*:*:vpc/*", "arn:aws:ec2:*:*:security-group/*"],
         "Action": ["ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress"]},
        {"Sid": "Name", "Effect": "Allow", "Resource": "arn:aws:ec2:*:*:security-group/*",
         "Action": "ec2:CreateTags", "Condition": {"BinaryEquals": {"aws:RequestTag/team": "Y2k="}}},
        {"Sid": "Group", "Effect": "Allow", "Resource": "arn:aws:ec2:*:*:security-group/*",
         "Action": "ec2:DeleteSecurityGroup",
         "Condition": {"StringEquals": {"ec2:ResourceTag/team": "${aws:username}"}}},
        {"Sid": "Front", "Effect": "Allow", "Action": "iam:GetServerCertificate",
         "Resource": "arn:aws:iam::*:server-certificate/ci/*"},
        {"Sid": "Scale", "Effect": "Allow", "Resource": "*",
         "Action": "application-autoscaling:RegisterScalableTarget",
         "Condition": {"StringEquals": {"application-autoscaling:service-namespace": "ecs"}}}
    ]}"#;
    let running = World::new().api_key("ci", POLICY).start().await;
    let folder = certificates::folder();
    let folder = folder.path().to_str().unwrap();
    let arguments = ["AKIACI00000000000000", &"c".repeat(40), folder];
    let clients = client(&running, "keys.py", &arguments).await;
    if clients {
        let log = running.world.audit_log();
        let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let denied = || {
            let text = std::fs::read_to_string(&log).unwrap();
            let lines = text
                .lines()
                .map(of)
                .filter(|line| line["user"] == "ci" && line["outcome"] == "AccessDeniedException");
            lines.map(|line| line["operation"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        until("the audit log's lines", || denied().contains(&"DescribeLogGroups".to_owned())).await;
        assert!(denied().contains(&"DeleteCluster".to_owned()), "{:?}", denied());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_see_the_tags_that_tasks_are_given() {
    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecs:DescribeTasks", "Resource": "*",
         "Condition": {"StringEquals": {"aws:ResourceTag/team": "ci"}}},
        {"Effect": "Allow", "Action": "ecs:StopTask", "Resource": "*",
         "Condition": {"StringEquals": {"ecs:ResourceTag/aws:ecs:serviceName": "none"}}}
    ]}"#;
    let running = World::new().api_key("ci", POLICY).start().await;
    let arguments = ["AKIACI00000000000000", &"c".repeat(40), PROGRAM];
    client(&running, "tags_policies.py", &arguments).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_called_broken_and_asked_about_what_is_gone() {
    let running = World::new().open_api().start().await;
    client(&running, "every_operation.py", &[]).await;
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
async fn terraforms_reads_find_what_it_gave_twice() {
    let (running, folder) = (World::new().open_api().start().await, certificates::folder());
    let arguments = [PROGRAM, folder.path().to_str().unwrap()];
    client(&running, "terraform.py", &arguments).await;
    assert_eq!(running.state().tasks.values().filter(|task| task.is_live()).count(), 0);
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
async fn ecs_commands_are_executed_by_the_stock_command_and_its_plugin() {
    let (running, folder) = (World::new().start().await, tempfile::tempdir().unwrap());
    client(&running, "ecs_execute.py", &[PROGRAM, folder.path().to_str().unwrap()]).await;
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
async fn tokens_and_logins_come_before_other_actions() {
    let (running, folder) = (World::new().open_api().start().await, certificates::folder());
    client(&running, "authentication.py", &[folder.path().to_str().unwrap()]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_prove_who_they_are_where_listeners_ask_for_it() {
    let folder = certificates::folder();
    let bucket = folder.path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    trust::write(&bucket);
    let world = World::new().open_api().trust_store_folder(folder.path());
    let address = world.address(1);
    let file = |name: &str| folder.path().join(name);
    let mut text = format!(
        "[[certificate]]\nname = \"one\"\ncertificate = {:?}\nprivate_key = {:?}\n\
         [[trust_store]]\nname = \"file\"\nca_certificates = {:?}\nrevocations = [{:?}]\n\
         [[load_balancer]]\nname = \"files\"\ntype = \"application\"\naddress = \"{address}\"\n",
        file("one.pem"),
        file("one.key"),
        bucket.join("ca.pem"),
        bucket.join("crl.pem"),
    );
    let modes = [
        "mutual_authentication = \"passthrough\"",
        "mutual_authentication = \"verify\"\n\
         trust_store = \"file\"\nadvertise_trust_store_ca_names = true",
    ];
    for (port, (carrier, mode)) in (8443..).zip([
        ("native", modes[0]),
        ("pingora", modes[0]),
        ("native", modes[1]),
        ("pingora", modes[1]),
    ]) {
        text.push_str(&format!(
            "[[load_balancer.listener]]\nport = {port}\nprotocol = \"HTTPS\"\n\
             carrier = {carrier:?}\ncertificates = [\"one\"]\n{mode}\ntarget_group = \"web\"\n"
        ));
    }
    let running = world.service(Service::http("web", 1)).setting(&text).start().await;
    running.settled("web", 1).await;
    let arguments = [folder.path().to_str().unwrap(), &address.to_string()];
    client(&running, "trust_stores.py", &arguments).await;
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
async fn names_are_answered_as_their_health_checks_say() {
    let running = World::new().open_api().service(Service::http("web", 1)).start().await;
    running.settled("web", 1).await;
    client(&running, "health_checks.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_whose_models_say_so_speak_cbor() {
    let running = World::new().service(Service::http("web", 1)).start().await;
    client(&running, "cbor.py", &[]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn route_53_keeps_records_that_dns_answers() {
    let running = World::new().open_api().start().await;
    client(&running, "route53.py", &[]).await;
    running.stop().await;
}
