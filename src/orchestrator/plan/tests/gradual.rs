//! Gradual deployments: stages, weights, hooks, alarms and ways back.
//!
//! Lines beside those of the others: `strategy KIND [bake=S] [alarms=NAME] [rollback]` with
//! `LINEAR` and `CANARY` as `LINEAR=PERCENT/S`; `hook pause|url STAGE [continue]`; `shift N STAGE
//! [source=N] [share=PERCENT] [age=S] [steps=N] [tested] [named] [returning] [insists]`; `run ID
//! STATUS [expires=S]` of the first hook at the stage of the shift; `answer ID ACTION`; `alarm NAME
//! STATE [ignored]`; `rule g=N h=N` and `test …` for what the rules say, `held …` and `held-test …`
//! for what was written into them; `name TASK` for one that a name leads to. Deployments of even
//! numbers use group `h` of the pair.

use super::*;

mod divided;
mod ends;

const MINE: [&str; 12] = [
    "strategy",
    "hook",
    "shift",
    "run",
    "answer",
    "alarm",
    "rule",
    "test",
    "held",
    "held-test",
    "bake",
    "name",
];

fn weights(words: &[&str]) -> Vec<WeightedGroup> {
    let weight = |word: &&str| {
        let (group, weight) = word.split_once('=').unwrap();
        WeightedGroup { group: group.into(), weight: weight.parse().unwrap() }
    };
    words[1..].iter().map(weight).collect()
}

fn rule(test: bool) -> TrafficRule {
    let listener = ListenerKey { load_balancer: "front".into(), port: 80 };
    TrafficRule { listener, rule: test.then(|| "t".to_owned()) }
}

fn percent(text: &str) -> Share {
    Share::of_percent(text.parse().unwrap()).unwrap()
}

fn strategy(words: &[&str]) -> Strategy {
    let (kind, rest) = words[1].split_once('=').unwrap_or((words[1], "10/60"));
    let (share, bake) = rest.split_once('/').unwrap();
    let bake = Duration::from_secs(bake.parse().unwrap());
    let kind = match kind {
        "ROLLING" => StrategyKind::Rolling,
        "BLUE_GREEN" => StrategyKind::BlueGreen,
        "LINEAR" => StrategyKind::Linear { step: percent(share), bake },
        "CANARY" => StrategyKind::Canary { first: percent(share), bake },
        other => panic!("{other}"),
    };
    let names: Vec<AlarmName> = field(words, "alarms=").into_iter().map(Into::into).collect();
    Strategy {
        kind,
        bake: Duration::from_secs(seconds(words, "bake=", 0)),
        hooks: Vec::new(),
        alarms: DeploymentAlarms {
            enabled: !names.is_empty(),
            rollback: words.contains(&"rollback"),
            names,
        },
    }
}

fn hook(words: &[&str]) -> Hook {
    let target = match words[1] {
        "pause" => HookTarget::Pause,
        url => HookTarget::Webhook(url.to_owned()),
    };
    let action = words.contains(&"continue").then_some(HookAction::Continue);
    let stages = vec![Stage::parse(words[2]).unwrap()];
    Hook { target, stages, timeout: None, action, role: None }
}

fn shift(words: &[&str]) -> Shift {
    let since = at(NOW - seconds(words, "age=", 0));
    Shift {
        share: field(words, "share=").map_or(Share::NONE, percent),
        tested: words.contains(&"tested"),
        named: words.contains(&"named"),
        steps: u32::try_from(seconds(words, "steps=", 0)).unwrap(),
        shifted_at: since,
        returning: words.contains(&"returning"),
        insists: words.contains(&"insists"),
        ..Shift::begun(
            Stage::parse(words[2]).unwrap(),
            field(words, "source=").map(Into::into),
            since,
        )
    }
}

fn alarm(words: &[&str]) -> Alarm {
    Alarm {
        name: words[1].into(),
        description: None,
        rule: AlarmRule {
            metric: MetricId::new("AWS/ECS", "CPUUtilization", &[]),
            statistic: Statistic::Average,
            period: 60,
            periods: 1,
            breaching: 1,
            comparison: Comparison::Greater,
            threshold: 1.0,
            missing: Missing::Missing,
        },
        given: Default::default(),
        queries: Vec::new(),
        actions_enabled: false,
        actions: Vec::new(),
        configured_at: at(0),
        state: AlarmState::parse(words[2]).unwrap(),
        reason: String::new(),
        changed_at: at(0),
    }
}

