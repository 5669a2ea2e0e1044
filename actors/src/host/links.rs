//! An element's bindings: what to subscribe to, where everything goes, what the cell must know.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, Binding, Communication, DeviceModel, Endpoint, Flow,
};
use lamplighter_policies::physical_world::Validity;
use lamplighter_policies::protocol::appliances::{Reconfiguration, Served};
use lamplighter_policies::protocol::cell::{
    CallLink, CellSettings, DeviceCallLink, InboundLink, OutboundLink, Place, ServedLink, Source,
    Target,
};
use lamplighter_policies::state_saving::{Properties, Timing};
use lamplighter_runtime::transport::mqtt::{QualityOfService, Subscription};

use super::configuring::neighbours;
use super::words::Words;
use crate::encoding::variant_prefix;
use crate::spec::ElementSpec;

/// The bindings of one element.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub(super) inbound: Vec<InboundLink>,
    pub(super) outbound: Vec<OutboundLink>,
    /// What is heard of devices and elements.
    pub(super) routes: Routes,
    /// Per flow to an appliance, where its commands go and how it is asked what it shows.
    pub(super) devices: BTreeMap<String, DeviceTopics>,
    /// What the devices at the other ends are.
    pub(super) models: BTreeMap<EntityId, DeviceModel>,
    /// The ports that feed an appliance.
    pub(super) appliance_ports: BTreeSet<String>,
    /// The flows on which it calls other elements.
    pub(super) calls: Vec<CallLink>,
    /// The ports on which it calls appliances.
    pub(super) device_calls: Vec<DeviceCallLink>,
    /// The bindings on which others call it.
    pub(super) served: Vec<ServedLink>,
    /// The links that go from host to host, and the element at their other end.
    pub(super) direct: BTreeMap<EntityId, EntityId>,
    /// The appliances at the other ends, in whose places others may serve.
    pub(super) places: BTreeMap<EntityId, Place>,
    /// The appliances that are not on the broker, and are spoken to by adapters.
    pub(super) adapted: BTreeMap<EntityId, Appliance>,
    /// Who serves in their places.
    table: Reconfiguration,
}

/// What is heard, by where it comes from; one source may feed several flows.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// Messages on the broker, by topic.
    pub(super) topics: BTreeMap<String, Vec<Route>>,
    /// What adapters report, by appliance.
    pub(super) adapters: BTreeMap<EntityId, Vec<Route>>,
}

/// What a message on a topic is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Route {
    /// What a device says.
    Device {
        link: EntityId,
        variant: String,
        valid_for: Option<Validity>,
        /// The property that no two reports share.
        identified_by: Option<String>,
        /// The property that says when it was so.
        stamped_by: Option<String>,
        /// For one that serves in the place of another, how what it says is said for that.
        words: Option<Arc<Words>>,
    },
    /// Events of another element.
    Events { link: EntityId },
    /// A receiver's answers.
    Answers { link: EntityId },
    /// What an appliance shows.
    Report { link: String },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeviceTopics {
    /// As the topology has it, whoever serves there.
    declared: String,
    /// Where commands go.
    pub(super) command: String,
    /// Where it is asked; `None` if it cannot be.
    pub(super) question: Option<String>,
    /// For one that serves in the place of another, how it is spoken to.
    pub(super) words: Option<Arc<Words>>,
    /// Whose adapter speaks to it, if it is not on the broker.
    pub(super) adapter: Option<EntityId>,
}

impl Links {
    pub(super) fn of(spec: &ElementSpec) -> Self {
        Self::served(spec, &Reconfiguration::default())
    }

    /// The same, where others serve in the places of appliances.
    pub(super) fn served(spec: &ElementSpec, table: &Reconfiguration) -> Self {
        let mut links = Self {
            table: table.clone(),
            ..Self::default()
        };
        for binding in spec.bindings.values() {
            for flow in &binding.flows {
                if binding.model == Communication::Call && links.call(spec, binding, flow) {
                    continue;
                }
                if flow.target.element() == Some(&spec.id) {
                    links.receive(spec, flow);
                }
                if flow.source.element() == Some(&spec.id) {
                    links.send(spec, flow);
                }
            }
        }
        links.name_senses(spec);
        links
    }

