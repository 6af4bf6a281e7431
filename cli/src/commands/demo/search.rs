//! Looks through logs and databases for what must not be there.
//!
//! The clients of a demonstration remember what only they know: the identifier of each report and the end of each
//! share. Every byte that a role has written is then compared with all of it, as bytes, in hexadecimal and in base64.

use std::collections::{HashMap, HashSet};

use mica_dap::id::{ReportId, TaskId, to_base64url};
use mica_dap::vdaf::Sharded;

/// What only clients know.
#[derive(Default)]
pub(super) struct Traces {
    reports: Vec<[u8; LENGTH]>,
    shares: Vec<[u8; LENGTH]>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An address of loopback that is not one of the servers': a client's.
    ClientAddress,
    /// The task's identifier.
    TaskId,
    /// The identifier of a report.
    ReportId,
    /// One of the two shares of a measurement, in the clear.
    Share,
}

/// How often something was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) client_addresses: u64,
    pub(super) task_ids: u64,
    pub(super) report_ids: u64,
    pub(super) shares: u64,
    /// How much was looked through.
    pub(super) bytes: u64,
}

impl Traces {
    /// Remembers a report. The last bytes of a share, of a seed or of a proof, are as good as random and go into no sum;
    /// its first ones are also the sum of a bucket for as long as this report is the only one in it.
    pub(super) fn remember(&mut self, id: &ReportId, sharded: &Sharded) {
        self.reports.push(*id.as_bytes());
        self.shares.extend(sharded.input_shares.iter().filter_map(|share| share.last_chunk().copied()));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.reports.extend(other.reports);
        self.shares.extend(other.shares);
    }

    /// How many reports and how many shares are looked for.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.reports.len(), self.shares.len())
    }
}

/// Everything that is looked for, in the forms in which it could have been written.
pub(super) struct Search {
    /// The first bytes as they are, and one bit for each of them that says whether looking is worth it.
    raw: HashMap<[u8; RAW], Kind>,
    worth: Vec<u64>,
    hex: HashMap<[u8; HEX], Kind>,
    base64: HashMap<[u8; BASE64], Kind>,
    servers: HashSet<u16>,
}

impl Search {
    /// A search for the traces of the clients and for the task, where `servers` are the ports of the servers themselves.
    pub(super) fn new(traces: &Traces, task: &TaskId, servers: impl IntoIterator<Item = u16>) -> Self {
        let mut search = Self {
            raw: HashMap::new(),
            worth: vec![0; FILTER / 64],
            hex: HashMap::new(),
            base64: HashMap::new(),
            servers: servers.into_iter().collect(),
        };
        search.look_for(task.as_bytes(), Kind::TaskId);
        for report in &traces.reports {
            search.look_for(report, Kind::ReportId);
        }
        for share in &traces.shares {
            search.look_for(share, Kind::Share);
        }
        search
    }

    fn look_for(&mut self, bytes: &[u8], kind: Kind) {
        if let Some(raw) = bytes.first_chunk() {
            let (word, bit) = place(*raw);
            if let Some(word) = self.worth.get_mut(word) {
                *word |= bit;
            }
            self.raw.insert(*raw, kind);
        }
        if let Some(hex) = hex::encode(bytes).as_bytes().first_chunk() {
            self.hex.insert(*hex, kind);
        }
        if let Some(base64) = to_base64url(bytes).as_bytes().first_chunk() {
            self.base64.insert(*base64, kind);
        }
    }

    /// What is in `bytes`.
    pub(super) fn through(&self, bytes: &[u8]) -> Found {
        let mut found = Found { bytes: bytes.len() as u64, ..Found::default() };
        for window in bytes.windows(RAW).filter_map(<[u8]>::first_chunk::<RAW>) {
            let (word, bit) = place(*window);
            if self.worth.get(word).is_some_and(|word| word & bit != 0)
                && let Some(kind) = self.raw.get(window)
            {
                found.count(*kind);
            }
        }
        for run in bytes.split(|byte| !is_letter(*byte)).filter(|run| run.len() >= BASE64) {
            self.in_text(run, &mut found);
        }
        found.client_addresses += self.client_addresses(bytes);
        found
    }

    /// In letters without a break.
    fn in_text(&self, run: &[u8], found: &mut Found) {
        for window in run.windows(HEX).filter_map(<[u8]>::first_chunk::<HEX>) {
            if let Some(kind) = self.hex.get(&window.map(|letter| letter.to_ascii_lowercase())) {
                found.count(*kind);
            }
        }
        // The two alphabets of base64 differ in two letters.
        let url = |letter| match letter {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        };
        for window in run.windows(BASE64).filter_map(<[u8]>::first_chunk::<BASE64>) {
            if let Some(kind) = self.base64.get(&window.map(url)) {
                found.count(*kind);
            }
        }
    }

