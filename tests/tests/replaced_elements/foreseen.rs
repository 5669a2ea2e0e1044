//! What an operator is told beforehand is what happens.

use lamplighter_tests::site::Site;
use serde_json::Value;

use super::{PROGRAM, TOPOLOGY, all_run, lose, places, run_off};

#[tokio::test]
async fn what_is_foreseen_of_a_server_is_what_happens_when_it_is_lost() {
    let mut site = Site::start(PROGRAM, TOPOLOGY, &["rpi1", "rpi2", "pc"]).await;
    all_run(&site, &["rpi1", "rpi2"]).await;
    let foreseen = site.command(&["explain", "--if-fails", "rpi1", "--json"]);
    let foreseen: Value = serde_json::from_str(&foreseen).unwrap();
    let outcomes = foreseen["outcomes"].as_array().unwrap().iter();
    let redeployed = outcomes.filter(|it| it["becomes"] == "redeployed");
    let expected: Vec<_> = redeployed
        .map(|it| (it["entity"].as_str().unwrap(), it["to"].as_str().unwrap()))
        .collect();
    assert!(!expected.is_empty(), "{foreseen:#}");
    assert_eq!(foreseen["noticed_within_us"], 1_000_000);
    assert_eq!(foreseen["application"]["state"], "whole");

    lose(&mut site, "rpi1").await;
    let elements = site.elements(|all| run_off("rpi1", all)).await;
    let after = places(&elements);
    for (element, server) in expected {
        assert_eq!(after[element], server, "{after:?}");
    }
    let page = site.command(&["explain", "--if-fails", "rpi2"]);
    assert!(
        page.starts_with("if rpi2 failed now: it would be noticed within 1.0 s\n"),
        "{page}"
    );
    assert!(page.contains("goes from rpi2 to pc"), "{page}");
}
