//! Calls on a bench: made, answered, withdrawn, timed out, taken and refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::author::{
    Answer, Call, CallError, CallId, Callable, Context, Element, Event, NoReply, Outcome, Refusal,
};
use crate::testkit::TestElement;

#[derive(Serialize, Deserialize)]
enum Told {
    Pain,
    Relief,
    Dosed(Answer<u32>),
}

const DOSES: Call<u32, u32> = Call::new("doses");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Nurse {
    open: Vec<CallId>,
    answers: Vec<(CallId, Answer<u32>)>,
}

impl Element for Nurse {
    type Event = Told;

    fn handle(&mut self, event: Event<Told>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Told::Pain => {
                let call = ctx.call(DOSES, 2).within(Duration::from_secs(3)).id();
                self.open.push(call);
            }
            Told::Relief => {
                for call in &self.open {
                    ctx.cancel_call(*call);
                }
            }
            Told::Dosed(answer) => {
                let call = event.answers.expect("an answer says what it answers");
                self.open.retain(|open| *open != call);
                self.answers.push((call, answer));
            }
        }
        Ok(())
    }
}

fn nurse() -> TestElement<Nurse> {
    TestElement::new().calling(DOSES, Told::Dosed)
}

#[test]
fn a_call_is_answered_once_whatever_fails_meanwhile() {
    let mut nurse = nurse();
    nurse.event("patient", Told::Pain);
    let (call, asked) = nurse.called(DOSES).remove(0);
    assert_eq!(asked, 2);
    nurse.crash();
    nurse.panic_at_next_event();
    nurse.answer(DOSES, call, Ok(8));
    nurse.answer(DOSES, call, Ok(9));
    nurse.crash();
    assert_eq!(nurse.state().answers, [(call, Ok(8))]);
    assert_eq!(nurse.called(DOSES), []);
    nurse.check_replay();
}

#[test]
fn a_call_without_an_answer_ends_in_time_also_over_a_crash() {
    let mut nurse = nurse();
    nurse.event("patient", Told::Pain);
    let (call, _) = nurse.called(DOSES).remove(0);
    nurse.advance(Duration::from_secs(2));
    nurse.crash();
    assert_eq!(nurse.state().answers, []);
    nurse.advance(Duration::from_secs(1));
    nurse.answer(DOSES, call, Ok(8));
    assert_eq!(nurse.state().answers, [(call, Err(CallError::TimedOut))]);
    nurse.check_replay();
}

#[test]
fn a_call_that_is_withdrawn_still_has_an_answer() {
    let mut nurse = nurse();
    nurse.event("patient", Told::Pain);
    nurse.event("patient", Told::Relief);
    let (call, _) = nurse.called(DOSES).remove(0);
    assert_eq!(nurse.cancelled(), [call]);
    nurse.answer(DOSES, call, Err(CallError::Cancelled));
    assert_eq!(nurse.state().answers, [(call, Err(CallError::Cancelled))]);
}

#[test]
fn a_call_to_a_port_that_is_bound_to_nothing_becomes_a_dead_letter() {
    let mut nurse = TestElement::<Nurse>::new();
    nurse.event("patient", Told::Pain);
    let letters = nurse.dead_letters().concat();
    assert!(letters.contains("binds no call to it"), "{letters}");
}

#[derive(Serialize, Deserialize)]
struct Pump {
    left: u32,
}

impl Element for Pump {
    type Event = ();

    fn handle(&mut self, _: Event<()>, _: &mut Context<Self>) -> Outcome {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Asked {
    Dose(u32),
}

impl Callable for Pump {
    type Call = Asked;
    type Reply = u32;

    fn call(&mut self, call: Event<Asked>, _: &mut Context<Self>) -> Result<u32, NoReply> {
        let Asked::Dose(dose) = call.body;
        assert_ne!(dose, 0, "a dose of nothing");
        let left = self.left.checked_sub(dose);
        self.left = left.ok_or_else(|| Refusal::new("empty"))?;
        Ok(self.left)
    }
}

#[test]
fn a_callee_answers_refuses_and_gives_up_and_its_state_survives() {
    let mut pump = TestElement::<Pump>::with_state(serde_json::json!({ "left": 3 }));
    assert_eq!(pump.call("nurse", Asked::Dose(2)), Ok(1));
    let reason = "empty".to_owned();
    let refused = Err(CallError::Refused { reason });
    assert_eq!(pump.call("doctor", Asked::Dose(2)), refused);
    let failed = pump.call("nurse", Asked::Dose(0));
    assert!(
        matches!(failed, Err(CallError::Failed { .. })),
        "{failed:?}"
    );
    assert_eq!(pump.dead_letters().len(), 1);
    pump.crash();
    assert_eq!(pump.call("nurse", Asked::Dose(1)), Ok(0));
    assert_eq!(pump.state().left, 0);
    pump.check_replay();
}
