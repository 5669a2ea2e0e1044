//! `detector`: what a detection profile would do on a network, before it is chosen.

use std::thread;

use super::print;
use crate::detector::{NETWORKS, Network, Outcome, detectors, simulate};

/// Try the detection profiles on a simulated network: how often a healthy server would be taken for a
/// failed one, and how long a crash would go unnoticed. The rules are those of a running application.
#[derive(Debug, clap::Args)]
pub(super) struct Detector {
    /// Simulate; there is no other way yet
    #[arg(long, required = true)]
    simulate: bool,
    /// Only this network
    #[arg(long, value_parser = NETWORKS.map(|network| network.name))]
    network: Option<String>,
    /// How many heartbeats each detector is sent
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    heartbeats: u64,
    /// What everything follows from; the same seed gives the same figures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Detector {
    pub(super) fn run(&self) {
        let networks = NETWORKS.into_iter();
        let wanted = |network: &Network| {
            self.network
                .as_deref()
                .is_none_or(|name| name == network.name)
        };
        let networks: Vec<Network> = networks.filter(wanted).collect();
        let outcomes = thread::scope(|scope| {
            let runs = networks.iter().map(|network| {
                scope.spawn(move || {
                    let run = |detector| simulate(&detector, *network, self.heartbeats, self.seed);
                    detectors().into_iter().map(run).collect::<Vec<_>>()
                })
            });
            let runs: Vec<_> = runs.collect();
            let joined = runs
                .into_iter()
                .map(|run| run.join().expect("a simulation does not panic"));
            joined.collect::<Vec<_>>()
        });
        if self.json {
            let json = serde_json::to_string_pretty(&outcomes.concat()).expect("figures encode");
            print(&format!("{json}\n"));
        } else {
            print(&self.table(&outcomes));
        }
    }

    fn table(&self, outcomes: &[Vec<Outcome>]) -> String {
        let mut table = format!(
            "{} heartbeats each, seed {}. \"wrong\" is how often, per heartbeat, a server that is there is taken for\n\
             failed; 0 means less than {:.1e} (95 %).\n",
            self.heartbeats,
            self.seed,
            3.0 / self.heartbeats as f64
        );
        for of_network in outcomes {
            let Some(first) = of_network.first() else {
                continue;
            };
            table += &format!(
                "\n{}\n  {:<34} {:>6} {:>10} {:>10} {:>10} {:>10}\n",
                first.network, "detector", "every", "p99", "longest", "suspected", "wrong"
            );
            for outcome in of_network {
                table += &format!(
                    "  {:<34} {:>3} ms {:>7.0} ms {:>7.0} ms {:>10} {:>10}\n",
                    outcome.detector,
                    outcome.interval_ms,
                    outcome.detected_p99_ms,
                    outcome.detected_max_ms,
                    rate(outcome.suspected),
                    rate(outcome.failed)
                );
            }
        }
        table
    }
}

fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else {
        format!("{rate:.1e}")
    }
}
