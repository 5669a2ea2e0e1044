//! The flows of a binding: which keys they need depends on what is at the other end (V02, V15).

use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, ApplianceApi, Communication, Endpoint, Flow, Topology,
};
use lamplighter_policies::physical_world::Validity;
use toml::Spanned;

use super::Resolver;
use crate::diagnostics::{Code, Fault};
use crate::file::FlowWritten;
use crate::topics::fault_of;

/// The two ends of one binding.
pub(super) struct Ends {
    binding: EntityId,
    from: EntityId,
    to: EntityId,
    /// The prerequisite, if it is an appliance.
    appliance: Option<Appliance>,
    model: Communication,
}

impl Ends {
    pub(super) fn new(
        binding: &EntityId,
        from: EntityId,
        to: EntityId,
        model: Communication,
        topology: &Topology,
    ) -> Self {
        Self {
            binding: binding.clone(),
            appliance: topology.appliances.get(&to).cloned(),
            from,
            to,
            model,
        }
    }

    pub(super) fn has_device(&self) -> bool {
        self.appliance.is_some()
    }
}

impl Resolver<'_> {
    /// What flows from the prerequisite to the dependent.
    pub(super) fn received(&mut self, ends: &Ends, written: &[FlowWritten]) -> Vec<Flow> {
        let flows = written.iter().filter_map(|flow| {
            let input = self.needed(&flow.input, "input", flow);
            let source = match &ends.appliance {
                Some(appliance) => {
                    self.not_wanted(&flow.output, "output", "receives from an appliance");
                    self.off_the_broker(appliance, flow);
                    self.is_reported(ends, appliance, flow);
                    let topic = self.report_topic(ends, appliance, flow)?;
                    Endpoint::Device {
                        appliance: Some(ends.to.clone()),
                        topic,
                    }
                }
                None => self.output_of(&ends.to, flow)?,
            };
            let target = Endpoint::Element {
                element: ends.from.clone(),
                port: input?,
            };
            Some(self.flow(ends, source, target, flow))
        });
        flows.collect()
    }

    /// What flows from the dependent to the prerequisite.
    pub(super) fn sent(&mut self, ends: &Ends, written: &[FlowWritten]) -> Vec<Flow> {
        let flows = written.iter().filter_map(|flow| {
            let target = match &ends.appliance {
                Some(appliance) => {
                    self.not_wanted(&flow.input, "input", "goes to an appliance");
                    self.off_the_broker(appliance, flow);
                    let given = flow.topic.as_ref().map(|topic| topic.get_ref().clone());
                    let topic = self.command_topic(ends, given, flow.place.clone())?;
                    Endpoint::Device {
                        appliance: Some(ends.to.clone()),
                        topic,
                    }
                }
                None => Endpoint::Element {
                    element: ends.to.clone(),
                    port: self.needed(&flow.input, "input", flow)?,
                },
            };
            let source = self.output_of(&ends.from, flow)?;
            Some(self.flow(ends, source, target, flow))
        });
        flows.collect()
    }

    /// The topic on which an appliance takes commands: the one given, or `<topic>/set`.
    pub(super) fn command_topic(
        &mut self,
        ends: &Ends,
        given: Option<String>,
        place: Range<usize>,
    ) -> Option<String> {
        let appliance = ends.appliance.as_ref()?;
        if !appliance.role.acts() {
            let reason = format!(
                "`{}` sends to `{}`, which is a sensor",
                ends.binding, ends.to
            );
            self.faults.add(
                Fault::new(Code::V02, place, reason)
                    .label("a sensor takes no commands")
                    .also(self.places.of(&ends.to), "declared here")
                    .cure("send to an actuator, or give the appliance `role = \"both\"`"),
            );
            return None;
        }
        if given.is_some() {
            return given;
        }
        let base = self.base_topic(ends, appliance, place)?;
        Some(format!("{base}/set"))
    }

    fn report_topic(
        &mut self,
        ends: &Ends,
        appliance: &Appliance,
        flow: &FlowWritten,
    ) -> Option<String> {
        match &flow.topic {
            Some(topic) => Some(topic.get_ref().clone()),
            None => self.base_topic(ends, appliance, flow.place.clone()),
        }
    }

    /// Where an appliance is not spoken to over the broker, no topic is.
    fn off_the_broker(&mut self, appliance: &Appliance, flow: &FlowWritten) {
        if !appliance.api.is_on_broker() {
            let because = "joins an appliance that is not on the broker";
            self.not_wanted(&flow.topic, "topic", because);
        }
    }

    /// Over HTTP a device says nothing unless it is asked, so somebody must say how often.
    fn is_reported(&mut self, ends: &Ends, appliance: &Appliance, flow: &FlowWritten) {
        if appliance.api == ApplianceApi::Http && appliance.report_period.is_none() {
            let reason = format!(
                "`{}` receives from `{}`, which over HTTP says nothing unless it is asked",
                ends.binding, ends.to
            );
            self.faults.add(
                Fault::new(Code::F04, flow.place.clone(), reason)
                    .also(self.places.of(&ends.to), "declared without `report_period`")
                    .cure("write in the appliance how often it is read: `report_period = \"5s\"`"),
            );
        }
    }

    /// The topic of the appliance; where none is needed to speak to it, its id.
    fn base_topic(
        &mut self,
        ends: &Ends,
        appliance: &Appliance,
        place: Range<usize>,
    ) -> Option<String> {
        let without = match appliance.api {
            ApplianceApi::Mqtt => None,
            ApplianceApi::Http | ApplianceApi::Simulated | ApplianceApi::Program => {
                Some(ends.to.to_string())
            }
        };
        let topic = appliance.topic.clone().or(without);
        if topic
            .as_deref()
            .is_none_or(|topic| fault_of(topic).is_some())
        {
            let reason = format!(
                "`{}` has no topic for appliance `{}`",
                ends.binding, ends.to
            );
            self.faults.add(
                Fault::new(Code::F04, place, reason)
                    .also(self.places.of(&ends.to), "declared without `topic`")
                    .cure("write `topic = \"…\"` here or in the appliance"),
            );
            return None;
        }
        topic
    }

    /// The output port of an element at which a flow starts.
    fn output_of(&mut self, element: &EntityId, flow: &FlowWritten) -> Option<Endpoint> {
        let port = self.needed(&flow.output, "output", flow);
        Some(Endpoint::Element {
            element: element.clone(),
            port: port?,
        })
    }

    fn flow(
        &mut self,
        ends: &Ends,
        source: Endpoint,
        target: Endpoint,
        written: &FlowWritten,
    ) -> Flow {
        if !ends.has_device() {
            self.not_wanted(&written.topic, "topic", "joins two elements");
        }
        self.replies(ends, &source, written);
        if target.appliance().is_some() {
            self.ends_in_time(ends, written.valid_for.as_ref());
        }
        Flow {
            binding: ends.binding.clone(),
            source,
            target,
            valid_for: self.places.holds(written.valid_for.as_ref()),
            reply: written.reply.as_ref().map(|reply| reply.get_ref().clone()),
        }
    }

    /// Calls between elements are answered, and nothing else is.
    fn replies(&mut self, ends: &Ends, source: &Endpoint, written: &FlowWritten) {
        match ends.model {
            Communication::Message => {
                self.not_wanted(&written.reply, "reply", "carries messages");
            }
            Communication::Call if source.element() != Some(&ends.from) => {
                self.not_wanted(&written.reply, "reply", "is received");
            }
            // Without `reply` nobody waits for the appliance: what it is sent are commands.
            Communication::Call if ends.has_device() => {
                if let (Some(reply), Some(appliance)) = (&written.reply, &ends.appliance)
                    && !can_reply(appliance)
                {
                    let reason = format!(
                        "`{}` waits for a reply of `{}`, which cannot show that it did what it was \
                         told",
                        ends.binding, ends.to
                    );
                    let fault = Fault::new(Code::F05, reply.span(), reason);
                    self.faults
                        .add(fault.label("every call would end with its time").cure(
                        "give it a `model` that shows what it takes, or has `evidence`; or remove \
                         `reply` and only command it",
                    ));
                }
            }
            Communication::Call => {
                self.needed(&written.reply, "reply", written);
                self.not_wanted(&written.valid_for, "valid_for", "carries calls");
            }
        }
    }

    /// What cannot be undone must not be done late: an irreversible command has an end (V15).
    pub(super) fn ends_in_time(&mut self, ends: &Ends, valid_for: Option<&Spanned<Validity>>) {
        let class = ends.appliance.as_ref().map(|appliance| appliance.class);
        if let (Some(ActuationClass::Irreversible), Some(written)) = (class, valid_for)
            && *written.get_ref() == Validity::Unbounded
        {
            let reason = format!(
                "commands to `{}` cannot be undone, so they must not hold for ever",
                ends.to
            );
            self.faults.add(
                Fault::new(Code::V15, written.span(), reason)
                    .also(self.places.key(&ends.to, "class"), "of class irreversible")
                    .cure("write how long a command holds, such as \"10s\""),
            );
        }
    }

    fn needed(
        &mut self,
        value: &Option<Spanned<String>>,
        key: &str,
        flow: &FlowWritten,
    ) -> Option<String> {
        if value.is_none() {
            let reason = format!("this flow has no `{key}`");
            let what = match key {
                "input" => "the variant of the receiver's input enum",
                "reply" => "the variant of the caller's input enum that takes the answer",
                _ => "the port of the sender",
            };
            self.faults.add(
                Fault::new(Code::F04, flow.place.clone(), reason)
                    .cure(format!("write `{key} = \"…\"`, {what}")),
            );
        }
        value.as_ref().map(|value| value.get_ref().clone())
    }

    fn not_wanted<T>(&mut self, value: &Option<Spanned<T>>, key: &str, because: &str) {
        if let Some(value) = value {
            let reason = format!("`{key}` has no meaning in a flow that {because}");
            let fault = Fault::new(Code::F05, value.span(), reason);
            self.faults.add(fault.cure(format!("remove `{key}`")));
        }
    }
}

/// Whether an appliance can give a reply: an adapter answers for it, or its own reports show what it
/// was told, or that it did it.
fn can_reply(appliance: &Appliance) -> bool {
    let model = &appliance.model;
    let mut properties = model.properties.values();
    let shows = match model.properties.is_empty() {
        true => appliance.role.senses(),
        false => properties.any(|it| it.access.is_taken() && it.access.is_shown()),
    };
    !appliance.api.is_on_broker() || shows || model.evidence.is_some()
}
