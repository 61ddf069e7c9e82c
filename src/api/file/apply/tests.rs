//! Files applied one after the other to a store in memory, with other fronts writing in between.

use std::path::Path;

use super::*;
use crate::model::{Action, Deployment, Listener, Progress, TargetGroup};
use crate::state::MemoryJournal;

const WEB: &str = r#"
[[namespace]]
name = "demo.internal"

[[load_balancer]]
name = "front"
type = "application"

[[load_balancer.listener]]
port = 80
forward = [{ target_group = "web", weight = 1 }, { target_group = "fixed", weight = 1 }]

[[target_group]]
name = "web"

[[target_group]]
name = "fixed"
targets = ["10.0.0.7:8080", "[::1]:80"]

[[task_definition]]
family = "web"
containerDefinitions = [{ name = "web", command = ["v1"], portMappings = [{ containerPort = 80 }] }]

[[service]]
name = "web"
task_definition = "web"
desired_count = 3
namespace = "demo.internal"
load_balancers = [{ target_group = "web", container_port = 80 }]
"#;

struct World {
    store: Store,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self { store: Store::memory(&MemoryJournal::default()).unwrap(), now: 0 }
    }

    async fn apply(&mut self, text: &str) -> Result<Summary, String> {
        let file = super::super::parse(Path::new("r.toml"), text).map_err(|p| p.to_string())?;
        self.now += 1;
        apply(&self.store, &file, Timestamp(self.now), |_| Ok(()))
            .await
            .map_err(|error| error.to_string())
    }

    /// What another front writes.
    async fn write(&self, change: impl FnOnce(&mut Tx<'_>) + Send + 'static) {
        let change = move |tx: &mut Tx<'_>| {
            change(tx);
            Ok::<_, StoreError>(())
        };
        self.store.update(change).await.unwrap();
    }

    fn state(&self) -> Arc<State> {
        self.store.read()
    }

    fn service(&self) -> Service {
        (**self.state().services.values().next().unwrap()).clone()
    }

    /// Ends everything that drains, as the orchestrator does.
    async fn reap(&self) {
        self.write(|tx| {
            let state = tx.state().clone();
            for service in state.services.values() {
                if service.status == ServiceStatus::Draining {
                    tx.remove(Key::Service(service.key.clone()));
                }
            }
            for target in state.targets.values().filter(|target| !target.is_active()) {
                tx.remove(Key::Target(target.id));
            }
        })
        .await;
    }
}

fn weights(listener: &Listener) -> Vec<u32> {
    listener.default_action.groups().iter().map(|group| group.weight).collect()
}

fn without(text: &str, part: &str) -> String {
    assert!(text.contains(part), "{part}");
    text.replace(part, "")
}

fn service_part() -> &'static str {
    &WEB[WEB.find("[[service]]").unwrap()..]
}

#[tokio::test]
async fn first_application_creates_everything() {
    let mut world = World::new();
    let summary = world.apply(WEB).await.unwrap();
    assert!(summary.changed.is_empty() && summary.removed.is_empty());
    let state = world.state();
    assert_eq!(summary.generation, state.generation);
    assert_eq!(state.load_balancers[&"front".into()].address.to_string(), "127.0.10.1");
    assert_eq!(state.targets.len(), 2);
    assert_eq!(world.service().definition.to_string(), "web:1");
    assert_eq!(state.discovery_services.keys().next().unwrap().to_string(), "demo.internal/web");
    assert!(state.clusters.contains_key(&"default".into()));
}

#[tokio::test]
async fn applying_twice_commits_nothing() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    let before = world.state();
    let summary = world.apply(WEB).await.unwrap();
    assert!(summary.is_empty());
    assert_eq!(summary.generation, before.generation);
    assert_eq!(world.state().generation, before.generation);
    let quickstart = include_str!("../../../../config/quickstart.toml");
    world.apply(quickstart).await.unwrap();
    let before = world.state().generation;
    world.apply(quickstart).await.unwrap();
    assert_eq!(world.state().generation, before);
}

