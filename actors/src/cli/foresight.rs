//! `explain --if-fails`: what would become of everything if an entity failed now.

use std::fmt::Write;
use std::time::Duration;

use lamplighter_policies::protocol::appliances::ApplicationState;
use lamplighter_policies::protocol::forecast::{Becomes, Forecast, Foreseen};
use lamplighter_policies::recovery::decide::Fate;
use serde_json::{Value, json};

use super::status::span;

/// How wide the first column is at most.
const NAME_COLUMNS_MAX: usize = 24;

/// The forecast for people.
pub(super) fn as_page(forecast: &Forecast) -> String {
    let Forecast {
        entity,
        noticed_within,
        follows,
        outcomes,
        omitted,
        application,
    } = forecast;
    let noticed = match noticed_within {
        None => "nothing watches it: nobody would notice".to_owned(),
        Some(Duration::ZERO) => "it would be noticed at once".to_owned(),
        Some(within) => format!("it would be noticed within {}", span(*within)),
    };
    let mut page = format!("if {entity} failed now: {noticed}\n");
    let named = follows.iter().map(|(id, _)| id);
    let names = named.chain(outcomes.iter().map(|it| &it.entity));
    let width = names.map(|id| id.as_str().len()).max().unwrap_or(0);
    let width = width.min(NAME_COLUMNS_MAX);
    let mut row = |who: &str, what: &str| {
        writeln!(page, "  {who:width$}  {what}").expect("writing to a string cannot fail");
    };
    if !follows.is_empty() {
        row("", "");
    }
    for (id, cause) in follows {
        let what = format!("would fail with it: it {} {}", cause.how, cause.parent);
        row(id.as_str(), &what);
    }
    if !outcomes.is_empty() {
        row("", "");
    }
    for Foreseen {
        entity,
        becomes,
        told,
        away_for,
    } in outcomes
    {
        row(entity.as_str(), &becomes.to_string());
        if let Some(away_for) = away_for {
            row("", &format!("away for about {}", span(*away_for)));
        }
        if !told.is_empty() {
            let told: Vec<&str> = told.iter().map(|id| id.as_str()).collect();
            row("", &format!("told: {}", told.join(", ")));
        }
    }
    if *omitted > 0 {
        row("…", &format!("and {omitted} more"));
    }
    page.push('\n');
    match application {
        ApplicationState::Whole => page.push_str("the application would be whole afterwards\n"),
        ApplicationState::Degraded { reasons } => {
            page.push_str("the application would be degraded\n");
            for reason in reasons {
                writeln!(page, "  {reason}").expect("writing to a string cannot fail");
            }
        }
        ApplicationState::Failed { reason } => {
            writeln!(page, "the application would fail: {reason}")
                .expect("writing to a string cannot fail");
        }
    }
    let lines = page.lines().map(str::trim_end);
    lines.map(|line| format!("{line}\n")).collect()
}

/// The same for programs.
pub(super) fn as_json(forecast: &Forecast) -> Value {
    let follows = forecast.follows.iter().map(
        |(id, cause)| json!({ "entity": id, "because": cause.how.to_string(), "of": cause.parent }),
    );
    let outcomes = forecast.outcomes.iter().map(|it| {
        json!({
            "entity": it.entity,
            "becomes": word(&it.becomes),
            "to": destination(&it.becomes),
            "text": it.becomes.to_string(),
            "told": it.told,
            "away_for_us": it.away_for.map(micros),
        })
    });
    let (application, reasons) = match &forecast.application {
        ApplicationState::Whole => ("whole", Vec::new()),
        ApplicationState::Degraded { reasons } => ("degraded", reasons.clone()),
        ApplicationState::Failed { reason } => ("failed", vec![reason.clone()]),
    };
    json!({
        "entity": forecast.entity,
        "noticed_within_us": forecast.noticed_within.map(micros),
        "follows": follows.collect::<Vec<_>>(),
        "outcomes": outcomes.collect::<Vec<_>>(),
        "omitted": forecast.omitted,
        "application": { "state": application, "reasons": reasons },
    })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn word(becomes: &Becomes) -> &'static str {
    match becomes {
        Becomes::Element(Fate::RestartInPlace { .. }) => "restarted-in-place",
        Becomes::Element(Fate::Redeploy { .. }) => "redeployed",
        Becomes::Element(Fate::MakeWay(_)) => "moved",
        Becomes::Element(Fate::Stop(_)) => "stopped",
        Becomes::Element(Fate::Wait(_)) => "without-a-place",
        Becomes::ReplacedBy(_) => "replaced",
        Becomes::DoneWithout => "done-without",
        Becomes::Awaited => "awaited",
    }
}

