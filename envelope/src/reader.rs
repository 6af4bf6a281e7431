//! Reads binary HTTP (RFC 9292 3) from bytes that a stranger wrote: bounded, without copying content.
//!
//! Nothing is allocated on the word of a length: a length that exceeds what is there ends the reading. Meaning is
//! checked in `validate`; here is only framing.

use bytes::{Buf, Bytes};

use crate::{error::Invalid, size::MAX_ENCAPSULATED};

/// A message with its framing removed and nothing of it checked.
pub(crate) struct RawMessage {
    pub(crate) control: Control,
    pub(crate) fields: Vec<RawField>,
    pub(crate) content: Bytes,
    pub(crate) trailers: Vec<RawField>,
    /// Number of zero bytes after the message.
    pub(crate) padding: usize,
}

pub(crate) struct RawField {
    pub(crate) name: Bytes,
    pub(crate) value: Bytes,
}

pub(crate) enum Control {
    Request { method: Bytes, scheme: Bytes, authority: Bytes, path: Bytes },
    Response { status: u64, informational: Vec<(u64, Vec<RawField>)> },
}

/// Most fields in one section.
pub(crate) const MAX_FIELDS: usize = 64;
/// Most bytes in one field section, lengths included.
pub(crate) const MAX_FIELD_SECTION: usize = 16 * 1024;

const MAX_INFORMATIONAL: usize = 8;

impl RawMessage {
    /// Reads one message and the padding after it.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, Invalid> {
        let mut reader = Reader(bytes);
        let (framing, is_request) = match reader.varint()? {
            0 => (Framing::Known, true),
            1 => (Framing::Known, false),
            2 => (Framing::Indeterminate, true),
            3 => (Framing::Indeterminate, false),
            _ => return Err(Invalid("unknown framing indicator")),
        };
        let control = if is_request { reader.request()? } else { reader.response(framing)? };
        let fields = reader.fields(framing)?;
        let content = reader.content(framing)?;
        let trailers = reader.fields(framing)?;
        if reader.0.iter().any(|&byte| byte != 0) {
            return Err(Invalid("padding is not zero"));
        }
        Ok(Self { control, fields, content, trailers, padding: reader.0.len() })
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Known,
    Indeterminate,
}

struct Reader(Bytes);

impl Reader {
    fn request(&mut self) -> Result<Control, Invalid> {
        Ok(Control::Request {
            method: self.vector()?,
            scheme: self.vector()?,
            authority: self.vector()?,
            path: self.vector()?,
        })
    }

    /// Informational responses come before the final status (RFC 9292 3.5.1).
    fn response(&mut self, framing: Framing) -> Result<Control, Invalid> {
        let mut informational = Vec::new();
        loop {
            let status = self.varint()?;
            if !(100..200).contains(&status) {
                return Ok(Control::Response { status, informational });
            }
            if informational.len() == MAX_INFORMATIONAL {
                return Err(Invalid("too many informational responses"));
            }
            informational.push((status, self.fields(framing)?));
        }
    }

    /// A message may end before any section that is empty (RFC 9292 3.8), but never within one.
    fn fields(&mut self, framing: Framing) -> Result<Vec<RawField>, Invalid> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        match framing {
            Framing::Known => {
                let mut section = Reader(self.vector()?);
                let mut fields = Vec::new();
                let size = section.0.len();
                while !section.0.is_empty() {
                    let name = section.vector()?;
                    section.field(name, &mut fields, size)?;
                }
                Ok(fields)
            }
            Framing::Indeterminate => {
                let start = self.0.len();
                let mut fields = Vec::new();
                loop {
                    let name = self.vector()?;
                    if name.is_empty() {
                        return Ok(fields);
                    }
                    self.field(name, &mut fields, 0)?;
                    if start - self.0.len() > MAX_FIELD_SECTION {
                        return Err(Invalid("field section too large"));
                    }
                }
            }
        }
    }

    fn field(&mut self, name: Bytes, fields: &mut Vec<RawField>, section: usize) -> Result<(), Invalid> {
        if fields.len() == MAX_FIELDS {
            return Err(Invalid("too many fields"));
        }
        if section > MAX_FIELD_SECTION {
            return Err(Invalid("field section too large"));
        }
        fields.push(RawField { name, value: self.vector()? });
        Ok(())
    }

    fn content(&mut self, framing: Framing) -> Result<Bytes, Invalid> {
        if self.0.is_empty() {
            return Ok(Bytes::new());
        }
        let first = self.vector()?;
        if matches!(framing, Framing::Known) || first.is_empty() {
            return Ok(first);
        }
        let mut content = first.to_vec();
        loop {
            let chunk = self.vector()?;
            if chunk.is_empty() {
                return Ok(content.into());
            }
            content.extend_from_slice(&chunk);
        }
    }

    fn vector(&mut self) -> Result<Bytes, Invalid> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| Invalid("message is truncated"))?;
        if length > self.0.len() {
            return Err(Invalid("message is truncated"));
        }
        Ok(self.0.split_to(length))
    }

    /// A variable-length integer (RFC 9000 16); it need not be the shortest form.
    fn varint(&mut self) -> Result<u64, Invalid> {
        let first = self.byte()?;
        let mut value = u64::from(first & 0x3f);
        for _ in 1..(1_u32 << (first >> 6)) {
            value = (value << 8) | u64::from(self.byte()?);
        }
        Ok(value)
    }

    fn byte(&mut self) -> Result<u8, Invalid> {
        self.0.try_get_u8().map_err(|_| Invalid("message is truncated"))
    }
}

// What is read was in memory already, so the content needs no limit of its own.
const _: () = assert!(MAX_ENCAPSULATED <= 1 << 24);
