//! The configurator of one element: takes what the global manager and the element's prerequisites tell,
//! has it logged and applied, and tells the element's followers what became of it (paper, 4.2.3 and
//! Algorithm 1).
//!
//! Departures from the paper: what is told has an epoch or a version and is joined to a table, so it may
//! come late, twice or in any order; the followers are told only when the element's own state changed,
//! so messages are as many as edges and not as paths; all is said again until it is acknowledged. The
//! table that counts is the one in the element's log. What is here can be lost and is found there again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::appliances::Reconfiguration;
use crate::ids::EntityId;
use crate::machine::Machine;
use crate::notification::{
    BetweenElements, EntityState, LatestOnly, Neighbourhood, Newest, Said, Situation, Table,
};
use crate::time::{Monotonic, Now};

/// How long a change for the better waits before followers are told, in case another one follows.
const BETTER_HOLD: Duration = Duration::from_millis(10);

/// What a configurator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It was started, or started again after it failed.
    Started,
    /// The global manager says how entities around the element are.
    Told(Reconfiguration),
    /// The configurator of another element said something.
    Heard(BetweenElements),
    /// This is in the element's log and in force.
    Applied {
        /// The fencing epoch under which the element runs.
        incarnation: u64,
        /// The place in the log of the last reconfiguration; 0 if there never was one.
        version: u64,
        /// All that is in force.
        reconfiguration: Reconfiguration,
    },
    /// What is the newest of entities of which the manager told somebody something.
    Digested(BTreeMap<EntityId, Newest>),
}

/// What a configurator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have the element log and apply this; answer with [`Input::Applied`] if it was news.
    Apply(Reconfiguration),
    /// Have the element say what is in force; answer with [`Input::Applied`].
    AskWhatIsApplied,
    /// Tell agent and manager what is in force: it acknowledges what they told.
    Show(Reconfiguration),
    /// Tell the configurator of another element.
    Say(BetweenElements),
    /// Ask the manager for its newest notices about these entities.
    Pull(Vec<EntityId>),
}

/// Who an element is among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguratorSettings {
    /// The element.
    pub element: EntityId,
    /// Who is around it.
    pub around: Neighbourhood,
    /// Those of its prerequisites that are elements: they are followed.
    pub follows: BTreeSet<EntityId>,
}

/// The configurator of one element.
#[derive(Debug)]
pub struct Configurator {
    settings: ConfiguratorSettings,
    /// What is in force.
    applied: Option<Reconfiguration>,
    /// Besides what is in force, what others said that changes nothing and is not logged.
    heard: Table,
    /// What followers were told last.
    told: Option<Situation>,
    followers: LatestOnly<EntityId, Situation>,
    subscriptions: LatestOnly<EntityId, ()>,
    /// By prerequisite, what is to be acknowledged as soon as it is in the log.
    to_acknowledge: BTreeMap<EntityId, Situation>,
}

impl Configurator {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(settings: ConfiguratorSettings) -> Self {
        Self {
            settings,
            applied: None,
            heard: Table::default(),
            told: None,
            followers: LatestOnly::default(),
            subscriptions: LatestOnly::default(),
            to_acknowledge: BTreeMap::new(),
        }
    }

    /// How the element is; up before anything is known.
    #[must_use]
    pub fn effective(&self) -> EntityState {
        let seen = self.applied.as_ref().map(Reconfiguration::seen);
        self.settings.around.effective(&seen.unwrap_or_default())
    }

    fn started(&mut self, now: Now, effects: &mut Vec<Effect>) {
        effects.push(Effect::AskWhatIsApplied);
        for prerequisite in self.settings.follows.clone() {
            self.subscriptions.put(now.monotonic, prerequisite, ());
        }
        self.say_due(now, effects);
    }

    fn told(&mut self, reconfiguration: Reconfiguration, effects: &mut Vec<Effect>) {
        match &self.applied {
            Some(applied) if applied.covers(&reconfiguration) => {
                effects.push(Effect::Show(applied.clone()));
            }
            Some(_) | None => effects.push(Effect::Apply(reconfiguration)),
        }
    }

    fn heard(&mut self, now: Now, heard: BetweenElements, effects: &mut Vec<Effect>) {
        let BetweenElements { from, said, .. } = heard;
        match said {
            Said::Subscribe => self.subscribed(now, from, effects),
            Said::Reconfigured(situation) => {
                if self.settings.follows.contains(&from) {
                    self.subscriptions.remove(&from);
                    self.prerequisite_changed(from, situation, effects);
                }
            }
            Said::Acknowledged {
                incarnation,
                version,
            } => {
                let said = self.followers.message(&from).map(Situation::age);
                if said == Some((incarnation, version)) {
                    self.followers.remove(&from);
                }
            }
        }
    }

    /// A follower wants to know how the element is. One that knows nothing yet says it as soon as it
    /// does.
    fn subscribed(&mut self, now: Now, follower: EntityId, effects: &mut Vec<Effect>) {
        if let Some(situation) = self.told.clone()
            && self.settings.around.dependents.contains(&follower)
        {
            self.followers.put(now.monotonic, follower, situation);
            self.say_due(now, effects);
        }
    }

