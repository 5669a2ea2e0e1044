//! Two elements that lose nothing and repeat nothing, whatever ends their hosts: a relay passes readings
//! on, and a collector keeps them all, commands two devices for each, and tells on request what it has.

use lamplighter::prelude::*;

#[derive(Serialize, Deserialize)]
enum Reading {
    Read { n: u32 },
}

const FORWARD: Output<u32> = Output::new("forward");

/// A number that makes the relay panic.
const POISON: u32 = u32::MAX;
/// A number from which the relay does not return, the first time that it sees it.
const TRAP: u32 = 2_000_020;
/// What it leaves behind when it goes into the trap.
const TRAPPED: &str = "trapped";

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Relay {
    read: u32,
}

impl Element for Relay {
    type Event = Reading;

    fn handle(&mut self, event: Event<Reading>, ctx: &mut Context<Self>) -> Outcome {
        let Reading::Read { n: number } = event.body;
        assert_ne!(number, POISON, "this number is poison");
        if number == TRAP && std::fs::File::create_new(TRAPPED).is_ok() {
            loop {
                std::thread::park();
            }
        }
        self.read += 1;
        ctx.emit(FORWARD, number);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Arrival {
    Forwarded(u32),
    Direct { n: u32 },
    Tell(u32),
}

#[derive(Serialize, Deserialize)]
struct Told {
    question: u32,
    forwarded: Vec<u32>,
    direct: Vec<u32>,
}

const UNLOCK: Output<u32> = Output::new("unlock");
const COMMAND: Output<u32> = Output::new("command");
const TOLD: Output<Told> = Output::new("told");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Collector {
    forwarded: Vec<u32>,
    direct: Vec<u32>,
}

impl Element for Collector {
    type Event = Arrival;

    fn handle(&mut self, event: Event<Arrival>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Arrival::Forwarded(number) => {
                self.forwarded.push(number);
                ctx.emit(UNLOCK, number);
                ctx.emit(COMMAND, number);
            }
            Arrival::Direct { n } => self.direct.push(n),
            Arrival::Tell(question) => {
                let (forwarded, direct) = (self.forwarded.clone(), self.direct.clone());
                let told = Told {
                    question,
                    forwarded,
                    direct,
                };
                ctx.emit(TOLD, told);
            }
        }
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app()
        .element::<Relay>("Relay")
        .element::<Collector>("Collector")
        .run()
}
