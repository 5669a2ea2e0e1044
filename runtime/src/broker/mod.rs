//! The MQTT broker of the application (paper, 5.1): embedded, a managed Mosquitto, or somebody
//! else's.
//!
//! A broker may fail like any other element, and what it acknowledged may be gone afterwards. That is
//! harmless between elements, which acknowledge end to end; it is the reason why nothing here is
//! called durable.

pub mod embedded;
pub mod mosquitto;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The largest payload that our brokers carry and our clients take, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Where a broker listens, and how to sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// `mqtt://host:port`, or `mqtts://host:port` for TLS. The ports default to 1883 and 8883.
    pub url: String,
    /// The user, if the broker wants one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

impl BrokerAddress {
    /// The address of a broker that lets everybody in, such as our own ones on loopback.
    pub fn anonymous(listen: SocketAddr) -> Self {
        Self {
            url: format!("mqtt://{listen}"),
            user: None,
            password: None,
        }
    }

    /// Takes the URL apart: TLS or not, host, port.
    pub fn parse(&self) -> Result<Endpoint, AddressError> {
        let bad = |reason: &str| AddressError {
            url: self.url.clone(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = self
            .url
            .split_once("://")
            .ok_or_else(|| bad("it has no scheme; write mqtt://HOST:PORT"))?;
        let tls = match scheme {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            _ => return Err(bad("its scheme is not mqtt:// or mqtts://")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(bad("nothing may follow the port"));
        }
        if authority.contains('@') {
            return Err(bad(
                "user and password do not belong in it; give them as user and password",
            ));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port
                    .parse()
                    .map_err(|_| bad("its port is not a number up to 65535"))?;
                (host, port)
            }
            Some(_) | None => (authority, if tls { 8883 } else { 1883 }),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if bare.is_empty() || !bare.chars().all(plain) || (bare.contains(':') && bare == host) {
            return Err(bad(
                "its host is not a name or an address ([…] around IPv6)",
            ));
        }
        Ok(Endpoint {
            tls,
            host: bare.to_owned(),
            port,
        })
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password must not reach a trace.
        formatter
            .debug_struct("BrokerAddress")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// A broker's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A broker's URL that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker's url {url:?} cannot be used: {reason}")]
pub struct AddressError {
    /// As it was given.
    pub url: String,
    /// What is wrong with it, and what to write.
    pub reason: String,
}

/// Waits until something accepts connections at `address`, at most `within`; false if nothing did.
///
/// There is no event for "another process listens", so this asks again, with pauses from 2 ms to
/// 50 ms.
pub async fn accepts(address: SocketAddr, within: Duration) -> bool {
    let asking = async {
        let mut pause = Duration::from_millis(2);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    tokio::time::timeout(within, asking).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let endpoint = |tls, host: &str, port| {
            Ok(Endpoint {
                tls,
                host: host.to_owned(),
                port,
            })
        };
        let parse = |url: &str| {
            BrokerAddress {
                url: url.to_owned(),
                user: None,
                password: None,
            }
            .parse()
        };

        assert_eq!(
            parse("mqtt://broker.home:2883"),
            endpoint(false, "broker.home", 2883)
        );
        assert_eq!(
            parse("mqtt://127.0.0.1"),
            endpoint(false, "127.0.0.1", 1883)
        );
        assert_eq!(parse("mqtts://broker/"), endpoint(true, "broker", 8883));
        assert_eq!(parse("mqtt://[::1]:1884"), endpoint(false, "::1", 1884));
        assert_eq!(parse("mqtt://[::1]"), endpoint(false, "::1", 1883));
    }

    #[test]
    fn a_bad_url_says_what_is_wrong() {
        let reason = |url: &str| {
            let address = BrokerAddress {
                url: url.to_owned(),
                user: None,
                password: None,
            };
            address.parse().unwrap_err().to_string()
        };

        assert_eq!(
            reason("localhost:1883"),
            "the broker's url \"localhost:1883\" cannot be used: it has no scheme; write \
             mqtt://HOST:PORT"
        );
        assert!(reason("http://x").ends_with("its scheme is not mqtt:// or mqtts://"));
        assert!(reason("mqtt://x:99999").ends_with("its port is not a number up to 65535"));
        assert!(reason("mqtt://u:p@x").contains("do not belong in it"));
        assert!(reason("mqtt://").contains("its host"));
        assert!(reason("mqtt://::1").contains("its host") || reason("mqtt://::1").contains("port"));
        assert!(reason("mqtt://x/y").ends_with("nothing may follow the port"));
    }

    #[test]
    fn a_trace_does_not_show_the_password() {
        let address = BrokerAddress {
            url: "mqtt://x".to_owned(),
            user: Some("lamp".to_owned()),
            password: Some("hunter2".to_owned()),
        };

        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
