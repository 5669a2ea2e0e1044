use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::detection::Peer;

const MS: u64 = 1_000_000;

#[test]
fn an_observed_server_is_sent_to_at_the_times_of_a_schedule() {
    let mut bench = Bench::new();
    assert_eq!(bench.next_at(), Some(100));
    assert_eq!(bench.wake(100), [beat_to("rpi2", 1)]);
    // It was held up by more than two intervals: what it missed is not made up for.
    assert_eq!(bench.wake(330), [beat_to("rpi2", 3)]);
    assert_eq!(bench.next_at(), Some(400));
}

#[test]
fn a_server_that_falls_silent_is_suspected_once_and_asked_in_rounds() {
    let mut bench = Bench::taught();
    let suspected = Effect::Report(Noticed::Suspected {
        server: id("rpi1"),
        silent_for: Duration::from_millis(350),
        unwellness: 0,
    });
    let at = bench.silent_until(2_355);
    assert_eq!(at, vec![suspected, probe("rpi1", 2_355)]);
    let rounds: Vec<_> = [2_455, 2_555, 2_655, 2_755, 2_855]
        .map(|at| bench.silent_until(at))
        .concat();
    assert_eq!(rounds, [2_455, 2_555, 2_655].map(|at| probe("rpi1", at)));
    let suspects: Vec<_> = bench.monitor.suspected().cloned().collect();
    assert_eq!(suspects, [id("rpi1")]);
}

#[test]
fn a_sign_of_life_of_a_suspected_server_is_told_once() {
    let heard = [Effect::Report(Noticed::Heard { server: id("rpi1") })];
    let mut by_heartbeat = Bench::taught();
    by_heartbeat.silent_until(2_355);
    assert_eq!(by_heartbeat.hear(2_400, 24), heard);
    assert_eq!(by_heartbeat.hear(2_500, 25), []);
    let mut by_answer = Bench::taught();
    by_answer.silent_until(2_355);
    assert_eq!(by_answer.answer(2_360, 2_355 * MS + 1), []);
    assert_eq!(by_answer.answer(2_360, 2_355 * MS), heard);
    assert_eq!(by_answer.answer(2_361, 2_355 * MS), []);
    assert_eq!(by_answer.monitor.suspected().count(), 0);
}

#[test]
fn a_server_that_others_hear_is_suspected_again_less_and_less_often() {
    let mut bench = Bench::taught();
    let mut suspected_at = Vec::new();
    for at in (2_000..40_000).step_by(5) {
        let suspects =
            |effect: &Effect| matches!(effect, Effect::Report(Noticed::Suspected { .. }));
        if bench.silent_until(at).iter().any(suspects) {
            suspected_at.push(at);
            bench.tell(at, Input::Judged(id("rpi1"), Judgement::Alive));
        }
    }
    let apart: Vec<u64> = suspected_at
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert_eq!(apart, [850, 1_700, 3_400, 6_800, 10_000, 10_000]);
}

#[test]
fn a_failed_server_is_asked_no_more_and_its_return_is_told() {
    let mut bench = Bench::taught();
    bench.silent_until(2_355);
    bench.tell(2_800, Input::Judged(id("rpi1"), Judgement::Failed));
    assert_eq!(bench.silent_until(9_000), []);
    let heard = Effect::Report(Noticed::Heard { server: id("rpi1") });
    assert_eq!(bench.hear(9_005, 90), [heard]);
}

#[test]
fn one_that_is_asked_to_look_tells_what_it_saw_and_is_the_answer_if_asked_about_itself() {
    let mut bench = Bench::new();
    let look = |server| Input::LookRequested(id(server));
    assert_eq!(bench.tell(50, look("rpi9")), []);
    assert_eq!(bench.wake(50), [probe("rpi9", 50)]);
    for at in [150, 250, 350] {
        assert!(bench.wake(at).contains(&probe("rpi9", at)));
    }
    let silent = Effect::Report(Noticed::Silent {
        server: id("rpi9"),
        unwellness: 0,
    });
    assert!(bench.wake(450).contains(&silent));

    bench.tell(500, look("rpi9"));
    assert!(bench.wake(500).contains(&probe("rpi9", 500)));
    let answered = Input::ProbeAnswered {
        by: id("rpi9"),
        nonce: 500 * MS,
    };
    let heard = |server| Effect::Report(Noticed::Heard { server: id(server) });
    assert_eq!(bench.tell(510, answered.clone()), [heard("rpi9")]);
    assert_eq!(bench.tell(511, answered), []);
    assert_eq!(bench.tell(520, look("pc")), [heard("pc")]);
}

