use alloc::vec;

mod hanging;

use super::*;
use crate::notification::{BetweenElements, EntityState, Notice, NoticeDecision, Said, Table};
use crate::protocol::appliances::Reconfiguration;
use crate::protocol::control::{Assignment, Decision, ElementState, Failure, RepairPhases};
use crate::protocol::messages::{Callee, DirectAddress, PROTOCOL_VERSION, StartCause, StartPhases};
use crate::time::WallClock;

#[test]
fn an_assigned_element_runs_on_the_first_host_and_then_a_spare_is_started_and_prepared() {
    let mut bench = Bench::new();
    assert_eq!(bench.assign(), [Effect::Spawn(HostId(1))]);
    assert_eq!(
        bench.host(1, hello()),
        [tell(1, assigned(0, StartCause::Deployed))]
    );
    assert_eq!(bench.host(1, ready(4)), [Effect::Spawn(HostId(2))]);
    assert_eq!(
        bench.host(2, hello()),
        [tell(2, ToHost::Prepare { spec: vec![7] })]
    );
}

#[test]
fn a_failed_element_goes_to_the_spare_as_soon_as_the_manager_has_decided() {
    let mut bench = Bench::running();
    assert_eq!(bench.told(Input::ManagerConnected).len(), 1);
    let reports = bench.exit(1);
    assert_eq!(reports[0], Effect::Report(suspected(1)));
    assert_eq!(bench.agent.next_deadline(), Some(ms(100)));
    bench.at = ms(3);
    assert_eq!(
        bench.told(restart(1)),
        [tell(2, assigned(4, StartCause::Recovered))]
    );
    bench.at = ms(5);
    let effects = bench.host(2, ready(5));
    let [
        Effect::Report(FromAgent::Status(status)),
        Effect::Spawn(HostId(3)),
    ] = &*effects
    else {
        panic!("{effects:?}");
    };
    assert_eq!(
        (&status.state, status.epoch, status.restarts),
        (&ElementState::Running, 5, 1)
    );
    assert_eq!(
        status.last_failure,
        Some(Failure {
            number: 1,
            cause: "was killed".into(),
            seen_at: WallClock(0),
            decided_by: Some(Decider::Manager),
            phases: RepairPhases {
                seen: None,
                decided: Some(Duration::from_millis(3)),
                started: Some(Duration::ZERO),
                host: Some(StartPhases::default()),
                repaired: Some(Duration::from_millis(5)),
                first_event: None,
            },
        })
    );
}

#[test]
fn without_an_answer_the_agent_acts_alone_and_a_late_decision_is_void() {
    let mut bench = Bench::running();
    bench.told(Input::ManagerConnected);
    bench.exit(1);
    bench.at = ms(100);
    let effects = bench.wake();
    assert_eq!(effects[0], tell(2, assigned(4, StartCause::Recovered)));
    assert_eq!(bench.told(restart(1)), []);
}

#[test]
fn every_manager_is_told_which_servers_are_suspected_and_where_heartbeats_are_heard() {
    let suspected = Noticed::Suspected {
        server: EntityId::new("rpi1").unwrap(),
        silent_for: Duration::from_millis(350),
        unwellness: 0,
    };
    let mut bench = Bench::new();
    let beating = Input::Beating {
        address: "127.0.0.1:9".into(),
        incarnation: 3,
    };
    assert_eq!(bench.told(beating), []);
    assert_eq!(bench.told(Input::ServerNoticed(suspected.clone())), []);
    let beats = FromAgent::Beats {
        address: "127.0.0.1:9".into(),
        incarnation: 3,
    };
    let hosted = vec![];
    let registered = FromAgent::Registered { hosted };
    assert_eq!(
        bench.told(Input::ManagerConnected),
        [
            registered.clone(),
            beats.clone(),
            FromAgent::Noticed(suspected.clone()),
        ]
        .map(Effect::Report)
    );
    let alive = MonitorOrder::Judge(
        suspected.server().clone(),
        crate::detection::Judgement::Alive,
    );
    assert_eq!(
        bench.told(Input::ManagerTold(ToAgent::Monitor(alive.clone()))),
        [Effect::Monitor(alive)]
    );
    assert_eq!(bench.told(Input::ManagerLost), []);
    assert_eq!(
        bench.told(Input::ManagerConnected),
        [registered, beats].map(Effect::Report)
    );
}

#[test]
fn without_a_manager_the_agent_acts_at_once() {
    let mut bench = Bench::running();
    assert_eq!(bench.exit(1), [tell(2, assigned(4, StartCause::Recovered))]);
}

