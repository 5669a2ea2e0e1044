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

/// A lamp that is a file: what it shows is what stands there.
struct FileLamp {
    path: std::path::PathBuf,
}

impl Appliance for FileLamp {
    type Command = serde_json::Map<String, serde_json::Value>;

    async fn start(place: AppliancePlace, _: Reports) -> Result<Self, ApplianceError> {
        let address = place.address;
        let path = address.ok_or_else(|| ApplianceError::refused("it has no `address`"))?;
        Ok(Self { path: path.into() })
    }

    async fn carry_out(
        &mut self,
        command: ApplianceCommand<Self::Command>,
    ) -> Result<Option<serde_json::Value>, ApplianceError> {
        assert_ne!(command.body.get("state"), Some(&json!("PANIC")));
        let mut shown = self.read().await?;
        for (name, value) in command.body {
            shown[name] = value;
        }
        shown["told"] = json!(shown["told"].as_u64().unwrap_or(0) + 1);
        shown["by"] = json!(format!("{} in {}", command.id.source, command.epoch));
        std::fs::write(&self.path, shown.to_string()).map_err(ApplianceError::unreached)?;
        Ok(Some(shown))
    }

    async fn read(&mut self) -> Result<serde_json::Value, ApplianceError> {
        let shown = std::fs::read(&self.path).unwrap_or_else(|_| b"{}".to_vec());
        serde_json::from_slice(&shown).map_err(ApplianceError::refused)
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app()
        .element::<Lights>("Lights")
        .appliance::<FileLamp>("file-lamp")
        .run()
}
