//! An appliance fails, and its element's cell is told who serves in its place.

use alloc::boxed::Box;

use super::*;
use crate::model::Value;
use crate::protocol::appliances::{PlaceChange, PlaceFate, Reconfiguration, Served};
use crate::state_saving::Properties;

pub(super) fn served(epoch: u64, by: impl Into<Option<Served>>) -> Reconfiguration {
    Reconfiguration {
        epoch,
        served: by.into().map(|by| (id("lamp"), by)).into_iter().collect(),
        application_failed: None,
        ..Reconfiguration::default()
    }
}

pub(super) fn by_other() -> Served {
    Served::By(id("other"))
}

pub(super) fn properties(state: i64) -> Properties {
    [("state".into(), Value::Integer(state))].into()
}

fn change(fate: PlaceFate) -> Vec<PlaceChange> {
    vec![PlaceChange {
        output: "lamp".into(),
        fate,
    }]
}

impl Told {
    /// Handles the event at `index`, which commands the lamp, and has the lamp take it.
    fn commanded(&mut self, index: u64, state: i64) {
        self.offered(at(1), index);
        let record = self.cell.log.head;
        let emitted = Emitted {
            port: "lamp".into(),
            valid_for: Some(Duration::from_micros(100)),
            payload: vec![],
            properties: properties(state),
        };
        let handled = Handled {
            emitted: vec![emitted],
            ..Handled::default()
        };
        self.tell(
            at(1),
            Input::Handled {
                index: record,
                handled,
            },
        );
    }

    fn taken(&mut self, index: u64) {
        let settled = Input::Settled {
            link: "lamp".into(),
            position: Position::new(1, index, 0),
            sending: 0,
        };
        self.tell(at(1), settled);
        self.durable(at(1));
    }

    /// All that was sent to the log is in it.
    pub(super) fn durable(&mut self, now: Now) -> Vec<Effect> {
        let last = self.cell.log.head;
        let logged_at = now.wall;
        self.tell(now, Input::Appended { last, logged_at }).to_vec()
    }

    /// Decided, logged, folded; the handler has taken it.
    fn reconfigured(&mut self, now: Now, table: &Reconfiguration) -> Vec<Effect> {
        let asked = self.tell(now, Input::Reconfigured(table.clone())).to_vec();
        let first = self.cell.log.head;
        let records = vec![Record::Reconfigured(table.clone())];
        assert_eq!(asked, [Effect::Append { first, records }]);
        let effects = self.durable(now);
        if self.cell.log.handling.is_some() {
            let handled = Handled::default();
            self.tell(
                now,
                Input::Handled {
                    index: first,
                    handled,
                },
            );
        }
        effects
    }
}

fn shown(told: &Told, table: &Reconfiguration) -> Effect {
    Effect::ShowReconfiguration {
        version: told.cell.substituting.version,
        reconfiguration: table.clone(),
    }
}

fn told_author(effects: &[Effect]) -> Vec<Vec<PlaceChange>> {
    let changes = |effect: &Effect| {
        let Effect::Handle(task) = effect else {
            return None;
        };
        let TaskInput::Reconfigured { changes } = &task.input else {
            return None;
        };
        Some(changes.clone())
    };
    effects.iter().filter_map(changes).collect()
}

pub(super) fn actuated(effects: &[Effect]) -> Vec<Properties> {
    let command = |effect: &Effect| {
        let Effect::Actuate { command, .. } = effect else {
            return None;
        };
        Some(command.properties.clone())
    };
    effects.iter().filter_map(command).collect()
}

#[test]
fn a_substitute_is_shown_the_last_state_once_and_the_author_is_told() {
    let mut told = Told::live();
    told.commanded(1, 7);
    told.taken(1);
    let table = served(4, by_other());
    let effects = told.reconfigured(at(50), &table);
    assert_eq!(effects[0], Effect::Reroute(table.clone()));
    assert_eq!(effects[1], shown(&told, &table));
    let asked = Effect::Compare {
        link: "lamp".into(),
        properties: vec!["state".into()],
        question: 1,
    };
    assert_eq!(effects[2], asked);
    assert_eq!(
        told_author(&effects),
        [change(PlaceFate::Replaced(id("other")))]
    );

    let shown = Some(properties(0));
    let link = "lamp".into();
    let effects = told.tell(
        at(51),
        Input::Compared {
            link,
            shown,
            question: 0,
        },
    );
    assert_eq!(actuated(effects), [properties(7)]);
}

#[test]
fn a_substitute_is_not_shown_what_has_expired() {
    let mut told = Told::live();
    told.commanded(1, 7);
    told.taken(1);
    let effects = told.reconfigured(at(101), &served(4, by_other()));
    assert_eq!(actuated(&effects), []);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Compare { .. }))
    );
}

