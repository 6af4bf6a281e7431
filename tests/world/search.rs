//! Searches everything that a run wrote for what must not be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mica_dap::id::to_base64url;

/// Something that must not be found, in every spelling that it could be written in.
pub struct Needle {
    /// What it is.
    pub name: String,
    spellings: Vec<Vec<u8>>,
}

/// What was found where it must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is.
    pub needle: String,
    /// Where it is.
    pub place: String,
}

impl Needle {
    /// A text, as it is.
    #[must_use]
    pub fn text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), spellings: vec![text.as_bytes().to_vec()] }
    }

    /// Bytes: raw, in hexadecimal digits, in either alphabet of base64, and as a program prints a list of numbers.
    #[must_use]
    pub fn bytes(name: &str, bytes: &[u8]) -> Self {
        let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        let base64url = to_base64url(bytes);
        let base64 = base64url.replace('-', "+").replace('_', "/");
        let texts = [hex::encode(bytes), hex::encode_upper(bytes), base64url, base64, numbers.join(", ")];
        let spellings = std::iter::once(bytes.to_vec()).chain(texts.map(String::into_bytes)).collect();
        Self { name: name.to_owned(), spellings }
    }

    /// A number: in decimal digits, and as eight bytes in either order.
    #[must_use]
    pub fn number(name: &str, number: u64) -> Self {
        let bytes = [number.to_be_bytes().to_vec(), number.to_le_bytes().to_vec()];
        let texts =
            [number.to_string(), format!("{number:x}"), format!("{number:X}")].map(String::into_bytes);
        Self { name: name.to_owned(), spellings: texts.into_iter().chain(bytes).collect() }
    }

    /// As it is, in none of the ways that a program prints it.
    #[must_use]
    pub fn first_spelling(&self) -> &[u8] {
        self.spellings.first().map(Vec::as_slice).unwrap_or_default()
    }
}

/// Files, with what is in them.
#[derive(Default)]
pub struct Haystack {
    files: BTreeMap<String, Vec<u8>>,
}

impl Haystack {
    /// Every file below `folder`: logs, databases, their journals, whatever else.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let mut haystack = Self::default();
        haystack.read(folder, folder);
        assert!(!haystack.files.is_empty(), "nothing was written to {}", folder.display());
        haystack
    }

    /// Bytes that are in no file.
    #[must_use]
    pub fn of_bytes(name: &str, bytes: Vec<u8>) -> Self {
        assert!(!bytes.is_empty(), "{name} is empty");
        Self { files: BTreeMap::from([(name.to_owned(), bytes)]) }
    }

    /// Only the files whose path below the folder passes.
    #[must_use]
    pub fn only(&self, mut wanted: impl FnMut(&str) -> bool) -> Self {
        let files = self.files.iter().filter(|(name, _)| wanted(name));
        Self { files: files.map(|(name, content)| (name.clone(), content.clone())).collect() }
    }

    /// The logs.
    #[must_use]
    pub fn logs(&self) -> Self {
        self.only(|name| !is_database(name) && has_ending(name, "log"))
    }

    /// The databases with their journals.
    #[must_use]
    pub fn databases(&self) -> Self {
        self.only(is_database)
    }

    /// The paths of the files.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// Everything that is found, in order.
    #[must_use]
    pub fn search(&self, needles: &[Needle]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (place, content) in &self.files {
            for needle in needles {
                if needle.spellings.iter().any(|spelling| holds(content, spelling)) {
                    findings.push(Finding { needle: needle.name.clone(), place: place.clone() });
                }
            }
        }
        findings.sort();
        findings.dedup();
        findings
    }

    fn read(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).expect("the folder of a run can be read") {
            let path = entry.expect("the folder of a run can be read").path();
            if path.is_dir() {
                self.read(root, &path);
            } else if let Ok(content) = fs::read(&path) {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                self.files.insert(name, content);
            }
        }
    }
}

fn is_database(name: &str) -> bool {
    ["db", "db-wal", "db-shm", "db-journal"].iter().any(|ending| has_ending(name, ending))
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

/// Whether `content` holds `needle` somewhere: looks for its rarest end first, which here is any byte of it.
fn holds(content: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return false };
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let (_, found) = rest.split_at(at);
        if found.starts_with(needle) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}
