//! As much HTTP/1.1 as it takes to stand between two parties, or to be one: one message per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The first line.
    pub(super) line: String,
    /// The fields, their names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A sealed request.
    pub(super) fn sealed(path: &str, body: Vec<u8>) -> Self {
        Self::post(path, "message/ohttp-req", body)
    }

    pub(super) fn post(path: &str, media: &str, body: Vec<u8>) -> Self {
        let fields =
            vec![("host".to_owned(), "127.0.0.1".to_owned()), ("content-type".to_owned(), media.to_owned())];
        Self { line: format!("POST {path} HTTP/1.1"), fields, body }
    }

    pub(super) fn get(path: &str) -> Self {
        let fields = vec![("host".to_owned(), "127.0.0.1".to_owned())];
        Self { line: format!("GET {path} HTTP/1.1"), fields, body: Vec::new() }
    }

    pub(super) fn answer(status: u16, media: &str, body: impl Into<Vec<u8>>) -> Self {
        let fields = vec![("content-type".to_owned(), media.to_owned())];
        Self { line: format!("HTTP/1.1 {status} Said"), fields, body: body.into() }
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of the fields, but for those that are about the connection alone.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| !HOP_BY_HOP.contains(name));
        names.sort_unstable();
        names
    }

    /// The next message from a peer; `None` where there is none.
    pub(super) fn read(stream: impl Read) -> Result<Option<Self>> {
        let mut reader = BufReader::new(stream);
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let field = read_line(&mut reader)?;
            let Some((name, value)) = field.split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self { line, fields, body: Vec::new() };
        message.body = message.read_body(&mut reader)?;
        Ok(Some(message))
    }

    fn read_body(&self, reader: &mut impl BufRead) -> Result<Vec<u8>> {
        if self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return read_chunks(reader);
        }
        let is_answer = self.line.starts_with("HTTP/");
        match self.field("content-length") {
            Some(length) => read_exactly(reader, length.parse().context("a length that is no number")?),
            None if is_answer && !matches!(self.status(), 100..=199 | 204 | 304) => {
                let mut body = Vec::new();
                reader.take(LARGEST).read_to_end(&mut body).context("cannot read")?;
                Ok(body)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Writes the message, as the last one of its connection.
    pub(super) fn write(&self, mut stream: impl Write) -> Result<()> {
        let is_framing = |name: &str| HOP_BY_HOP.contains(&name) || name == "content-length";
        let fields = self.fields.iter().filter(|(name, _)| !is_framing(name));
        let fields: String = fields.flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
        let mut bytes = format!(
            "{}\r\n{fields}content-length: {}\r\nconnection: close\r\n\r\n",
            self.line,
            self.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&self.body);
        stream.write_all(&bytes).and_then(|()| stream.flush()).context("cannot write")
    }

    /// Sends the message to a port of this machine and gives the answer.
    pub(super) fn ask(&self, port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time")?;
        self.write(&stream)?;
        match Self::read(&stream)? {
            Some(answer) => Ok(answer),
            None => bail!("the connection was closed without an answer"),
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line).context("cannot read")?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.take(length.min(LARGEST)).read_to_end(&mut body).context("cannot read")?;
    if body.len() as u64 != length {
        bail!("{} bytes of {length}", body.len());
    }
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let length = line.split(';').next().unwrap_or_default();
        let length = u64::from_str_radix(length, 16).context("a length that is no number")?;
        if length == 0 {
            read_line(reader)?;
            return Ok(body);
        }
        body.extend(read_exactly(reader, length)?);
        read_line(reader)?;
    }
}

/// What a connection is told, and not the other party.
const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "proxy-connection"];
const LONGEST_LINE: u64 = 64 << 10;
const LARGEST: u64 = 32 << 20;
/// Longer than any of the parties waits.
const PATIENCE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut written = Vec::new();
        let message = Message::sealed("/", b"\0sealed\r\n\r\n".to_vec());
        message.write(&mut written).unwrap();
        let read = Message::read(written.as_slice()).unwrap().unwrap();
        assert_eq!((read.line.as_str(), &read.body), ("POST / HTTP/1.1", &message.body));
        assert_eq!(read.names(), ["content-length", "content-type", "host"]);
    }

    #[test]
    fn a_body_may_come_in_chunks_or_end_with_the_connection() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(Message::read(chunked.as_slice()).unwrap().unwrap().body, b"abcde");
        let open = b"HTTP/1.1 201 Created\r\n\r\nuntil the end";
        let read = Message::read(open.as_slice()).unwrap().unwrap();
        assert_eq!((read.status(), read.body.as_slice()), (201, b"until the end".as_slice()));
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let short = b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nshort";
        assert!(Message::read(short.as_slice()).is_err());
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort";
        assert!(Message::read(chunked.as_slice()).is_err());
        assert_eq!(Message::read(b"".as_slice()).unwrap(), None);
    }
}
