//! What a plan does with several container instances: draining, loss, DAEMON services, zones.

use super::*;

/// `instance NAME [zone=Z] [cpu=N] [draining] [Silent] [Lost] [Removed]`
pub(super) fn instance(words: &[&str]) -> ContainerInstance {
    let cpu = u32::try_from(seconds(words, "cpu=", 1 << 20)).unwrap();
    let capacity = Capacity { cpu, memory_mib: 1 << 20 };
    let new = ContainerInstance::new(words[1].into(), InstanceKind::Process, at(0));
    let mut row = new.connected(capacity);
    row.zone = field(words, "zone=").unwrap_or(ZONE).to_owned();
    for contact in [Contact::Silent, Contact::Lost, Contact::Removed] {
        if words.contains(&format!("{contact:?}").as_str()) {
            row.contact = contact;
        }
    }
    let draining = words.contains(&"draining");
    row.memberships.insert("c".into(), Membership { draining, ..Membership::default() });
    row
}

const TWO: &str = "instance a zone=z1\n instance b zone=z2";

#[test]
fn tasks_go_to_the_emptiest_zone() {
    let text = format!("service web 3 100/200\n{TWO}");
    check(&text, "open web web:1\nstart web:1 on a\nstart web:1 on b\nstart web:1 on a");
}

#[test]
fn a_drained_instance_keeps_its_task_until_another_is_well() {
    let rest = "deployment 1 1 done\n instance a draining\n instance b";
    let with = |percent: &str, tasks: &str| {
        format!("service web 1 {percent} lb steady\n{rest}\ntask t 1 RUNNING healthy on=a\n{tasks}")
    };
    check(&with("100/200", ""), "start web:1 on b\nunsteady web");
    check(&with("100/200", "task u 1 PENDING on=b"), "unsteady web");
    check(&with("100/200", "task u 1 RUNNING healthy on=b"), "stop t: draining");
    // Nothing may start beside it, and it may go first; or nothing at all.
    check(&with("0/100", ""), "stop t: draining\nstart web:1 on b\nunsteady web");
    check(&with("100/100", ""), "unsteady web");
    check_events(&with("100/100", ""), {
        "(service web) was unable to stop or start tasks during a deployment because of the \
         service deployment configuration. Update the minimumHealthyPercent or maximumPercent \
         value and try again."
    });
}

#[test]
fn what_has_not_run_yet_leaves_a_drained_instance_at_once() {
    check(
        "service web 1 100/200 lb\n deployment 1 1 done\n instance a draining\n instance b
         task t 1 PENDING on=a",
        "stop t: draining\nstart web:1 on b",
    );
}

#[test]
fn protection_does_not_hold_up_a_drain() {
    check(
        "service web 1 100/200 lb\n deployment 1 1 done\n instance a draining\n instance b
         task t 1 RUNNING healthy on=a protected=60\n task u 1 RUNNING healthy on=b",
        "stop t: draining\nsteady web",
    );
}

#[test]
fn tasks_of_a_lost_instance_go_when_others_have_come() {
    let rest = "deployment 1 1 done\n instance a Lost\n instance b";
    let with = |tasks: &str| {
        format!("service web 1 100/200 lb\n{rest}\n task t 1 RUNNING healthy on=a\n{tasks}")
    };
    check(&with(""), "start web:1 on b for t");
    check(&with("task u 1 PENDING on=b for=t"), "");
    check(&with("task u 1 RUNNING healthy on=b for=t"), "stop t: lost\nsteady web");
    // Silence alone changes nothing, and where no other is there it stays as it is.
    let silent = with("").replace("Lost", "Silent");
    check(&silent, "steady web");
    let alone = with("").replace("instance b", "").replace("100/200", "100/100");
    check(&alone, "");
}

#[test]
fn what_was_heard_is_written_down() {
    let state =
        situation("service web 0 100/200\n deployment 1 1 done\n instance a\n instance b Lost");
    let moves = |heard: &[(&str, Option<u64>)]| {
        let heard = heard.iter().map(|(name, silent)| {
            let silent_for = silent.map(Duration::from_secs);
            ((*name).into(), Heard { silent_for, capacity: None })
        });
        let (heard, settings) = (heard.collect(), Settings::default());
        let avoid = BTreeSet::new();
        let view = View {
            state: &state,
            settings: &settings,
            leaving: false,
            avoid: &avoid,
            heard: &heard,
        };
        let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
        let heard = plan.moves.iter().map(ToString::to_string);
        let heard: Vec<String> = heard.filter(|line| line.starts_with("hear")).collect();
        (heard.join(", "), plan.revisit)
    };
    assert_eq!(moves(&[]), (String::new(), None));
    assert_eq!(moves(&[("a", None), ("b", None)]).0, "hear b Connected");
    assert_eq!(moves(&[("a", Some(1))]), (String::new(), Some(at(NOW + 29))));
    assert_eq!(moves(&[("a", Some(30))]), ("hear a Silent".to_owned(), Some(at(NOW + 270))));
    assert_eq!(moves(&[("a", Some(300))]).0, "hear a Lost");
    assert_eq!(moves(&[("b", Some(31))]).0, "");
}

