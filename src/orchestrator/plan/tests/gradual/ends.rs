//! What ends a gradual deployment before its time, what halts it, and how it goes back.

use super::*;

#[test]
fn weights_that_somebody_else_wrote_halt_it() {
    let rules = "rule g=50 h=50\n held g=90 h=10";
    let halted =
        going("LINEAR", "PRODUCTION_TRAFFIC_SHIFT share=10 age=99", &format!("{rules}\n{NEW}"));
    see(&halted, "");
    hear(
        &halted,
        "(service web) (deployment 2) is halted: the weights of rule front:80 default are not \
         those that were written by it. It goes on when they are again.",
    );
    // One that fails meanwhile waits too, one that is told to stop does not.
    let failing = halted.replace("strategy LINEAR", "strategy LINEAR alarms=x rollback");
    see(&format!("{failing}\n alarm x ALARM"), "fail web 2 Alarm back to 1");
    let stopped = halted.replace("rev=2 lb", "rev=2 lb stopped=2");
    see(
        &stopped,
        "fail web 2 Stopped back to 1
         advance web CLEAN_UP, front:80 default: g=100 h=0",
    );
}

#[test]
fn way_back_gives_all_traffic_back_at_once() {
    let rules = "rule g=90 h=10\n held g=90 h=10";
    for stage in ["PRODUCTION_TRAFFIC_SHIFT share=10", "BAKE_TIME share=100", "CLEAN_UP share=100"]
    {
        let text = going("BLUE_GREEN", stage, &format!("{rules}\n{NEW}"));
        see(
            &text.replace("rev=2 lb", "rev=2 lb stopped=2"),
            "fail web 2 Stopped back to 1
             advance web CLEAN_UP, front:80 default: g=100 h=0",
        );
    }
    // Its tasks have to be there first.
    let text = going("BLUE_GREEN", "CLEAN_UP share=100", &format!("{rules}\n{NEW}"));
    let gone = text
        .replace("rev=2 lb", "rev=2 lb stopped=2")
        .replace("RUNNING healthy\n         task b 1 RUNNING healthy", "STOPPED");
    see(&gone, "fail web 2 Stopped back to 1\nstart web:1\nstart web:1");
    let back = |tasks: &str| {
        format!(
            "service web 2 100/200 rev=1 lb\n strategy BLUE_GREEN\n deployment 1 1 back=2
             deployment 2 2 failed\n shift 1 PRODUCTION_TRAFFIC_SHIFT source=2 returning
             {rules}\n{NEW}\n{tasks}"
        )
    };
    see(&back("task a 1 PENDING\n task b 1 PENDING"), "");
    see(
        &back("task a 1 RUNNING healthy\n task b 1 PENDING"),
        "advance web CLEAN_UP, front:80 default: g=100 h=0",
    );
    let done = back("task a 1 RUNNING healthy\n task b 1 RUNNING healthy");
    let done = done.replace("PRODUCTION_TRAFFIC_SHIFT", "CLEAN_UP").replace(rules, BLUE);
    see(&done, "stop c: deployment\nstop d: deployment\ncomplete web\nsteady web");
}

#[test]
fn what_fails_with_all_the_traffic_keeps_the_tasks_that_have_it() {
    let with = |primary: &str, stage: &str| {
        format!(
            "service web 2 100/200 rev=1 lb\n strategy BLUE_GREEN\n deployment {primary}
             shift 1 {stage} source=2 returning\n {BLUE}\n {NEW}
             task a 1 RUNNING healthy\n task b 1 RUNNING healthy"
        )
    };
    let failed = with("1 1 failed back=2\n deployment 2 2 failed", "CLEAN_UP");
    see(&failed, "stop d: deployment\nstop c: deployment");
    // The side that has none of it goes first only where both serve.
    let sick = failed.replace("task b 1 RUNNING healthy", "task b 1 RUNNING unhealthy");
    see(&sick, "stop b: unhealthy\nstop d: deployment");
    // Of a rolling one all are behind the same rule.
    let rolling = "service web 2 100/200 rev=2 lb\n deployment 2 2 failed\n deployment 1 1 done";
    let rolling = format!("{rolling}\n {NEW}\n rule g=1\n task a 1 RUNNING healthy");
    see(&rolling, "stop d: deployment");
}