fn name(words: &[&str], state: &mut State) {
    let service = DiscoveryKey { namespace: "n".into(), name: "web".into() };
    let key = InstanceKey { service, id: words[1].into() };
    let row = DiscoveryInstance { task: Some(words[1].into()), ..DiscoveryInstance::new(key) };
    Arc::make_mut(&mut state.discovery_instances).insert(row.key.clone(), Arc::new(row));
}

/// What the lines of this file say, for all rows that they say it to.
#[derive(Default)]
struct Extra {
    strategy: Strategy,
    shift: Option<(String, Shift)>,
    held: Vec<RuleWeights>,
    answers: BTreeMap<String, HookAction>,
    ignored: Vec<AlarmName>,
    baking_since: Option<Timestamp>,
}

fn extra(lines: &[&str], state: &mut State) -> Extra {
    let mut extra = Extra::default();
    let mut actions = [Action::Forward(Vec::new()), Action::Forward(Vec::new())];
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "strategy" => extra.strategy = strategy(&words),
            "hook" => extra.strategy.hooks.push(hook(&words)),
            "shift" => extra.shift = Some((words[1].to_owned(), shift(&words))),
            "run" => {
                let (_, shift) = extra.shift.as_mut().unwrap();
                shift.hooks.push(HookRun {
                    id: words[1].to_owned(),
                    hook: 0,
                    stage: shift.stage,
                    step: shift.steps,
                    status: match words[2] {
                        "AWAITING_ACTION" => HookStatus::AwaitingAction,
                        "IN_PROGRESS" => HookStatus::InProgress,
                        "SUCCEEDED" => HookStatus::Succeeded,
                        "FAILED" => HookStatus::Failed,
                        other => panic!("{other}"),
                    },
                    expires_at: at(seconds(&words, "expires=", NOW + 60)),
                    next_at: at(0),
                    errors: 0,
                });
            }
            "answer" => {
                let action = HookAction::parse(words[2]).unwrap();
                extra.answers.insert(words[1].to_owned(), action);
            }
            "alarm" => {
                let alarm = alarm(&words);
                if words.contains(&"ignored") {
                    extra.ignored.push(alarm.name.clone());
                }
                Arc::make_mut(&mut state.alarms).insert(alarm.name.clone(), Arc::new(alarm));
            }
            "rule" => actions[0] = Action::Forward(weights(&words)),
            "test" => actions[1] = Action::Forward(weights(&words)),
            "held" => extra.held.push(RuleWeights { rule: rule(false), groups: weights(&words) }),
            "held-test" => {
                extra.held.push(RuleWeights { rule: rule(true), groups: weights(&words) });
            }
            "name" => name(&words, state),
            "bake" => extra.baking_since = Some(at(NOW - seconds(&words, "age=", 0))),
            other => panic!("{other}"),
        }
    }
    let [default_action, test] = actions;
    let listener = Listener {
        key: rule(false).listener,
        id: "0".repeat(16),
        protocol: Protocol::Http,
        carrier: Carrier::Native,
        rules: vec![Rule::new("t".into(), 1, Vec::new(), test)],
        default_action,
        owner: Owner::File,
        options: ListenerOptions::default(),
    };
    Arc::make_mut(&mut state.listeners).insert(listener.key.clone(), Arc::new(listener));
    extra
}

