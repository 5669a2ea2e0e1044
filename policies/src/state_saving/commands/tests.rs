use super::*;
use crate::model::{Access, Domain, Evidence, Property, Relative};
use crate::physical_world::Position;

fn command(index: u64, expires_at: Option<i64>, properties: &[(&str, i64)]) -> Command {
    let value = |(name, value): &(&str, i64)| ((*name).into(), Value::Integer(*value));
    Command {
        position: at_index(index),
        expires_at: expires_at.map(WallClock),
        properties: properties.iter().map(value).collect(),
    }
}

fn at_index(index: u64) -> Position {
    Position::new(1, index, 0)
}

fn at(wall: i64) -> Now {
    Now {
        wall: WallClock(wall),
        ..Now::default()
    }
}

fn of(class: ActuationClass) -> Commands {
    Commands::new(DeviceModel::unknown(class))
}

fn property(class: ActuationClass, domain: Domain, relative: Option<Relative>) -> Property {
    Property {
        capability: "x".into(),
        access: Access::Both,
        domain,
        class,
        relative,
        reverts: None,
        accumulates: false,
    }
}

/// A pump that shows how many doses it gave.
fn pump() -> DeviceModel {
    DeviceModel {
        evidence: Some(Evidence::Counter("doses".into())),
        answers: true,
        ..DeviceModel::unknown(ActuationClass::Irreversible)
    }
}

fn begin(index: u64, attempt: u32, counter: Option<i64>) -> NextCommand {
    NextCommand::Begin {
        position: at_index(index),
        attempt,
        counter: counter.map(Value::Integer),
    }
}

fn shown(properties: &[(&str, i64)]) -> Properties {
    command(1, None, properties).properties
}

#[test]
fn a_recovery_sends_one_command_with_the_final_value_of_each_property() {
    let mut lamp = of(ActuationClass::Set);
    lamp.emitted(command(1, None, &[("state", 1), ("brightness", 9)]));
    lamp.emitted(command(2, None, &[("state", 0)]));
    lamp.emitted(command(3, None, &[("state", 1)]));
    let merged = command(3, None, &[("brightness", 9), ("state", 1)]);
    assert_eq!(lamp.next(at(0)), Some(NextCommand::Send(merged)));
    assert_eq!(lamp.next(at(0)), None);
}

#[test]
fn an_expired_lock_still_cancels_the_unlock_before_it() {
    let mut door = of(ActuationClass::Set);
    door.emitted(command(1, Some(1_000), &[("lock", 0)]));
    door.emitted(command(2, Some(10), &[("lock", 1)]));
    assert_eq!(door.next(at(50)), None);
}

#[test]
fn what_was_settled_is_passed_over_at_replay() {
    let mut lamp = of(ActuationClass::Set);
    lamp.settle(Lane::Merged, at_index(2), 0);
    lamp.emitted(command(2, None, &[("state", 1)]));
    assert_eq!(lamp.next(at(0)), None);
}

#[test]
fn one_emission_that_sets_and_doses_sets_at_once_and_doses_by_itself() {
    let mut model = DeviceModel::unknown(ActuationClass::Irreversible);
    let state = property(ActuationClass::Set, Domain::Any, None);
    model.properties.insert("state".into(), state);
    let mut pump = Commands::new(model);
    pump.emitted(command(1, None, &[("state", 1), ("dose", 2)]));
    assert_eq!(pump.next(at(0)), Some(begin(1, 0, None)));
    let sets = command(1, None, &[("state", 1)]);
    assert_eq!(pump.next(at(0)), Some(NextCommand::Send(sets)));
    assert_eq!(pump.taken(at_index(1), pump.sending()), Some(Lane::Merged));
    pump.begun(at_index(1), 0, None, 0);
    let doses = command(1, None, &[("dose", 2)]);
    assert_eq!(pump.next(at(0)), Some(NextCommand::Send(doses)));
    assert_eq!(pump.taken(at_index(1), pump.sending()), Some(Lane::Queued));
    assert_eq!(pump.waiting(), 0);
}