#[test]
fn an_observer_that_did_not_run_blames_nobody() {
    let mut bench = Bench::taught();
    // Stopped for a minute: of all that arrived the oldest were kept, and all come at once.
    for sequence in 21..200 {
        assert_eq!(bench.hear(62_000, sequence), []);
    }
    let effects = bench.wake(62_000);
    assert_eq!(effects, [beat_to("rpi2", 620)]);
    // From then on it hears as before, and suspects about as soon as one that was just started.
    for sequence in 620..=630 {
        bench.silent_until(sequence * 100);
        assert_eq!(bench.hear(sequence * 100 + 5, sequence), []);
    }
    let reports: Vec<u64> = (63_005..64_000)
        .filter(|at| !bench.silent_until(*at).is_empty())
        .collect();
    assert!((63_355..63_610).contains(&reports[0]), "{reports:?}");
}

#[test]
fn who_is_not_well_suspects_later_until_it_is_well_again() {
    let mut bench = Bench::taught();
    let wake_late = |bench: &mut Bench| {
        let due = bench.next_at().unwrap();
        bench.wake(due + 60);
    };
    wake_late(&mut bench);
    assert_eq!(bench.monitor.unwellness, 1);
    wake_late(&mut bench);
    assert_eq!(bench.monitor.unwellness, 2);
    let at = bench.now;
    for at in at..at + 2_500 {
        if (at + 5).is_multiple_of(100) {
            bench.hear(at, (at + 5) / 100);
        }
        bench.silent_until(at);
    }
    assert_eq!(bench.monitor.unwellness, 0);
}

#[test]
fn a_new_incarnation_is_waited_for_anew_and_the_old_one_is_of_the_past() {
    let mut bench = Bench::taught();
    bench.silent_until(2_355);
    bench.tell(2_400, assigned(Some(9)));
    assert_eq!(bench.monitor.suspected().count(), 0);
    assert_eq!(bench.hear(2_410, 99), []);
    assert_eq!(bench.silent_until(3_249), []);
    assert!(!bench.silent_until(3_250).is_empty());
}

proptest! {
    #[test]
    fn a_healthy_server_on_a_quiet_network_is_never_suspected_and_a_dead_one_within_its_time(
        delays in prop::collection::vec(0_u64..40, 30..120),
        lost in prop::collection::vec(prop::bool::weighted(0.05), 120),
    ) {
        let mut bench = Bench::new();
        let mut last = 0;
        let mut lost_before = false;
        for (number, delay) in (1_u64..).zip(&delays) {
            let sent = number * 100;
            bench.silent_until(sent);
            // Two lost in a row may well be suspected.
            let is_lost = lost[usize::try_from(number).unwrap() % lost.len()] && !lost_before;
            lost_before = is_lost;
            if !is_lost {
                bench.silent_until(sent + delay);
                prop_assert_eq!(bench.hear(sent + delay, number), vec![]);
                last = sent;
            }
            prop_assert_eq!(bench.monitor.suspected().count(), 0);
        }
        // The margin starts wide, and may be widened by jitter.
        bench.silent_until(last + 100 + 750 + 40);
        prop_assert_eq!(bench.monitor.suspected().count(), 1);
    }

    #[test]
    fn whatever_it_is_told_its_deadline_is_met_by_waking(steps in prop::collection::vec((0_u64..400, 0_u8..7, 0_u64..6), 1..200)) {
        let mut bench = Bench::new();
        let mut at = 0;
        for (after, what, number) in steps {
            at += after;
            let server = id(["rpi1", "rpi2", "rpi9", "pc", "none", "other"][usize::try_from(number).unwrap()]);
            let input = match what {
                0 => Input::HeartbeatReceived {
                    from: server,
                    heartbeat: Heartbeat { incarnation: number % 3, sequence: at / 100 },
                },
                1 => Input::ProbeAnswered { by: server, nonce: (at - after) * MS },
                2 => Input::LookRequested(server),
                3 => Input::Judged(server, Judgement::Alive),
                4 => Input::Judged(server, Judgement::Failed),
                5 => Input::ProbeReceived { from: Asker(0), nonce: number },
                _ => assigned((number > 3).then_some(number)),
            };
            bench.tell(at, input);
            let mut wakes = 0;
            while bench.next_at().is_some_and(|due| due <= at) {
                bench.wake(at);
                wakes += 1;
                prop_assert!(wakes < 20, "it is woken for nothing");
            }
        }
    }
}

