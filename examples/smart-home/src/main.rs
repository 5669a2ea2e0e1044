//! The smart home: the program that plays every role of it.

use smart_home::elements::{
    AwoxActuate, FibaroAdapter, LockKeeper, MedicineGiver, NodeHueActuate, NodeHueSense,
    Orchestrator, SoundPlayer, WemoSense,
};

fn main() -> lamplighter::Result {
    lamplighter::app()
        .element::<Orchestrator>("Orchestrator")
        .element::<NodeHueSense>("NodeHueSense")
        .element::<NodeHueActuate>("NodeHueActuate")
        .element::<FibaroAdapter>("FibaroAdapter")
        .element::<WemoSense>("WemoSense")
        .element::<AwoxActuate>("AwoxActuate")
        .element::<SoundPlayer>("SoundPlayer")
        .element::<LockKeeper>("LockKeeper")
        .element::<MedicineGiver>("MedicineGiver")
        .run()
}