#[test]
fn a_manager_that_is_lost_while_it_decides_is_not_waited_for() {
    let mut bench = Bench::running();
    bench.told(Input::ManagerConnected);
    bench.exit(1);
    assert_eq!(
        bench.told(Input::ManagerLost),
        [tell(2, assigned(4, StartCause::Recovered))]
    );
}

#[test]
fn the_second_failure_waits_and_the_third_is_given_up() {
    let mut bench = Bench::running();
    bench.exit(1);
    bench.host(2, ready(5));
    bench.host(3, hello());
    assert_eq!(bench.exit(2), []);
    assert_eq!(bench.agent.next_deadline(), Some(ms(50)));
    bench.at = ms(50);
    assert_eq!(bench.wake(), [tell(3, assigned(5, StartCause::Recovered))]);
    bench.host(3, ready(6));
    bench.exit(3);
    assert_eq!(
        bench.state(),
        ElementState::Failed {
            reason: "restarted 2 times within 60s and failed again: was killed".into(),
        }
    );
}

#[test]
fn an_element_that_no_restart_helps_fails_at_once() {
    let mut bench = Bench::running();
    let given_up = FromHost::GivenUp {
        element: lamp(),
        cause: "record 7 is damaged".into(),
        restart_may_help: false,
    };
    assert_eq!(bench.host(1, given_up), []);
    let reason = "record 7 is damaged".into();
    assert_eq!(bench.state(), ElementState::Failed { reason });
    assert_eq!(bench.exit(1), []);
}

#[test]
fn a_host_that_does_not_say_hello_is_killed() {
    let mut bench = Bench::new();
    bench.assign();
    bench.at = ms(10_000);
    assert_eq!(bench.wake(), [Effect::Kill(HostId(1))]);
    assert_eq!(bench.exit(1), [Effect::Spawn(HostId(2))]);
}

#[test]
fn all_stops_in_order_elements_then_hosts_then_the_agent() {
    let mut bench = Bench::running();
    let stop = ToHost::Stop { element: lamp() };
    assert_eq!(bench.told(Input::StopRequested), [tell(1, stop)]);
    let stopped = FromHost::Stopped { element: lamp() };
    assert_eq!(
        bench.host(1, stopped),
        [Effect::Close(HostId(1)), Effect::Close(HostId(2))]
    );
    assert_eq!(bench.exit(2), []);
    assert_eq!(bench.exit(1), [Effect::Finish]);
}

#[test]
fn what_does_not_stop_in_time_is_killed() {
    let mut bench = Bench::running();
    bench.told(Input::StopRequested);
    bench.at = ms(5_000);
    assert_eq!(
        bench.wake(),
        [Effect::Kill(HostId(1)), Effect::Kill(HostId(2))]
    );
    assert_eq!(bench.exit(2), []);
    assert_eq!(bench.exit(1), [Effect::Finish]);
}

/// An agent with one element to run and a clock that stands still.
#[test]
fn hosts_learn_where_a_callee_is_also_without_a_manager_and_after_a_restart() {
    let mut bench = Bench::running();
    let listening = bench.host(1, FromHost::Listening(callee(4)));
    assert_eq!(listening, [tell(1, ToHost::Reach(callee(4)))]);
    assert_eq!(bench.host(1, FromHost::Listening(callee(4))), []);
    let effects = bench.exit(1);
    let told: Vec<_> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Tell { .. }))
        .collect();
    let assigned = tell(2, assigned(4, StartCause::Recovered));
    assert_eq!(told, [&assigned, &tell(2, ToHost::Reach(callee(4)))]);
}

#[test]
fn the_manager_is_told_of_callees_when_they_listen_and_when_it_is_back() {
    let mut bench = Bench::running();
    bench.told(Input::ManagerConnected);
    let effects = bench.host(1, FromHost::Listening(callee(4)));
    let listening = Effect::Report(FromAgent::Listening(callee(4)));
    assert_eq!(effects[0], listening);
    bench.told(Input::ManagerLost);
    assert_eq!(bench.told(Input::ManagerConnected)[1], listening);
}

#[test]
fn an_address_of_an_older_epoch_is_not_believed() {
    let mut bench = Bench::running();
    let reach = |epoch| Input::ManagerTold(ToAgent::Reach(callee(epoch)));
    assert_eq!(bench.told(reach(4)), [tell(1, ToHost::Reach(callee(4)))]);
    assert_eq!(bench.told(reach(3)), []);
}

