//! With whom the element exchanges nothing, and what becomes of what is for them.

use alloc::boxed::Box;

use super::*;
use crate::notification::{
    EntityState, Need, Neighbourhood, Notice, NoticeDecision, Situation, Table,
};
use crate::protocol::appliances::{PlaceChange, PlaceFate, Reconfiguration};
use crate::state_saving::HoldLimit;

fn told_of(entity: &str, epoch: u64, state: EntityState) -> Reconfiguration {
    let decision = if state == EntityState::Up {
        NoticeDecision::Resume
    } else {
        NoticeDecision::AwaitRecovery
    };
    Reconfiguration::of_peers(Table::of(&Notice {
        term: 1,
        entity: id(entity),
        epoch,
        state,
        decision,
    }))
}

fn failed(entity: &str, epoch: u64) -> Reconfiguration {
    told_of(entity, epoch, EntityState::Failed)
}

fn up(entity: &str, epoch: u64) -> Reconfiguration {
    told_of(entity, epoch, EntityState::Up)
}

fn neighbour(link: &str, output: &str) -> Neighbour {
    Neighbour {
        links: [id(link)].into(),
        outputs: [output.into()].into(),
    }
}

/// It depends on `sense`, from which `motion` comes, and `after` depends on it, to which `next` goes.
fn between() -> CellSettings {
    CellSettings {
        around: Neighbourhood {
            prerequisites: [(id("sense"), Need::Mandatory)].into(),
            dependents: [id("after")].into(),
            hears_others: false,
        },
        neighbours: [
            (id("sense"), neighbour("motion", "motion")),
            (id("after"), neighbour("next", "next")),
        ]
        .into(),
        hold: HoldLimit {
            events: 2,
            ..HoldLimit::default()
        },
        ..settings()
    }
}

impl Told {
    fn live_between() -> Self {
        let mut told = Self {
            cell: Cell::new(between()),
            effects: vec![],
        };
        told.tell(at(0), restored(vec![]));
        told.tell(at(0), Input::Connected);
        told
    }

    /// Told, logged, folded, and handled by the author.
    fn heard(&mut self, now: Now, told: Reconfiguration) -> Vec<Effect> {
        self.tell(now, Input::Reconfigured(told));
        let last = self.cell.log.head;
        let logged_at = now.wall;
        let mut effects = self.tell(now, Input::Appended { last, logged_at }).to_vec();
        if let Some(index) = self.cell.log.handling.as_ref().map(|h| h.index) {
            let handled = Handled::default();
            let answer = Input::Handled { index, handled };
            effects.extend_from_slice(self.tell(now, answer));
        }
        effects
    }

    /// Takes the event of the source at `index` and answers it with an output.
    fn passed_on(&mut self, now: Now, index: u64, valid_for: Option<Duration>) -> Vec<Effect> {
        self.offered(now, index);
        let index = self.cell.log.head;
        let mut handled = emitted("next");
        handled.emitted[0].valid_for = valid_for;
        self.tell(now, Input::Handled { index, handled }).to_vec()
    }
}

fn author(effects: &[Effect]) -> Vec<PlaceChange> {
    let changes = |effect: &Effect| {
        let Effect::Handle(task) = effect else {
            return None;
        };
        let TaskInput::Reconfigured { changes } = &task.input else {
            return None;
        };
        Some(changes.clone())
    };
    effects.iter().filter_map(changes).flatten().collect()
}

fn sent(effects: &[Effect]) -> Vec<(u64, u64)> {
    let envelopes = |effect: &Effect| {
        let Effect::Send { envelopes, .. } = effect else {
            return None;
        };
        Some(envelopes.clone())
    };
    let envelopes = effects.iter().filter_map(envelopes).flatten();
    envelopes
        .map(|envelope| (envelope.after.index, envelope.position.index))
        .collect()
}

fn resume(mark: Position) -> Effect {
    Effect::Resume {
        link: id("motion"),
        mark,
    }
}

fn change(output: &str, fate: PlaceFate) -> PlaceChange {
    PlaceChange {
        output: output.into(),
        fate,
    }
}

