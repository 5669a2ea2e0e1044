//! The element's handler, which panics now and then.

use lamplighter_policies::protocol::cell::{Handled, Input, Task, TaskInput};
use lamplighter_runtime::store::StableStore;

use super::element::outputs;
use super::{Hazard, World};

impl<S: StableStore + 'static, H: Hazard> World<S, H> {
    pub(super) fn handle(&mut self, task: Task) -> Input {
        let index = task.index;
        let fails = self.hazard.roll() == 8;
        let process = self.process();
        if fails {
            process.state = None;
            let cause = "panic".into();
            return Input::HandlerFailed { index, cause };
        }
        let TaskInput::Event { payload, .. } = task.input else {
            panic!("no timers here")
        };
        let state = process.state.as_mut().expect("an instance");
        let emitted = outputs(state, payload[0]);
        let handled = Handled {
            emitted,
            ..Handled::default()
        };
        Input::Handled { index, handled }
    }
}
