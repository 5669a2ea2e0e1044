//! From what failed to a plan, and how plans end (paper, 4.2.4; one plan for all that fails together).
//!
//! What fails within [`COALESCE`] of the first is planned for together: two servers that fail at once must
//! not both be given the last room of a third. What fails later gets a plan of its own, which takes over
//! the steps of older plans that concern the same elements.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::ledger::Change;
use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::notification::{EntityState, NoticeDecision};
use crate::placement::{Budget, Placement, Problem, place};
use crate::protocol::control::{Answer, ElementState};
use crate::recovery::plan::{Plan, Progress, Step};
use crate::time::{Monotonic, Now, WallClock};

/// For how long after the first failure others are waited for.
pub(super) const COALESCE: Duration = Duration::from_millis(50);

/// How long a step may take before it counts as failed where it is carried out.
pub(super) const STEP_WITHIN: Duration = Duration::from_secs(20);

/// How soon after room came it is looked for again.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// How often an element that cannot be kept running is placed elsewhere within [`MOVES_WITHIN`].
const MOVES_MAX: usize = 2;

/// The period over which such moves are counted.
const MOVES_WITHIN: Duration = Duration::from_secs(600);

/// What is under way. Nothing of it is worth keeping: it is what is heard and said again.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// What failed and is not planned for yet, with the reason.
    pub(super) roots: BTreeMap<EntityId, String>,
    pub(super) plan_at: Option<Monotonic>,
    pub(super) amnesty_until: Option<Monotonic>,
    /// Servers that were said to have failed while agents had time to come back.
    pub(super) accused: BTreeMap<EntityId, String>,
    /// Per server, the elements that run there or are about to, as its agent says.
    pub(super) hosting: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// Which agents were told to run which elements no more, and over which connection.
    pub(super) releasing: BTreeMap<(EntityId, EntityId), (ConnectionId, Monotonic)>,
    /// Where the lifecycle manager was told that an element belongs.
    pub(super) placed: BTreeMap<EntityId, EntityId>,
    /// When the step of an element has failed.
    pub(super) overdue_at: BTreeMap<EntityId, Monotonic>,
    /// Per element, the servers on which it could not be kept running.
    pub(super) barred: BTreeMap<EntityId, BTreeSet<EntityId>>,
    pub(super) told_to_resume: BTreeSet<EntityId>,
    /// Per element, the repair that the journal was told of last.
    pub(super) repairs: BTreeMap<EntityId, (EntityId, WallClock, u64, bool)>,
    /// Operators that wait for the end of a plan.
    pub(super) awaited: BTreeMap<u64, Vec<ConnectionId>>,
    /// Plans that have just ended.
    pub(super) ended: Vec<Ended>,
    /// When places are looked for again for what runs nowhere.
    pub(super) room_at: Option<Monotonic>,
    pub(super) room_looked_at: Option<Monotonic>,
}

/// A plan that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Who waited for it.
    awaited: Vec<ConnectionId>,
    /// What became of each element.
    outcomes: Vec<(EntityId, String)>,
}

impl GlobalManager {
    /// Something failed that must be planned for.
    pub(super) fn root(&mut self, now: Monotonic, entity: &EntityId, cause: &str) {
        self.recovery.roots.insert(entity.clone(), cause.into());
        self.recovery.plan_at.get_or_insert(now + COALESCE);
    }

    /// There may be room for what runs nowhere: it is looked for soon, but not often.
    pub(super) fn room_came(&mut self, now: Monotonic) {
        let waits = self.topology.elements.keys().any(|id| self.is_homeless(id));
        if waits && self.recovery.room_at.is_none() {
            let before = self.recovery.room_looked_at;
            let at = before.map_or(now + COALESCE, |at| (at + ROOM_EVERY).max(now + COALESCE));
            self.recovery.room_at = Some(at);
        }
    }

    /// Whether an element runs nowhere for want of a place.
    fn is_homeless(&self, element: &EntityId) -> bool {
        self.is_idle(element) && *self.ledger.state(element) == EntityState::Failed
    }

