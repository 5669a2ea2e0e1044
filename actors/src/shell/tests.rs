use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::oneshot;

use super::*;

/// Adds what it is told; panics at 13; wants to be woken at its deadline.
struct Adder {
    sum: u64,
    deadline: Option<Monotonic>,
}

#[derive(Debug)]
enum Input {
    Add(u64),
    Work(oneshot::Receiver<u64>),
    RingAt(Monotonic),
    Shown(oneshot::Sender<u64>),
}

#[derive(Debug)]
enum Effect {
    Await(oneshot::Receiver<u64>),
    Show(oneshot::Sender<u64>, u64),
    Ring,
}

impl Machine for Adder {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Add(13) => panic!("unlucky"),
            Input::Add(n) => self.sum += n,
            Input::Work(done) => effects.push(Effect::Await(done)),
            Input::RingAt(at) => self.deadline = Some(at),
            Input::Shown(to) => effects.push(Effect::Show(to, self.sum)),
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    fn wake(&mut self, _: Now, effects: &mut Vec<Effect>) {
        self.deadline = None;
        effects.push(Effect::Ring);
    }
}

struct Hands {
    rung: Rc<RefCell<Option<oneshot::Sender<Monotonic>>>>,
}

impl Perform for Hands {
    type Machine = Adder;

    fn perform(&mut self, now: Now, effect: Effect, role: &Role<Input>) {
        match effect {
            Effect::Show(to, sum) => to.send(sum).unwrap(),
            Effect::Await(done) => {
                let role = role.clone();
                actix::spawn(async move { role.tell(Input::Add(done.await.unwrap())) });
            }
            Effect::Ring => {
                let rung = self.rung.borrow_mut().take();
                rung.unwrap().send(now.monotonic).unwrap();
            }
        }
    }
}

fn adder(first: Vec<Input>) -> Incarnation<Hands> {
    Incarnation {
        machine: Adder {
            sum: 0,
            deadline: None,
        },
        performer: Hands {
            rung: Rc::default(),
        },
        first,
    }
}

async fn sum(role: &Role<Input>) -> u64 {
    let (to, shown) = oneshot::channel();
    role.tell(Input::Shown(to));
    shown.await.unwrap()
}

#[actix::test]
async fn inputs_are_handled_in_order_and_completions_come_back() {
    let role = Shell::start(
        RoleSettings::new("adder"),
        |_| adder(vec![Input::Add(100)]),
        |failed| panic!("{failed}"),
    );
    let (finish, done) = oneshot::channel();
    role.tell(Input::Work(done));
    role.tell(Input::Add(1));
    assert_eq!(sum(&role).await, 101);
    finish.send(20).unwrap();
    while sum(&role).await != 121 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn after_a_panic_a_new_incarnation_handles_what_waited() {
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    let role = Shell::start(
        RoleSettings::new("adder"),
        move |_| {
            count.set(count.get() + 1);
            adder(vec![])
        },
        |failed| panic!("{failed}"),
    );
    let (finish, done) = oneshot::channel();
    for input in [
        Input::Work(done),
        Input::Add(1),
        Input::Add(13),
        Input::Add(2),
    ] {
        role.tell(input);
    }
    assert_eq!((sum(&role).await, made.get()), (2, 2));

    // What the first incarnation asked for does not reach the second.
    finish.send(1_000).unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sum(&role).await, 2);
}

#[actix::test]
async fn a_role_that_fails_too_often_is_escalated_with_its_last_failure() {
    let (tell, told) = oneshot::channel();
    let settings = RoleSettings {
        restart: RestartPolicy {
            restarts_max: 2,
            backoff_min: Duration::from_millis(1),
            ..RestartPolicy::default()
        },
        ..RoleSettings::new("adder")
    };
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    let factory = move |_: &Role<Input>| {
        count.set(count.get() + 1);
        assert!(count.get() != 2, "no room for a second one");
        adder(vec![])
    };
    let role = Shell::start(settings, factory, |failed| tell.send(failed).unwrap());
    role.tell(Input::Add(13));
    role.tell(Input::Add(13));
    let escalated = told.await.unwrap();
    assert_eq!(
        (
            escalated.role.as_str(),
            escalated.cause.text.as_str(),
            made.get()
        ),
        ("adder", "unlucky", 3)
    );
    assert_eq!(role.tell_and_wait(Input::Add(1)).await, Err(RoleStopped));
}

#[actix::test]
async fn a_machine_is_woken_at_its_deadline_and_not_before() {
    let (ring, rung) = oneshot::channel();
    let ring = Rc::new(RefCell::new(Some(ring)));
    let at = Clock::default().now().monotonic + Duration::from_millis(5);
    let _role = Shell::start(
        RoleSettings::new("adder"),
        move |_| Incarnation {
            performer: Hands { rung: ring.clone() },
            ..adder(vec![Input::RingAt(at)])
        },
        |failed| panic!("{failed}"),
    );
    assert!(rung.await.unwrap() >= at);
}

#[actix::test]
async fn a_full_mailbox_gives_the_input_back() {
    let settings = RoleSettings {
        mailbox: 2,
        ..RoleSettings::new("adder")
    };
    let role = Shell::start(settings, |_| adder(vec![]), |failed| panic!("{failed}"));
    assert_eq!(sum(&role).await, 0);
    let refused = loop {
        if let Err(refused) = role.try_tell(Input::Add(1)) {
            break refused;
        }
    };
    assert!(
        matches!(refused, NotTold::Full(Input::Add(1))),
        "{refused:?}"
    );
    role.stop();
    while !matches!(role.try_tell(Input::Add(2)), Err(NotTold::Stopped(_))) {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_flood_of_inputs_leaves_room_for_others_on_the_thread() {
    let role = Shell::start(RoleSettings::new("adder"), |_| adder(vec![]), |_| {});
    for _ in 0..10 * TURN_INPUTS_MAX {
        role.tell(Input::Add(1));
    }
    let turns = Rc::new(Cell::new(0));
    let counted = turns.clone();
    let other = actix::spawn(async move {
        loop {
            counted.set(counted.get() + 1);
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(sum(&role).await, 10 * TURN_INPUTS_MAX as u64);
    other.abort();
    assert!(turns.get() >= 9, "the other ran {} times", turns.get());
}