#[test]
fn an_irreversible_command_is_begun_in_the_log_before_it_is_sent_and_never_repeated() {
    let mut pump = of(ActuationClass::Irreversible);
    pump.emitted(command(1, None, &[("dose", 2)]));
    assert_eq!(pump.next(at(0)), Some(begin(1, 0, None)));
    assert_eq!(
        pump.next(at(0)),
        None,
        "its beginning is not yet in the log"
    );
    pump.begun(at_index(1), 0, None, 0);
    let saved = pump.saved();
    let dose = command(1, None, &[("dose", 2)]);
    assert_eq!(pump.next(at(0)), Some(NextCommand::Send(dose.clone())));

    let mut recovered = of(ActuationClass::Irreversible);
    recovered.restore(saved);
    let doubt = recovered.doubt().unwrap();
    assert_eq!((doubt.command, doubt.evidence), (&dose, None));
    recovered.give_over(at_index(1));
    assert_eq!(recovered.next(at(0)), None);
    let unknown: alloc::vec::Vec<_> = recovered.unknown().cloned().collect();
    assert_eq!(
        unknown,
        [Unknown {
            command: dose,
            attempt: 0
        }]
    );
}

#[test]
fn a_command_that_expired_before_the_one_begun_after_it_is_not_in_doubt() {
    let mut pump = of(ActuationClass::Irreversible);
    pump.emitted(command(1, Some(10), &[("dose", 1)]));
    pump.emitted(command(2, None, &[("dose", 2)]));
    assert_eq!(pump.next(at(50)), Some(begin(2, 0, None)));
    let mut recovered = of(ActuationClass::Irreversible);
    recovered.emitted(command(1, Some(10), &[("dose", 1)]));
    recovered.emitted(command(2, None, &[("dose", 2)]));
    recovered.begun(at_index(2), 0, None, 0);
    let second = command(2, None, &[("dose", 2)]);
    assert_eq!(recovered.doubt().map(|doubt| doubt.command), Some(&second));
}

#[test]
fn a_counter_is_read_before_a_dose_and_shows_after_a_crash_whether_it_was_given() {
    let mut before = Commands::new(pump());
    before.emitted(command(1, Some(100), &[("dose", 2)]));
    assert_eq!(before.next(at(0)), Some(NextCommand::Read("doses".into())));
    before.read(Some(Value::Integer(7)));
    assert_eq!(before.next(at(0)), Some(begin(1, 0, Some(7))));

    let mut after = Commands::new(pump());
    after.emitted(command(1, Some(100), &[("dose", 2)]));
    after.begun(at_index(1), 0, Some(Value::Integer(7)), 0);
    let finding = |answer: Option<&Properties>| after.doubt().unwrap().finding(answer, "e/1.1.0");
    assert_eq!(finding(Some(&shown(&[("doses", 8)]))), Finding::CarriedOut);
    assert_eq!(
        finding(Some(&shown(&[("doses", 7)]))),
        Finding::NotCarriedOut
    );
    assert_eq!(finding(Some(&shown(&[("doses", 1)]))), Finding::Nothing);
    assert_eq!(finding(None), Finding::Nothing);
    let dose = command(1, Some(100), &[("dose", 2)]);
    assert_eq!(after.clone().next(at(99)), Some(NextCommand::Send(dose)));
    assert_eq!(after.next(at(100)), None, "it is no longer valid");
}

#[test]
fn a_device_that_shows_its_last_command_tells_whether_it_was_this_one() {
    let mut spooler = Commands::new(DeviceModel {
        evidence: Some(Evidence::LastCommand("job".into())),
        ..pump()
    });
    spooler.emitted(command(1, None, &[("print", 7)]));
    assert_eq!(spooler.next(at(0)), Some(begin(1, 0, None)));
    spooler.begun(at_index(1), 0, None, 0);
    let finding = |job: &str| {
        let answer = [("job".into(), Value::Text(job.into()))].into();
        spooler.doubt().unwrap().finding(Some(&answer), "e/1.1.0")
    };
    assert_eq!(finding("e/1.1.0"), Finding::CarriedOut);
    assert_eq!(finding("e/1.0.0"), Finding::NotCarriedOut);
}