    /// Plans for what failed, and looks for room, when that is due.
    pub(super) fn plan_further(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |at: &mut Monotonic| *at <= now.monotonic;
        let plan_due = self.recovery.plan_at.take_if(due).is_some();
        let room_due = self.recovery.room_at.take_if(due).is_some();
        if self.stopping.is_some() {
            return;
        }
        if plan_due {
            let roots = core::mem::take(&mut self.recovery.roots);
            let displaced = self.displaced(&roots);
            self.plan(now, roots, displaced, effects);
        }
        if room_due {
            self.recovery.room_looked_at = Some(now.monotonic);
            let homeless = self
                .topology
                .elements
                .keys()
                .filter(|id| self.is_homeless(id));
            let homeless: BTreeSet<EntityId> = homeless.cloned().collect();
            self.give_room(now, homeless, effects);
        }
        self.fail_overdue(now);
    }

    fn displaced(&self, roots: &BTreeMap<EntityId, String>) -> BTreeSet<EntityId> {
        let mut displaced = BTreeSet::new();
        for root in roots.keys() {
            if self.servers.contains_key(root) {
                displaced.extend(self.recoverable_on(root).cloned());
            } else if !self.is_idle(root) {
                displaced.insert(root.clone());
            }
        }
        displaced
    }

    /// Finds places for `displaced` and begins to carry that out.
    fn plan(
        &mut self,
        now: Now,
        roots: BTreeMap<EntityId, String>,
        displaced: BTreeSet<EntityId>,
        effects: &mut Vec<Effect>,
    ) {
        if displaced.is_empty() {
            return;
        }
        let found = self.places_for(now, &displaced);
        let mut steps = BTreeMap::new();
        for element in &displaced {
            let place = found.hosts.get(element).cloned();
            let progress = match (&place, self.is_carried_around(now, element, &roots)) {
                (Some(_), false) => Progress::Decided,
                (Some(_), true) => Progress::GivenUp {
                    reason: format!("it was placed elsewhere {MOVES_MAX} times already"),
                },
                (None, _) => Progress::GivenUp {
                    reason: self.no_place(element, &found),
                },
            };
            let place = place.filter(|_| progress == Progress::Decided);
            steps.extend(self.step_to(element, place, progress));
        }
        for (element, eviction) in &found.evicted {
            let instead = &eviction.for_the_sake_of;
            let reason = format!("it made room for {instead}, which is more critical");
            steps.extend(self.step_to(element, None, Progress::GivenUp { reason }));
        }
        for (element, moved) in &found.moved {
            let cause = format!("it makes room for {}", moved.for_the_sake_of);
            let (state, wait) = (EntityState::Recovering, NoticeDecision::AwaitRecovery);
            self.change(now, element, state, wait, &cause);
            steps.extend(self.step_in_order(element, &moved.to));
        }
        self.begin(now, roots, steps, effects);
    }

    fn no_place(&self, element: &EntityId, found: &Placement) -> String {
        let why = found.unplaced.get(element);
        let why = why.map_or_else(|| "there is no place for it".into(), |why| format!("{why}"));
        match self.cause_of(element) {
            Some(cause) => format!("{cause}; {why}"),
            None => why,
        }
    }

    /// Where everything runs best if `open` need places and all others stay.
    fn places_for(&self, now: Now, open: &BTreeSet<EntityId>) -> Placement {
        place(
            &self.problem(open, self.open_servers(now)),
            Budget::FAILOVER,
        )
    }

