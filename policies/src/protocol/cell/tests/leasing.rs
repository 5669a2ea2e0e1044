//! Commands leave only while the element surely owns its appliances.

use super::*;

const LEASE: Duration = Duration::from_secs(3);
const SECOND: i64 = 1_000_000;

fn seconds(at: i64) -> Monotonic {
    Monotonic(u64::try_from(at * SECOND).unwrap() * 1_000)
}

/// A live cell that claimed at 0 s, while the owner before may act until `free_at`.
fn owner(free_at: i64) -> Told {
    let settings = CellSettings {
        lease: Some(LEASE),
        ..settings()
    };
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    let claimed = Input::Claimed {
        asked_at: seconds(0),
        free_at: seconds(free_at),
    };
    told.tell(at(0), claimed);
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told
}

/// An event is logged and handled at `now`, and commands the lamp; what leaves.
fn commanded(told: &mut Told, index: u64, now: i64) -> Vec<Effect> {
    let now = at(now * SECOND);
    told.offered(now, index);
    let index = told.cell.log.head;
    let handled = emitted("lamp");
    told.tell(now, Input::Handled { index, handled }).to_vec()
}

fn leaves(effects: &[Effect]) -> (usize, usize) {
    let count = |wanted: fn(&Effect) -> bool| effects.iter().filter(|e| wanted(e)).count();
    (
        count(|e| matches!(e, Effect::Actuate { .. })),
        count(|e| matches!(e, Effect::Prove)),
    )
}

#[test]
fn a_command_leaves_at_once_under_a_young_proof() {
    let mut told = owner(0);
    assert_eq!(leaves(&commanded(&mut told, 1, 1)), (1, 0));
}

#[test]
fn a_command_under_an_old_proof_is_held_until_the_store_says_who_owns_the_element() {
    let mut told = owner(0);
    assert_eq!(leaves(&commanded(&mut told, 1, 3)), (0, 1));
    let report = told.cell.report(at(3 * SECOND));
    let held = "1 commands to appliances wait until the store says who owns the element";
    assert_eq!(report.trouble.as_deref(), Some(held));
    let asked_at = seconds(3);
    let effects = told
        .tell(at(4 * SECOND), Input::Proven { asked_at })
        .to_vec();
    assert_eq!(leaves(&effects), (1, 0));
    assert_eq!(told.cell.report(at(4 * SECOND)).trouble, None);
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_and_no_command_is_lost() {
    let mut told = owner(0);
    commanded(&mut told, 1, 3);
    let away = || Cause::Unavailable("away".into());
    told.tell(at(4 * SECOND), Input::NotProven { cause: away() });
    let deadline = told.cell.next_deadline().unwrap();
    assert_eq!(deadline, seconds(4) + Duration::from_millis(200));
    assert_eq!(leaves(told.wake(at(4 * SECOND + SECOND / 5))), (0, 1));
    let asked_at = deadline;
    let effects = told
        .tell(at(5 * SECOND), Input::Proven { asked_at })
        .to_vec();
    assert_eq!(leaves(&effects), (1, 0));
}

#[test]
fn an_owner_that_was_replaced_ends_and_sends_nothing() {
    let mut told = owner(0);
    commanded(&mut told, 1, 3);
    let cause = Cause::Fenced("another owns it".into());
    let effects = told
        .tell(at(4 * SECOND), Input::NotProven { cause })
        .to_vec();
    assert_eq!(
        effects,
        [Effect::GiveUp {
            cause: "another owns it".into(),
            restart_may_help: false
        }]
    );
    let asked_at = seconds(4);
    assert_eq!(told.tell(at(5 * SECOND), Input::Proven { asked_at }), []);
}

#[test]
fn a_new_owner_lets_the_one_before_run_out_and_then_sends_what_still_holds() {
    let mut told = owner(2);
    assert_eq!(leaves(&commanded(&mut told, 1, 1)), (0, 0));
    assert_eq!(told.cell.next_deadline(), Some(seconds(2)));
    let effects = told.wake(at(2 * SECOND)).to_vec();
    assert_eq!(leaves(&effects), (1, 1));
}

#[test]
fn an_element_that_has_nothing_to_send_asks_for_no_proof() {
    let mut told = owner(0);
    assert_eq!(leaves(told.wake(at(60 * SECOND))), (0, 0));
    assert_eq!(told.cell.lease_deadline, None);
}

#[test]
fn while_a_clock_is_in_doubt_commands_wait_and_are_not_dropped() {
    let mut told = owner(0);
    let now = at(SECOND);
    told.offered(now, 1);
    let index = told.cell.log.head;
    let mut handled = emitted("lamp");
    handled.emitted[0].valid_for = Some(Duration::from_secs(10));
    let doubt = Now {
        skew: Duration::MAX,
        ..now
    };
    let held = told.tell(doubt, Input::Handled { index, handled }).to_vec();
    assert_eq!(leaves(&held), (0, 0));
    let asked_at = seconds(1);
    let effects = told
        .tell(at(2 * SECOND), Input::Proven { asked_at })
        .to_vec();
    assert_eq!(leaves(&effects), (1, 0));
}