#[test]
fn what_is_commanded_while_nobody_serves_waits_and_the_newest_that_holds_is_sent() {
    let mut told = Told::live();
    let effects = told.reconfigured(at(1), &served(1, Served::Nobody));
    assert_eq!(told_author(&effects), [change(PlaceFate::Failed)]);
    told.commanded(1, 7);
    assert_eq!(actuated(&told.effects), []);
    told.commanded(2, 8);
    let effects = told.reconfigured(at(50), &served(2, None));
    assert_eq!(told_author(&effects), [change(PlaceFate::Recovered)]);
    let link = "lamp".into();
    let effects = told.tell(
        at(51),
        Input::Compared {
            link,
            shown: None,
            question: 0,
        },
    );
    assert_eq!(actuated(effects), [properties(8)]);
}

#[test]
fn an_older_decision_changes_nothing() {
    let mut told = Told::live();
    told.reconfigured(at(1), &served(4, by_other()));
    for epoch in [3, 4] {
        assert_eq!(
            told.tell(at(2), Input::Reconfigured(served(epoch, None))),
            []
        );
    }
}

#[test]
fn a_recovery_finds_the_substitute_in_the_log_and_in_the_checkpoint() {
    let table = served(4, by_other());
    let logged = Restored {
        head: 1,
        meta: Meta {
            lineage: 1,
            ..Meta::default()
        },
        log: vec![Batch {
            first: 1,
            logged_at: WallClock(1),
            records: vec![Record::Reconfigured(table.clone())],
        }],
        ..Restored::default()
    };
    let saved = Restored {
        checkpoint: 1,
        head: 1,
        meta: Meta {
            lineage: 1,
            reconfiguration: Box::new(InForce {
                version: 1,
                table: table.clone(),
            }),
            ..Meta::default()
        },
        ..Restored::default()
    };
    for restored in [logged, saved] {
        let mut told = Told::starting();
        let mut effects = told.tell(at(9), Input::Restored(restored)).to_vec();
        if told.cell.log.handling.is_some() {
            let handled = Handled::default();
            effects.extend_from_slice(told.tell(at(9), Input::Handled { index: 1, handled }));
        }
        effects.extend_from_slice(told.tell(at(9), Input::Connected));
        assert!(
            effects.contains(&Effect::Reroute(table.clone())),
            "{effects:?}"
        );
        assert!(effects.contains(&shown(&told, &table)));
        assert_eq!(told.tell(at(10), Input::Reconfigured(table.clone())), []);
    }
}

#[test]
fn what_was_decided_before_the_log_is_read_is_logged_afterwards() {
    let mut told = Told::starting();
    let table = served(4, by_other());
    assert_eq!(told.tell(at(1), Input::Reconfigured(table.clone())), []);
    let effects = told.tell(at(1), Input::Restored(Restored::default()));
    let records = vec![Record::Reconfigured(table)];
    assert!(
        effects.contains(&Effect::Append { first: 1, records }),
        "{effects:?}"
    );
}

#[test]
fn a_failed_application_leaves_its_actuators_in_their_safe_state() {
    let mut told = Told::live();
    told.commanded(1, 7);
    told.taken(1);
    let failed = Reconfiguration {
        application_failed: Some("the boiler failed".into()),
        ..served(1, Served::Nobody)
    };
    // The lamp is not there; the pump is, and to leave it harmless must not be repeated either.
    told.tell(at(2), Input::Reconfigured(failed));
    let effects = told.durable(at(2));
    let begun = effects.iter().any(|effect| {
        matches!(effect, Effect::Append { records, .. } if matches!(records[..], [Record::Begun(_)]))
    });
    assert!(begun, "{effects:?}");
    assert_eq!(actuated(&effects), []);
    let handled = Handled::default();
    let index = told.cell.log.handling.as_ref().unwrap().index;
    told.tell(at(2), Input::Handled { index, handled });
    let effects = told.durable(at(2));
    assert_eq!(actuated(&effects), [properties(0)]);

    told.commanded(2, 9);
    assert_eq!(actuated(&told.effects), []);
}

#[test]
fn what_must_not_be_repeated_is_not_judged_by_what_the_substitute_counts() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    told.tell(
        at(1),
        Input::Handled {
            index: 1,
            handled: emitted("pump"),
        },
    );
    told.durable(at(1));
    let table = Reconfiguration {
        epoch: 1,
        served: [(id("pump"), Served::By(id("other")))].into(),
        application_failed: None,
        ..Reconfiguration::default()
    };
    told.tell(at(2), Input::Reconfigured(table));
    let effects = told.durable(at(2));
    assert_eq!(actuated(&effects), []);
    assert_eq!(told.cell.unknown_count(), 1);
}