#[tokio::test]
async fn desired_count_set_elsewhere_survives_other_edits() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    let scaled = Service { desired_count: 7, ..world.service() };
    world.write(|tx| tx.put(scaled)).await;
    world.apply(WEB).await.unwrap();
    assert_eq!(world.service().desired_count, 7);
    let edited = WEB.replace("desired_count = 3", "desired_count = 3\nmaximum_percent = 150");
    let summary = world.apply(&edited).await.unwrap();
    assert_eq!(summary.changed, ["service default/web"]);
    let service = world.service();
    assert_eq!((service.desired_count, service.maximum_percent), (7, 150));
    world.apply(&edited.replace("desired_count = 3", "desired_count = 4")).await.unwrap();
    assert_eq!(world.service().desired_count, 4);
}

#[tokio::test]
async fn weights_set_elsewhere_survive_other_edits() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    let mut listener = (**world.state().listeners.values().next().unwrap()).clone();
    if let Action::Forward(groups) = &mut listener.default_action {
        groups[0].weight = 9;
    }
    world.write(|tx| tx.put(listener)).await;
    let edited = WEB.replace("\"fixed\", weight = 1", "\"fixed\", weight = 5");
    world.apply(&edited).await.unwrap();
    assert_eq!(weights(world.state().listeners.values().next().unwrap()), [9, 5]);
}

#[tokio::test]
async fn changed_definition_is_a_new_revision_and_the_old_one_goes_when_unused() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    let mut progress = Progress::new(world.service().key);
    let first = Deployment::of(&world.service(), "ecs-svc/1".into(), Timestamp(0));
    progress.deployments.push(first);
    world.write(|tx| tx.put(progress)).await;
    let edited = WEB.replace("\"v1\"", "\"v2\"");
    let summary = world.apply(&edited).await.unwrap();
    assert_eq!(summary.changed, ["task definition web", "service default/web"]);
    assert_eq!(world.service().definition.to_string(), "web:2");
    let revisions = |world: &World| -> Vec<u32> {
        world.state().definitions.keys().map(|key| key.revision).collect()
    };
    assert_eq!(revisions(&world), [1, 2]);
    let key = world.service().key;
    world.write(move |tx| tx.remove(Key::Progress(key))).await;
    sweep::sweep_store(&world.store, Timestamp(9)).await.unwrap();
    assert_eq!(revisions(&world), [2]);
    // Back to the old content: numbers are never used again.
    world.apply(WEB).await.unwrap();
    assert_eq!(world.service().definition.to_string(), "web:3");
    assert_eq!(revisions(&world), [3]);
}

#[tokio::test]
async fn what_leaves_the_file_drains_and_then_goes() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    let summary = world.apply("").await.unwrap();
    assert_eq!(summary.removed.len(), 10, "{:?}", summary.removed);
    let state = world.state();
    let service = world.service();
    assert_eq!((service.desired_count, service.status), (0, ServiceStatus::Draining));
    assert!(state.targets.values().all(|target| !target.is_active()));
    assert!(state.listeners.is_empty() && state.load_balancers.is_empty());
    assert_eq!(state.target_groups.len(), 2, "still used by what drains");
    assert_eq!(state.discovery_services.len(), 1);
    let before = state.generation;
    world.apply("").await.unwrap();
    assert_eq!(world.state().generation, before);
    world.reap().await;
    sweep::sweep_store(&world.store, Timestamp(9)).await.unwrap();
    let state = world.state();
    let left: Vec<_> = state.rows().map(|row| row.key()).collect();
    assert_eq!(left, [Key::Cluster("default".into()), Key::FamilyRecord("web".into())]);
}

#[tokio::test]
async fn service_that_comes_back_while_draining_is_active_again() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    world.apply(&without(WEB, service_part())).await.unwrap();
    assert_eq!(world.service().status, ServiceStatus::Draining);
    world.apply(WEB).await.unwrap();
    let service = world.service();
    assert_eq!((service.desired_count, service.status), (3, ServiceStatus::Active));
}

#[tokio::test]
async fn fixed_target_that_comes_back_is_a_new_registration() {
    let mut world = World::new();
    world.apply(WEB).await.unwrap();
    world.apply(&without(WEB, ", \"[::1]:80\"")).await.unwrap();
    let active = |world: &World| world.state().targets.values().filter(|t| t.is_active()).count();
    assert_eq!((active(&world), world.state().targets.len()), (1, 2));
    world.apply(WEB).await.unwrap();
    assert_eq!((active(&world), world.state().targets.len()), (2, 3));
}

