//! The one actix actor that drives every role: inputs in, effects out, restarts under a limit.
//!
//! A role is a [`Machine`], which decides, and a [`Perform`], which does. The shell tells the machine
//! what arrives, hands the effects to the performer in order, wakes the machine at its deadline, and
//! supervises both: actix's own supervisor does not survive a panic, so here every step is guarded,
//! and after a panic neither machine nor performer is looked at again. Their factory makes new ones,
//! at once the first time, then after a growing wait, until the limit is reached and the failure is
//! escalated. The mailbox is kept throughout.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture,
};
use lamplighter_policies::machine::Machine;
use lamplighter_policies::restart::{RestartDecision, RestartHistory, RestartPolicy};
use lamplighter_policies::time::{Monotonic, Now};
use lamplighter_runtime::clock::Clock;

use crate::panics::{Panicked, guarded};

use role::What;
pub use role::{NotTold, Role, RoleStopped, Told};

mod role;

/// How many inputs a shell handles before it lets the rest of its thread run.
pub const TURN_INPUTS_MAX: usize = 128;

/// How many inputs may wait in a mailbox, unless said otherwise.
pub const MAILBOX_INPUTS: usize = 1_024;

/// The shortest wait for a deadline: a machine that asks for one in the past cannot spin.
const TIMER_MIN: Duration = Duration::from_millis(1);

/// Performs the effects of a machine.
pub trait Perform: Sized + 'static {
    /// The machine whose effects these are.
    type Machine: Machine<Input: fmt::Debug + Send + 'static, Effect: fmt::Debug> + 'static;

    /// Starts one effect. It must not block; what takes time is spawned, and its completion is told
    /// to `role` as an input.
    ///
    /// Inputs told through `role` reach only the incarnation that asked: if it failed meanwhile,
    /// they are dropped. What must reach its successor too is told through [`Role::lasting`].
    fn perform(&mut self, now: Now, effect: EffectOf<Self>, role: &Role<InputOf<Self>>);

    /// A completion that was there at once; told before the next effect is performed and before
    /// anything from the mailbox.
    fn answer(&mut self) -> Option<InputOf<Self>> {
        None
    }
}

/// The inputs of a performer's machine.
pub type InputOf<P> = <<P as Perform>::Machine as Machine>::Input;

/// The effects of a performer's machine.
pub type EffectOf<P> = <<P as Perform>::Machine as Machine>::Effect;

/// A machine with its performer: what a factory makes at each start.
pub struct Incarnation<P: Perform> {
    /// Decides.
    pub machine: P::Machine,
    /// Does.
    pub performer: P,
    /// What the machine is told before anything from the mailbox.
    pub first: Vec<InputOf<P>>,
}

/// How a role is run.
#[derive(Clone, Debug)]
pub struct RoleSettings {
    /// Its name in traces and errors.
    pub name: String,
    /// How many inputs may wait; at least 1.
    pub mailbox: usize,
    /// How often it may fail.
    pub restart: RestartPolicy,
    /// What time it is.
    pub clock: Clock,
}

impl RoleSettings {
    /// The usual mailbox, restart policy and clock.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mailbox: MAILBOX_INPUTS,
            restart: RestartPolicy::default(),
            clock: Clock::default(),
        }
    }
}

/// A role that failed too often.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{role} failed too often and is not restarted again; the last failure: {cause}")]
pub struct Escalated {
    /// Which role.
    pub role: String,
    /// Its last failure.
    pub cause: Panicked,
}

type Factory<P> = Box<dyn FnMut(&Role<InputOf<P>>) -> Incarnation<P>>;

/// The actor. It is started by [`Shell::start`] and spoken to through a [`Role`].
pub struct Shell<P: Perform> {
    settings: RoleSettings,
    factory: Factory<P>,
    escalate: Option<Box<dyn FnOnce(Escalated)>>,
    history: RestartHistory,
    number: u64,
    living: Option<Living<P>>,
    effects: Vec<EffectOf<P>>,
    inputs_in_turn: usize,
    timer: Option<(Monotonic, SpawnHandle)>,
}

// Nothing in a shell is ever pinned.
impl<P: Perform> Unpin for Shell<P> {}

struct Living<P: Perform> {
    machine: P::Machine,
    performer: P,
    role: Role<InputOf<P>>,
}

impl<P: Perform> Shell<P> {
    /// Starts a role on this thread's arbiter.
    ///
    /// `factory` makes it at the start and after each failure, and is given the role's lasting
    /// address. `escalate` is called once, if the role fails too often; the role has ended then.
    pub fn start(
        settings: RoleSettings,
        factory: impl FnMut(&Role<InputOf<P>>) -> Incarnation<P> + 'static,
        escalate: impl FnOnce(Escalated) + 'static,
    ) -> Role<InputOf<P>> {
        let shell = Self {
            history: RestartHistory::new(settings.restart),
            settings,
            factory: Box::new(factory),
            escalate: Some(Box::new(escalate)),
            number: 0,
            living: None,
            effects: Vec::new(),
            inputs_in_turn: 0,
            timer: None,
        };
        Role::new(Actor::start(shell).recipient(), None)
    }

