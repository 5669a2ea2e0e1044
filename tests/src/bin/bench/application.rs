//! The application that is measured: elements that answer what they are told.

use std::collections::BTreeMap;

use lamplighter::prelude::*;

/// All that an echo can receive.
#[derive(Serialize, Deserialize)]
pub(crate) enum Input {
    /// Say this again.
    Tick {
        /// Which of its sender's.
        n: u64,
        /// What makes it as long as a usual event.
        text: String,
    },
}

/// What an echo answers: what it was told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Tock {
    pub(crate) n: u64,
    pub(crate) text: String,
}

const OUT: Output<Tock> = Output::new("out");

/// Remembers enough that a loss would show.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Echo {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Echo {
    /// What it does with an event.
    pub(crate) fn fold(&mut self, n: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(n);
    }
}

impl Element for Echo {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let Input::Tick { n, text } = event.body;
        self.fold(n);
        ctx.emit(OUT, Tock { n, text });
        Ok(())
    }
}

/// What a shelf can receive.
#[derive(Serialize, Deserialize)]
enum Put {
    /// Fill so many fields of so many bytes.
    Fill { fields: u32, bytes: u32 },
    /// Change one field.
    Change { field: u32, n: u64 },
}

const DONE: Output<u64> = Output::new("done");

/// A state of many fields.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Shelf(BTreeMap<String, String>);

impl Element for Shelf {
    type Event = Put;

    fn handle(&mut self, event: Event<Put>, ctx: &mut Context<Self>) -> Outcome {
        let name = |field: u32| format!("field-{field:03}");
        match event.body {
            Put::Fill { fields, bytes } => {
                let text = "x".repeat(usize::try_from(bytes).unwrap_or(0));
                self.0 = (0..fields).map(|n| (name(n), text.clone())).collect();
                ctx.emit(DONE, 0);
            }
            Put::Change { field, n } => {
                if let Some(text) = self.0.get_mut(&name(field)) {
                    let mark = format!("{n:020}");
                    text.replace_range(..mark.len(), &mark);
                }
                ctx.emit(DONE, n);
            }
        }
        Ok(())
    }
}

/// Plays the role that the arguments name.
pub(crate) fn play() -> lamplighter::Result {
    lamplighter::app()
        .element::<Echo>("Echo")
        .element::<Shelf>("Shelf")
        .run()
}