#[test]
fn an_element_that_starts_is_told_at_once_how_those_around_it_are() {
    let mut bench = Bench::running();
    let told = bench.told(Input::ManagerTold(ToAgent::Reconfigure {
        element: lamp(),
        reconfiguration: failed_door(),
    }));
    let reconfigure = ToHost::Reconfigure {
        element: lamp(),
        reconfiguration: failed_door(),
    };
    assert_eq!(told, [tell(1, reconfigure.clone())]);
    let assigned = tell(2, assigned(4, StartCause::Recovered));
    assert_eq!(bench.exit(1), [assigned, tell(2, reconfigure)]);
}

#[test]
fn what_configurators_say_stays_on_the_server_or_goes_through_the_manager() {
    let mut bench = Bench::running();
    bench.told(Input::ManagerConnected);
    let to = |to: &str| BetweenElements {
        from: EntityId::new("door").unwrap(),
        to: EntityId::new(to).unwrap(),
        said: Said::Subscribe,
    };
    let here = bench.host(1, FromHost::Between(to("lamp")));
    assert_eq!(here, [tell(1, ToHost::Between(to("lamp")))]);
    let elsewhere = bench.host(1, FromHost::Between(to("pump")));
    assert_eq!(elsewhere, [Effect::Report(FromAgent::Between(to("pump")))]);
    let told = bench.told(Input::ManagerTold(ToAgent::Between(to("lamp"))));
    assert_eq!(told, [tell(1, ToHost::Between(to("lamp")))]);
}

fn failed_door() -> Reconfiguration {
    Reconfiguration::of_peers(Table::of(&Notice {
        term: 1,
        entity: EntityId::new("door").unwrap(),
        epoch: 3,
        state: EntityState::Failed,
        decision: NoticeDecision::AwaitRecovery,
    }))
}

struct Bench {
    agent: FogAgent,
    at: Monotonic,
}

impl Bench {
    fn new() -> Self {
        Self {
            agent: FogAgent::new(FogAgentSettings::default()),
            at: ms(0),
        }
    }

    /// The element runs on host 1 in epoch 4; host 2 is the spare.
    fn running() -> Self {
        let mut bench = Self::new();
        bench.assign();
        bench.host(1, hello());
        bench.host(1, ready(4));
        bench.host(2, hello());
        bench
    }

    fn told(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(self.now(), input, &mut effects);
        effects
    }

    fn wake(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.wake(self.now(), &mut effects);
        effects
    }

    fn assign(&mut self) -> Vec<Effect> {
        let assignment = Assignment {
            element: lamp(),
            epoch_floor: 0,
            cause: StartCause::Deployed,
            restart: RestartPolicy {
                restarts_max: 2,
                backoff_min: Duration::from_millis(50),
                ..RestartPolicy::default()
            },
            spec: vec![7],
            resume_awaited: false,
        };
        self.told(Input::ManagerTold(ToAgent::Assign(assignment)))
    }

    fn host(&mut self, host: u64, message: FromHost) -> Vec<Effect> {
        let host = HostId(host);
        self.told(Input::HostTold { host, message })
    }

    fn exit(&mut self, host: u64) -> Vec<Effect> {
        self.told(Input::HostExited {
            host: HostId(host),
            how: "was killed".into(),
            seen_at: self.at,
        })
    }

    fn state(&self) -> ElementState {
        self.agent
            .status(&lamp(), &self.agent.elements[&lamp()])
            .state
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.at,
            ..Now::default()
        }
    }
}

fn lamp() -> EntityId {
    EntityId::new("lamp").unwrap()
}

fn callee(epoch: u64) -> Callee {
    Callee {
        element: lamp(),
        epoch,
        address: DirectAddress::default(),
    }
}

fn ms(at: u64) -> Monotonic {
    Monotonic(at * 1_000_000)
}

fn hello() -> FromHost {
    FromHost::Hello {
        pid: 9,
        version: PROTOCOL_VERSION,
    }
}

fn ready(epoch: u64) -> FromHost {
    FromHost::Ready {
        element: lamp(),
        epoch,
        phases: StartPhases::default(),
    }
}

fn assigned(epoch_floor: u64, cause: StartCause) -> ToHost {
    ToHost::Assign {
        element: lamp(),
        epoch_floor,
        cause,
        ended_epoch: (cause == StartCause::Recovered).then_some(epoch_floor),
        spec: vec![7],
        resume_awaited: false,
    }
}

fn tell(host: u64, message: ToHost) -> Effect {
    Effect::Tell {
        host: HostId(host),
        message,
    }
}

fn suspected(failure: u64) -> FromAgent {
    FromAgent::Suspected {
        element: lamp(),
        failure,
        cause: "was killed".into(),
    }
}

fn restart(failure: u64) -> Input {
    Input::ManagerTold(ToAgent::Decided {
        element: lamp(),
        failure,
        decision: Decision::RestartInPlace,
    })
}
