//! What can go wrong with an envelope. No variant carries bytes of a message: errors end up in logs.

use thiserror::Error;

/// A binary HTTP message that is malformed or that we refuse to carry. The text names the rule, never the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// A list of key configurations that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyConfigError {
    /// Some part is badly encoded: the whole list is discarded (RFC 9458 3.2).
    #[error("the key configuration list is malformed: {0}")]
    Malformed(&'static str),
    /// Well formed, but nothing in it is a suite that we speak.
    #[error("no key configuration in the list is supported")]
    Unsupported,
}

/// A message that could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The inner message breaks a rule that its receiver will check.
    #[error("the inner message is invalid: {0}")]
    Invalid(#[from] Invalid),
    /// No shared size holds the message.
    #[error("the message does not fit into the largest shared size")]
    TooLarge,
    /// The public key of the gateway is of no use.
    #[error("the key of the gateway is unusable")]
    Key,
}

/// A sealed message that could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Too short to be a sealed message.
    #[error("the message is too short")]
    Truncated,
    /// No key has this identifier, or the key is for another KEM.
    #[error("the key identifier is unknown")]
    UnknownKey,
    /// The KDF and AEAD are not among those that were advertised for the key.
    #[error("the suite is not offered for this key")]
    Suite,
    /// The seal does not verify.
    #[error("the seal does not verify")]
    Seal,
    /// The seal was good and what is inside is not a message we accept.
    #[error("the inner message is invalid: {0}")]
    Invalid(#[from] Invalid),
}
