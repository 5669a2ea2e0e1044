//! Two devices, of which one serves in the place of the other: what is said to one is said to the other
//! in its own words (paper, 4.2.4).

use lamplighter_policies::model::DeviceModel;
use lamplighter_policies::recovery::{counterparts, translate};
use lamplighter_policies::state_saving::Properties;

use super::json;

/// The words of the appliance that an element is bound to, and of the one that serves in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    /// Those of the element's own appliance.
    pub(super) own: DeviceModel,
    /// Those of the one that serves.
    pub(super) serving: DeviceModel,
}

impl Words {
    /// A command in the words of the one that serves, and what it cannot show of it, for people.
    pub(super) fn command(&self, properties: &Properties) -> (Properties, Vec<String>) {
        let said = translate(&self.own, &self.serving, properties);
        let lost = said.lost.iter().map(ToString::to_string);
        (said.properties, lost.collect())
    }

    /// The names by which the one that serves is asked for these properties.
    pub(super) fn names(&self, properties: &[String]) -> Vec<String> {
        let names = counterparts(&self.own, &self.serving, properties);
        names.into_iter().collect()
    }

    /// What the one that serves shows, as the own appliance would show it.
    pub(super) fn shown(&self, properties: &Properties) -> Properties {
        translate(&self.serving, &self.own, properties).properties
    }

    /// A report of the one that serves, as the own appliance would give it. What neither model knows
    /// stays as it is.
    pub(super) fn report(&self, payload: &[u8]) -> Vec<u8> {
        let Ok(serde_json::Value::Object(mut report)) = serde_json::from_slice(payload) else {
            return payload.to_vec();
        };
        let said = self.shown(&json::of_report(payload));
        report.retain(|name, _| {
            !self.serving.properties.contains_key(name) || self.own.properties.contains_key(name)
        });
        for (name, value) in said {
            match serde_json::to_value(value) {
                Ok(value) => {
                    report.insert(name, value);
                }
                Err(error) => tracing::warn!(name, %error, "a part of a report is left out"),
            }
        }
        serde_json::Value::Object(report).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::model::{Access, ActuationClass, Domain, Property};
    use serde_json::{Value, json};

    use super::*;

    fn model(name: &str, domain: Domain) -> DeviceModel {
        let property = Property {
            capability: "brightness".into(),
            access: Access::Both,
            domain,
            class: ActuationClass::Set,
            relative: None,
            reverts: None,
            accumulates: false,
        };
        DeviceModel {
            properties: [(name.to_owned(), property)].into(),
            ..DeviceModel::default()
        }
    }

    #[test]
    fn a_report_reads_as_if_the_own_appliance_had_given_it() {
        let number = |max| Domain::Number { min: 0.0, max };
        let words = Words {
            own: model("brightness", number(254.0)),
            serving: model("dimming", number(100.0)),
        };
        let report = words.report(br#"{"dimming":50,"linkquality":180,"update":null}"#);
        let report: Value = serde_json::from_slice(&report).unwrap();
        let expected = json!({ "brightness": 127, "linkquality": 180, "update": null });
        assert_eq!(report, expected);
        assert_eq!(words.report(b"online"), b"online");
        assert_eq!(words.names(&["brightness".into()]), ["dimming"]);
    }
}