fn destination(becomes: &Becomes) -> Option<String> {
    let id = match becomes {
        Becomes::Element(Fate::RestartInPlace { on }) => on,
        Becomes::Element(Fate::Redeploy { to, .. }) => to,
        Becomes::Element(Fate::MakeWay(moved)) => &moved.to,
        Becomes::ReplacedBy(by) => by,
        Becomes::Element(Fate::Stop(_) | Fate::Wait(_))
        | Becomes::DoneWithout
        | Becomes::Awaited => return None,
    };
    Some(id.to_string())
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::ids::EntityId;
    use lamplighter_policies::placement::{NoPlace, Obstacle};
    use lamplighter_policies::recovery::causality::{Cause, How};

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn forecast() -> Forecast {
        let cause = |how| Cause {
            parent: id("rpi1"),
            how,
        };
        let foreseen = |name: &str, becomes, told: &[&str], away_for| Foreseen {
            entity: id(name),
            becomes,
            told: told.iter().map(|it| id(it)).collect(),
            away_for,
        };
        let goes = Becomes::Element(Fate::Redeploy {
            from: id("rpi1"),
            to: id("pc"),
        });
        let waits = Becomes::Element(Fate::Wait(NoPlace {
            servers: vec![(id("pc"), Obstacle::Zone(None))],
        }));
        Forecast {
            entity: id("rpi1"),
            noticed_within: Some(Duration::from_secs(1)),
            follows: vec![
                (id("lamp"), cause(How::ReachedOver)),
                (id("lights"), cause(How::HostedBy)),
                (id("pump"), cause(How::HostedBy)),
            ],
            outcomes: vec![
                foreseen("rpi1", Becomes::Awaited, &[], None),
                foreseen(
                    "lights",
                    goes,
                    &["rules"],
                    Some(Duration::from_millis(1_120)),
                ),
                foreseen("pump", waits, &[], None),
                foreseen("lamp", Becomes::ReplacedBy(id("strip")), &["lights"], None),
            ],
            omitted: 0,
            application: ApplicationState::Failed {
                reason: "pump is essential and has no place".to_owned(),
            },
        }
    }

    #[test]
    fn a_forecast_says_what_fails_what_is_done_who_is_told_and_how_long_it_takes() {
        let expected = "\
if rpi1 failed now: it would be noticed within 1.0 s

  lamp    would fail with it: it is reached only over rpi1
  lights  would fail with it: it runs on rpi1
  pump    would fail with it: it runs on rpi1

  rpi1    is taken back when it returns
  lights  goes from rpi1 to pc
          away for about 1.1 s
          told: rules
  pump    waits for a server: no server is in its zones: pc is in no zone
  lamp    strip takes its place
          told: lights

the application would fail: pump is essential and has no place
";
        assert_eq!(as_page(&forecast()), expected);
    }

    #[test]
    fn a_program_is_told_the_same() {
        let json = as_json(&forecast());
        let lights = json!({
            "entity": "lights", "becomes": "redeployed", "to": "pc",
            "text": "goes from rpi1 to pc", "told": ["rules"], "away_for_us": 1_120_000,
        });
        assert_eq!(json["outcomes"][1], lights);
        let lamp = json!({ "entity": "lamp", "because": "is reached only over", "of": "rpi1" });
        assert_eq!(json["follows"][0], lamp);
        assert_eq!(json["noticed_within_us"], 1_000_000);
        assert_eq!(json["application"]["state"], "failed");
    }
}