#[test]
fn only_a_persons_word_sends_a_command_of_unknown_fate_again_and_it_is_begun_anew() {
    let mut pump = of(ActuationClass::Irreversible);
    pump.emitted(command(1, Some(10), &[("dose", 2)]));
    pump.begun(at_index(1), 0, None, 0);
    pump.give_over(at_index(1));
    assert!(pump.judged(at_index(1), Verdict::Unknown, WallClock(20)));
    assert_eq!(pump.next(at(20)), None);
    assert!(pump.judged(at_index(1), Verdict::Redo, WallClock(30)));
    assert_eq!(pump.next(at(30)), Some(begin(1, 1, None)));
    pump.begun(at_index(1), 1, None, 0);
    let again = command(1, Some(60_000_030), &[("dose", 2)]);
    assert_eq!(pump.next(at(30)), Some(NextCommand::Send(again)));
    assert_eq!(pump.taken(at_index(1), pump.sending()), Some(Lane::Queued));
    assert!(
        !pump.judged(at_index(1), Verdict::Redo, WallClock(40)),
        "it is known now"
    );
}

#[test]
fn what_was_learnt_before_the_log_knew_survives_the_loss_of_the_instance() {
    let mut pump = of(ActuationClass::Irreversible);
    let dose = || command(1, None, &[("dose", 2)]);
    pump.emitted(dose());
    pump.begun(at_index(1), 0, None, 0);
    assert_eq!(pump.next(at(0)), Some(NextCommand::Send(dose())));
    assert_eq!(pump.taken(at_index(1), pump.sending()), Some(Lane::Queued));
    pump.restore(SavedCommands::default());
    pump.emitted(dose());
    assert_eq!(pump.waiting(), 0);
}

#[test]
fn a_property_the_device_shows_already_is_not_sent() {
    let mut lamp = of(ActuationClass::Set);
    lamp.emitted(command(1, None, &[("state", 1), ("brightness", 9)]));
    assert_eq!(lamp.shown(&shown(&[("state", 1)])), None);
    let rest = command(1, None, &[("brightness", 9)]);
    assert_eq!(lamp.next(at(0)), Some(NextCommand::Send(rest)));
}

#[test]
fn a_step_becomes_where_it_leads_and_stays_within_bounds() {
    let bounds = Domain::Number {
        min: 0.0,
        max: 254.0,
    };
    let words = Domain::Choice(["ON".into(), "OFF".into()].into());
    let mut lamp = DeviceModel::unknown(ActuationClass::Irreversible);
    let mut has = |name: &str, domain: &Domain, relative: Option<Relative>| {
        let property = property(ActuationClass::Set, domain.clone(), relative);
        lamp.properties.insert(name.into(), property);
    };
    has("brightness", &bounds, None);
    has("state", &words, None);
    has(
        "step",
        &Domain::Any,
        Some(Relative::Adds("brightness".into())),
    );
    has(
        "toggle",
        &Domain::Any,
        Some(Relative::Toggles("state".into())),
    );
    let known = |name: &str| match name {
        "brightness" => Some(Value::Integer(240)),
        "state" => Some(Value::Text("ON".into())),
        _ => None,
    };
    let steps = |step: i64| shown(&[("step", step), ("toggle", 1)]);
    let off = ("state".into(), Value::Text("OFF".into()));
    let leads = |step, value| {
        let resolved = resolve(&lamp, steps(step), known).unwrap();
        let brightness = ("brightness".into(), Value::Integer(value));
        assert_eq!(resolved, [brightness, off.clone()].into());
    };
    leads(10, 250);
    leads(20, 254);
    leads(-300, 0);
    let nowhere = resolve(&lamp, steps(10), |_| None).unwrap();
    assert_eq!(nowhere, steps(10));
    let mut commands = Commands::new(lamp);
    commands.emitted(Command {
        properties: nowhere,
        ..command(1, None, &[])
    });
    assert_eq!(
        commands.next(at(0)),
        Some(begin(1, 0, None)),
        "nobody may repeat it"
    );
}

#[test]
fn a_value_out_of_its_domain_is_refused_with_what_the_model_takes() {
    let mut lamp = DeviceModel::unknown(ActuationClass::Set);
    let bounds = Domain::Number {
        min: 0.0,
        max: 254.0,
    };
    let brightness = property(ActuationClass::Set, bounds, None);
    lamp.properties.insert("brightness".into(), brightness);
    let refused = resolve(&lamp, shown(&[("brightness", 300)]), |_| None).unwrap_err();
    assert_eq!(refused.reason, "it is a number from 0 to 254");
}
