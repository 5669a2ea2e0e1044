//! The command line without elements of its own: check a topology, begin an application, look at one
//! that runs.

fn main() -> lamplighter::Result {
    lamplighter::app().run()
}
