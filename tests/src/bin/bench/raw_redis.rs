//! Redis without Lamplighter: a blocking socket and the plainest commands, as the limit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::load::PAYLOAD_BYTES;

/// How many single entries wait for their answers at a time in the raw pipeline.
pub(crate) const DEPTH: usize = 64;

/// A connection that speaks RESP by hand.
pub(crate) struct RawRedis {
    answers: BufReader<TcpStream>,
}

impl RawRedis {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let answers = BufReader::with_capacity(64 << 10, socket);
        Ok(Self { answers })
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// Those of the socket, and an error reply of the server.
    pub(crate) fn command(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.answers.get_mut().write_all(&encoded(words))?;
        self.skip_answer()
    }

    /// Entries a second of a plain `XADD` pipeline: one entry per event, nothing checked.
    ///
    /// # Errors
    /// Those of [`RawRedis::command`].
    pub(crate) fn entries_per_second(&mut self, span: Duration) -> io::Result<f64> {
        let payload = [0x5a; PAYLOAD_BYTES];
        let entry = encoded(&[b"XADD", b"raw", b"*", b"e", &payload]);
        // Half a window is written while the other half is answered, so that neither side idles.
        let half = entry.repeat(DEPTH / 2);
        let begun = Instant::now();
        let mut count = 0_u32;
        self.answers.get_mut().write_all(&half)?;
        while begun.elapsed() < span {
            self.answers.get_mut().write_all(&half)?;
            for _ in 0..DEPTH / 2 {
                self.skip_answer()?;
            }
            count += DEPTH as u32 / 2;
        }
        for _ in 0..DEPTH / 2 {
            self.skip_answer()?;
        }
        count += DEPTH as u32 / 2;
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        self.command(&[b"DEL", b"raw"])?;
        Ok(rate)
    }

    fn skip_answer(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let count = |line: &str| line[1..].trim().parse::<u64>().unwrap_or(0);
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(()),
            Some(b'$') if line.starts_with("$-1") => Ok(()),
            Some(b'$') => {
                let length = count(&line) + 2;
                let read = io::copy(&mut self.answers.by_ref().take(length), &mut io::sink())?;
                if read == length {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
            Some(b'*') => (0..count(&line)).try_for_each(|_| self.skip_answer()),
            Some(_) | None => Err(io::Error::other(format!("Redis answered {line:?}"))),
        }
    }
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}