    /// What the cell must know of the element.
    pub(super) fn settings(&self, spec: &ElementSpec) -> CellSettings {
        let element = &spec.element;
        CellSettings {
            inbound: self.inbound.clone(),
            outbound: self.outbound.clone(),
            places: self.places.clone(),
            devices: self.models.clone(),
            calls: self.calls.clone(),
            device_calls: self.device_calls.clone(),
            served: self.served.clone(),
            checkpoint: element.checkpoint,
            restart: element.restart,
            attempts_max: element.attempts,
            lease: Some(spec.lease),
            on_expired: element.on_expired,
            mailbox_max: usize::try_from(element.mailbox).unwrap_or(usize::MAX),
            lag: match spec.saving {
                Timing::Optimistic => Some(element.lag),
                Timing::Pessimistic => None,
            },
            around: spec.around.clone(),
            neighbours: neighbours(spec),
            ..CellSettings::new(spec.id.clone())
        }
    }

    /// What is known of the appliance at the end of a flow.
    pub(super) fn model(&self, link: &str) -> Option<&DeviceModel> {
        let mut links = self.outbound.iter().filter(|known| known.id == link);
        links.find_map(|known| match &known.target {
            Target::Appliance(appliance) => self.models.get(appliance),
            Target::Element => None,
        })
    }

    /// Whether a command may reach its appliance twice.
    pub(super) fn may_repeat(&self, link: &str, properties: &Properties) -> bool {
        let model = self.model(link);
        let class = |name: &String| model.map_or_else(Default::default, |m| m.class_of(name));
        properties.keys().all(|name| class(name).may_repeat())
    }

    pub(super) fn subscriptions(routes: &Routes) -> Vec<Subscription> {
        let quality = |routes: &Vec<Route>| {
            let device = routes
                .iter()
                .any(|route| matches!(route, Route::Device { .. }));
            if device {
                QualityOfService::AtLeastOnce
            } else {
                QualityOfService::AtMostOnce
            }
        };
        let subscription = |(filter, routes): (&String, &Vec<Route>)| Subscription {
            filter: filter.clone(),
            quality: quality(routes),
        };
        routes.topics.iter().map(subscription).collect()
    }

    /// Takes a flow that carries calls from element to element. Says whether it is one.
    fn call(&mut self, spec: &ElementSpec, binding: &Binding, flow: &Flow) -> bool {
        let (
            Endpoint::Element { element, port },
            Endpoint::Element {
                element: callee,
                port: variant,
            },
            Some(reply),
        ) = (&flow.source, &flow.target, &flow.reply)
        else {
            return false;
        };
        let id = flow.binding.clone();
        let replies = Binding::reply_link(&id).expect("the topology was checked");
        let is_new = !self.direct.contains_key(&id);
        let (peer, inbound) = if *element == spec.id {
            self.calls.push(CallLink {
                id: id.clone(),
                replies: replies.clone(),
                port: port.clone(),
                prefix: variant_prefix(variant),
                reply_prefix: variant_prefix(reply),
                within: binding.reply_within,
            });
            (callee.clone(), replies.clone())
        } else {
            if is_new {
                self.served.push(ServedLink {
                    id: id.clone(),
                    replies: replies.clone(),
                });
            }
            (element.clone(), id.clone())
        };
        if is_new {
            self.inbound.push(InboundLink {
                id: inbound,
                source: peer.clone(),
                kind: Source::Element,
            });
        }
        self.direct.insert(id, peer.clone());
        self.direct.insert(replies, peer);
        true
    }

    /// Takes note of a flow to an appliance whose caller waits for a reply.
    fn call_device(&mut self, spec: &ElementSpec, flow: &Flow, port: &str, link: &str) {
        let binding = spec.bindings.get(&flow.binding);
        if let (Some(reply), Some(binding)) = (&flow.reply, binding) {
            self.device_calls.push(DeviceCallLink {
                port: port.to_owned(),
                link: link.to_owned(),
                reply_prefix: variant_prefix(reply),
                within: binding.reply_within,
            });
        }
    }

    /// Whether commands of a flow to an appliance have callers that wait for a reply.
    pub(super) fn is_called(&self, link: &str) -> bool {
        self.device_calls.iter().any(|known| known.link == link)
    }