#[test]
fn hooks_of_what_failed_hear_of_the_way_back() {
    let with = |shift: &str, lines: &str| {
        format!(
            "service web 2 100/200 rev=1 lb\n strategy BLUE_GREEN\n deployment 1 1 back=2
             deployment 2 2 failed\n shift 1 {shift} source=2 returning
             hook http://h/ PRODUCTION_TRAFFIC_SHIFT\n {lines}
             task a 1 RUNNING healthy\n task b 1 RUNNING healthy\n {NEW}"
        )
    };
    let rules = "rule g=90 h=10\n held g=90 h=10";
    // First the traffic, at once.
    see(
        &with("PRODUCTION_TRAFFIC_SHIFT", rules),
        "advance web PRODUCTION_TRAFFIC_SHIFT, front:80 default: g=100 h=0",
    );
    let told = |stage: &str, run: &str| {
        with(&format!("{stage} share=100 named"), &format!("{BLUE}\n {run}"))
    };
    let production = |run: &str| told("PRODUCTION_TRAFFIC_SHIFT", run);
    see(&production(""), "advance web PRODUCTION_TRAFFIC_SHIFT with 1 hooks");
    see(&production("run x IN_PROGRESS"), "");
    for said in ["SUCCEEDED", "FAILED"] {
        see(&production(&format!("run x {said}")), "advance web TEST_TRAFFIC_SHIFT");
    }
    // One that does not come to an end holds nothing up.
    see(&production("run x IN_PROGRESS expires=9999"), "advance web PRODUCTION_TRAFFIC_SHIFT");
    see(&told("TEST_TRAFFIC_SHIFT", ""), "advance web CLEAN_UP");
    // What others write into the rules from then on is theirs.
    let drifted = production("run x SUCCEEDED").replace("rule g=100 h=0", "rule g=1 h=1");
    see(&drifted, "advance web TEST_TRAFFIC_SHIFT");
    // A stage without them is passed over.
    let other = with("PRODUCTION_TRAFFIC_SHIFT", rules);
    let other = other.replace("http://h/ PRODUCTION_TRAFFIC_SHIFT", "http://h/ POST_SCALE_UP");
    see(&other, "advance web CLEAN_UP, front:80 default: g=100 h=0");
}

#[test]
fn a_way_back_to_too_few_is_told_after_a_minute() {
    let with = |age: u64, tasks: &str| {
        format!(
            "service web 2 100/200 rev=1 lb\n strategy BLUE_GREEN\n deployment 1 1 back=2
             deployment 2 2 failed
             shift 1 PRODUCTION_TRAFFIC_SHIFT source=2 returning age={age}
             rule g=90 h=10\n held g=90 h=10\n {tasks}\n {NEW}"
        )
    };
    let sick = "task a 1 RUNNING initial\n task b 1 RUNNING initial";
    see(&with(59, sick), "");
    hear(&with(59, sick), "");
    assert_eq!(outcome(&with(59, sick)).revisit, Some(at(NOW + 1)));
    see(&with(60, sick), "");
    hear(
        &with(60, sick),
        "(service web) (deployment 1) waits: traffic is divided, and too few tasks of (deployment \
         1), which is to have it, are healthy.",
    );
    let well = sick.replace("initial", "healthy");
    let goes = "advance web CLEAN_UP, front:80 default: g=100 h=0";
    see(&with(3600, &well), goes);
}

