//! The cell of one element in its shell, made anew in the same host when it fails.

use std::cell::RefCell;
use std::rc::Rc;

use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{Cell, CellSettings, Input};

use super::body::{Body, Surroundings};
use super::performer::Performer;
use super::{bindings, ending, saved};
use crate::shell::{Escalated, Incarnation, Role, RoleSettings, Shell};

/// Starts it. Where resuming is awaited, it stays silent, restored, until it is told.
pub(super) fn start_cell(
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    resume_awaited: bool,
    present: Option<Reconfiguration>,
) -> Role<Input> {
    let settings = CellSettings {
        resume_awaited,
        ..around.links.settings(&around.spec)
    };
    let mailbox = settings.mailbox_max;
    let (body, around) = (Rc::clone(body), around.clone());
    let (ending_body, ending_around) = (Rc::clone(&body), around.clone());
    let clock = around.clock.clone();
    let name = format!("cell of {}", around.spec.id);
    let factory = move |role: &Role<Input>| {
        saved::Restoring::new(&body, &around).start(role.lasting());
        let performer = Performer::new(Rc::clone(&body), around.clone());
        Incarnation {
            machine: Cell::new(settings.clone()),
            performer,
            first: bindings::known(body.borrow().mqtt.as_ref(), present.as_ref()),
        }
    };
    let escalate = move |escalated: Escalated| {
        let (body, around) = (ending_body, ending_around);
        actix_rt::spawn(async move {
            ending::give_up(&body, &around, escalated.to_string(), true).await;
        });
    };
    Shell::start(
        RoleSettings {
            mailbox,
            clock,
            ..RoleSettings::new(name)
        },
        factory,
        escalate,
    )
}
