//! An element that calls appliances and keeps each answer; with a gate before it takes one, where a test
//! can hold it and kill its host.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use lamplighter::prelude::*;

type Properties = BTreeMap<String, serde_json::Value>;

#[derive(Serialize, Deserialize)]
enum Input {
    /// Call the appliance at this port.
    Ask {
        n: u32,
        port: String,
        show: Properties,
    },
    Answered(Answer<Properties>),
    Tell(u32),
}

const LAMP: Call<Properties, Properties> = Call::new("lamp");
const PUMP: Call<Properties, Properties> = Call::new("pump");
const DOOR: Call<Properties, Properties> = Call::new("door");

#[derive(Serialize, Deserialize)]
struct Answers {
    answers: Vec<(u32, String)>,
}

const ANSWERS: Output<Answers> = Output::new("answers");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Caller {
    gate: Option<PathBuf>,
    asked: Vec<(CallId, u32)>,
    answers: Vec<(u32, String)>,
}

impl Element for Caller {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Ask { n, port, show } => {
                let port = match port.as_str() {
                    "lamp" => LAMP,
                    "pump" => PUMP,
                    _ => DOOR,
                };
                let call = ctx.call(port, show).id();
                self.asked.push((call, n));
            }
            Input::Answered(answer) => {
                self.pass();
                let mut asked = self.asked.iter();
                let asked = asked.position(|(call, _)| Some(*call) == event.answers);
                let asked = asked.ok_or_else(|| Failure::new("nobody asked this"))?;
                let (_, n) = self.asked.remove(asked);
                let answer = match answer {
                    Ok(shown) => {
                        let value = |name: &str| shown.get(name).cloned().unwrap_or_default();
                        format!("state {} count {}", value("state"), value("count"))
                    }
                    Err(error) => error.to_string(),
                };
                self.answers.push((n, answer));
            }
            Input::Tell(_) => {
                let answers = self.answers.clone();
                ctx.emit(ANSWERS, Answers { answers });
            }
        }
        Ok(())
    }
}

impl Caller {
    /// Waits while somebody listens at the gate and keeps the connection.
    fn pass(&self) {
        if let Some(gate) = &self.gate
            && let Ok(mut held) = UnixStream::connect(gate)
        {
            held.read_to_end(&mut Vec::new()).ok();
        }
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Caller>("Caller").run()
}