#[test]
fn abort_leaves_everything_as_it_is() {
    let rules = "rule g=90 h=10\n held g=90 h=10";
    let text =
        going("LINEAR", "PRODUCTION_TRAFFIC_SHIFT share=10 age=99", &format!("{rules}\n{NEW}"));
    let mut state = situated(&text.replace("deployment 2 2", "deployment 2 2 failed"));
    let (settings, avoid) = (Settings::default(), BTreeSet::new());
    let quiet = |state: &State| {
        let view = View {
            state,
            settings: &settings,
            leaving: false,
            avoid: &avoid,
            heard: &BTreeMap::new(),
        };
        let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
        plan.moves.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(quiet(&state).is_empty(), "{:?}", quiet(&state));
    let mut service = Service::clone(&situated(&text).services[&web()]);
    (service.options.stopped, service.options.aborts) = (Some("2".into()), true);
    state = situated(&text);
    put(&mut state, Row::from(service));
    assert_eq!(quiet(&state), ["fail web 2 Aborted"]);
}

#[test]
fn hooks_are_waited_for_at_their_stages() {
    let with = |lines: &str| {
        let rest = format!("{BLUE}\n{NEW}\n hook pause POST_SCALE_UP\n{lines}");
        going("BLUE_GREEN", "POST_SCALE_UP", &rest)
    };
    see(&with(""), "advance web POST_SCALE_UP with 1 hooks");
    see(&with("run x AWAITING_ACTION"), "");
    assert_eq!(outcome(&with("run x AWAITING_ACTION")).revisit, Some(at(NOW + 60)));
    // What it was told becomes what it is, then the stage is left.
    see(&with("run x AWAITING_ACTION\n answer x CONTINUE"), "advance web POST_SCALE_UP");
    see(&with("run x SUCCEEDED"), "advance web TEST_TRAFFIC_SHIFT");
    let back = "fail web 2 Hook back to 1\nadvance web CLEAN_UP";
    see(&with("run x AWAITING_ACTION\n answer x ROLLBACK"), back);
    see(&with("run x FAILED"), back);
    see(&with("run x IN_PROGRESS expires=9999"), back);
    let goes_on = with("run x AWAITING_ACTION expires=9999");
    let goes_on = goes_on.replace("hook pause POST_SCALE_UP", "hook pause POST_SCALE_UP continue");
    see(&goes_on, "advance web POST_SCALE_UP");
}

#[test]
fn stage_that_lasts_a_day_is_given_up() {
    let with = |age: u64| going("BLUE_GREEN", &format!("SCALE_UP age={age}"), BLUE);
    see(&with(86_399).replace("age=86399", "age=9999"), "start web:2\nstart web:2");
    let text = with(9_000);
    let mut state = situated(&text);
    let mut progress = Progress::clone(&state.progress[&web()]);
    let day = Duration::from_secs(24 * 3600);
    let late = at(9_000) + day;
    progress.deployments[0].shift.as_mut().unwrap().since = at(9_000);
    put(&mut state, Row::from(progress));
    let (settings, avoid) = (Settings::default(), BTreeSet::new());
    let view = View {
        state: &state,
        settings: &settings,
        leaving: false,
        avoid: &avoid,
        heard: &BTreeMap::new(),
    };
    let plan = plan(view, late, &mut fastrand::Rng::with_seed(1));
    assert_eq!(plan.moves[0].to_string(), "fail web 2 TimedOut back to 1");
}

#[test]
fn alarms_end_a_deployment_unless_they_were_on_before() {
    let with = |strategy: &str, alarm: &str| {
        let rest = format!("{BLUE}\n{NEW}\n alarm x {alarm}");
        going(strategy, "BAKE_TIME share=100 age=9", &rest)
    };
    let back = "fail web 2 Alarm back to 1\nadvance web CLEAN_UP";
    let strategy = "BLUE_GREEN bake=60 alarms=x";
    see(&with(&format!("{strategy} rollback"), "ALARM"), back);
    see(&with(strategy, "ALARM"), "fail web 2 Alarm");
    see(&with(strategy, "OK"), "");
    see(&with(&format!("{strategy} rollback"), "ALARM ignored"), "");
    hear(
        &with(strategy, "ALARM"),
        "(service web) (deployment 2) deployment failed: alarm detected.",
    );
    // Rolling ones as well.
    let rolling = "service web 1 100/200 rev=2 lb\n strategy ROLLING alarms=x rollback
                   deployment 2 2\n deployment 1 1 done\n task a 1 RUNNING healthy\n alarm x ALARM";
    assert_eq!(outcome(rolling).moves[0].to_string(), "fail web 2 Alarm back to 1");
}
