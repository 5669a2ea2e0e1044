//! Elements that pass on what they are told, and remember it and what they were told of those around them.

use lamplighter::prelude::*;

#[derive(Serialize, Deserialize)]
enum Input {
    Read { n: u32 },
    Passed(u32),
}

const PASS: Output<u32> = Output::new("pass");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Follower {
    taken: Vec<u32>,
    changes: Vec<String>,
    /// Whether nobody takes what it passes on.
    last: bool,
}

impl Element for Follower {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let (Input::Read { n: number } | Input::Passed(number)) = event.body;
        self.taken.push(number);
        if !self.last {
            ctx.emit(PASS, number);
        }
        Ok(())
    }

    fn reconfigured(&mut self, change: &Change, _: &mut Context<Self>) -> Outcome {
        self.changes.push(match change {
            Change::Failed { output } => format!("{output} failed"),
            Change::Recovered { output } => format!("{output} recovered"),
            Change::Replaced { output, by } => format!("{output} replaced by {by}"),
        });
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Follower>("Follower").run()
}
