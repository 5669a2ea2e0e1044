//! A proxy between a client and a server that loses what it is told to lose.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Forwards TCP on the loopback; ends with all its connections when dropped.
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct Rules {
    /// Of a hundred replies, how many are lost together with their connection.
    lost_percent: AtomicU32,
    /// Whether nothing passes in either direction, as on a link that was cut.
    is_cut: AtomicBool,
    /// How many replies were lost.
    lost: AtomicU64,
    /// How many connections were made.
    accepted: AtomicU64,
    /// The state of a small random generator, so that a run can be repeated.
    random: AtomicU64,
}

impl Proxy {
    /// Starts a proxy to a port of the loopback; `seed` decides what is lost.
    ///
    /// # Errors
    /// The system's, if there is no free port.
    pub async fn start(port: u16, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            random: AtomicU64::new(seed),
            ..Rules::default()
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, port, Arc::clone(&rules)));
        Ok(Self {
            address,
            rules,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From here on loses this share of the replies to scripts, each with its connection, after
    /// the server has carried out what was asked.
    pub fn lose_replies(&self, percent: u32) {
        self.rules.lost_percent.store(percent, Ordering::Relaxed);
    }

    /// From here on swallows everything on connections that exist or are made, and closes none.
    pub fn cut(&self, is_cut: bool) {
        self.rules.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// How many replies were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rules.lost.load(Ordering::Relaxed)
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.rules.accepted.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, port: u16, rules: Arc<Rules>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        rules.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(carry(client, port, Arc::clone(&rules)));
    }
}

/// Carries one connection until either side, or the rules, end it.
async fn carry(mut client: TcpStream, port: u16, rules: Arc<Rules>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut is_script = false;
    // A connection that was cut once stays silent: its bytes are gone.
    let mut is_silent = false;
    loop {
        let outcome = tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                is_silent |= rules.is_cut.load(Ordering::Relaxed);
                let part = &asked[..count];
                is_script |= part.windows(7).any(|word| word == b"EVALSHA");
                if is_silent { Ok(()) } else { server.write_all(part).await }
            }
            count = server.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                is_silent |= rules.is_cut.load(Ordering::Relaxed);
                if is_script && rules.loses() {
                    return;
                }
                if is_silent { Ok(()) } else { client.write_all(&answered[..count]).await }
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

impl Rules {
    fn loses(&self) -> bool {
        // splitmix64: enough to spread the losses.
        let state = self
            .random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let percent = (mixed ^ (mixed >> 31)) % 100;
        let loses = percent < u64::from(self.lost_percent.load(Ordering::Relaxed));
        if loses {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        loses
    }
}