impl Told {
    /// The instance is lost at the next event, and a new one folds the log from its beginning.
    fn mended(&mut self, now: Now, log: Vec<Batch>) -> Vec<Effect> {
        let index = self.cell.log.handling.as_ref().unwrap().index;
        let cause = "it panicked".into();
        let mut lost = self
            .tell(now, Input::HandlerFailed { index, cause })
            .to_vec();
        let later = at(now.wall.0 + 10_000_000);
        lost.extend_from_slice(self.wake(later));
        assert!(lost.contains(&Effect::Restore), "{lost:?}");
        let mut all = self.tell(later, restored(log)).to_vec();
        while let Some(index) = self
            .cell
            .log
            .handling
            .as_ref()
            .map(|handling| handling.index)
        {
            let handled = match index {
                1 => emitted("lamp"),
                _ => Handled::default(),
            };
            all.extend_from_slice(self.tell(later, Input::Handled { index, handled }));
        }
        all
    }

    /// The lamp is commanded by the first record, takes that, and the log knows.
    fn lamp_on(&mut self) -> Vec<Batch> {
        self.offered(at(1), 1);
        let handled = emitted("lamp");
        self.tell(at(1), Input::Handled { index: 1, handled });
        self.taken(1);
        vec![
            batch(1, logged(1, 0, None)),
            batch(2, done("lamp", Lane::Merged, 1)),
        ]
    }
}

fn asked_lamp(question: u64) -> Effect {
    Effect::Compare {
        link: "lamp".into(),
        properties: vec!["state".into()],
        question,
    }
}

#[test]
fn a_mend_shows_the_substitute_what_it_was_being_shown() {
    let mut told = Told::live();
    let mut log = told.lamp_on();
    let table = served(4, by_other());
    told.reconfigured(at(50), &table);
    log.push(batch(3, Record::Reconfigured(table)));
    told.offered(at(51), 2);
    log.push(batch(4, logged(2, 1, None)));
    let effects = told.mended(at(52), log);
    assert!(effects.contains(&asked_lamp(2)), "{effects:?}");
    let link = "lamp".into();
    let now = at(10_000_060);
    let effects = told.tell(
        now,
        Input::Compared {
            link,
            shown: None,
            question: 0,
        },
    );
    assert_eq!(actuated(effects), [properties(1)]);
    told.taken(1);
    assert_eq!(actuated(&told.effects), []);
}

#[test]
fn a_mend_shows_what_was_decided_meanwhile_once() {
    let mut told = Told::live();
    let mut log = told.lamp_on();
    told.offered(at(51), 2);
    log.push(batch(3, logged(2, 1, None)));
    let table = served(4, by_other());
    log.push(batch(4, Record::Reconfigured(table.clone())));
    told.tell(at(51), Input::Reconfigured(table.clone()));
    told.durable(at(51));
    let effects = told.mended(at(52), log);
    let asked = effects.iter().filter(|effect| **effect == asked_lamp(1));
    assert_eq!(asked.count(), 1, "{effects:?}");
    assert!(effects.contains(&shown(&told, &table)));
}

#[test]
fn a_mend_says_nothing_to_an_appliance_that_took_all() {
    let mut told = Told::live();
    let mut log = told.lamp_on();
    told.offered(at(51), 2);
    log.push(batch(3, logged(2, 1, None)));
    let effects = told.mended(at(52), log);
    assert!(!effects.contains(&asked_lamp(1)), "{effects:?}");
    assert_eq!(actuated(&effects), []);
}

#[test]
fn a_failed_application_brings_its_actuators_to_safety_before_all_that_waits() {
    let mut told = Told::starting();
    let live = Meta {
        lineage: 1,
        ..Meta::default()
    };
    told.tell(
        at(0),
        Input::Restored(Restored {
            meta: live,
            ..Restored::default()
        }),
    );
    // Nothing can be sent yet, so the command to the pump waits and has not begun.
    told.offered(at(1), 1);
    let handled = emitted("pump");
    told.tell(at(1), Input::Handled { index: 1, handled });
    let failed = Reconfiguration {
        epoch: 1,
        application_failed: Some("the boiler failed".into()),
        ..Reconfiguration::default()
    };
    let mut effects = told.reconfigured(at(2), &failed);
    assert!(
        effects.contains(&Effect::Bury {
            index: 1,
            what: format!("command {:?} on pump", place(1)),
            cause: "the application failed before it was known to be carried out".into(),
        }),
        "{effects:?}"
    );
    effects = told.tell(at(3), Input::Connected).to_vec();
    effects.extend(told.durable(at(3)));
    let commanded = effects.iter().filter_map(|effect| {
        let Effect::Append { records, .. } = effect else {
            return None;
        };
        Some(records.clone())
    });
    let safe = Position::new(1, 2, (1 << 20) + 1);
    let begun = Record::Begun(vec![Begun {
        link: "pump".into(),
        position: safe,
        attempt: 0,
        counter: None,
        handed_over: 0,
    }]);
    assert_eq!(commanded.collect::<Vec<_>>(), [vec![begun]]);
    assert_eq!(actuated(&effects), [properties(0)]);
}
