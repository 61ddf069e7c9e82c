//! Deployments that begin while traffic, or names, are divided between two others.

use super::*;

#[test]
fn next_deployment_first_takes_back_what_the_last_one_was_given() {
    let rules = "rule g=90 h=10\n held g=90 h=10";
    let open = format!(
        "service web 1 100/200 rev=3 lb\n strategy BLUE_GREEN\n deployment 2 2\n deployment 1 1 done
         shift 2 PRODUCTION_TRAFFIC_SHIFT source=1 share=10\n {rules}
         task a 1 RUNNING healthy\n task c 2 RUNNING healthy"
    );
    let plan = outcome(&open);
    let Move::Open { deployment, .. } = &plan.moves[0] else { panic!("{plan:?}") };
    let shift = deployment.shift.as_ref().unwrap();
    assert_eq!((shift.stage, &shift.source), (Stage::ReconcileService, &Some("1".into())));
    assert!(deployment.alternate);
    assert_eq!(plan.moves.len(), 1, "{plan:?}");
    let with = |rules: &str, tasks: &str| {
        format!(
            "service web 1 100/200 rev=4 lb\n strategy BLUE_GREEN\n deployment 4 4
             deployment 2 2\n deployment 1 1 done\n shift 4 RECONCILE_SERVICE source=1\n {rules}
             task a 1 RUNNING healthy\n {tasks}"
        )
        .replace("4 4", "4 3")
        .replace("rev=4", "rev=3")
    };
    let other = "task c 2 RUNNING healthy";
    see(&with(rules, other), "advance web RECONCILE_SERVICE, front:80 default: g=100 h=0");
    see(&with(BLUE, other), "stop c: deployment");
    see(&with(BLUE, "task c 2 RUNNING stopping"), "advance web PRE_SCALE_UP");
    // A task that is protected is waited for.
    see(&with(BLUE, "task c 2 RUNNING healthy protected=30"), "");
    // A rolling one finds traffic divided as well.
    let rolling = with(rules, other).replace("BLUE_GREEN", "ROLLING");
    see(&rolling, "advance web RECONCILE_SERVICE, front:80 default: g=100 h=0");
    let clean = with(BLUE, "").replace("BLUE_GREEN", "ROLLING");
    see(&clean, "close web 2\nadvance web CLEAN_UP");
}

/// Deployment 4 begins while 2 has a part of the traffic of 1, some seconds ago.
fn begun(age: u64, source: &str, lines: &str) -> String {
    let id = if source == "1" { 4 } else { 3 };
    format!(
        "service web 2 100/200 rev=3 lb
         strategy BLUE_GREEN
         deployment {id} 3
         deployment 2 2
         deployment 1 1 done
         shift {id} RECONCILE_SERVICE source={source} age={age}
         {lines}"
    )
}

const DIVIDED: &str = "rule g=50 h=50\n held g=50 h=50";
const SICK: &str = "task a 1 RUNNING initial\n task b 1 RUNNING initial";

#[test]
fn the_one_that_serves_is_taken_where_the_one_before_it_does_not() {
    let broken = |age: u64| begun(age, "1", &format!("{DIVIDED}\n{SICK}\n{NEW}"));
    see(&broken(59), "");
    assert_eq!(outcome(&broken(59)).revisit, Some(at(NOW + 1)));
    see(&broken(60), "adopt web 2");
    see(&broken(60).replace("BLUE_GREEN", "ROLLING"), "adopt web 2");
    // Half of its tasks will do; whoever was completed goes first.
    let half = broken(60).replace("task a 1 RUNNING initial", "task a 1 RUNNING healthy");
    see(&half, "advance web RECONCILE_SERVICE, front:80 default: g=100 h=0");
    // From then on it is as if the other had been the one before.
    let adopted = |rules: &str, tasks: &str| begun(99, "2", &format!("{rules}\n{tasks}\n{NEW}"));
    let all = "rule g=0 h=100\n held g=0 h=100";
    let shifts = "advance web RECONCILE_SERVICE, front:80 default: g=0 h=100";
    see(&adopted(DIVIDED, SICK), shifts);
    see(&adopted(all, SICK), "stop a: deployment\nstop b: deployment");
    see(&adopted(all, ""), "close web 1\nadvance web PRE_SCALE_UP");
    let back = adopted(all, "").replace("deployment 2 2", "deployment 2 2 failed proven");
    let back = back.replace("rev=3 lb", "rev=3 lb stopped=3");
    see(&back, "fail web 3 Stopped back to 2\nadvance web CLEAN_UP");
}

