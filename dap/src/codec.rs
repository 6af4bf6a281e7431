//! The byte codec under every message: big-endian integers, fixed arrays and length-prefixed vectors.
//!
//! Every hop uses it, and every byte it reads was written by a peer. So nothing here indexes, nothing
//! allocates before the bytes are there, and a message must be consumed to its last byte.

/// The bytes are not an encoding of the message; the text says which part is wrong, never what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// A list is longer than its reader allows: perhaps well formed, but too large here.
    pub const TOO_MANY: Self = Self("more elements than allowed");
}

/// A structure that can be written in the wire format.
///
/// Writing panics when a part is longer than its length field can say. Nothing that was decoded ever is.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding on its own.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A structure that can be read from the wire format.
pub trait Decode: Sized {
    /// Reads one value and leaves the reader behind it.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Reads one value that must fill `bytes` to the end.
    fn decoded(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// What is left to read of a message.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over the whole of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number of bytes that are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that are left, without consuming them.
    pub fn peek_rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses anything that is left.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes after the end")) }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Malformed("cut short"))?;
        self.rest = tail;
        Ok(head)
    }

    /// Everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed("cut short"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// A `uint8`.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// A `uint16`.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A `uint32`.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A `uint64`.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// An `opaque<min..2^8-1>`.
    pub fn opaque8(&mut self, min: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u8()?);
        self.opaque(length, min)
    }

    /// An `opaque<min..2^16-1>`.
    pub fn opaque16(&mut self, min: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16()?);
        self.opaque(length, min)
    }

    /// An `opaque<min..2^32-1>`.
    pub fn opaque32(&mut self, min: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed("cut short"))?;
        self.opaque(length, min)
    }

    /// Values of one type up to the end of the reader, at most `limit` of them.
    pub fn list<T: Decode>(&mut self, limit: usize) -> Result<Vec<T>, Malformed> {
        let mut values = Vec::new();
        while !self.is_empty() {
            if values.len() >= limit {
                return Err(Malformed::TOO_MANY);
            }
            values.push(T::decode(self)?);
        }
        Ok(values)
    }

    /// Reads one value and says which bytes it was.
    pub fn with_bytes<T: Decode>(&mut self) -> Result<(T, &'a [u8]), Malformed> {
        let before = self.rest;
        let value = T::decode(self)?;
        let length = before.len() - self.rest.len();
        let bytes = before.get(..length).ok_or(Malformed("cut short"))?;
        Ok((value, bytes))
    }

    /// Values of one type behind a two-byte length of all of them together, at most `limit` of them.
    pub fn list16<T: Decode>(&mut self, limit: usize) -> Result<Vec<T>, Malformed> {
        Reader::new(self.opaque16(0)?).list(limit)
    }

    fn opaque(&mut self, length: usize, min: usize) -> Result<&'a [u8], Malformed> {
        if length < min {
            return Err(Malformed("a vector shorter than its minimum"));
        }
        self.take(length)
    }
}

/// Gives types a `Debug` that shows their name only: what they hold belongs into no log.
macro_rules! hide_from_debug {
    ($($name:ident),+ $(,)?) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })+
    };
}
pub(crate) use hide_from_debug;

/// Writes an `opaque<..2^8-1>`.
///
/// # Panics
/// When `bytes` is longer than 255 bytes; callers bound it when they build the message.
pub(crate) fn put_opaque8(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("bounded to 2^8-1 bytes when the message was built"));
    out.extend_from_slice(bytes);
}

/// Writes an `opaque<..2^16-1>`.
///
/// # Panics
/// When `bytes` is longer than 65,535 bytes; callers bound it when they build the message.
pub(crate) fn put_opaque16(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("bounded to 2^16-1 bytes when the message was built");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Writes an `opaque<..2^32-1>`.
///
/// # Panics
/// When `bytes` is longer than 4 GiB, which no part of a message ever is.
pub(crate) fn put_opaque32(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("no part of a message reaches 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Writes values behind a two-byte length of all of them together.
pub(crate) fn put_list16<T: Encode>(out: &mut Vec<u8>, values: &[T]) {
    let mut inner = Vec::new();
    for value in values {
        value.encode(&mut inner);
    }
    put_opaque16(out, &inner);
}
