//! Elements and bindings, the short forms `inputs` and `outputs` included (V01, V02, V05, V06).

use std::collections::BTreeMap;
use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Binding, Communication, Element, Endpoint, Flow, Topology};
use toml::Spanned;

use super::Resolver;
use super::flows::Ends;
use crate::diagnostics::{Code, Fault, Severity};
use crate::file::{
    BINDINGS_MAX, BindingWritten, ElementWritten, Entries, InputWritten, Kind, OutputTarget,
    OutputWritten, Reference,
};

impl Resolver<'_> {
    pub(super) fn elements_and_bindings(
        &mut self,
        elements: Entries<ElementWritten>,
        bindings: Entries<BindingWritten>,
        topology: &mut Topology,
    ) {
        let short: usize = elements
            .values()
            .map(|entry| entry.value.inputs.len() + entry.value.outputs.len())
            .sum();
        if bindings.len() + short > BINDINGS_MAX {
            let count = bindings.len() + short;
            let reason = format!("{count} bindings, inputs and outputs: at most {BINDINGS_MAX}");
            self.faults
                .add(Fault::whole(Code::F06, reason).cure("split the application"));
            return;
        }
        for (id, entry) in bindings {
            self.places.set(&id, entry.place);
            self.binding(&id, &entry.value, topology);
        }
        for (id, entry) in elements {
            self.places.set(&id, entry.place);
            let mut written = entry.value;
            self.places.set_key(&id, "log", written.log_place.take());
            let checkpoint = written.checkpoint_place.take();
            self.places.set_key(&id, "checkpoint", checkpoint);
            if written.unsafe_weaken {
                let place = self.places.of(&id);
                self.places.set_key(&id, "unsafe_weaken", Some(place));
            }
            let owner = format!("element `{id}`");
            let server = written.server.as_ref();
            let server = server.and_then(|name| self.reference(name, &[Kind::Server], &owner));
            self.short_inputs(&id, &written.inputs, topology);
            self.short_outputs(&id, &written.outputs, topology);
            let placement = self.placement(&id, written.placement, server.as_ref());
            let element = Element {
                server,
                placement,
                durability: topology.store.durability,
                ..written.element
            };
            topology.elements.insert(id, element);
        }
        self.twice(topology);
    }

    fn binding(&mut self, id: &EntityId, written: &BindingWritten, topology: &mut Topology) {
        let owner = format!("binding `{id}`");
        let from = written.from.as_ref();
        let from = from.and_then(|name| self.dependent(name, &owner));
        let kinds = [Kind::Element, Kind::Appliance];
        let to = written.to.as_ref();
        let to = to.and_then(|name| self.reference(name, &kinds, &owner).map(|id| (id, name)));
        let (Some(from), Some((to, to_name))) = (from, to) else {
            return;
        };
        self.places.set_key(id, "to", Some(to_name.span()));
        if from == to {
            let reason = format!("{owner} joins `{from}` with itself");
            let fault = Fault::new(Code::V05, to_name.span(), reason);
            self.faults
                .add(fault.cure("an element needs no binding to itself; remove it"));
            return;
        }
        let ends = Ends::new(id, from.clone(), to.clone(), written.model, topology);
        self.call_keys(id, &ends, written);
        let receive = self.received(&ends, &written.receive);
        let send = self.sent(&ends, &written.send);
        let within = written.reply_within.as_ref();
        let binding = |flows| Binding {
            from: from.clone(),
            to: Some(to.clone()),
            model: written.model,
            mandatory: written.mandatory,
            latency_max: written.latency_max,
            rate_hz: written.rate_hz,
            payload_bytes: written.payload_bytes,
            bandwidth_kbps_min: written.bandwidth_kbps_min,
            flows,
            reply_within: within.map_or(Binding::REPLY_WITHIN, |within| *within.get_ref()),
        };
        if ends.has_device() || receive.is_empty() || send.is_empty() {
            let flows = receive.into_iter().chain(send).collect();
            topology.bindings.insert(id.clone(), binding(flows));
            return;
        }
        // Between elements each way has its own sender, receiver and mark.
        topology.bindings.insert(id.clone(), binding(receive));
        let name = Spanned::new(self.places.of(id), format!("{id}.send"));
        if let Some(back) = self.implied(&name) {
            let renamed = |flow| Flow {
                binding: back.clone(),
                ..flow
            };
            let send = send.into_iter().map(renamed).collect();
            topology.bindings.insert(back.clone(), binding(send));
        }
    }

    /// What only calls have, and what they do not have. The replies of elements have a link of their own.
    fn call_keys(&mut self, id: &EntityId, ends: &Ends, written: &BindingWritten) {
        let owner = format!("binding `{id}`");
        match (written.model, &written.reply_within) {
            (Communication::Message, Some(within)) => {
                let reason = format!("{owner} carries messages, which have no replies");
                let fault = Fault::new(Code::F05, within.span(), reason);
                self.faults
                    .add(fault.cure("remove `reply_within`, or write `model = \"call\"`"));
            }
            (Communication::Message, None) | (Communication::Call, _) => {}
        }
        if written.model == Communication::Message || ends.has_device() {
            return;
        }
        if let Some(flow) = written.receive.first() {
            let reason = format!("{owner} carries calls, which go from `from` to `to` alone");
            let fault = Fault::new(Code::F05, flow.place.clone(), reason);
            self.faults
                .add(fault.cure("put it into a binding of messages, or exchange `from` and `to`"));
        }
        let replies = Spanned::new(self.places.of(id), format!("{id}.reply"));
        self.implied(&replies);
    }

    /// The dependent end of a binding: an element, never an appliance (V06).
    fn dependent(&mut self, name: &Reference, owner: &str) -> Option<EntityId> {
        if let Some((Kind::Appliance, place)) = self.names.find(name.get_ref()) {
            let reason = format!(
                "{owner} makes the appliance `{}` a dependent",
                name.get_ref()
            );
            self.faults.add(
                Fault::new(Code::V06, name.span(), reason)
                    .label("an appliance requires nothing")
                    .also(place, "declared here")
                    .cure("exchange `from` and `to`: the element requires the appliance"),
            );
            return None;
        }
        self.reference(name, &[Kind::Element], owner)
    }

    fn short_inputs(
        &mut self,
        element: &EntityId,
        inputs: &[InputWritten],
        topology: &mut Topology,
    ) {
        for (index, input) in inputs.iter().enumerate() {
            let name = format!("{element}-{}", index + 1);
            let name = Spanned::new(input.topic.span(), name);
            let Some(id) = self.implied(&name) else {
                continue;
            };
            let flow = Flow {
                binding: id.clone(),
                source: Endpoint::Device {
                    appliance: None,
                    topic: input.topic.get_ref().clone(),
                },
                target: Endpoint::Element {
                    element: element.clone(),
                    port: input.input.clone(),
                },
                valid_for: self.places.holds(input.valid_for.as_ref()),
                reply: None,
            };
            let binding = short_binding(element, None, flow);
            topology.bindings.insert(id, binding);
        }
    }

    fn short_outputs(
        &mut self,
        element: &EntityId,
        outputs: &[OutputWritten],
        topology: &mut Topology,
    ) {
        for output in outputs {
            let name = format!("{element}.{}", output.port.get_ref());
            let Some(id) = self.implied(&Spanned::new(output.port.span(), name)) else {
                continue;
            };
            let owner = format!("output `{id}`");
            let (to, topic) = match &output.target {
                OutputTarget::Topic(topic) => (None, topic.clone()),
                OutputTarget::Appliance(name, topic) => {
                    let Some(to) = self.reference(name, &[Kind::Appliance], &owner) else {
                        continue;
                    };
                    let model = Communication::Message;
                    let ends = Ends::new(&id, element.clone(), to.clone(), model, topology);
                    let Some(topic) = self.command_topic(&ends, topic.clone(), name.span()) else {
                        continue;
                    };
                    self.ends_in_time(&ends, output.valid_for.as_ref());
                    (Some(to), topic)
                }
            };
            let flow = Flow {
                binding: id.clone(),
                source: Endpoint::Element {
                    element: element.clone(),
                    port: output.port.get_ref().clone(),
                },
                target: Endpoint::Device {
                    appliance: to.clone(),
                    topic,
                },
                valid_for: self.places.holds(output.valid_for.as_ref()),
                reply: None,
            };
            topology
                .bindings
                .insert(id, short_binding(element, to, flow));
        }
    }

    /// Declares the name of a binding that the author did not write as one.
    fn implied(&mut self, name: &Spanned<String>) -> Option<EntityId> {
        let id = self.names.declare(name, Kind::Binding, self.faults)?;
        self.places.set(&id, name.span());
        Some(id)
    }

    /// Two bindings of one model between the same two are one too many (V05).
    fn twice(&mut self, topology: &Topology) {
        type Ends<'t> = (&'t EntityId, &'t EntityId, Communication);
        let mut seen: BTreeMap<Ends<'_>, Range<usize>> = BTreeMap::new();
        for (id, binding) in &topology.bindings {
            let Some(to) = &binding.to else { continue };
            let written = self.places.has_key(id, "to");
            let key = (&binding.from, to, binding.model);
            let place = self.places.of(id);
            match seen.get(&key) {
                Some(first) if written => self.faults.add(
                    Fault::new(
                        Code::V05,
                        place,
                        format!(
                            "`{}` is bound to `{to}` twice in the same way",
                            binding.from
                        ),
                    )
                    .severity(Severity::Warning)
                    .label("second binding")
                    .also(first.clone(), "first binding")
                    .cure("put the flows of both into one binding"),
                ),
                Some(_) => {}
                None => {
                    if written {
                        seen.insert(key, place);
                    }
                }
            }
        }
    }
}

fn short_binding(element: &EntityId, to: Option<EntityId>, flow: Flow) -> Binding {
    Binding {
        from: element.clone(),
        to,
        model: Communication::Message,
        mandatory: true,
        latency_max: None,
        rate_hz: None,
        payload_bytes: None,
        bandwidth_kbps_min: None,
        flows: vec![flow],
        reply_within: Binding::REPLY_WITHIN,
    }
}