fn situated(text: &str) -> State {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let own = |line: &&str| MINE.contains(&line.split_whitespace().next().unwrap());
    let (mine, base): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(own);
    let has_test = mine.iter().any(|line| line.starts_with("test "));
    let mut state = situation(&base.join("\n"));
    let group = TargetGroup::new("h".into(), "1".repeat(16), (Protocol::Http, 80), Owner::File);
    put(&mut state, Row::from(group));
    let extra = extra(&mine, &mut state);
    let pair = GroupPair {
        alternate: "h".into(),
        production: rule(false),
        test: has_test.then(|| rule(true)),
        role: None,
    };
    let mut service = Service::clone(&state.services[&web()]);
    service.load_balancers.iter_mut().for_each(|lb| lb.pair = Some(pair.clone()));
    service.policy.strategy = extra.strategy.clone();
    service.options.answers = extra.answers;
    let mut progress = state.progress.get(&web()).map(|row| Progress::clone(row)).unwrap();
    for deployment in progress.all_mut() {
        deployment.load_balancers.clone_from(&service.load_balancers);
        deployment.strategy = extra.strategy.clone();
        deployment.alternate = deployment.id.as_str().parse::<u32>().unwrap().is_multiple_of(2);
        deployment.ignored_alarms.clone_from(&extra.ignored);
        deployment.baking_since = extra.baking_since;
        if let Some((_, shift)) =
            extra.shift.as_ref().filter(|(id, _)| *id == deployment.id.as_str())
        {
            deployment.shift = Some(shift.clone());
        }
    }
    progress.weights = extra.held;
    let sides: BTreeMap<_, _> = progress.all().map(|d| (d.id.clone(), d.alternate)).collect();
    for target in Arc::make_mut(&mut state.targets).values_mut() {
        let task = &state.tasks[target.task.as_ref().unwrap()];
        if sides[task.deployment.as_ref().unwrap()] {
            Arc::make_mut(target).group = "h".into();
        }
    }
    put(&mut state, Row::from(service));
    put(&mut state, Row::from(progress));
    state
}

fn outcome(text: &str) -> Plan {
    let state = situated(text);
    let (settings, avoid) = (Settings::default(), BTreeSet::new());
    let view = View {
        state: &state,
        settings: &settings,
        leaving: false,
        avoid: &avoid,
        heard: &BTreeMap::new(),
    };
    plan(view, at(NOW), &mut fastrand::Rng::with_seed(1))
}

fn see(text: &str, expected: &str) {
    let plan = outcome(text);
    let moves: Vec<String> = plan.moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, lines(expected), "in the situation\n{text}");
}

fn hear(text: &str, expected: &str) {
    let messages: Vec<String> = outcome(text).events.into_iter().map(|e| e.message).collect();
    assert_eq!(messages, lines(expected), "in the situation\n{text}");
}

/// Deployment 2 of two tasks at a stage, 1 has the traffic.
fn going(strategy: &str, shift: &str, rest: &str) -> String {
    format!(
        "service web 2 100/200 rev=2 lb
         strategy {strategy}
         deployment 2 2
         deployment 1 1 done
         shift 2 {shift} source=1
         task a 1 RUNNING healthy
         task b 1 RUNNING healthy
         {rest}"
    )
}

const NEW: &str = "task c 2 RUNNING healthy\n task d 2 RUNNING healthy";
const BLUE: &str = "rule g=100 h=0\n held g=100 h=0";

#[test]
fn deployment_begins_beside_the_one_that_has_the_traffic() {
    let text = "service web 1 100/200 rev=2 lb\n strategy BLUE_GREEN\n deployment 1 1 done
                task a 1 RUNNING healthy\n rule g=1";
    see(text, "open web web:2");
    let plan = outcome(text);
    let Move::Open { deployment, .. } = &plan.moves[0] else { panic!() };
    let shift = deployment.shift.as_ref().unwrap();
    assert_eq!((shift.stage, deployment.alternate), (Stage::PreScaleUp, true));
    assert_eq!(shift.source, Some("1".into()));
}

#[test]
fn deployment_whose_way_back_was_stopped_still_has_the_traffic() {
    let with = |second: &str| {
        format!(
            "service web 1 100/200 rev=3 lb\n strategy BLUE_GREEN\n deployment 2 2 {second}
             deployment 1 1 done\n shift 2 CLEAN_UP source=3 share=100 returning\n rule h=1"
        )
    };
    for (second, side, source) in [("failed proven", false, "2"), ("failed", true, "1")] {
        let plan = outcome(&with(second));
        let Move::Open { deployment, .. } = &plan.moves[0] else { panic!("{plan:?}") };
        let shift = deployment.shift.as_ref().unwrap();
        assert_eq!((deployment.alternate, &shift.source), (side, &Some(source.into())), "{second}");
    }
}

