//! Deployments that fail, are stopped and go back; protection; readiness apart from liveness.

use super::*;

#[test]
fn breaker_ends_a_rollout_at_its_threshold_and_starts_nothing_more() {
    let with = |failures: u32| {
        format!(
            "service web 2 100/200 rev=2 lb breaker\n deployment 2 2 failures={failures}
             deployment 1 1 done\n task a 1 RUNNING healthy\n task b 1 RUNNING healthy"
        )
    };
    check(&with(2), "start web:2\nstart web:2");
    check(&with(3), "fail web 2 TasksFailed");
    check_events(
        &with(3),
        "(service web) (deployment 2) deployment failed: tasks failed to start.",
    );
    // Off by default, however many fail.
    check(&with(9).replace(" breaker", ""), "start web:2\nstart web:2");
}

#[test]
fn failed_rollout_keeps_what_serves_and_lets_the_surplus_go() {
    let with = |count: u32, tasks: &str| {
        format!(
            "service web {count} 100/200 rev=2 lb breaker\n deployment 2 2 failed
             deployment 1 1 done\n{tasks}"
        )
    };
    let old = "task a 1 RUNNING healthy\n task b 1 RUNNING healthy";
    check(&with(2, old), "");
    check(&with(3, old), "");
    check(&with(2, &format!("{old}\n task c 2 PENDING")), "stop c: deployment");
    check(&with(2, &format!("{old}\n task c 2 RUNNING unhealthy")), "stop c: unhealthy");
    check(&with(2, &format!("{old}\n task c 2 RUNNING healthy")), "stop c: deployment");
    // A healthy task of the failed revision stays where nothing better is there.
    check(&with(2, "task a 1 RUNNING healthy\n task c 2 RUNNING healthy"), "");
    check(&with(1, old), "stop b: deployment");
    // The next deployment is begun as ever.
    check(&with(2, old).replace("rev=2", "rev=3"), "open web web:3\nstart web:3\nstart web:3");
}

#[test]
fn rollback_goes_on_with_the_tasks_of_the_last_good_deployment() {
    let text = "service web 2 100/200 rev=3 lb breaker rollback\n deployment 3 3 failures=3
                deployment 2 2 failed\n deployment 1 1 done
                task a 1 RUNNING healthy\n task b 1 RUNNING healthy\n task c 3 PENDING
                task d 3 RUNNING unhealthy";
    check(text, "fail web 3 TasksFailed back to 1\nstop c: deployment\nstop d: deployment");
    check_events(
        text,
        "(service web) (deployment 3) deployment failed: tasks failed to start.
         (service web) rolling back to (deployment 1).
         (service web) has stopped 2 running tasks: (task c) (task d).
         (service web) deregistered 1 targets in (target-group \
         arn:aws:elasticloadbalancing:local:000000000000:targetgroup/g/0000000000000000)
         (service web) has begun draining connections on 1 tasks.",
    );
    // Its tasks are gone already: they are started again.
    check(
        "service web 2 0/100 rev=2 lb breaker rollback\n deployment 2 2 failures=3
         deployment 1 1 done ended",
        "fail web 2 TasksFailed back to 1\nstart web:1\nstart web:1",
    );
    // Under way again, and completed once more.
    check(
        "service web 1 100/200 lb breaker rollback\n deployment 1 1 back=2\n deployment 2 2 failed
         task a 1 RUNNING healthy",
        "close web 2\ncomplete web\nsteady web",
    );
}

#[test]
fn way_back_leads_nowhere_twice_nor_to_what_is_not_there() {
    let gone = "service web 1 100/200 rev=2 lb breaker rollback\n deployment 2 2 failures=3
                deployment 1 9 done ended";
    check(gone, "fail web 2 TasksFailed");
    let never = "service web 1 100/200 rev=2 lb breaker rollback\n deployment 2 2 failures=3
                 deployment 1 1 ended";
    check(never, "fail web 2 TasksFailed");
    let again = "service web 1 100/200 lb breaker rollback\n deployment 1 1 back=2 failures=3
                 deployment 2 2 failed\n deployment 0 3 done ended";
    check(again, "fail web 1 TasksFailed");
}

#[test]
fn deployment_that_is_asked_to_stop_goes_back() {
    let text = "service web 1 100/200 rev=2 lb stopped=2\n deployment 2 2\n deployment 1 1 done
                task a 1 RUNNING healthy\n task b 2 PENDING";
    check(text, "fail web 2 Stopped back to 1\nstop b: deployment");
    // Too late: it is completed.
    check(
        "service web 1 100/200 rev=2 lb steady stopped=2\n deployment 2 2 done
         task b 2 RUNNING healthy",
        "",
    );
}

