//! Two elements of which one calls the other: a nurse asks for a dose for every pain, and a pump gives
//! it. Both keep all that happened and tell it on request. Each has a gate in its handlers, where a test
//! can hold it and kill its host.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use lamplighter::prelude::*;

/// Doses from here on are refused.
const TOO_MUCH: u32 = 1_000_000;
/// The dose on which the pump fails, however often it is tried.
const POISON: u32 = 999_999;

#[derive(Serialize, Deserialize)]
struct Pain {
    n: u32,
}

const PAINS: Output<Pain> = Output::new("pains");

#[derive(Serialize, Deserialize)]
enum Seen {
    Pain { n: u32 },
}

/// Watches over the patient, where the nurse is elsewhere.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Watch {
    seen: u32,
}

impl Element for Watch {
    type Event = Seen;

    fn handle(&mut self, event: Event<Seen>, ctx: &mut Context<Self>) -> Outcome {
        let Seen::Pain { n } = event.body;
        self.seen += 1;
        ctx.emit(PAINS, Pain { n });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Told {
    Pain { n: u32 },
    Dosed(Answer<u32>),
    Tell(u32),
}

#[derive(Serialize, Deserialize)]
struct Dose {
    n: u32,
}

const DOSES: Call<Dose, u32> = Call::new("doses");

#[derive(Serialize, Deserialize)]
struct Answers {
    question: u32,
    answers: Vec<(u32, String)>,
}

const ANSWERS: Output<Answers> = Output::new("answers");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Nurse {
    /// Where it is held before it takes an answer.
    gate: Option<PathBuf>,
    asked: Vec<(CallId, u32)>,
    answers: Vec<(u32, String)>,
}

impl Element for Nurse {
    type Event = Told;

    fn handle(&mut self, event: Event<Told>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Told::Pain { n } => {
                let call = ctx.call(DOSES, Dose { n }).id();
                self.asked.push((call, n));
            }
            Told::Dosed(answer) => {
                pass(self.gate.as_deref());
                let asked = self
                    .asked
                    .iter()
                    .position(|(call, _)| Some(*call) == event.answers);
                let asked = asked.ok_or_else(|| Failure::new("nobody asked this"))?;
                let (_, n) = self.asked.remove(asked);
                let answer = match answer {
                    Ok(given) => format!("given {given}"),
                    Err(error) => error.to_string(),
                };
                self.answers.push((n, answer));
            }
            Told::Tell(question) => {
                let answers = self.answers.clone();
                ctx.emit(ANSWERS, Answers { question, answers });
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Asked {
    Dose { n: u32 },
}

#[derive(Serialize, Deserialize)]
enum Question {
    Tell(u32),
}

#[derive(Serialize, Deserialize)]
struct Given {
    question: u32,
    given: Vec<u32>,
}

const GIVEN: Output<Given> = Output::new("given");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Pump {
    /// Where it is held before it gives a dose.
    gate: Option<PathBuf>,
    given: Vec<u32>,
}

impl Element for Pump {
    type Event = Question;

    fn handle(&mut self, event: Event<Question>, ctx: &mut Context<Self>) -> Outcome {
        let Question::Tell(question) = event.body;
        let given = self.given.clone();
        ctx.emit(GIVEN, Given { question, given });
        Ok(())
    }
}

impl Callable for Pump {
    type Call = Asked;
    type Reply = u32;

    fn call(&mut self, call: Event<Asked>, _: &mut Context<Self>) -> Result<u32, NoReply> {
        let Asked::Dose { n } = call.body;
        pass(self.gate.as_deref());
        assert_ne!(n, POISON, "this dose is poison");
        if n >= TOO_MUCH {
            return Err(Refusal::new("that is too much").into());
        }
        self.given.push(n);
        Ok(n)
    }
}

/// Waits while somebody listens at the gate and keeps the connection.
fn pass(gate: Option<&Path>) {
    if let Some(gate) = gate
        && let Ok(mut held) = UnixStream::connect(gate)
    {
        // Nothing is ever said there, so this lasts until the other end is closed.
        held.read_to_end(&mut Vec::new()).ok();
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app()
        .element::<Watch>("Watch")
        .element::<Nurse>("Nurse")
        .callable::<Pump>("Pump")
        .run()
}
