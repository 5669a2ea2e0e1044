//! What the manager foresees is what it does, and asking changes nothing.

use std::collections::BTreeMap;

use lamplighter_policies::protocol::appliances::ApplicationState;
use lamplighter_policies::protocol::control::{Answer, Ask};
use lamplighter_policies::protocol::forecast::{Becomes, Forecast};
use lamplighter_policies::recovery::decide::Fate;

use super::lose;
use super::site::site;
use super::world::{World, id};

fn foresee(world: &mut World, entity: &str) -> Result<Forecast, String> {
    world.ask(Ask::IfFails(id(entity)));
    world.settle();
    match world.answers.pop() {
        Some(Answer::Foreseen(forecast)) => Ok(*forecast),
        Some(Answer::Refused { reason }) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// Where each element would run that the failure concerns; nowhere is an empty name.
fn places(forecast: &Forecast) -> BTreeMap<String, String> {
    let place = |becomes: &Becomes| match becomes {
        Becomes::Element(Fate::RestartInPlace { on }) => Some(on.to_string()),
        Becomes::Element(Fate::Redeploy { to, .. }) => Some(to.to_string()),
        Becomes::Element(Fate::MakeWay(moved)) => Some(moved.to.to_string()),
        Becomes::Element(Fate::Stop(_) | Fate::Wait(_)) => Some(String::new()),
        Becomes::ReplacedBy(_) | Becomes::DoneWithout | Becomes::Awaited => None,
    };
    let outcomes = forecast.outcomes.iter();
    outcomes
        .filter_map(|it| Some((it.entity.to_string(), place(&it.becomes)?)))
        .collect()
}

#[test]
fn what_the_manager_foresees_of_a_server_is_what_it_does_when_that_is_lost() {
    for server in ["pc", "rpi1", "rpi2"] {
        let mut world = World::running(site());
        let before = world.runs_at();
        let forecast = foresee(&mut world, server).unwrap();
        assert_eq!(world.runs_at(), before);
        let mut expected = before;
        for (element, place) in places(&forecast) {
            expected.remove(&element);
            if !place.is_empty() {
                expected.insert(element, place);
            }
        }
        lose(&mut world, server);
        world.settle();
        assert_eq!(world.runs_at(), expected, "without {server}");
    }
}

#[test]
fn a_forecast_builds_on_what_failed_before() {
    let mut world = World::running(site());
    lose(&mut world, "rpi2");
    world.settle();
    let forecast = foresee(&mut world, "rpi1").unwrap();
    // Only the third server is left, and it has room for three.
    let places = places(&forecast);
    assert_eq!(places.get("radio").map(String::as_str), Some(""));
    assert_eq!(places.get("alarm").map(String::as_str), Some("pc"));
    let ApplicationState::Degraded { reasons } = &forecast.application else {
        panic!("{:?}", forecast.application);
    };
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].starts_with("radio runs nowhere"), "{reasons:?}");
}

#[test]
fn an_element_is_started_again_where_it_is_and_who_requires_it_is_told() {
    let mut world = World::running(site());
    let forecast = foresee(&mut world, "hall").unwrap();
    assert_eq!(places(&forecast), [("hall".into(), "rpi1".into())].into());
    assert_eq!(forecast.outcomes[0].told, [id("alarm")]);
    assert_eq!(forecast.application, ApplicationState::Whole);
    let unknown = foresee(&mut world, "nothing").unwrap_err();
    assert_eq!(
        unknown,
        "the topology has no server, channel, element or appliance nothing"
    );
}