    fn receive(&mut self, spec: &ElementSpec, flow: &Flow) {
        let Endpoint::Element { port: variant, .. } = &flow.target else {
            return;
        };
        let link = flow.binding.clone();
        let kind = match &flow.source {
            Endpoint::Element { .. } => {
                self.route(
                    events_topic(spec, &link),
                    Route::Events { link: link.clone() },
                );
                Source::Element
            }
            Endpoint::Device { topic, appliance } => {
                if let Some(id) = appliance {
                    self.place(spec, id);
                }
                let serving = self.serving(spec, appliance.as_ref());
                let appliance = appliance
                    .as_ref()
                    .and_then(|known| spec.appliances.get(known));
                if let Some(known) = appliance {
                    self.models
                        .insert(flow.source_id().clone(), model_of(known));
                }
                let speaks = serving.or(appliance);
                let identified_by = speaks.and_then(|known| known.identified_by.clone());
                let stamped_by = speaks.and_then(|known| known.stamped_by.clone());
                let (variant, valid_for) = (variant.clone(), flow.valid_for);
                let heard = Route::Device {
                    link: link.clone(),
                    variant,
                    valid_for,
                    identified_by,
                    stamped_by,
                    words: words(appliance, serving),
                };
                let topic = re_pointed(topic, appliance, serving, "");
                match self.adapter(spec, flow.source.appliance()) {
                    Some(adapter) => self.heard(&adapter, heard),
                    None => self.route(topic, heard),
                }
                Source::Device
            }
        };
        if self.inbound.iter().all(|known| known.id != link) {
            self.inbound.push(InboundLink {
                id: link,
                source: flow.source_id().clone(),
                kind,
            });
        }
    }

    fn send(&mut self, spec: &ElementSpec, flow: &Flow) {
        let Endpoint::Element { port, .. } = &flow.source else {
            return;
        };
        let valid_for = flow.valid_for.and_then(|validity| match validity {
            Validity::Immediate => Some(Duration::ZERO),
            Validity::For(span) => Some(span),
            Validity::Unbounded => None,
        });
        let (id, prefix, target) = match &flow.target {
            Endpoint::Element { port: variant, .. } => {
                let link = flow.binding.clone();
                self.route(
                    answers_topic(spec, &link),
                    Route::Answers { link: link.clone() },
                );
                (link.to_string(), variant_prefix(variant), Target::Element)
            }
            Endpoint::Device { appliance, topic } => {
                let device = appliance.clone().unwrap_or_else(|| flow.binding.clone());
                let id = self.device_link(&device, topic);
                let id = id.unwrap_or_else(|| format!("{}/{port}", flow.binding));
                let serving = self.serving(spec, appliance.as_ref());
                if let Some(known) = appliance {
                    let place = self.place(spec, known);
                    place.links.insert(id.clone());
                    place.outputs.insert(port.clone());
                }
                let appliance = appliance
                    .as_ref()
                    .and_then(|known| spec.appliances.get(known));
                let base = serving.or(appliance);
                let base = base.and_then(|appliance| appliance.topic.clone());
                let adapter = self.adapter(spec, flow.target.appliance());
                let report = Route::Report { link: id.clone() };
                match (&adapter, &base) {
                    (Some(adapter), _) => self.heard(adapter, report),
                    (None, Some(base)) => self.route(base.clone(), report),
                    (None, None) => {}
                }
                let question = base.map(|base| format!("{base}/get"));
                let topics = DeviceTopics {
                    declared: topic.clone(),
                    command: re_pointed(topic, appliance, serving, "/set"),
                    question,
                    words: words(appliance, serving),
                    adapter,
                };
                self.devices.insert(id.clone(), topics);
                self.appliance_ports.insert(port.clone());
                // A topic of nobody's is told values, which may be told again.
                let unknown = || DeviceModel::unknown(ActuationClass::Keyed);
                let model = appliance.map_or_else(unknown, model_of);
                self.models.insert(device.clone(), model);
                self.call_device(spec, flow, port, &id);
                (id, Vec::new(), Target::Appliance(device))
            }
        };
        self.outbound.push(OutboundLink {
            id,
            port: port.clone(),
            prefix,
            target,
            valid_for,
        });
    }