#[test]
fn a_notice_is_in_the_log_before_it_blocks_anything() {
    let mut told = Told::live_between();
    let asked = told.tell(at(1), Input::Reconfigured(failed("sense", 1)));
    let records = vec![Record::Reconfigured(failed("sense", 1))];
    assert_eq!(asked, [Effect::Append { first: 1, records }]);
    assert_eq!(told.cell.effective(), EntityState::Up);
    let logged_at = WallClock(2);
    let effects = told.tell(at(2), Input::Appended { last: 1, logged_at });
    let shown = Effect::ShowReconfiguration {
        version: 1,
        reconfiguration: failed("sense", 1),
    };
    assert_eq!(effects[0], shown);
    assert_eq!(author(effects), [change("motion", PlaceFate::Failed)]);
    assert_eq!(told.cell.effective(), EntityState::Suspended);
}

#[test]
fn nothing_is_taken_from_a_failed_prerequisite_and_the_sender_is_asked_when_it_is_back() {
    let mut told = Told::live_between();
    told.passed_on(at(1), 1, None);
    told.heard(at(2), failed("sense", 1));
    assert_eq!(told.tell(at(3), received(2, 1, None)), []);
    let effects = told.heard(at(4), up("sense", 2));
    assert!(effects.contains(&resume(place(1))), "{effects:?}");
    assert_eq!(author(&effects), [change("motion", PlaceFate::Recovered)]);
    told.tell(at(5), received(2, 1, None));
    assert_eq!(told.cell.log.in_flight.len(), 1);
}

#[test]
fn a_stale_failure_after_the_recovery_is_not_even_logged() {
    let mut told = Told::live_between();
    told.heard(at(1), failed("sense", 1));
    told.heard(at(2), up("sense", 2));
    let stale = Input::Reconfigured(failed("sense", 1));
    assert_eq!(told.tell(at(3), stale), []);
    assert_eq!(told.cell.effective(), EntityState::Up);
}

#[test]
fn what_is_for_a_failed_dependent_waits_and_leaves_when_it_is_back() {
    let mut told = Told::live_between();
    assert_eq!(sent(&told.passed_on(at(1), 1, None)), [(0, 1)]);
    let effects = told.heard(at(2), failed("after", 1));
    assert_eq!(author(&effects), [], "it depends on nothing that failed");
    assert_eq!(told.cell.effective(), EntityState::Up);
    assert_eq!(sent(&told.passed_on(at(3), 2, None)), []);
    let asked = Input::ResumeAsked {
        link: id("next"),
        mark: place(0),
    };
    assert_eq!(told.tell(at(4), asked), []);
    assert_eq!(sent(told.wake(at(1_000_000))), []);
    let effects = told.heard(at(1_000_001), up("after", 2));
    assert_eq!(sent(&effects), [(0, 1), (1, 3)]);
}

#[test]
fn a_blocked_neighbour_holds_up_nobody_else() {
    let mut told = Told::live_between();
    told.cell.settings.unacknowledged_max = 2;
    told.heard(at(1), failed("after", 1));
    for index in 1..=5 {
        told.passed_on(at(1), index, None);
    }
    assert_eq!(told.cell.log.handled, 6, "all five were handled");
}

#[test]
fn beyond_the_limit_the_oldest_that_waits_is_kept_for_people() {
    let mut told = Told::live_between();
    told.heard(at(1), failed("after", 1));
    told.passed_on(at(1), 1, None);
    told.passed_on(at(1), 2, None);
    let effects = told.passed_on(at(1), 3, None);
    let buried = Effect::Bury {
        index: 2,
        what: format!("output {:?} on next", place(2)),
        cause: "the element that it was for is down, and too much waits for it".into(),
    };
    assert!(effects.contains(&buried), "{effects:?}");
    let effects = told.heard(at(2), up("after", 2));
    assert_eq!(sent(&effects), [(0, 3), (3, 4)], "the receiver sees no gap");
}

#[test]
fn what_expires_while_it_waits_is_not_sent() {
    let mut told = Told::live_between();
    told.heard(at(1), failed("after", 1));
    told.passed_on(at(1), 1, Some(Duration::from_micros(10)));
    told.passed_on(at(1), 2, None);
    let effects = told.heard(at(50), up("after", 2));
    assert_eq!(sent(&effects), [(0, 3)]);
}

