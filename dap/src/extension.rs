//! The one shape of every extension: a type and opaque data, in lists that grow strictly by type.
//!
//! Tasks, reports, aggregation jobs and collection jobs each have a registry of types of their own; an
//! out-of-order list is another error in each of them, so order is checked by who knows which
//! ([`strictly_increasing`]), not while decoding.

use crate::codec::{Decode, Encode, Malformed, Reader, put_opaque16};

/// One extension of a task, a report or a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The code point in the registry of its kind; 0 is reserved and never recognised.
    pub extension_type: u16,
    /// The data; what it holds is the type's affair.
    pub data: Vec<u8>,
}

impl Encode for Extension {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.extension_type.to_be_bytes());
        put_opaque16(out, &self.data);
    }
}

impl Decode for Extension {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { extension_type: reader.u16()?, data: reader.opaque16(0)?.to_vec() })
    }
}

/// Whether the types of `extensions` grow strictly.
pub fn strictly_increasing(extensions: &[Extension]) -> bool {
    extensions.is_sorted_by(|a, b| a.extension_type < b.extension_type)
}

/// Reads a list of extensions; its two-byte length is all that bounds their number.
pub(crate) fn decode_extensions(reader: &mut Reader<'_>) -> Result<Vec<Extension>, Malformed> {
    reader.list16(usize::MAX)
}