    /// Clients are on loopback, as the servers are, but on ports of their own.
    fn client_addresses(&self, bytes: &[u8]) -> u64 {
        let mut count = 0;
        for (at, window) in bytes.windows(LOOPBACK.len()).enumerate() {
            if window != LOOPBACK {
                continue;
            }
            let rest = bytes.get(at + LOOPBACK.len()..).unwrap_or_default();
            let port: Vec<u8> = match rest.split_first() {
                Some((b':', rest)) => rest.iter().copied().take_while(u8::is_ascii_digit).take(5).collect(),
                _ => Vec::new(),
            };
            let port = std::str::from_utf8(&port).ok().and_then(|port| port.parse().ok());
            count += u64::from(!port.is_some_and(|port| self.servers.contains(&port)));
        }
        count
    }
}

impl Found {
    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::ClientAddress => self.client_addresses += 1,
            Kind::TaskId => self.task_ids += 1,
            Kind::ReportId => self.report_ids += 1,
            Kind::Share => self.shares += 1,
        }
    }

    /// Both together.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            client_addresses: self.client_addresses + other.client_addresses,
            task_ids: self.task_ids + other.task_ids,
            report_ids: self.report_ids + other.report_ids,
            shares: self.shares + other.shares,
            bytes: self.bytes + other.bytes,
        }
    }

    /// How often something of this kind was found.
    pub(super) fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::ClientAddress => self.client_addresses,
            Kind::TaskId => self.task_ids,
            Kind::ReportId => self.report_ids,
            Kind::Share => self.shares,
        }
    }
}

/// Where the filter keeps the bit of these bytes.
fn place(bytes: [u8; RAW]) -> (usize, u64) {
    let number = u64::from_le_bytes(bytes);
    let slot = number & (FILTER as u64 - 1);
    (usize::try_from(slot / 64).unwrap_or(0), 1 << (slot % 64))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_+/".contains(&byte)
}

/// How much of an identifier or a share is remembered.
const LENGTH: usize = 16;
/// How much of it must be found for a find: chance does not write eight bytes that somebody else drew.
const RAW: usize = 8;
/// The same in hexadecimal digits.
const HEX: usize = 16;
/// Nine bytes in base64.
const BASE64: usize = 12;
/// Bits of the filter.
const FILTER: usize = 1 << 22;
const LOOPBACK: &[u8] = b"127.0.0.1";

#[cfg(test)]
mod tests {
    use super::*;

    fn search() -> (Search, [u8; 32], [u8; 16], [u8; 16]) {
        let (task, report, share) = ([0xA7; 32], *b"fedcba9876543210", *b"shareshareshares");
        let traces = Traces { reports: vec![report], shares: vec![share] };
        (Search::new(&traces, &TaskId::new(task), [8481]), task, report, share)
    }

    #[test]
    fn everything_is_found_as_bytes_in_hexadecimal_and_in_both_kinds_of_base64() {
        let (search, task, report, share) = search();
        for (bytes, kind) in [(&task[..], Kind::TaskId), (&report, Kind::ReportId), (&share, Kind::Share)] {
            let hex = hex::encode(bytes);
            let url = to_base64url(bytes);
            let standard = url.replace('-', "+").replace('_', "/");
            let forms = [bytes.to_vec(), hex.to_uppercase().into(), hex.into(), url.into(), standard.into()];
            for form in forms {
                let text = [b"\0before=".as_slice(), &form, b"\"after"].concat();
                let found = search.through(&text);
                assert!(found.of(kind) > 0, "{kind:?} {:?}", String::from_utf8_lossy(&form));
            }
        }
    }

    #[test]
    fn an_address_is_a_clients_unless_it_is_that_of_a_server() {
        let (search, ..) = search();
        for (text, addresses) in [
            ("listening on 127.0.0.1:8481", 0),
            ("from 127.0.0.1:50123 and 127.0.0.1:8481", 1),
            ("peer=127.0.0.1", 1),
            ("127.0.0.1:84811", 1),
            ("nothing", 0),
        ] {
            assert_eq!(search.through(text.as_bytes()).client_addresses, addresses, "{text}");
        }
    }

    #[test]
    fn what_is_not_looked_for_is_not_found() {
        let (search, ..) = search();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
        assert_eq!(search.through(&bytes), Found { bytes: 100_000, ..Found::default() });
    }
}
