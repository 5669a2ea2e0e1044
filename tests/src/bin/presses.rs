//! A program with one element, for tests of what an operator sees: it counts presses, and cannot bear
//! a word.

use lamplighter::prelude::*;

#[derive(Serialize, Deserialize)]
enum Input {
    Pressed,
    Said(String),
}

const COUNT: Output<u64> = Output::new("count");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Counter {
    presses: u64,
    last_word: Option<String>,
}

impl Element for Counter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Pressed => self.presses += 1,
            Input::Said(word) => {
                assert_ne!(word, "boo", "it was frightened");
                self.last_word = Some(word);
            }
        }
        ctx.emit(COUNT, self.presses);
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Counter>("Counter").run()
}