    /// What is known when places for `open` are looked for on `servers`.
    pub(super) fn problem(
        &self,
        open: &BTreeSet<EntityId>,
        servers: BTreeSet<EntityId>,
    ) -> Problem<'_> {
        let mut fixed = self.staying();
        fixed.retain(|element, _| !open.contains(element));
        // What is under way stays: two plans do not carry one element.
        let is_still = |(element, _): &(&EntityId, &EntityId)| {
            let placed = self.elements.get(*element);
            placed.is_some_and(|placed| placed.status.state == ElementState::Running)
        };
        let still: BTreeSet<EntityId> = fixed
            .iter()
            .filter(is_still)
            .map(|(element, _)| element.clone())
            .collect();
        let down = self.servers.keys().filter(|server| !self.is_there(server));
        Problem {
            topology: &self.topology,
            down: down.cloned().collect(),
            servers,
            open: open.clone(),
            evictable: still.clone(),
            movable: still,
            fixed,
            barred: self.recovery.barred.clone(),
            seed: 0,
        }
    }

    /// Where all elements are that run, or are to run.
    pub(super) fn staying(&self) -> BTreeMap<EntityId, EntityId> {
        let stays = self.elements.iter().filter(|(id, _)| !self.is_idle(id));
        stays
            .map(|(id, placed)| (id.clone(), placed.server.clone()))
            .collect()
    }

    /// Whether an element that cannot be kept running was placed anew again and again.
    fn is_carried_around(
        &self,
        now: Now,
        element: &EntityId,
        roots: &BTreeMap<EntityId, String>,
    ) -> bool {
        let carried = |plan: &Plan| {
            plan.roots.contains_key(element)
                && plan.steps.get(element).is_some_and(|step| !step.in_order)
        };
        let lately = self.ledger.timeline().filter(|entry| {
            now.wall.since(entry.at) < MOVES_WITHIN
                && matches!(&entry.change, Change::PlanBegun(plan) if carried(plan))
        });
        roots.contains_key(element) && lately.count() >= MOVES_MAX
    }

    pub(super) fn step_in_order(
        &self,
        element: &EntityId,
        to: &EntityId,
    ) -> Option<(EntityId, Step)> {
        let step = self.step_to(element, Some(to.clone()), Progress::Decided);
        step.map(|(element, mut step)| {
            step.in_order = true;
            (element, step)
        })
    }

    pub(super) fn step_to(
        &self,
        element: &EntityId,
        to: Option<EntityId>,
        progress: Progress,
    ) -> Option<(EntityId, Step)> {
        let placed = self.elements.get(element)?;
        let step = Step {
            from: placed.server.clone(),
            to,
            in_order: false,
            fence: placed.status.epoch,
            progress,
        };
        Some((element.clone(), step))
    }

    /// Decides a plan and begins to carry it out.
    pub(super) fn begin(
        &mut self,
        now: Now,
        roots: BTreeMap<EntityId, String>,
        steps: BTreeMap<EntityId, Step>,
        effects: &mut Vec<Effect>,
    ) -> u64 {
        let number = self.ledger.next_plan();
        let superseded: Vec<EntityId> = steps.keys().cloned().collect();
        for element in &superseded {
            self.step(now, element, Progress::Superseded);
        }
        let plan = Plan {
            number,
            begun_at: now.wall,
            roots,
            steps,
        };
        self.commit(now.wall, Change::PlanBegun(plan.clone()));
        for (element, step) in &plan.steps {
            self.recovery.placed.remove(element);
            if let Some(placed) = self.elements.get_mut(element) {
                let server = step.to.as_ref().unwrap_or(&step.from).clone();
                if placed.server != server {
                    placed.server = server;
                    let epoch = placed.status.epoch;
                    placed.status = super::unassigned(element);
                    placed.status.epoch = epoch;
                }
            }
            match &step.progress {
                Progress::GivenUp { reason } => {
                    self.give_up(now, element, reason);
                    self.show_idle(element);
                }
                Progress::Decided
                | Progress::Deployed
                | Progress::Restored
                | Progress::Resumed
                | Progress::Superseded => {
                    let until = now.monotonic + STEP_WITHIN;
                    self.recovery.overdue_at.insert(element.clone(), until);
                }
            }
            self.reconcile(now, element, effects);
        }
        self.end_plan_if_over(now, number);
        self.answer_ready(effects);
        number
    }

    fn give_room(&mut self, now: Now, homeless: BTreeSet<EntityId>, effects: &mut Vec<Effect>) {
        if homeless.is_empty() {
            return;
        }
        for element in &homeless {
            self.recovery.barred.remove(element);
        }
        // Nobody who runs has to go for one who does not: that was decided when it failed.
        let problem = Problem {
            evictable: BTreeSet::new(),
            movable: BTreeSet::new(),
            ..self.problem(&homeless, self.open_servers(now))
        };
        let found = place(&problem, Budget::FAILOVER);
        let mut steps = BTreeMap::new();
        for element in &homeless {
            if let Some(server) = found.hosts.get(element) {
                steps.extend(self.step_to(element, Some(server.clone()), Progress::Decided));
            }
        }
        if steps.is_empty() {
            return;
        }
        let roots: BTreeMap<EntityId, String> = steps
            .keys()
            .map(|id| (id.clone(), "there is room for it again".into()))
            .collect();
        for (element, cause) in &roots {
            let (state, wait) = (EntityState::Recovering, NoticeDecision::AwaitRecovery);
            self.change(now, element, state, wait, cause);
        }
        self.begin(now, roots, steps, effects);
    }

    /// Notes how far the step of an element is.
    pub(super) fn step(&mut self, now: Now, element: &EntityId, progress: Progress) {
        let Some((plan, step)) = self.ledger.open_step(element) else {
            return;
        };
        if progress.rank() <= step.progress.rank() {
            return;
        }
        if progress.is_over() {
            self.recovery.overdue_at.remove(element);
        }
        let stepped = Change::Stepped {
            plan,
            element: element.clone(),
            progress,
        };
        self.commit(now.wall, stepped);
        self.end_plan_if_over(now, plan);
    }

    fn end_plan_if_over(&mut self, now: Now, number: u64) {
        let plan = self.ledger.plans().find(|plan| plan.number == number);
        if plan.is_none_or(|plan| !plan.is_over()) {
            return;
        }
        let outcomes = plan
            .into_iter()
            .flat_map(|plan| &plan.steps)
            .map(outcome)
            .collect();
        self.commit(now.wall, Change::PlanEnded(number));
        let awaited = self.recovery.awaited.remove(&number).unwrap_or_default();
        self.recovery.ended.push(Ended { awaited, outcomes });
    }

    /// Tells operators who waited for plans how these ended.
    pub(super) fn answer_ended(&mut self, effects: &mut Vec<Effect>) {
        for Ended { awaited, outcomes } in core::mem::take(&mut self.recovery.ended) {
            let answer = Answer::Done { outcomes };
            effects.extend(
                awaited
                    .into_iter()
                    .map(|to| Effect::Answer(to, answer.clone())),
            );
        }
    }

    /// Steps that take too long have failed where they are carried out; they are planned anew.
    fn fail_overdue(&mut self, now: Now) {
        let overdue = self
            .recovery
            .overdue_at
            .iter()
            .filter(|(_, at)| **at <= now.monotonic);
        let overdue: Vec<EntityId> = overdue.map(|(element, _)| element.clone()).collect();
        for element in overdue {
            self.recovery.overdue_at.remove(&element);
            let Some(server) = self
                .elements
                .get(&element)
                .map(|placed| placed.server.clone())
            else {
                continue;
            };
            if self.journal.trouble().is_some() || self.agent_of(&server).is_none() {
                // Nobody can start anything without the store. A server that is away is for the
                // detectors to judge.
                let again = now.monotonic + STEP_WITHIN;
                self.recovery.overdue_at.insert(element, again);
                continue;
            }
            let cause = format!("it did not start on {server} within {STEP_WITHIN:?}");
            self.strike(now, &server, &format!("{element}: {cause}"));
            self.bar(&element, &server);
            self.root(now.monotonic, &element, &cause);
        }
    }

    /// An element is not placed again where it failed.
    pub(super) fn bar(&mut self, element: &EntityId, server: &EntityId) {
        let barred = self.recovery.barred.entry(element.clone()).or_default();
        barred.insert(server.clone());
    }

    /// Why an element is not as it should be.
    fn cause_of(&self, element: &EntityId) -> Option<String> {
        let standing = self.ledger.standings().find(|(id, _)| *id == element);
        let (_, standing) = standing?;
        (standing.notice.state != EntityState::Up).then(|| standing.cause.clone())
    }

    pub(super) fn recovery_deadline(&self) -> Option<Monotonic> {
        let recovery = &self.recovery;
        let steps = recovery.overdue_at.values().min().copied();
        let releases = self.release_deadline();
        [
            recovery.plan_at,
            recovery.room_at,
            recovery.amnesty_until,
            steps,
            releases,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// What became of a step, for people.
fn outcome((element, step): (&EntityId, &Step)) -> (EntityId, String) {
    let place = step.to.as_ref().unwrap_or(&step.from);
    let text = match &step.progress {
        Progress::Resumed => format!("runs on {place}"),
        Progress::GivenUp { reason } => format!("runs nowhere: {reason}"),
        Progress::Superseded => "is decided about anew".into(),
        Progress::Decided | Progress::Deployed | Progress::Restored => "is being recovered".into(),
    };
    (element.clone(), text)
}