#[tokio::test]
async fn resource_that_the_api_refers_to_cannot_leave() {
    let mut world = World::new();
    let groups = "[[target_group]]\nname = \"web\"\n";
    world
        .apply(&format!("{groups}[[load_balancer]]\nname = \"front\"\ntype = \"application\"\n"))
        .await
        .unwrap();
    let key = crate::model::ListenerKey { load_balancer: "front".into(), port: 81 };
    let group = crate::model::WeightedGroup { group: "web".into(), weight: 1 };
    let listener = Listener {
        key,
        id: String::new(),
        protocol: crate::model::Protocol::Http,
        carrier: crate::model::Carrier::default(),
        rules: Vec::new(),
        default_action: Action::Forward(vec![group]),
        owner: Owner::Api,
        options: Default::default(),
    };
    world.write(|tx| tx.put(listener)).await;
    let before = world.state().generation;
    let refused = world.apply(groups).await.unwrap_err();
    assert_eq!(
        refused,
        "r.toml:1: load_balancer: load balancer front is no longer in the file, \
         but listener front:81 (API) refers to it"
    );
    assert_eq!(world.state().generation, before);
    let refused =
        world.apply("[[load_balancer]]\nname = \"front\"\ntype = \"application\"\n").await;
    assert_eq!(
        refused.unwrap_err(),
        "r.toml:1: target_group: target group web is no longer in the file, \
         but listener front:81 (API) refers to it"
    );
}

#[tokio::test]
async fn resource_of_the_api_is_not_taken_over() {
    let mut world = World::new();
    world.apply("[[target_group]]\nname = \"web\"\n").await.unwrap();
    let group = (**world.state().target_groups.values().next().unwrap()).clone();
    world
        .write(move |tx| tx.put(TargetGroup { name: "api".into(), owner: Owner::Api, ..group }))
        .await;
    let refused = world.apply("\n[[target_group]]\nname = \"api\"\n").await.unwrap_err();
    assert_eq!(
        refused,
        "r.toml:3: target_group.name: target group api exists already and belongs to the API"
    );
}

#[tokio::test]
async fn refusals_of_the_state_name_the_line() {
    let mut world = World::new();
    let balancer = |name: &str, address: &str| {
        format!(
            "[[load_balancer]]\nname = {name:?}\ntype = \"network\"\n{address}\
             [[load_balancer.listener]]\nport = 80\ntarget_group = \"t\"\n"
        )
    };
    let group = "[[target_group]]\nname = \"t\"\nprotocol = \"TCP\"\n";
    world.apply(&format!("{group}{}", balancer("a", ""))).await.unwrap();
    let both =
        format!("{group}{}{}", balancer("a", ""), balancer("b", "address = \"127.0.10.1\"\n"));
    let refused = world.apply(&both).await.unwrap_err();
    assert!(refused.contains("load_balancer.listener.port: listener"), "{refused}");
    assert!(refused.ends_with("listens on 127.0.10.1:80 already"), "{refused}");
}

#[tokio::test]
async fn pool_without_a_free_address_is_told() {
    let mut world = World::new();
    let text = "[elb]\naddresses = \"127.0.10.0/32\"\n\
                [[load_balancer]]\nname = \"a\"\ntype = \"network\"\n";
    assert_eq!(
        world.apply(text).await.unwrap_err(),
        "r.toml:4: load_balancer.name: load balancer a needs an address, \
         and 127.0.10.0/32 has none left"
    );
}

#[tokio::test]
async fn address_asked_for_is_given_to_nobody_else() {
    let mut world = World::new();
    let text = "[[load_balancer]]\nname = \"a\"\ntype = \"network\"\n\
                [[load_balancer]]\nname = \"b\"\ntype = \"network\"\naddress = \"127.0.10.1\"\n";
    world.apply(text).await.unwrap();
    let state = world.state();
    let addresses = state.load_balancers.values().map(|row| row.address.to_string());
    assert_eq!(addresses.collect::<Vec<_>>(), ["127.0.10.2", "127.0.10.1"]);
}

