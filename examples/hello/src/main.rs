//! One element that counts presses and remembers them, whatever happens to its process.

use lamplighter::prelude::*;

#[derive(Serialize, Deserialize)]
enum Input {
    Pressed,
}

const COUNT: Output<u64> = Output::new("count");

#[derive(Serialize, Deserialize)]
struct Counter {
    presses: u64,
}

impl Element for Counter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Pressed => self.presses += 1,
        }
        ctx.emit(COUNT, self.presses);
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Counter>("Counter").run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_where_it_was_killed() {
        let mut counter = TestElement::<Counter>::with_state(json!({ "presses": 0 }));
        counter.event("button", Input::Pressed);
        counter.crash();
        counter.event("button", Input::Pressed);
        assert_eq!(counter.emitted(COUNT), [1, 2]);
    }
}