#[test]
fn rules_are_taken_before_anything_is_started() {
    let take = "advance web PRE_SCALE_UP, front:80 default: g=100 h=0";
    see(&going("BLUE_GREEN", "PRE_SCALE_UP", "rule g=1"), take);
    // One that serves badly may be replaced all the same; it only gets no more than it has.
    let sick = |rule: &str| {
        going("BLUE_GREEN", "PRE_SCALE_UP", rule).replace("RUNNING healthy", "RUNNING initial")
    };
    see(&sick("rule g=1"), take);
    see(&sick("rule g=1 h=1"), "");
    // Whatever the other side was given before its tasks are there.
    see(&going("BLUE_GREEN", "PRE_SCALE_UP", "rule g=1 h=1"), take);
    see(
        &going("BLUE_GREEN", "PRE_SCALE_UP", "rule g=1\n test h=1"),
        &format!("{take}, front:80 t: g=100 h=0"),
    );
    see(&going("BLUE_GREEN", "PRE_SCALE_UP", BLUE), "advance web SCALE_UP");
    // Somebody else's page stands there.
    let halted = going("BLUE_GREEN", "PRE_SCALE_UP", "rule other=1");
    see(&halted, "");
    hear(
        &halted,
        "(service web) (deployment 2) is halted: rule front:80 default does not forward to the \
         target group that has the traffic now.",
    );
    see(&going("BLUE_GREEN", "PRE_SCALE_UP", "rule g=0 h=1"), "");
}

#[test]
fn both_deployments_keep_their_tasks() {
    see(&going("BLUE_GREEN", "SCALE_UP", BLUE), "start web:2\nstart web:2");
    let one = format!("{BLUE}\n task c 2 RUNNING healthy\n task d 2 PENDING");
    see(&going("BLUE_GREEN", "SCALE_UP", &one), "");
    let dead = going("BLUE_GREEN", "SCALE_UP", &format!("{BLUE}\n{NEW}"));
    let dead = dead.replace("task b 1 RUNNING healthy", "task b 1 STOPPED");
    see(&dead, "start web:1\nadvance web POST_SCALE_UP");
    let fewer = format!("{BLUE}\n{NEW}");
    let fewer = going("BLUE_GREEN", "SCALE_UP", &fewer).replace("web 2 100", "web 1 100");
    see(&fewer, "stop d: scale-in\nstop b: scale-in\nadvance web POST_SCALE_UP");
}

#[test]
fn stages_follow_each_other() {
    for (stage, next) in [
        ("SCALE_UP", "advance web POST_SCALE_UP"),
        ("POST_SCALE_UP", "advance web TEST_TRAFFIC_SHIFT"),
        ("TEST_TRAFFIC_SHIFT", "advance web POST_TEST_TRAFFIC_SHIFT"),
        ("POST_TEST_TRAFFIC_SHIFT", "advance web PRE_PRODUCTION_TRAFFIC_SHIFT"),
        (
            "PRE_PRODUCTION_TRAFFIC_SHIFT",
            "advance web PRODUCTION_TRAFFIC_SHIFT, front:80 default: g=0 h=100",
        ),
        ("PRODUCTION_TRAFFIC_SHIFT share=100 steps=1", "advance web POST_PRODUCTION_TRAFFIC_SHIFT"),
        ("POST_PRODUCTION_TRAFFIC_SHIFT share=100", "advance web BAKE_TIME"),
        ("BAKE_TIME share=100", "advance web CLEAN_UP"),
    ] {
        see(&going("BLUE_GREEN", stage, &format!("{BLUE}\n{NEW}")), next);
    }
    let clean = going("BLUE_GREEN", "CLEAN_UP share=100", &format!("{BLUE}\n{NEW}"));
    see(&clean, "stop a: deployment\nstop b: deployment\ncomplete web\nsteady web");
}

#[test]
fn test_traffic_comes_first_and_to_healthy_tasks_alone() {
    let rules = "rule g=100 h=0\n held g=100 h=0\n test g=100 h=0\n held-test g=100 h=0";
    let with = |tasks: &str| going("BLUE_GREEN", "POST_SCALE_UP", &format!("{rules}\n{tasks}"));
    see(&with(NEW), "advance web TEST_TRAFFIC_SHIFT, front:80 t: g=0 h=100");
    see(&with("task c 2 RUNNING healthy\n task d 2 RUNNING initial"), "");
}