#[test]
fn task_is_marked_when_it_is_healthy_for_the_first_time() {
    let with = |words: &str| {
        format!(
            "service web 2 100/200 lb\n deployment 1 1 done\n task a 1 RUNNING {words}
                 task b 1 RUNNING initial fresh"
        )
    };
    check(&with("healthy fresh"), "healthy a");
    check(&with("healthy"), "");
    check(&with("initial fresh"), "");
}

#[test]
fn task_that_nothing_checks_is_healthy_after_forty_seconds() {
    let with = |age: u64| {
        format!("service web 1 100/200\n deployment 1 1\n task a 1 RUNNING fresh age={age}")
    };
    let (_, plan) = planned(&with(39), false);
    assert_eq!((plan.moves.len(), plan.revisit), (0, Some(at(NOW + 1))));
    check(&with(40), "healthy a\ncomplete web\nsteady web");
}

#[test]
fn protected_tasks_are_stopped_by_no_scale_in_and_no_deployment() {
    let tasks = "task a 1 RUNNING healthy\n task b 1 RUNNING healthy protected=30
                 task c 1 RUNNING healthy protected=60";
    let text = |count: u32| {
        format!("service web {count} 100/200 lb steady\n deployment 1 1 done\n{tasks}")
    };
    check(&text(2), "stop a: scale-in");
    let (_, plan) = planned(&text(1), false);
    let moves: Vec<String> = plan.moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, ["stop a: scale-in", "unsteady web"]);
    assert_eq!(plan.revisit, Some(at(NOW + 30)));
    assert_eq!(
        plan.events[0].message,
        "(service web, taskSet 1) was unable to reach steady state because task set (1) was unable \
         to scale in. Reason: The number of protected tasks are more than the desired count of \
         tasks."
    );
    check(
        &format!(
            "service web 3 100/200 rev=2 lb\n deployment 2 2\n deployment 1 1 done\n{tasks}
             task x 2 RUNNING healthy\n task y 2 RUNNING healthy\n task z 2 RUNNING healthy"
        ),
        "stop a: deployment",
    );
    // What serves is not stopped for what is protected and does not serve yet.
    check(
        "service web 1 100/200 lb\n deployment 1 1 done\n task a 1 RUNNING healthy
         task b 1 RUNNING initial protected=30",
        "",
    );
    // Its time is over.
    check(
        "service web 0 100/200 lb steady\n deployment 1 1 done
         task a 1 RUNNING healthy protected=0",
        "stop a: scale-in",
    );
    // Bad health and the end of the service are stronger.
    check(
        "service web 1 100/200 lb\n deployment 1 1 done
         task a 1 RUNNING unhealthy protected=60\n task b 1 RUNNING healthy for=a",
        "stop a: unhealthy\nsteady web",
    );
    check(
        "service web 0 100/200 draining\n deployment 1 1 done\n task a 1 RUNNING protected=60",
        "stop a: deleted",
    );
}

#[test]
fn unready_task_is_kept_where_the_service_says_so() {
    let with = |word: &str, task: &str| {
        format!("service web 1 100/200 lb {word}\n deployment 1 1 done\n task a 1 RUNNING {task}")
    };
    check(&with("keep", "unhealthy"), "");
    check(&with("", "unhealthy"), "start web:1 for a");
    // Its registration is gone for good.
    check(&with("keep", "healthy deregistered"), "start web:1 for a");
    // A new revision that is not ready replaces nothing.
    check(
        "service web 1 100/200 rev=2 lb keep\n deployment 2 2\n deployment 1 1 done
         task a 1 RUNNING healthy\n task b 2 RUNNING unhealthy",
        "",
    );
}

#[test]
fn daemon_s_task_goes_before_the_next_comes() {
    check(
        "service web 1 0/100 rev=2 lb\n deployment 2 2\n deployment 1 1 done
         task a 1 RUNNING healthy",
        "stop a: deployment\nstart web:2",
    );
}