    fn incarnate(&mut self, ctx: &mut Context<Self>) {
        self.number += 1;
        let mailbox = ctx.address().recipient();
        let lasting = Role::new(mailbox.clone(), None);
        let factory = &mut self.factory;
        let made = match guarded(|| factory(&lasting)) {
            Ok(made) => made,
            Err(cause) => return self.fail(cause, ctx),
        };
        self.living = Some(Living {
            machine: made.machine,
            performer: made.performer,
            role: Role::new(mailbox, Some(self.number)),
        });
        let mut first = VecDeque::from(made.first);
        while let Some(input) = first.pop_front() {
            if let Err(cause) = self.step(Some(input)) {
                return self.fail(cause, ctx);
            }
        }
        self.arm(ctx);
    }

    /// Tells the machine one input, or that its deadline passed, and performs what follows.
    fn step(&mut self, input: Option<InputOf<P>>) -> Result<(), Panicked> {
        let Some(living) = &mut self.living else {
            return Ok(());
        };
        let (name, effects) = (&self.settings.name, &mut self.effects);
        let now = self.settings.clock.now();
        effects.clear();
        guarded(|| {
            // An input does not postpone a deadline that has passed, however many inputs come.
            if living
                .machine
                .next_deadline()
                .is_some_and(|at| at <= now.monotonic)
            {
                tracing::trace!(role = %name, "woken");
                living.machine.wake(now, effects);
            }
            if let Some(input) = input {
                tracing::trace!(role = %name, ?input);
                living.machine.handle(now, input, effects);
            }
            let mut waiting = VecDeque::from(std::mem::take(effects));
            while let Some(effect) = waiting.pop_front() {
                tracing::trace!(role = %name, ?effect);
                living.performer.perform(now, effect, &living.role);
                while let Some(answer) = living.performer.answer() {
                    tracing::trace!(role = %name, ?answer);
                    // A replay is one long chain of answers, and its time passes.
                    living
                        .machine
                        .handle(self.settings.clock.now(), answer, effects);
                }
                waiting.extend(effects.drain(..));
            }
        })
    }

    /// Gives up this incarnation and decides when the next one starts.
    fn fail(&mut self, cause: Panicked, ctx: &mut Context<Self>) {
        self.bury();
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let name = &self.settings.name;
        match self.history.failed(self.settings.clock.now().monotonic) {
            RestartDecision::After(wait) => {
                tracing::warn!(role = %name, %cause, ?wait, "failed; it is made anew");
                // The context polls no message while it waits, and keeps them all.
                let waited = async move {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                };
                ctx.wait(
                    waited
                        .into_actor(self)
                        .map(|(), shell, ctx| shell.incarnate(ctx)),
                );
            }
            RestartDecision::Escalate => {
                tracing::error!(role = %name, %cause, "failed too often");
                let role = name.clone();
                if let Some(escalate) = self.escalate.take() {
                    escalate(Escalated { role, cause });
                }
                ctx.stop();
            }
        }
    }

    /// Drops machine and performer; a panic while they are dropped changes nothing.
    fn bury(&mut self) {
        let living = self.living.take();
        let effects = std::mem::take(&mut self.effects);
        if let Err(cause) = guarded(|| drop((living, effects))) {
            tracing::warn!(role = %self.settings.name, %cause, "failed again while it was dropped");
        }
    }

    /// Sees to it that the machine is woken at its deadline. A timer that is set too early is left
    /// to fire and set again, which is cheaper than to move it with every input.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let deadline = self.living.as_ref().and_then(|l| l.machine.next_deadline());
        let Some(deadline) = deadline else { return };
        match self.timer.take() {
            Some((armed, timer)) if armed <= deadline => {
                self.timer = Some((armed, timer));
                return;
            }
            Some((_, timer)) => {
                ctx.cancel_future(timer);
            }
            None => {}
        }
        let wait = deadline - self.settings.clock.now().monotonic;
        let timer = ctx.run_later(wait.max(TIMER_MIN), |shell, ctx| {
            shell.timer = None;
            shell.turn(None, ctx);
        });
        self.timer = Some((deadline, timer));
    }

    fn turn(&mut self, input: Option<InputOf<P>>, ctx: &mut Context<Self>) {
        match self.step(input) {
            Ok(()) => self.arm(ctx),
            Err(cause) => self.fail(cause, ctx),
        }
    }
}

impl<P: Perform> Actor for Shell<P> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.settings.mailbox.max(1));
        self.incarnate(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.bury();
    }
}

impl<P: Perform> Handler<Told<InputOf<P>>> for Shell<P> {
    type Result = ();

    fn handle(&mut self, told: Told<InputOf<P>>, ctx: &mut Context<Self>) {
        if told.incarnation.is_some_and(|asked| asked != self.number) {
            let name = &self.settings.name;
            return tracing::trace!(role = %name, "dropped what a former incarnation asked for");
        }
        match told.what {
            What::Input(input) => self.turn(Some(input), ctx),
            What::Stop => return ctx.stop(),
        }
        self.inputs_in_turn += 1;
        if self.inputs_in_turn >= TURN_INPUTS_MAX {
            self.inputs_in_turn = 0;
            // actix handles messages without end while there are any.
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}

#[cfg(test)]
mod tests;
