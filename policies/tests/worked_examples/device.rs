//! A device as it physically is, with a trace of every change and every command.

use lamplighter_policies::model::{
    Access, ActuationClass, DeviceModel, Domain, Evidence, Property, Reversion, Value,
};
use lamplighter_policies::physical_world::Position;
use lamplighter_policies::state_saving::{Command, Properties};

pub(crate) fn word(word: &str) -> Value {
    Value::Text(word.into())
}

pub(crate) fn number(number: i64) -> Value {
    Value::Integer(number)
}

/// Something that reached it, at a second.
#[derive(Debug)]
struct Taken {
    at: i64,
    position: Position,
    value: Option<Value>,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) property: &'static str,
    pub(crate) shows: Properties,
    pub(crate) now: i64,
    /// Whether what it does by itself is told to the element.
    pub(crate) heard: bool,
    pub(crate) out_of_reach: bool,
    answers: bool,
    silent_from: i64,
    counter: Option<&'static str>,
    goes_back_to: Option<Value>,
    changes: Vec<(i64, Value)>,
    taken: Vec<Taken>,
}

impl Device {
    pub(crate) fn of(name: &'static str, property: &'static str, shows: Value) -> Self {
        Self {
            name,
            property,
            shows: [(property.to_owned(), shows)].into(),
            now: 0,
            heard: false,
            out_of_reach: false,
            answers: true,
            silent_from: i64::MAX,
            counter: None,
            goes_back_to: None,
            changes: Vec::new(),
            taken: Vec::new(),
        }
    }

    pub(crate) fn that_is_heard(self) -> Self {
        Self {
            heard: true,
            ..self
        }
    }

    pub(crate) fn that_answers_nobody(self) -> Self {
        Self {
            answers: false,
            ..self
        }
    }

    pub(crate) fn that_falls_silent_at(self, second: i64) -> Self {
        Self {
            silent_from: second,
            ..self
        }
    }

    pub(crate) fn that_goes_back_to(self, value: Value) -> Self {
        Self {
            goes_back_to: Some(value),
            ..self
        }
    }

    /// It does what it is told each time, and shows how often it did.
    pub(crate) fn that_counts(mut self, counter: &'static str) -> Self {
        self.shows.insert(counter.into(), number(0));
        Self {
            counter: Some(counter),
            ..self
        }
    }

    pub(crate) fn model(&self) -> DeviceModel {
        let class = match self.counter {
            Some(_) => ActuationClass::Irreversible,
            None => ActuationClass::Set,
        };
        let reversion = |to: &Value| Reversion {
            to: to.clone(),
            after: core::time::Duration::ZERO,
        };
        let property = Property {
            capability: self.property.into(),
            access: Access::Both,
            domain: Domain::Any,
            class,
            relative: None,
            reverts: self.goes_back_to.as_ref().map(reversion),
            accumulates: self.counter.is_some(),
        };
        DeviceModel {
            name: self.name.into(),
            properties: [(self.property.to_owned(), property)].into(),
            other: class,
            evidence: self.counter.map(|name| Evidence::Counter(name.into())),
            answers: self.answers,
        }
    }

    pub(crate) fn take(&mut self, command: &Command) {
        let value = command.properties.get(self.property).cloned();
        self.taken.push(Taken {
            at: self.now,
            position: command.position,
            value: value.clone(),
        });
        for (name, value) in &command.properties {
            self.change(name.clone(), value.clone());
        }
        if let Some(counter) = self.counter {
            let count = i64::try_from(self.taken.len()).expect("few");
            self.shows.insert(counter.into(), number(count));
        }
    }

    /// Somebody turns it, or it loses its power.
    pub(crate) fn shows_by_itself(&mut self, value: Value) {
        self.change(self.property.into(), value);
        // It is not the doing of anybody whom the trace is about.
        if !self.heard {
            self.changes.pop();
        }
    }

    fn change(&mut self, name: String, value: Value) {
        if self.shows.insert(name, value.clone()).as_ref() != Some(&value) {
            self.changes.push((self.now, value));
        }
    }

    pub(crate) fn answer(&self) -> Option<Properties> {
        let speaks = self.answers && self.now < self.silent_from && !self.out_of_reach;
        speaks.then(|| self.shows.clone())
    }

    pub(crate) fn changes_since(&self, second: i64) -> Vec<(i64, Value)> {
        let since = self.changes.iter().filter(|(at, _)| *at >= second);
        since.cloned().collect()
    }

    pub(crate) fn commands_since(&self, second: i64) -> usize {
        self.taken.iter().filter(|taken| taken.at >= second).count()
    }

    pub(crate) fn times(&self, value: Value) -> usize {
        let it = |taken: &&Taken| taken.value.as_ref() == Some(&value);
        self.taken.iter().filter(it).count()
    }

    pub(crate) fn total(&self) -> i64 {
        let amount = |taken: &Taken| match taken.value {
            Some(Value::Integer(amount)) => amount,
            Some(
                Value::Bool(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Table(_),
            )
            | None => 0,
        };
        self.taken.iter().map(amount).sum()
    }

    pub(crate) fn ids(&self) -> Vec<Position> {
        self.taken.iter().map(|taken| taken.position).collect()
    }
}
