//! A device that is read and commanded over HTTP: GET says what it shows, PUT or POST takes a command,
//! both in JSON.
//!
//! Each request has a connection of its own, so that it is known of every failure whether a byte of the
//! request can have left: what was not connected was not commanded.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most bytes of an answer that are read.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The most characters of a device's own words in a reason.
const WORDS_MAX: usize = 200;

/// Where one device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpDevice {
    /// Host and port, as a `Host` header has them.
    authority: String,
    /// What to connect to.
    target: (String, u16),
    /// Path and query.
    path: String,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// PUT.
    Put,
    /// POST.
    Post,
}

/// Why a device did not do, or say, what it was asked. Each is a different next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be used; it never will.
    #[error("{address} is no address of a device: {reason}; write http://host:port/path")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing of the request left, or the device says that it did nothing: try again later.
    #[error(
        "{device} was not reached: {reason}; see that it is switched on and that `address` is right"
    )]
    Unreached {
        /// Which device.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The request may not leave any more: its sender may no longer act.
    #[error("{device} was not told: the time in which it might be was over")]
    Late {
        /// Which device.
        device: String,
    },
    /// The device has been told by a newer incarnation of the sender (409 or 412).
    #[error("{device} obeys a newer owner: {reason}")]
    Fenced {
        /// Which device.
        device: String,
        /// Its words.
        reason: String,
    },
    /// The device refuses for good (any other 4xx): the same request again is of no use.
    #[error("{device} refuses: {reason}")]
    Refused {
        /// Which device.
        device: String,
        /// Its status and words.
        reason: String,
    },
    /// The request left and there is no usable answer: nobody knows what became of it.
    #[error("{device} gave no answer: {reason}")]
    Unanswered {
        /// Which device.
        device: String,
        /// What came instead.
        reason: String,
    },
}

impl fmt::Display for HttpDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl HttpDevice {
    /// A device at a URL such as `http://coffee.home:8080/pot`.
    ///
    /// # Errors
    /// [`HttpError::Address`].
    pub fn at(address: &str) -> Result<Self, HttpError> {
        let fault = |reason: String| HttpError::Address {
            address: address.to_owned(),
            reason,
        };
        let uri: Uri = address
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| fault(error.to_string()))?;
        if uri.scheme_str() != Some("http") {
            return Err(fault("only http:// is spoken here".to_owned()));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| fault("it has no host".to_owned()))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority: authority.to_string(),
            target: (host, authority.port_u16().unwrap_or(80)),
            path: path.to_owned(),
        })
    }

    /// What the device shows.
    ///
    /// # Errors
    /// Why it does not say, within this span.
    pub async fn read(&self, within: Duration) -> Result<Value, HttpError> {
        let request = self.request(Method::GET, &[], Bytes::new())?;
        let asked = async {
            let sender = self.connect().await?;
            let answer = self.answer(sender, request).await?;
            answer.ok_or_else(|| self.unanswered("its answer is empty"))
        };
        match timeout(within, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unanswered(&format!("there was none within {within:?}"))),
        }
    }

    /// Tells the device something, unless `may_leave` says no when the first byte is about to. Returns
    /// what it answers, if it does in JSON.
    ///
    /// # Errors
    /// What became of the command, where it was not carried out or nobody knows.
    pub async fn command(
        &self,
        verb: Verb,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        may_leave: impl Fn() -> bool,
        within: Duration,
    ) -> Result<Option<Value>, HttpError> {
        let method = match verb {
            Verb::Put => Method::PUT,
            Verb::Post => Method::POST,
        };
        let request = self.request(method, headers, body.into())?;
        let sender = self.connect().await?;
        if !may_leave() {
            let device = self.to_string();
            return Err(HttpError::Late { device });
        }
        match timeout(within, self.answer(sender, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unanswered(&format!("there was none within {within:?}"))),
        }
    }

    fn request(
        &self,
        method: Method,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| HttpError::Refused {
                device: self.to_string(),
                reason: format!("the request cannot be written: {error}"),
            })
    }

    /// A connection of which nothing but its making has happened.
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let unreached = |reason: String| HttpError::Unreached {
            device: self.to_string(),
            reason,
        };
        let (host, port) = &self.target;
        let connecting = TcpStream::connect((host.as_str(), *port));
        let stream = match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreached(error.to_string())),
            Err(_) => {
                return Err(unreached(format!(
                    "no connection within {CONNECT_WITHIN:?}"
                )));
            }
        };
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreached(error.to_string()))?;
        // It ends with its only request, or when that is called off.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a device ended early");
            }
        });
        Ok(sender)
    }

    /// Sends a request and reads what comes back; from here on a failure says nothing of what happened.
    async fn answer(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Option<Value>, HttpError> {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| self.unanswered(&error.to_string()))?;
        let status = answer.status();
        let body = body_of(answer).await;
        if status.is_success() {
            let body = body.map_err(|reason| self.unanswered(&reason))?;
            if body.is_empty() {
                return Ok(None);
            }
            return match serde_json::from_slice(&body) {
                Ok(answer) => Ok(Some(answer)),
                // It did what it was asked; what it says of it is for people.
                Err(_) => Ok(None),
            };
        }
        let words = body.map(|body| words(&body)).unwrap_or_default();
        Err(self.failure(status, format!("{status}{words}")))
    }

    fn failure(&self, status: StatusCode, reason: String) -> HttpError {
        let device = self.to_string();
        match status {
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                HttpError::Fenced { device, reason }
            }
            // By their definition nothing was done.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::REQUEST_TIMEOUT => HttpError::Unreached { device, reason },
            status if status.is_server_error() => HttpError::Unanswered { device, reason },
            _ => HttpError::Refused { device, reason },
        }
    }

    fn unanswered(&self, reason: &str) -> HttpError {
        HttpError::Unanswered {
            device: self.to_string(),
            reason: reason.to_owned(),
        }
    }
}