    /// The flow that carries commands to this device at this topic already: what goes to one place is
    /// merged, whichever port it comes from.
    fn device_link(&self, device: &EntityId, topic: &str) -> Option<String> {
        let same = |link: &&OutboundLink| {
            let topics = self.devices.get(&link.id);
            link.target == Target::Appliance(device.clone())
                && topics.is_some_and(|topics| topics.declared == topic)
        };
        Some(self.outbound.iter().find(same)?.id.clone())
    }

    /// An appliance that is only heard is known to the author by its bindings.
    fn name_senses(&mut self, spec: &ElementSpec) {
        for (appliance, place) in &mut self.places {
            let heard = |flow: &&Flow| flow.source.appliance() == Some(appliance);
            let flows = spec.bindings.values().flat_map(|binding| &binding.flows);
            if place.outputs.is_empty() {
                let bindings = flows.filter(heard).map(|flow| flow.binding.to_string());
                place.outputs = bindings.collect();
            }
        }
    }

    fn place(&mut self, spec: &ElementSpec, appliance: &EntityId) -> &mut Place {
        let place = self.places.entry(appliance.clone()).or_default();
        let known = spec.appliances.get(appliance);
        place.safe_state = known.and_then(|known| known.safe_state.clone());
        place
    }

    /// Who serves in the place of an appliance, if another does.
    fn serving<'a>(
        &self,
        spec: &'a ElementSpec,
        appliance: Option<&EntityId>,
    ) -> Option<&'a Appliance> {
        match self.table.served.get(appliance?)? {
            Served::By(by) => spec.substitutes.get(by),
            Served::Nobody => None,
        }
    }

    /// Whose adapter speaks to whoever serves in the place of an appliance, if that is not on the broker.
    fn adapter(&mut self, spec: &ElementSpec, appliance: Option<&EntityId>) -> Option<EntityId> {
        let appliance = appliance?;
        let (id, serves) = match self.table.served.get(appliance) {
            Some(Served::By(by)) => (by, spec.substitutes.get(by)),
            Some(Served::Nobody) | None => (appliance, spec.appliances.get(appliance)),
        };
        let serves = serves.filter(|serves| !serves.api.is_on_broker())?;
        self.adapted.insert(id.clone(), serves.clone());
        Some(id.clone())
    }

    fn route(&mut self, topic: String, route: Route) {
        let routes = self.routes.topics.entry(topic).or_default();
        if !routes.contains(&route) {
            routes.push(route);
        }
    }

    fn heard(&mut self, adapter: &EntityId, route: Route) {
        let routes = self.routes.adapters.entry(adapter.clone()).or_default();
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
}

/// What an appliance is. One without a model is asked what it shows where it has a topic to be asked on.
fn model_of(appliance: &Appliance) -> DeviceModel {
    let mut model = appliance.model.clone();
    let undescribed = model == DeviceModel::unknown(model.other);
    model.answers |= undescribed && appliance.topic.is_some();
    model
}

/// How what is said of one appliance is said by another that serves in its place.
fn words(own: Option<&Appliance>, serving: Option<&Appliance>) -> Option<Arc<Words>> {
    let (own, serving) = own.zip(serving)?;
    Some(Arc::new(Words {
        own: own.model.clone(),
        serving: serving.model.clone(),
    }))
}

/// A topic of an appliance, as the one that serves in its place has it: under its own base topic.
fn re_pointed(
    topic: &str,
    own: Option<&Appliance>,
    serving: Option<&Appliance>,
    otherwise: &str,
) -> String {
    let base = serving.and_then(|serving| serving.topic.as_ref());
    let Some(base) = base else {
        return topic.to_owned();
    };
    let own = own.and_then(|own| own.topic.as_ref());
    let rest = own.and_then(|own| topic.strip_prefix(own.as_str()));
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    format!("{base}{}", rest.unwrap_or(otherwise))
}

/// Where the events of a binding travel.
pub(super) fn events_topic(spec: &ElementSpec, link: &EntityId) -> String {
    format!("lamplighter/{}/{link}/events", spec.application)
}

/// Where the receiver of a binding answers.
pub(super) fn answers_topic(spec: &ElementSpec, link: &EntityId) -> String {
    format!("lamplighter/{}/{link}/acknowledged", spec.application)
}