#[test]
fn steady_state_is_told_again_after_six_hours() {
    let told = |age: u64| {
        let mut state = situation(
            "service web 1 100/200 lb steady\n deployment 1 1 done\n task a 1 RUNNING healthy",
        );
        let mut progress = Progress::clone(&state.progress[&web()]);
        let now = at(NOW + 21_600);
        let message = "(service web) has reached a steady state.".to_owned();
        progress.events.push_back(ServiceEvent { id: 0, at: at(NOW + 21_600 - age), message });
        put(&mut state, Row::from(progress));
        let (settings, avoid) = (Settings::default(), BTreeSet::new());
        let view = View {
            state: &state,
            settings: &settings,
            leaving: false,
            avoid: &avoid,
            heard: &BTreeMap::new(),
        };
        plan(view, now, &mut fastrand::Rng::with_seed(1)).events.len()
    };
    assert_eq!((told(21_599), told(21_600)), (0, 1));
}

#[test]
fn service_tells_of_tasks_that_no_target_group_blames() {
    check_events(
        "service web 1 100/200 lb\n deployment 1 1 done\n task a 1 RUNNING healthy unregistered",
        "(service web) Amazon ECS replaced 1 tasks due to an unhealthy status.
         (service web) has started 1 tasks: (task NEW).",
    );
}

/// What is kept of the service after the plan of a situation.
async fn kept(text: &str) -> Progress {
    let store = Store::memory(&Default::default()).unwrap();
    let rows: Vec<Row> = situation(text).rows().collect();
    let put = move |tx: &mut crate::state::Tx<'_>| {
        rows.into_iter().for_each(|row| tx.put(row));
        Ok::<_, StoreError>(())
    };
    store.update(put).await.unwrap();
    let (settings, avoid) = (Settings::default(), BTreeSet::new());
    let state = store.read();
    let view = View {
        state: &state,
        settings: &settings,
        leaving: false,
        avoid: &avoid,
        heard: &BTreeMap::new(),
    };
    let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
    let apply = move |tx: &mut crate::state::Tx<'_>| {
        crate::orchestrator::apply::apply(tx, &plan, &settings, at(NOW));
        Ok::<_, StoreError>(())
    };
    store.update(apply).await.unwrap();
    Progress::clone(&store.read().progress[&web()])
}

#[tokio::test(start_paused = true)]
async fn replaced_task_counts_and_one_that_was_never_healthy_slows_down_the_next() {
    let with = |words: &str, deployment: &str| {
        format!(
            "service web 1 100/200 lb breaker\n deployment 1 1 {deployment}
             task a 1 RUNNING unhealthy {words}\n task b 1 RUNNING unhealthy fresh for=a {words}"
        )
    };
    for (words, deployment, counted) in [
        ("age=5", "failures=1", (2, 1, 1)),
        ("age=900 fresh", "failures=1", (2, 1, 1)),
        ("age=900", "done", (0, 1, 1)),
    ] {
        let kept = kept(&with(words, deployment)).await;
        let first = &kept.deployments[0];
        let found = (first.failures, first.failed_tasks, kept.backoff.failures);
        assert_eq!(found, counted, "{words} {deployment}");
    }
    let served = "service web 1 100/200 lb breaker\n deployment 1 1
                  task a 1 RUNNING unhealthy age=900\n task b 1 RUNNING healthy for=a";
    let kept = kept(served).await;
    let first = &kept.deployments[0];
    assert_eq!((first.failures, first.failed_tasks, kept.backoff.failures), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn way_back_is_kept_with_how_it_ended() {
    let failing = "service web 1 100/200 rev=2 lb breaker rollback\n deployment 2 2 failures=3
                   deployment 1 1 done\n task a 1 RUNNING healthy\n task b 2 PENDING";
    let begun = kept(failing).await;
    let [back, failed] = begun.deployments.as_slice() else { panic!("{begun:?}") };
    assert_eq!((back.id.as_str(), back.rollout), ("1", Rollout::InProgress));
    assert_eq!((back.back_from.clone(), back.completed_at), (Some("2".into()), Some(at(0))));
    assert_eq!((failed.rollout, failed.failure), (Rollout::Failed, Some(Failure::TasksFailed)));
    let rollback = failed.rollback.as_ref().unwrap();
    assert_eq!((rollback.to.as_str(), rollback.ended_at), ("1", None));
    // A task that becomes healthy ends the count.
    let healthy = "service web 2 100/200 lb breaker\n deployment 1 1 failures=2
                   task a 1 RUNNING healthy fresh\n task b 1 PENDING";
    assert_eq!(kept(healthy).await.deployments[0].failures, 0);
}