#[test]
fn an_instance_that_left_the_file_goes_with_its_last_task() {
    let rest = "deployment 1 1 done\n instance a Removed\n instance b";
    let with = |tasks: &str| format!("service web 1 100/200 lb\n{rest}\n{tasks}");
    check(&with("task t 1 RUNNING healthy on=a"), "start web:1 on b for t");
    check(&with("task u 1 RUNNING healthy on=b"), "forget instance a\nsteady web");
}

#[test]
fn a_daemon_has_a_task_on_each_instance() {
    let with = |count: u32, rest: &str| {
        format!("service web {count} 0/100 daemon lb\n deployment 1 1 done\n{rest}")
    };
    check(&with(1, TWO), "resize web 2\nstart web:1 on a\nstart web:1 on b");
    let one = format!("{TWO}\n task t 1 RUNNING healthy on=b");
    check(&with(2, &one), "start web:1 on a");
    let both = "task t 1 RUNNING healthy on=a\n task u 1 RUNNING healthy on=b";
    check(&with(2, &format!("{TWO}\n{both}")), "steady web");
    let drained = TWO.replace("zone=z2", "draining");
    check(&with(2, &format!("{drained}\n{both}")), "resize web 1\nstop u: scale-in\nsteady web");
    // One that another deployment has is stopped before the new one takes its place.
    let text = format!(
        "service web 2 0/100 daemon rev=2 lb\n deployment 2 2\n deployment 1 1 done\n{TWO}\n{both}"
    );
    check(&text, "stop t: deployment\nstop u: deployment\nstart web:2 on a\nstart web:2 on b");
}

#[test]
fn scale_in_takes_from_the_fullest_zone_and_instance() {
    let rest = "deployment 1 1 done\n instance a zone=z1\n instance b zone=z1\n instance c zone=z2
                task t 1 RUNNING healthy on=a\n task u 1 RUNNING healthy on=a
                task v 1 RUNNING healthy on=b\n task w 1 RUNNING healthy on=c";
    let with = |count: u32| format!("service web {count} 100/200 lb steady\n{rest}");
    check(&with(3), "stop u: scale-in\nunsteady web".replace("\nunsteady web", "").as_str());
    check(&with(2), "stop u: scale-in\nstop v: scale-in");
    check(&with(1), "stop u: scale-in\nstop v: scale-in\nstop w: scale-in");
}

#[test]
fn tasks_move_to_a_zone_that_has_fewer() {
    let rest = format!(
        "deployment 1 1 done\n{TWO}\n task t 1 RUNNING healthy on=a\n task u 1 RUNNING healthy on=a"
    );
    let with =
        |how: &str, tasks: &str| format!("service web 2 100/200 lb steady {how}\n{rest}\n{tasks}");
    check(&with("", ""), "");
    check(&with("rebalancing", ""), "start web:1 on b for u\nunsteady web");
    let moves = |state: &str| format!("task v 1 {state} on=b for=u rebalances");
    check(&with("rebalancing", &moves("PENDING")), "unsteady web");
    check(&with("rebalancing", &moves("RUNNING healthy")), "stop u: rebalancing");
    check_events(&with("rebalancing", ""), {
        "(service web) is not AZ balanced with 2 tasks in z1, 0 tasks in z2. AZ Rebalancing in \
         progress.
         (service web) has started 1 tasks in z2 to AZ Rebalance: NEW.
         (service web) has started 1 tasks: (task NEW)."
    });
    // Nothing fits beside those there are, or nowhere is room.
    let full = with("rebalancing", "").replace("100/200", "100/100");
    check(&full, "");
    let small = with("rebalancing", "").replace("zone=z2", "zone=z2 Silent");
    check(&small, "");
}

#[test]
fn why_nothing_is_placed_is_told_with_the_closest_instance() {
    let text =
        "service web 1 100/200\n deployment 1 1 done\n instance a Silent\n instance b draining";
    let id = instance_id(&"c".into(), &"a".into());
    let told = format!(
        "(service web) was unable to place a task because no container instance met all of its \
         requirements. The closest matching (container-instance {id}) encountered error \"AGENT\"."
    );
    check_events(text, &told);
    check_events(&text.replace("Silent", "draining"), {
        "(service web) was unable to place a task because no container instance met all of its \
         requirements. Reason: No Container Instances were found in your cluster."
    });
}