    fn prerequisite_changed(
        &mut self,
        prerequisite: EntityId,
        situation: Situation,
        effects: &mut Vec<Effect>,
    ) {
        let said = Table::of_situation(prerequisite.clone(), situation.clone());
        let applied = self.applied.as_ref().map(|applied| &applied.peers);
        let is_known =
            self.heard.covers(&said) || applied.is_some_and(|applied| applied.covers(&said));
        let before = applied.and_then(|applied| applied.peers.get(&prerequisite));
        let never_spoke = before.is_none_or(|view| view.own.is_none());
        // That one of whom nothing was known is up is what was supposed anyhow, unless something else is
        // on its way to the log.
        let changes_nothing = applied.is_some()
            && never_spoke
            && !self.to_acknowledge.contains_key(&prerequisite)
            && situation.state == EntityState::Up;
        if is_known || changes_nothing {
            self.heard.join(&said);
            return effects.push(self.acknowledgement(prerequisite, &situation));
        }
        self.to_acknowledge.insert(prerequisite, situation);
        effects.push(Effect::Apply(Reconfiguration::of_peers(said)));
    }

    /// It is logged and in force: whoever told it knows now, and followers are told what follows.
    fn applied(
        &mut self,
        now: Now,
        (incarnation, version): (u64, u64),
        reconfiguration: Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Show(reconfiguration.clone()));
        for (prerequisite, situation) in core::mem::take(&mut self.to_acknowledge) {
            let said = Table::of_situation(prerequisite.clone(), situation.clone());
            if reconfiguration.peers.covers(&said) {
                effects.push(self.acknowledgement(prerequisite, &situation));
            } else {
                self.to_acknowledge.insert(prerequisite, situation);
            }
        }
        self.applied = Some(reconfiguration);
        let situation = Situation {
            incarnation,
            version,
            state: self.effective(),
        };
        self.propagate(now, situation);
        self.say_due(now, effects);
    }

    /// Followers are told if the element's state is another than they were told. After a start they are
    /// told in any case if there ever was anything to tell: the start before may not have got to it.
    fn propagate(&mut self, now: Now, situation: Situation) {
        let told = self.told.as_ref();
        let is_same = told.is_some_and(|told| {
            told.incarnation == situation.incarnation && told.state == situation.state
        });
        let is_untold = situation.version == 0 && situation.state == EntityState::Up;
        if !is_same && !is_untold {
            let worse = told.is_none_or(|told| severity(&situation.state) > severity(&told.state));
            let at = if worse {
                now.monotonic
            } else {
                now.monotonic + BETTER_HOLD
            };
            for follower in self.settings.around.dependents.clone() {
                self.followers.put(at, follower, situation.clone());
            }
        }
        if !is_same {
            self.told = Some(situation);
        }
    }

    fn acknowledgement(&self, to: EntityId, situation: &Situation) -> Effect {
        let (incarnation, version) = situation.age();
        let said = Said::Acknowledged {
            incarnation,
            version,
        };
        self.say(to, said)
    }

    fn say(&self, to: EntityId, said: Said) -> Effect {
        let from = self.settings.element.clone();
        Effect::Say(BetweenElements { from, to, said })
    }

    /// What the manager told somebody and this element does not know.
    fn digested(&self, digest: &BTreeMap<EntityId, Newest>, effects: &mut Vec<Effect>) {
        let Some(applied) = &self.applied else { return };
        let around = &self.settings.around;
        let lacks = |entity: &&EntityId| {
            let known = applied.peers.peers.get(*entity);
            let known = known.and_then(|view| view.told.as_ref());
            let newest = digest.get(*entity);
            newest.is_some_and(|newest| newest.is_news_beside(known))
        };
        let neighbours = self.settings.follows.iter().chain(&around.dependents);
        let lacking: BTreeSet<EntityId> = neighbours.filter(lacks).cloned().collect();
        if !lacking.is_empty() {
            effects.push(Effect::Pull(lacking.into_iter().collect()));
        }
    }

    /// Says what is due. Those who are down are told when they are back.
    fn say_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let applied = self.applied.as_ref();
        let down: BTreeSet<EntityId> = applied.map_or_else(BTreeSet::new, |applied| {
            let all = applied.peers.peers.keys();
            let down = all.filter(|entity| applied.peers.is_said_down(entity));
            down.cloned().collect()
        });
        for (follower, situation) in self.followers.due(now.monotonic) {
            if !down.contains(&follower) {
                effects.push(self.say(follower, Said::Reconfigured(situation)));
            }
        }
        for (prerequisite, ()) in self.subscriptions.due(now.monotonic) {
            if !down.contains(&prerequisite) {
                effects.push(self.say(prerequisite, Said::Subscribe));
            }
        }
    }
}

impl Machine for Configurator {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Started => self.started(now, effects),
            Input::Told(reconfiguration) => self.told(reconfiguration, effects),
            Input::Heard(heard) => self.heard(now, heard, effects),
            Input::Applied {
                incarnation,
                version,
                reconfiguration,
            } => self.applied(now, (incarnation, version), reconfiguration, effects),
            Input::Digested(digest) => self.digested(&digest, effects),
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let followers = self.followers.next_deadline();
        let subscriptions = self.subscriptions.next_deadline();
        followers.into_iter().chain(subscriptions).min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.say_due(now, effects);
    }
}

/// How bad a state of an element is for its followers.
fn severity(state: &EntityState) -> u8 {
    match state {
        EntityState::Up | EntityState::Replaced(_) => 0,
        EntityState::Degraded => 1,
        EntityState::Suspended => 2,
        EntityState::Stopped | EntityState::Recovering | EntityState::Failed => 3,
    }
}