struct Bench {
    monitor: ServerMonitor,
    now: u64,
}

impl Bench {
    /// `pc` observes `rpi1` and is observed by `rpi2`.
    fn new() -> Self {
        let mut bench = Self {
            monitor: ServerMonitor::new(id("pc"), 7),
            now: 0,
        };
        bench.tell(0, assigned(None));
        bench
    }

    /// It has heard 20 heartbeats, each 5 ms after it was sent.
    fn taught() -> Self {
        let mut bench = Self::new();
        for sequence in 1..=20 {
            bench.silent_until(sequence * 100);
            bench.hear(sequence * 100 + 5, sequence);
        }
        bench
    }

    fn tell(&mut self, at: u64, input: Input) -> Vec<Effect> {
        self.now = at;
        let mut effects = Vec::new();
        self.monitor.handle(now(at), input, &mut effects);
        effects
    }

    fn hear(&mut self, at: u64, sequence: u64) -> Vec<Effect> {
        let heartbeat = Heartbeat {
            incarnation: 1,
            sequence,
        };
        let from = id("rpi1");
        self.tell(at, Input::HeartbeatReceived { from, heartbeat })
    }

    fn answer(&mut self, at: u64, nonce: u64) -> Vec<Effect> {
        let by = id("rpi1");
        self.tell(at, Input::ProbeAnswered { by, nonce })
    }

    fn wake(&mut self, at: u64) -> Vec<Effect> {
        self.now = at;
        let mut effects = Vec::new();
        self.monitor.wake(now(at), &mut effects);
        effects
    }

    /// Wakes it whenever it wants to be until `at`, and returns all but heartbeats.
    fn silent_until(&mut self, at: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(due) = self.next_at().filter(|due| *due <= at) {
            effects.extend(self.wake(due.max(self.now)));
        }
        effects.retain(|effect| !matches!(effect, Effect::SendHeartbeat(..)));
        effects
    }

    fn next_at(&self) -> Option<u64> {
        self.monitor.next_deadline().map(|at| at.0.div_ceil(MS))
    }
}

fn now(at: u64) -> Now {
    Now {
        monotonic: Monotonic(at * MS),
        ..Now::default()
    }
}

fn assigned(incarnation: Option<u64>) -> Input {
    let peer = |server: &str| Peer {
        server: id(server),
        address: None,
        incarnation: incarnation.filter(|_| server == "rpi1"),
    };
    Input::Assigned(Observation {
        application: id("home"),
        secret: Default::default(),
        rules: DetectionProfile::Fast.heartbeats(),
        observed: vec![peer("rpi1")],
        observers: vec![peer("rpi2")],
    })
}

fn beat_to(server: &str, sequence: u64) -> Effect {
    let incarnation = 7;
    let heartbeat = Heartbeat {
        incarnation,
        sequence,
    };
    Effect::SendHeartbeat(id(server), heartbeat)
}

fn probe(server: &str, at: u64) -> Effect {
    Effect::SendProbe {
        to: id(server),
        nonce: at * MS,
    }
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
