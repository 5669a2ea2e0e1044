use alloc::string::ToString;

use super::*;

const WORKING: Condition = Condition {
    is_stopped: false,
    waited: Duration::ZERO,
};
const STOPPED: Condition = Condition {
    is_stopped: true,
    ..WORKING
};

#[test]
fn a_stopped_host_is_killed_within_a_second_and_its_failure_says_so() {
    let mut bench = Bench::running();
    let killed = Effect::Kill(HostId(1));
    let killed_at = (1..100).find(|period| look(&mut bench, *period, STOPPED).contains(&killed));
    assert_eq!(killed_at, Some(4));
    assert_eq!(look(&mut bench, 5, STOPPED), []);
    bench.exit(1);
    assert_eq!(
        cause(&bench),
        "hung: its process was stopped for about 1000 ms"
    );
}

#[test]
fn a_spare_that_is_stopped_is_replaced_before_it_is_needed() {
    let mut bench = Bench::running();
    let spare = HostId(2);
    let seen = |_| bench.told(Input::HostLookedAt(spare, STOPPED));
    assert_eq!(
        (0..4).flat_map(seen).collect::<Vec<_>>(),
        [Effect::Kill(spare)]
    );
}

#[test]
fn a_host_that_does_not_answer_in_the_time_of_its_slowest_handler_is_killed() {
    let mut bench = Bench::running();
    assert_eq!(look(&mut bench, 1, WORKING), [ping(1)]);
    pong(&mut bench, 1, 2_000);
    assert_eq!(look(&mut bench, 2, WORKING), [ping(2)]);
    let killed = Effect::Kill(HostId(1));
    let killed_at = (3..100).find(|period| look(&mut bench, *period, WORKING).contains(&killed));
    // Asked at 500 ms, and what it may take is 2,500 ms.
    assert_eq!(killed_at, Some(13));
    bench.exit(1);
    assert_eq!(cause(&bench), "hung: it did not answer for 2750 ms");
}

#[test]
fn a_host_that_answers_goes_on() {
    let mut bench = Bench::running();
    for period in 1..100 {
        assert_eq!(look(&mut bench, period, WORKING), [ping(period)]);
        pong(&mut bench, period, 1_000);
    }
}

#[test]
fn what_a_host_waited_for_a_processor_and_what_the_agent_missed_are_not_held_against_it() {
    let mut starved = Bench::running();
    for period in 1..100 {
        let waited = LOOK_PERIOD * u32::try_from(period).unwrap();
        let condition = Condition { waited, ..WORKING };
        let effects = look(&mut starved, period, condition);
        assert!(effects.is_empty() || effects == [ping(1)], "{effects:?}");
        if period == 1 {
            pong(&mut starved, 9, 1_000);
        }
    }
    let mut absent = Bench::running();
    look(&mut absent, 1, WORKING);
    pong(&mut absent, 1, 1_000);
    look(&mut absent, 2, WORKING);
    assert_eq!(look(&mut absent, 400, WORKING), []);
    pong(&mut absent, 2, 1_000);
    assert_eq!(look(&mut absent, 401, WORKING), [ping(3)]);
}

#[test]
fn nothing_is_held_against_a_host_before_its_first_answer_or_while_it_restores() {
    let mut bench = Bench::running();
    for period in 1..100 {
        let effects = look(&mut bench, period, WORKING);
        assert!(!effects.contains(&Effect::Kill(HostId(1))), "{effects:?}");
    }
    let mut restoring = Bench::new();
    restoring.assign();
    restoring.host(1, hello());
    for period in 1..100 {
        assert_eq!(look(&mut restoring, period, WORKING), []);
    }
}

#[test]
fn hosts_are_looked_at_in_periods_as_long_as_there_are_any() {
    let mut bench = Bench::new();
    assert_eq!(bench.agent.looks_at(), None);
    bench.assign();
    assert_eq!(bench.agent.looks_at(), Some(ms(250)));
    bench.at = ms(250);
    // Not before its hello: until then it is killed anyhow if it takes too long.
    assert_eq!(bench.wake(), []);
    bench.host(1, hello());
    bench.at = ms(500);
    assert_eq!(bench.wake(), [Effect::Look(HostId(1))]);
    assert_eq!(bench.agent.looks_at(), Some(ms(750)));
}

/// Host 1 is seen like this in this period.
fn look(bench: &mut Bench, period: u64, condition: Condition) -> Vec<Effect> {
    bench.at = ms(period * 250);
    bench.told(Input::HostLookedAt(HostId(1), condition))
}

fn ping(number: u64) -> Effect {
    tell(1, ToHost::Ping { number })
}

fn pong(bench: &mut Bench, number: u64, within: u64) {
    let within = Duration::from_millis(within);
    assert_eq!(bench.host(1, FromHost::Pong { number, within }), []);
}

fn cause(bench: &Bench) -> String {
    let failure = bench.agent.elements[&lamp()].last_failure.as_ref();
    failure.unwrap().cause.to_string()
}
