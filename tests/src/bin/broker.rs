//! The embedded broker as a process of its own, for the tests: `broker ADDRESS [USER PASSWORD]`.

use lamplighter_runtime::broker::embedded::{EmbeddedSettings, run_embedded};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().and_then(|address| address.parse().ok());
    let listen = listen.expect("the first argument is the address to listen on");
    let credentials = arguments.next().zip(arguments.next());
    run_embedded(&EmbeddedSettings {
        listen,
        credentials,
    })
}
