//! An element that shows what it is asked to on three lamps, and tells what it hears of them.

use std::collections::BTreeMap;

use lamplighter::prelude::*;

#[derive(Serialize, Deserialize)]
enum Input {
    /// Show this on the lamp at this port, for so many milliseconds where they are given.
    Wish {
        port: String,
        show: BTreeMap<String, serde_json::Value>,
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// What the first lamp shows.
    Shows(BTreeMap<String, serde_json::Value>),
}

const FIRST: Output<BTreeMap<String, serde_json::Value>> = Output::new("first");
const SECOND: Output<BTreeMap<String, serde_json::Value>> = Output::new("second");
const THIRD: Output<BTreeMap<String, serde_json::Value>> = Output::new("third");
const CHANGED: Output<String> = Output::new("changed");
const SHOWN: Output<BTreeMap<String, serde_json::Value>> = Output::new("shown");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Lights {
    wishes: u32,
}

impl Element for Lights {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Wish { port, show, for_ms } => {
                self.wishes += 1;
                ctx.emit(CHANGED, format!("wish {}", self.wishes));
                let output = match port.as_str() {
                    "first" => FIRST,
                    "second" => SECOND,
                    _ => THIRD,
                };
                let emission = ctx.emit(output, show);
                if let Some(for_ms) = for_ms {
                    emission.valid_for(std::time::Duration::from_millis(for_ms));
                }
            }
            Input::Shows(shown) => {
                ctx.emit(SHOWN, shown);
            }
        }
        Ok(())
    }

    fn reconfigured(&mut self, change: &Change, ctx: &mut Context<Self>) -> Outcome {
        let told = match change {
            Change::Failed { output } => format!("{output} failed"),
            Change::Recovered { output } => format!("{output} recovered"),
            Change::Replaced { output, by } => format!("{output} replaced by {by}"),
        };
        ctx.emit(CHANGED, told);
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Lights>("Lights").run()
}
