//! The envelope: binary HTTP inside Oblivious HTTP, padded to a shared set of sizes.
//!
//! A report leaves the client as one HTTP request, written in binary form (RFC 9292), padded, and sealed to
//! the gateway (RFC 9458). The relay in between sees a sealed block whose size is one of [`SIZE_BUCKETS`] and
//! learns nothing from it; the gateway opens it and answers under keys that only this client can derive.
//!
//! This crate is used by the two ends of the envelope and by nobody else: the relay does not link it. It does no
//! input or output, keeps no state, and must never learn an address.

mod answer_lock;
mod client;
mod decode;
mod encode;
mod error;
mod gateway;
mod key_config;
pub mod media;
mod message;
mod reader;
mod recipient;
mod response;
mod size;
mod suite;
mod validate;

pub use answer_lock::{AnswerLock, NotLocked};
pub use client::{ClientEnvelope, Opener};
pub use decode::{Decoded, decode_request, decode_response};
pub use encode::{encode_request_padded, encode_response, encode_response_padded, pad_response};
pub use error::{Invalid, KeyConfigError, OpenError, SealError};
pub use gateway::{EncDigest, GatewayKey, GatewayKeys, Ikm, Opened, Sealer, Unwrap};
pub use key_config::{Kem, KeyConfigList, NoKem};
pub use message::{InnerRequest, InnerResponse};
/// What a gateway has published, for those who speak with it anyway.
pub use mica_history as history;
pub use size::{MAX_ENCAPSULATED, SIZE_BUCKETS, is_padded_length, padded_length};
