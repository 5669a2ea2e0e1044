//! Messages over a byte stream: the framing that the control plane and the served store share.
//!
//! A frame is a length of four bytes (big-endian), a version byte, and one value as MessagePack
//! with named fields. The length is checked before anything is read, the depth while it is
//! decoded, and nothing may follow the value: whoever writes to the stream cannot make the reader
//! allocate, recurse or guess.

use std::io;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::message_pack;

/// The format of all frames, their first byte.
pub const FRAME_VERSION: u8 = 1;

/// Both directions of one stream: sends `Out`, receives `In`.
#[derive(Debug)]
pub struct Frames<S, Out, In> {
    sender: FrameSender<WriteHalf<S>, Out>,
    receiver: FrameReceiver<ReadHalf<S>, In>,
}

impl<S: AsyncRead + AsyncWrite, Out: Serialize, In: DeserializeOwned> Frames<S, Out, In> {
    /// Frames `stream`; neither direction passes a frame of more than `frame_bytes_max` bytes.
    pub fn new(stream: S, frame_bytes_max: usize) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            sender: FrameSender::new(write, frame_bytes_max),
            receiver: FrameReceiver::new(read, frame_bytes_max),
        }
    }

    /// Sends one message and flushes. Not safe to cancel: part of a frame may have left.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] and [`FrameError::Unencodable`] before anything has left;
    /// [`FrameError::Broken`] if the stream failed.
    pub async fn send(&mut self, message: &Out) -> Result<(), FrameError> {
        self.sender.send(message).await
    }

    /// The next message; `None` if the peer closed the stream between two frames. Safe to cancel.
    ///
    /// # Errors
    /// Whatever the frame breaks. After an error the stream is of no more use.
    pub async fn next(&mut self) -> Result<Option<In>, FrameError> {
        self.receiver.next().await
    }

    /// The two directions apart, for two tasks.
    pub fn split(
        self,
    ) -> (
        FrameSender<WriteHalf<S>, Out>,
        FrameReceiver<ReadHalf<S>, In>,
    ) {
        (self.sender, self.receiver)
    }
}

/// Sends `Out` as frames.
#[derive(Debug)]
pub struct FrameSender<W, Out> {
    framed: FramedWrite<W, LengthDelimitedCodec>,
    frame_bytes_max: usize,
    messages: PhantomData<fn(&Out)>,
}

impl<W: AsyncWrite + Unpin, Out: Serialize> FrameSender<W, Out> {
    /// Frames `writer`; no frame is longer than `frame_bytes_max` bytes.
    pub fn new(writer: W, frame_bytes_max: usize) -> Self {
        Self {
            framed: FramedWrite::new(writer, codec(frame_bytes_max)),
            frame_bytes_max,
            messages: PhantomData,
        }
    }

    /// Sends one message and flushes. Not safe to cancel: part of a frame may have left.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] and [`FrameError::Unencodable`] before anything has left;
    /// [`FrameError::Broken`] if the stream failed.
    pub async fn send(&mut self, message: &Out) -> Result<(), FrameError> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Queues one message; it leaves at the next flush, or when enough is queued.
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn feed(&mut self, message: &Out) -> Result<(), FrameError> {
        let frame = encode(message, self.frame_bytes_max)?;
        Ok(self.framed.feed(frame).await?)
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    /// [`FrameError::Broken`] if the stream failed.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        Ok(SinkExt::<Bytes>::flush(&mut self.framed).await?)
    }

    /// Sends all that is queued and says that nothing follows.
    ///
    /// # Errors
    /// [`FrameError::Broken`] if the stream failed.
    pub async fn close(mut self) -> Result<(), FrameError> {
        Ok(SinkExt::<Bytes>::close(&mut self.framed).await?)
    }
}

/// Receives `In` from frames.
#[derive(Debug)]
pub struct FrameReceiver<R, In> {
    framed: FramedRead<R, LengthDelimitedCodec>,
    frame_bytes_max: usize,
    messages: PhantomData<fn() -> In>,
}