#[test]
fn traffic_is_shifted_in_steps() {
    let step = |kind: &str, shift: &str| {
        going(kind, &format!("PRE_PRODUCTION_TRAFFIC_SHIFT {shift}"), &format!("{BLUE}\n{NEW}"))
    };
    let shifts = |weights: &str| {
        format!("advance web PRODUCTION_TRAFFIC_SHIFT, front:80 default: {weights}")
    };
    see(&step("LINEAR=30/60", "share=0"), &shifts("g=70 h=30"));
    see(&step("LINEAR=30/60", "share=90 steps=3"), &shifts("g=0 h=100"));
    see(&step("CANARY=0.1/60", "share=0"), &shifts("g=999 h=1"));
    see(&step("CANARY=0.1/60", "share=0.1 steps=1"), &shifts("g=0 h=100"));
    hear(
        &step("CANARY=12.5/60", "share=0"),
        "(service web) (deployment 2) has shifted 12.5% of production traffic.",
    );
    let bakes = |kind: &str, shift: &str| {
        going(kind, &format!("PRODUCTION_TRAFFIC_SHIFT {shift}"), &format!("{BLUE}\n{NEW}"))
    };
    for kind in ["LINEAR=30/60", "CANARY=30/60"] {
        see(&bakes(kind, "share=30 steps=1 age=59"), "");
        let over = "advance web PRE_PRODUCTION_TRAFFIC_SHIFT";
        see(&bakes(kind, "share=30 steps=1 age=60"), over);
    }
    assert_eq!(
        outcome(&bakes("LINEAR=30/60", "share=30 steps=1 age=20")).revisit,
        Some(at(NOW + 40))
    );
    // Nothing is shifted to tasks that are not all there and healthy.
    for tasks in ["task c 2 RUNNING healthy\n task d 2 RUNNING initial", "task c 2 RUNNING healthy"]
    {
        let text = going("BLUE_GREEN", "PRE_PRODUCTION_TRAFFIC_SHIFT", &format!("{BLUE}\n{tasks}"));
        let moves = outcome(&text).moves;
        assert!(moves.iter().all(|m| !matches!(m, Move::Advance { .. })), "{moves:?}");
    }
}

#[test]
fn bake_time_is_waited_for() {
    let with = |age: u64| {
        let shift = format!("BAKE_TIME share=100 age={age}");
        going("BLUE_GREEN bake=30", &shift, &format!("{BLUE}\n{NEW}"))
    };
    see(&with(29), "");
    assert_eq!(outcome(&with(29)).revisit, Some(at(NOW + 1)));
    see(&with(30), "advance web CLEAN_UP");
    let rolling = |line: &str| {
        format!(
            "service web 1 100/200 lb\n strategy ROLLING bake=30\n deployment 1 1\n {line}
             task a 1 RUNNING healthy"
        )
    };
    see(&rolling(""), "bake web 1\nsteady web");
    see(&rolling("bake age=29"), "steady web");
    see(&rolling("bake age=30"), "complete web\nsteady web");
}

#[test]
fn first_deployment_has_its_stages_and_all_traffic() {
    let with = |shift: &str, tasks: &str| {
        format!(
            "service web 1 100/200 lb\n strategy LINEAR\n deployment 1 1\n shift 1 {shift}
             rule g=1\n {tasks}"
        )
    };
    see(&with("PRE_SCALE_UP", ""), "advance web SCALE_UP");
    see(&with("SCALE_UP", ""), "start web:1");
    let task = "task a 1 RUNNING healthy";
    see(&with("SCALE_UP", task), "steady web\nadvance web POST_SCALE_UP");
    see(
        &with("PRE_PRODUCTION_TRAFFIC_SHIFT", task).replace("lb", "lb steady"),
        "advance web PRODUCTION_TRAFFIC_SHIFT, front:80 default: g=100 h=0",
    );
    see(
        &with("BAKE_TIME share=100", task)
            .replace("LINEAR", "LINEAR bake=9")
            .replace("lb", "lb steady"),
        "advance web CLEAN_UP",
    );
    see(&with("CLEAN_UP share=100", task).replace("lb", "lb steady"), "complete web");
}
