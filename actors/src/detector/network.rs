//! A network as a chance: how long a message takes, whether it arrives at all.

use std::time::Duration;

/// What is known of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    /// The share of messages that are lost one by one.
    pub(crate) loss: f64,
    /// The median delay.
    pub(crate) delay: Duration,
    /// The spread of the delay: the standard deviation of its logarithm.
    pub(crate) spread: f64,
    /// How long the server's link is out each time, on average; zero if it never is.
    pub(crate) outage: Duration,
    /// How far outages are apart, on average.
    pub(crate) outage_every: Duration,
}

const fn network(name: &'static str, loss: f64, delay_ms: u64, outage_ms: u64) -> Network {
    Network {
        name,
        loss,
        delay: Duration::from_millis(delay_ms),
        spread: 1.0,
        outage: Duration::from_millis(outage_ms),
        outage_every: Duration::from_secs(10),
    }
}

/// Networks to choose from.
pub(crate) const NETWORKS: [Network; 4] = [
    network("lan", 0.0001, 1, 0),
    network("noisy", 0.01, 8, 0),
    network("noisy-with-outages", 0.01, 8, 40),
    network("bad-wifi", 0.05, 15, 100),
];

/// A network in one run: everything that will happen on it follows from the seed.
pub(crate) struct Weather {
    network: Network,
    seed: u64,
    /// When the server's link is out, in seconds: from and until, in order.
    outages: Vec<(f64, f64)>,
}

impl Weather {
    /// What happens on `network` within `span` seconds.
    pub(crate) fn new(network: Network, seed: u64, span: f64) -> Self {
        let mut outages = Vec::new();
        let mean = network.outage.as_secs_f64();
        if mean > 0.0 {
            let mut at = 0.0;
            for number in 0.. {
                let exponential = |salt| -uniform(seed, number, salt).ln();
                at += exponential(1) * network.outage_every.as_secs_f64();
                if at > span {
                    break;
                }
                let until = at + exponential(2) * mean;
                outages.push((at, until));
                at = until;
            }
        }
        Self {
            network,
            seed,
            outages,
        }
    }

    /// When a message arrives that is sent at `sent_at` over `legs` legs, each with a chance of its own;
    /// `None` if it is lost. `message` and `salt` tell it from every other message.
    pub(crate) fn arrival(&self, sent_at: f64, message: u64, salt: u64, legs: u64) -> Option<f64> {
        let mut at = sent_at;
        for leg in 0..legs {
            let salt = salt * 16 + leg * 4;
            if self.is_out(at) || uniform(self.seed, message, salt) < self.network.loss {
                return None;
            }
            at += self.delay(message, salt);
        }
        Some(at).filter(|at| !self.is_out(*at))
    }

    fn delay(&self, message: u64, salt: u64) -> f64 {
        // Box and Muller, 1958.
        let radius = (-2.0 * uniform(self.seed, message, salt + 1).ln()).sqrt();
        let angle = std::f64::consts::TAU * uniform(self.seed, message, salt + 2);
        let normal = radius * angle.cos();
        self.network.delay.as_secs_f64() * (self.network.spread * normal).exp()
    }

    fn is_out(&self, at: f64) -> bool {
        let after = self.outages.partition_point(|(from, _)| *from <= at);
        after > 0 && at < self.outages[after - 1].1
    }
}

/// A number between 0 and 1, both excluded, that follows from the three (splitmix64; Steele, Lea,
/// Flood 2014).
fn uniform(seed: u64, message: u64, salt: u64) -> f64 {
    let mut state = seed ^ message.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for word in [salt.wrapping_add(1), message] {
        let z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state = z ^ (z >> 31);
    }
    let bits = state >> 11;
    (bits as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chances_are_those_of_the_network() {
        let noisy = NETWORKS[1];
        let weather = Weather::new(noisy, 7, 1.0);
        let arrivals: Vec<_> = (0..20_000).map(|n| weather.arrival(0.0, n, 0, 1)).collect();
        let mut delays: Vec<f64> = arrivals.iter().flatten().copied().collect();
        delays.sort_by(f64::total_cmp);
        let lost = 1.0 - delays.len() as f64 / arrivals.len() as f64;
        assert!((0.007..0.013).contains(&lost), "{lost}");
        let median = delays[delays.len() / 2];
        assert!((0.0075..0.0085).contains(&median), "{median}");
    }

    #[test]
    fn nothing_passes_while_the_link_is_out() {
        let weather = Weather::new(NETWORKS[3], 7, 1_000.0);
        let (from, until) = weather.outages[0];
        let during = f64::midpoint(from, until);
        let passed = (0..100).filter_map(|n| weather.arrival(during, n, 0, 1));
        assert_eq!(passed.count(), 0);
        assert!((80..120).contains(&weather.outages.len()));
    }
}