impl<R: AsyncRead + Unpin, In: DeserializeOwned> FrameReceiver<R, In> {
    /// Reads frames of at most `frame_bytes_max` bytes from `reader`.
    pub fn new(reader: R, frame_bytes_max: usize) -> Self {
        Self {
            framed: FramedRead::new(reader, codec(frame_bytes_max)),
            frame_bytes_max,
            messages: PhantomData,
        }
    }

    /// The next message; `None` if the peer closed the stream between two frames. Safe to cancel.
    ///
    /// # Errors
    /// Whatever the frame breaks. After an error the stream is of no more use.
    pub async fn next(&mut self) -> Result<Option<In>, FrameError> {
        match self.framed.next().await {
            None => Ok(None),
            Some(Ok(frame)) => decode(&frame).map(Some),
            Some(Err(error)) if is_too_long(&error) => Err(FrameError::TooLong {
                frame_bytes_max: self.frame_bytes_max,
            }),
            // The codec has no kind of its own for a stream that ends inside a frame.
            Some(Err(error)) if error.kind() == io::ErrorKind::Other => Err(FrameError::Cut),
            Some(Err(error)) => Err(FrameError::Broken(error)),
        }
    }
}

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed: connect again.
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    /// The stream ended inside a frame: the peer died while it sent. Connect again.
    #[error("the connection ended inside a frame")]
    Cut,
    /// A frame is longer than this stream allows. When sending, nothing has left and the stream can
    /// be used on; when receiving, the peer is faulty or hostile: close.
    #[error("a frame is longer than the {frame_bytes_max} bytes allowed on this connection")]
    TooLong {
        /// The limit.
        frame_bytes_max: usize,
    },
    /// The peer speaks another format: one of the two programs is too old.
    #[error(
        "the peer sends frames of version {found}, this program reads version {FRAME_VERSION}; run the same build at both ends"
    )]
    Version {
        /// The version byte received.
        found: u8,
    },
    /// A frame does not hold the expected message: the peer is faulty or hostile. Close.
    #[error("a frame does not hold the expected message: {0}")]
    Undecodable(String),
    /// The message cannot be written as MessagePack; nothing has left.
    #[error("a message cannot be encoded: {0}")]
    Unencodable(String),
}

fn codec(frame_bytes_max: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(frame_bytes_max)
        .new_codec()
}

fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(
        <dyn std::error::Error + Send + Sync>::is::<tokio_util::codec::LengthDelimitedCodecError>,
    )
}

fn encode(message: &impl Serialize, frame_bytes_max: usize) -> Result<Bytes, FrameError> {
    let mut frame = vec![FRAME_VERSION];
    message_pack::encode_into(&mut frame, message)
        .map_err(|error| FrameError::Unencodable(error.to_string()))?;
    if frame.len() > frame_bytes_max {
        return Err(FrameError::TooLong { frame_bytes_max });
    }
    Ok(Bytes::from(frame))
}