#[test]
fn one_that_cannot_serve_gives_its_dependents_nothing() {
    let mut told = Told::live_between();
    told.heard(at(1), failed("sense", 1));
    assert_eq!(told.cell.effective(), EntityState::Suspended);
    assert!(told.cell.is_blocked(&id("next")));
    let mut of_dependent = Told::live_between();
    let situation = Situation {
        incarnation: 1,
        version: 1,
        state: EntityState::Suspended,
    };
    let said = Table::of_situation(id("sense"), situation);
    of_dependent.heard(at(1), Reconfiguration::of_peers(said));
    assert!(of_dependent.cell.is_blocked(&id("motion")));
}

#[test]
fn when_all_around_it_failed_it_is_saved_and_its_timers_wait() {
    let mut told = Told::live_between();
    told.offered(at(1), 1);
    let timer = crate::state_saving::TimerChange::Set(
        "hold".into(),
        crate::state_saving::Timer {
            due_at: WallClock(100),
            expires_at: None,
            missed: crate::state_saving::Missed::Fire,
            payload: vec![3],
        },
    );
    let handled = Handled {
        timers: vec![timer],
        ..Handled::default()
    };
    told.tell(at(1), Input::Handled { index: 1, handled });
    told.heard(at(2), failed("sense", 1));
    told.heard(at(3), failed("after", 1));
    assert_eq!(told.cell.effective(), EntityState::Stopped);
    let effects = told.wake(at(4)).to_vec();
    let saved = matches!(effects[..], [Effect::Checkpoint { upto: 3, .. }]);
    assert!(saved, "{effects:?}");
    assert_eq!(told.wake(at(200)), [], "the timer is due");
    told.heard(at(201), up("sense", 2));
    let effects = told.wake(at(202)).to_vec();
    let fired = |effect: &Effect| matches!(effect, Effect::Append { records, .. } if matches!(records[..], [Record::Timer(_)]));
    assert!(effects.iter().any(fired), "{effects:?}");
}

#[test]
fn an_element_that_starts_knows_how_those_around_it_are_before_it_goes_live() {
    let mut told = Told {
        cell: Cell::new(between()),
        effects: vec![],
    };
    let present = failed("sense", 1);
    assert_eq!(told.tell(at(0), Input::Reconfigured(present.clone())), []);
    told.tell(at(0), Input::Connected);
    let log = vec![batch(1, logged(1, 0, None))];
    let effects = told.tell(at(1), restored(log)).to_vec();
    let records = vec![Record::Reconfigured(present)];
    let first = 2;
    assert!(effects.contains(&Effect::Append { first, records }));
    let handled = Handled::default();
    told.tell(at(1), Input::Handled { index: 1, handled });
    assert!(!told.cell.is_live(), "what it was told is not in the log");
    assert_eq!(told.tell(at(1), received(2, 1, None)), []);
    let logged_at = WallClock(2);
    told.tell(at(2), Input::Appended { last: 2, logged_at });
    let handled = Handled::default();
    let effects = told.tell(at(2), Input::Handled { index: 2, handled });
    let resumed = |effect: &&Effect| matches!(effect, Effect::Resume { .. });
    assert_eq!(effects.iter().filter(resumed).count(), 0);
    assert!(told.cell.is_live());
    assert_eq!(told.cell.effective(), EntityState::Suspended);
}

#[test]
fn what_was_blocked_before_a_failure_is_blocked_after_it() {
    let mut told = Told {
        cell: Cell::new(between()),
        effects: vec![],
    };
    let meta = Meta {
        lineage: 1,
        reconfiguration: Box::new(InForce {
            version: 4,
            table: failed("sense", 1),
        }),
        ..Meta::default()
    };
    let saved = Restored {
        checkpoint: 4,
        head: 4,
        meta,
        ..Restored::default()
    };
    told.tell(at(1), Input::Restored(saved));
    told.tell(at(1), Input::Connected);
    assert_eq!(told.cell.effective(), EntityState::Suspended);
    assert_eq!(told.tell(at(2), received(1, 0, None)), []);
    let shown = Effect::ShowReconfiguration {
        version: 4,
        reconfiguration: failed("sense", 1),
    };
    assert_eq!(told.tell(at(3), Input::ShowAsked), [shown]);
}