#[tokio::test]
async fn failed_write_changes_nothing() {
    let journal = MemoryJournal::default();
    let mut world = World { store: Store::memory(&journal).unwrap(), now: 0 };
    journal.set_failing(true);
    assert!(world.apply(WEB).await.unwrap_err().starts_with("not written"));
    assert!(world.state().services.is_empty());
    journal.set_failing(false);
    world.apply(WEB).await.unwrap();
    assert_eq!(world.state().services.len(), 1);
}

#[tokio::test]
async fn restart_keeps_the_copies() {
    let journal = MemoryJournal::default();
    let mut world = World { store: Store::memory(&journal).unwrap(), now: 0 };
    world.apply(WEB).await.unwrap();
    let scaled = Service { desired_count: 7, ..world.service() };
    world.write(|tx| tx.put(scaled)).await;
    world.store = Store::memory(&journal).unwrap();
    let summary = world.apply(WEB).await.unwrap();
    assert!(summary.is_empty(), "{summary:?}");
    assert_eq!(world.service().desired_count, 7);
}

#[tokio::test]
async fn listeners_of_http_and_https_forward_to_groups_of_either() {
    let folder = tempfile::tempdir().unwrap();
    let pem = crate::tls::testing::certificate(&["one.test"], false);
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("c.key"));
    std::fs::write(&certificate, pem.certificate).unwrap();
    std::fs::write(&key, pem.key).unwrap();
    for (listener, group, fits) in [
        ("HTTPS\"\ncertificates = [\"c\"]\n#", "HTTP", true),
        ("HTTPS\"\ncertificates = [\"c\"]\n#", "HTTPS", true),
        ("HTTP", "HTTPS", true),
        ("HTTP", "TCP", false),
    ] {
        let text = format!(
            "[[certificate]]\nname = \"c\"\ncertificate = {certificate:?}\n\
             private_key = {key:?}\n\
             [[load_balancer]]\nname = \"front\"\ntype = \"application\"\n\
             [[load_balancer.listener]]\nport = 443\nprotocol = \"{listener}\"\n\
             target_group = \"t\"\n\
             [[target_group]]\nname = \"t\"\nprotocol = \"{group}\"\n\
             targets = [\"10.0.0.7:8080\"]\n"
        );
        let outcome = World::new().apply(&text).await;
        assert_eq!(outcome.is_ok(), fits, "{outcome:?}");
    }
}

#[tokio::test]
async fn certificates_follow_their_files_and_leave_no_copy_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let write = |names: &[&str]| {
        let pem = crate::tls::testing::certificate(names, false);
        std::fs::write(folder.path().join("c.pem"), pem.certificate).unwrap();
        std::fs::write(folder.path().join("c.key"), &pem.key).unwrap();
        pem.key
    };
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("c.key"));
    let text = format!(
        "[[certificate]]\nname = \"c\"\ncertificate = {certificate:?}\nprivate_key = {key:?}\n\
         [[load_balancer]]\nname = \"front\"\ntype = \"application\"\n\
         [[load_balancer.listener]]\nport = 443\nprotocol = \"HTTPS\"\ncertificates = [\"c\"]\n\
         fixed_response = {{ status = 404 }}\n"
    );
    let mut world = World::new();
    write(&["one.test"]);
    let created = world.apply(&text).await.unwrap().created;
    let arn = world.state().certificates.keys().next().unwrap().clone();
    assert_eq!(created[0], format!("certificate {arn}"));
    let tls = world.state().listeners.values().next().unwrap().options.tls.clone().unwrap();
    assert!(tls.certificates.iter().eq([&arn]));
    assert!(world.apply(&text).await.unwrap().is_empty());
    let key = write(&["two.test"]);
    let summary = world.apply(&text).await.unwrap();
    assert_eq!(summary.changed, [format!("certificate {arn}")]);
    let row = Arc::clone(&world.state().certificates[&arn]);
    assert_eq!((row.private_key.expose(), row.imported_at.0), (key.as_str(), world.now));
    let state = world.state();
    assert!(state.applied.values().all(|row| !row.written.to_string().contains("PRIVATE")));
    assert!(!format!("{state:?}").contains("PRIVATE"));
    let summary = world.apply("").await.unwrap();
    assert!(summary.removed.contains(&format!("certificate {arn}")), "{summary:?}");
    assert!(world.state().certificates.is_empty() && world.state().listeners.is_empty());
}