fn decode<In: DeserializeOwned>(frame: &[u8]) -> Result<In, FrameError> {
    let (&version, body) = frame
        .split_first()
        .ok_or_else(|| FrameError::Undecodable("it is empty".into()))?;
    if version != FRAME_VERSION {
        return Err(FrameError::Version { found: version });
    }
    message_pack::decode(body).map_err(|error| FrameError::Undecodable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Message {
        Said {
            what: String,
            #[serde(with = "serde_bytes")]
            bytes: Vec<u8>,
        },
        Nested(Box<Message>),
        Numbered(u128),
    }

    const BYTES_MAX: usize = 4_096;

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_until_the_peer_closes() {
        let (near, far) = tokio::io::duplex(64);
        let messages = vec![
            said("one"),
            Message::Numbered(u128::MAX),
            said(&"long ".repeat(500)),
        ];
        let sent = messages.clone();
        let sending = async move {
            let mut frames: Frames<_, Message, Message> = Frames::new(near, BYTES_MAX);
            for message in &sent {
                frames.send(message).await.unwrap();
            }
        };
        let receiving = async move {
            let mut frames: Frames<_, Message, Message> = Frames::new(far, BYTES_MAX);
            let mut received = Vec::new();
            while let Some(message) = frames.next().await.unwrap() {
                received.push(message);
            }
            received
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert_eq!(received, messages);
    }

    #[tokio::test]
    async fn the_two_directions_work_apart() {
        let (near, far) = tokio::io::duplex(64);
        let (mut out, mut back) = Frames::<_, Message, Message>::new(near, BYTES_MAX).split();
        let mut far: Frames<_, Message, Message> = Frames::new(far, BYTES_MAX);
        out.feed(&said("ping")).await.unwrap();
        out.flush().await.unwrap();
        assert_eq!(far.next().await.unwrap(), Some(said("ping")));
        far.send(&said("pong")).await.unwrap();
        assert_eq!(back.next().await.unwrap(), Some(said("pong")));
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_and_the_stream_stays_usable() {
        let (near, far) = tokio::io::duplex(BYTES_MAX);
        let mut near: Frames<_, Message, Message> = Frames::new(near, 100);
        let mut far: Frames<_, Message, Message> = Frames::new(far, 100);
        let refused = near.send(&said(&"x".repeat(100))).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a frame is longer than the 100 bytes allowed on this connection"
        );
        near.send(&said("short")).await.unwrap();
        assert_eq!(far.next().await.unwrap(), Some(said("short")));
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_refused_with_the_reason() {
        let whole = encode(&said("hello"), BYTES_MAX).unwrap().to_vec();
        let mut versioned = whole.clone();
        versioned[0] = 9;
        let mut followed = whole.clone();
        followed.push(0);
        // 1,000 arrays in one another: one kilobyte that overflows an unguarded decoder's stack.
        let mut deep = vec![FRAME_VERSION];
        deep.extend([0x91; 1_000]);
        deep.push(0xc0);
        let mut nested = said("deep");
        for _ in 0..message_pack::DEPTH_MAX {
            nested = Message::Nested(Box::new(nested));
        }
        let nested = encode(&nested, BYTES_MAX).unwrap().to_vec();
        // A string that claims 4 GiB.
        let boasting = vec![FRAME_VERSION, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff];
        let cases = [
            (framed(&[]), "it is empty"),
            (framed(&versioned), "version 9"),
            (framed(&followed), "1 bytes follow the value"),
            (framed(&deep), "deeper than 32"),
            (framed(&nested), "deeper than 32"),
            (framed(&boasting), "before it is complete"),
            (
                framed(&vec![0; BYTES_MAX + 1]),
                "longer than the 4096 bytes",
            ),
            (
                u32::MAX.to_be_bytes().to_vec(),
                "longer than the 4096 bytes",
            ),
            (framed(&whole)[..whole.len()].to_vec(), "inside a frame"),
        ];
        for (bytes, expected) in cases {
            let error = received(&bytes).await.unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{error:?} should say {expected:?}"
            );
        }
        assert_eq!(
            received(&framed(&whole)).await.unwrap(),
            Some(said("hello"))
        );
        assert_eq!(received(&[]).await.unwrap(), None);
    }

    async fn received(bytes: &[u8]) -> Result<Option<Message>, FrameError> {
        let (mut near, far) = tokio::io::duplex(2 * BYTES_MAX);
        near.write_all(bytes).await.unwrap();
        drop(near);
        FrameReceiver::new(far, BYTES_MAX).next().await
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_be_bytes(), body].concat()
    }

    fn said(what: &str) -> Message {
        Message::Said {
            what: what.into(),
            bytes: vec![0, 1, 0xff],
        }
    }
}