#[test]
fn where_too_few_serve_anywhere_it_is_told() {
    let few = NEW.replace("task d 2 RUNNING healthy", "task d 2 RUNNING initial");
    let four = |tasks: &str| {
        let text = begun(60, "1", &format!("{DIVIDED}\n{tasks}"));
        text.replace("web 2 100/200", "web 4 50/50")
    };
    let text = four(&format!("{SICK}\n{few}"));
    see(&text, "");
    hear(
        &text,
        "(service web) (deployment 4) waits: traffic is divided, and too few tasks of (deployment \
         1), which is to have it, are healthy.",
    );
    // Nobody loses anything where nobody serves: what repairs it has to come through.
    let dead = NEW.replace("healthy", "initial");
    let goes = "advance web RECONCILE_SERVICE, front:80 default: g=100 h=0";
    see(&four(&format!("{SICK}\n{dead}")), goes);
    see(&begun(59, "1", &format!("{DIVIDED}\n{SICK}\n{dead}")), "");
}

#[test]
fn rules_that_lead_to_nobody_are_taken_after_a_minute() {
    let with = |age: u64, tasks: &str| {
        let text = begun(age, "1", &format!("rule g=50 h=50\n{tasks}"));
        let text = text.replace("RECONCILE_SERVICE", "PRE_SCALE_UP");
        text.replace("deployment 2 2", "")
    };
    see(&with(59, SICK), "");
    assert_eq!(outcome(&with(59, SICK)).revisit, Some(at(NOW + 1)));
    see(&with(60, SICK), "advance web PRE_SCALE_UP, front:80 default: g=100 h=0");
    // One that serves too little loses what it has to nobody.
    let one = SICK.replace("task a 1 RUNNING initial", "task a 1 RUNNING healthy");
    let few = with(60, &one).replace("web 2 100/200", "web 4 50/50");
    see(&few, "");
    hear(
        &few,
        "(service web) (deployment 4) waits: traffic is divided, and too few tasks of (deployment \
         1), which is to have it, are healthy.",
    );
}

#[test]
fn names_alone_are_taken_back_before_the_tasks_that_they_lead_to_are_stopped() {
    let with = |source: &str, age: u64, lines: &str| {
        let text = begun(age, source, &format!("task c 2 RUNNING\n{lines}"));
        text.replace("web 2 100/200 rev=3 lb", "web 1 100/200 rev=3")
    };
    see(&with("1", 0, "task a 1 RUNNING\n name c"), "advance web RECONCILE_SERVICE");
    see(&with("1", 1, "task a 1 RUNNING\n name a"), "stop c: deployment");
    // The one that they would lead to does not serve.
    see(&with("1", 59, "task a 1 PENDING\n name c"), "");
    see(&with("1", 60, "task a 1 PENDING\n name c"), "adopt web 2");
    see(&with("2", 60, "task a 1 PENDING\n name c"), "stop a: deployment");
    // Neither are they taken from it on the way back.
    let back = |task: &str| {
        format!(
            "service web 1 100/200 rev=1
             strategy BLUE_GREEN
             deployment 1 1 back=2
             deployment 2 2 failed
             shift 1 PRODUCTION_TRAFFIC_SHIFT source=2 returning named
             task a 1 {task}
             task c 2 RUNNING
             name c"
        )
    };
    see(&back("PENDING"), "");
    see(&back("RUNNING"), "advance web CLEAN_UP");
    see(&back("PENDING").replace("name c", ""), "advance web CLEAN_UP");
}