async fn body_of(answer: Response<Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let collected = body.collect().await.map_err(|error| error.to_string())?;
    Ok(collected.to_bytes())
}

/// What a device says of a failure, for people.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.trim().chars().take(WORDS_MAX).collect();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A device that gives one answer, and what it was told.
    async fn answering(answer: &str) -> (HttpDevice, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.to_owned();
        let told = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut told = Vec::new();
            let mut part = [0; 4_096];
            while !is_whole(&told) {
                let count = stream.read(&mut part).await.unwrap();
                told.extend_from_slice(&part[..count]);
                if count == 0 {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(told).unwrap()
        });
        (
            HttpDevice::at(&format!("http://{address}/pot?a=1")).unwrap(),
            told,
        )
    }

    fn is_whole(told: &[u8]) -> bool {
        let text = String::from_utf8_lossy(told).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        length.is_none_or(|length| body.len() >= length.parse().unwrap())
    }

    fn reply(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }

    async fn commanded(answer: &str) -> (Result<Option<Value>, HttpError>, String) {
        let (device, told) = answering(answer).await;
        let headers = [("lamplighter-epoch", "4")];
        let body = br#"{"state":"ON"}"#.to_vec();
        let outcome = device
            .command(Verb::Put, &headers, body, || true, PATIENCE)
            .await;
        (outcome, told.await.unwrap().to_lowercase())
    }

    #[tokio::test]
    async fn a_command_says_who_sent_it_and_brings_what_the_device_answers() {
        let (outcome, told) = commanded(&reply("200 OK", r#"{"state":"ON"}"#)).await;
        assert_eq!(outcome, Ok(Some(json!({ "state": "ON" }))));
        assert!(told.starts_with("put /pot?a=1 http/1.1\r\n"), "{told}");
        assert!(told.contains("lamplighter-epoch: 4\r\n"), "{told}");
        assert!(told.ends_with(r#"{"state":"on"}"#), "{told}");
        let (outcome, _) = commanded(&reply("204 No Content", "")).await;
        assert_eq!(outcome, Ok(None));
    }

    #[tokio::test]
    async fn a_device_is_read_with_get() {
        let (device, told) = answering(&reply("200 OK", r#"{"state":"OFF"}"#)).await;
        assert_eq!(device.read(PATIENCE).await, Ok(json!({ "state": "OFF" })));
        assert!(told.await.unwrap().starts_with("GET /pot?a=1 HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_status_says_whether_the_same_command_is_of_use_again() {
        let kind = |outcome: Result<Option<Value>, HttpError>| match outcome.unwrap_err() {
            HttpError::Unreached { .. } => "again",
            HttpError::Fenced { .. } => "fenced",
            HttpError::Refused { .. } => "never",
            HttpError::Unanswered { .. } => "unknown",
            HttpError::Address { .. } | HttpError::Late { .. } => "neither",
        };
        for (status, expected) in [
            ("503 Service Unavailable", "again"),
            ("429 Too Many Requests", "again"),
            ("412 Precondition Failed", "fenced"),
            ("400 Bad Request", "never"),
            ("301 Moved Permanently", "never"),
            ("500 Internal Server Error", "unknown"),
        ] {
            let (outcome, _) = commanded(&reply(status, "because")).await;
            assert_eq!(kind(outcome), expected, "{status}");
        }
        let (outcome, _) = commanded("nonsense").await;
        assert_eq!(kind(outcome), "unknown");
        let long = "x".repeat(ANSWER_BYTES_MAX + 1);
        let (outcome, _) = commanded(&reply("200 OK", &long)).await;
        assert_eq!(kind(outcome), "unknown", "an answer has a limit");
    }

    #[tokio::test]
    async fn what_may_not_leave_any_more_does_not_and_a_device_that_is_away_is_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let device = HttpDevice::at(&format!("http://{address}/")).unwrap();
        let outcome = device
            .command(Verb::Post, &[], b"{}".to_vec(), || false, PATIENCE)
            .await;
        assert!(
            matches!(outcome, Err(HttpError::Late { .. })),
            "{outcome:?}"
        );
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"");
        drop((listener, stream));
        let outcome = device
            .command(Verb::Post, &[], b"{}".to_vec(), || true, PATIENCE)
            .await;
        assert!(
            matches!(outcome, Err(HttpError::Unreached { .. })),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn a_device_that_is_silent_keeps_nobody_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let device = HttpDevice::at(&format!("http://{address}")).unwrap();
        let outcome = device.read(Duration::from_millis(20)).await;
        assert!(
            matches!(outcome, Err(HttpError::Unanswered { .. })),
            "{outcome:?}"
        );
    }

    #[test]
    fn only_addresses_of_devices_are_taken() {
        for address in ["https://coffee.home/pot", "coffee.home", "/pot", ""] {
            let fault = HttpDevice::at(address).unwrap_err();
            assert!(matches!(fault, HttpError::Address { .. }), "{address}");
        }
        let device = HttpDevice::at("http://[::1]:8080").unwrap();
        assert_eq!(device.target, ("::1".to_owned(), 8080));
    }
}
