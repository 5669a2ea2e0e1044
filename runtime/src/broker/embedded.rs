//! The embedded broker: rumqttd, alone in a child process.
//!
//! rumqttd can be started but not stopped, and everything it holds is in memory, so it gets a process
//! of its own: ending the process is the way to stop it, and killing it is an honest fault.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process;
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::PAYLOAD_BYTES_MAX;

/// How many clients may be connected at once.
const CONNECTIONS_MAX: usize = 1_024;
/// How many QoS 1 messages a client may leave unacknowledged.
const IN_FLIGHT_MAX: usize = 100;
/// How many packets are handed to a slow client before it has to catch up.
const OUTGOING_PACKETS_MAX: u64 = 200;
/// rumqttd keeps the newest messages of each subscribed filter in segments and drops the oldest one
/// without a word when all are full: 8 MiB per filter is what an absent client can count on.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
const SEGMENT_COUNT_MAX: usize = 8;
/// A connection that has not said who it is by then is closed.
const CONNECT_WITHIN_MS: u16 = 5_000;
/// Room for topic and properties beside the largest payload.
const PACKET_OVERHEAD_BYTES: usize = 64 << 10;
/// The listener must answer within this time, or something else is wrong.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Exit status after an internal panic; the parent starts another broker.
pub const EXIT_PANICKED: i32 = 70;
/// Exit status when the address cannot be listened on.
pub const EXIT_CANNOT_LISTEN: i32 = 69;
/// Exit status when the settings are refused.
pub const EXIT_REFUSED: i32 = 64;

/// What the embedded broker is started with.
#[derive(Clone)]
pub struct EmbeddedSettings {
    /// Where to listen. Port 0 is refused: the parent has to know the port.
    pub listen: SocketAddr,
    /// The one user and password that are let in. Everybody is, if there is none; that is refused
    /// off loopback.
    pub credentials: Option<(String, String)>,
}

/// The line on standard output that says that connections are accepted.
pub fn ready_line(listen: SocketAddr) -> String {
    format!("broker ready mqtt://{listen}")
}

/// Runs the broker until standard input ends, which means that the parent is gone.
///
/// Prints [`ready_line`] when connections are accepted. Ends the process: with 0 at the end of
/// standard input, [`EXIT_REFUSED`], [`EXIT_CANNOT_LISTEN`] or [`EXIT_PANICKED`] otherwise, with the
/// reason on standard error.
pub fn run_embedded(settings: &EmbeddedSettings) -> ! {
    if let Err(reason) = check(settings) {
        leave(EXIT_REFUSED, &reason);
    }
    end_at_the_first_panic();
    let parent = std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(end_with_the_parent);
    let listen = settings.listen;
    let ready = std::thread::Builder::new()
        .name("ready".to_owned())
        .spawn(move || {
            announce(listen);
        });
    if let Err(error) = parent.and(ready) {
        leave(
            EXIT_REFUSED,
            &format!("the broker cannot start its threads: {error}"),
        );
    }
    // Returns only when the listener could not be bound, or broke.
    let reason = match Broker::new(configuration(settings)).start() {
        Ok(()) => "see above".to_owned(),
        Err(error) => error.to_string(),
    };
    leave(
        EXIT_CANNOT_LISTEN,
        &format!("the broker cannot listen on {listen}: {reason}"),
    )
}

fn check(settings: &EmbeddedSettings) -> Result<(), String> {
    let listen = settings.listen;
    if listen.port() == 0 {
        return Err(format!(
            "the broker needs a fixed port to listen on, not {listen}"
        ));
    }
    if settings.credentials.is_none() && !listen.ip().is_loopback() {
        return Err(format!(
            "the broker would let everybody in at {listen}; give it a user and password, or let it \
             listen on 127.0.0.1"
        ));
    }
    if std::net::TcpListener::bind(listen).is_err() {
        return Err(format!(
            "{listen} is taken by another process; choose another port"
        ));
    }
    Ok(())
}

fn configuration(settings: &EmbeddedSettings) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: CONNECT_WITHIN_MS,
        max_payload_size: PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES,
        max_inflight_count: IN_FLIGHT_MAX,
        auth: settings
            .credentials
            .clone()
            .map(|credentials| HashMap::from([credentials])),
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "mqtt-5".to_owned(),
        listen: settings.listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections,
    };
    Config {
        router: RouterConfig {
            max_connections: CONNECTIONS_MAX,
            max_outgoing_packet_count: OUTGOING_PACKETS_MAX,
            max_segment_size: SEGMENT_BYTES_MAX,
            max_segment_count: SEGMENT_COUNT_MAX,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("mqtt-5".to_owned(), server)])),
        ..Config::default()
    }
}

/// A panic in one connection poisons a lock that every later connection needs: the broker would go
/// on listening and refuse everybody. A process that ends can be started again.
fn end_at_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        leave(EXIT_PANICKED, "the broker ends because part of it panicked");
    }));
}

fn end_with_the_parent() {
    let mut ignored = [0; 256];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut ignored) {
            Ok(0) => process::exit(0),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => process::exit(0),
        }
    }
}

fn announce(listen: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let accepted = match runtime {
        Ok(runtime) => runtime.block_on(super::accepts(listen, READY_WITHIN)),
        Err(error) => leave(
            EXIT_CANNOT_LISTEN,
            &format!("no runtime for the broker: {error}"),
        ),
    };
    if !accepted {
        leave(
            EXIT_CANNOT_LISTEN,
            &format!("nothing answers at {listen} after {READY_WITHIN:?}"),
        );
    }
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{}", ready_line(listen))
        .and_then(|()| stdout.flush())
        .is_err()
    {
        // Nobody reads it, which the parent is free to do.
        tracing::debug!("the ready line was not read");
    }
}

fn leave(status: i32, reason: &str) -> ! {
    // Standard error may be gone with the parent; there is nobody else to tell.
    writeln!(io::stderr(), "lamplighter: {reason}").ok();
    process::exit(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_let_in_on_loopback_only() {
        let settings = EmbeddedSettings {
            listen: "0.0.0.0:1883".parse().unwrap(),
            credentials: None,
        };

        assert_eq!(
            check(&settings),
            Err(
                "the broker would let everybody in at 0.0.0.0:1883; give it a user and password, \
                 or let it listen on 127.0.0.1"
                    .to_owned()
            )
        );
    }

    #[test]
    fn the_port_must_be_known() {
        let settings = EmbeddedSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            credentials: None,
        };

        assert_eq!(
            check(&settings),
            Err("the broker needs a fixed port to listen on, not 127.0.0.1:0".to_owned())
        );
    }
}
