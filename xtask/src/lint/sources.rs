//! The files of the tree that people write and read.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The endings of the names of files that are read.
const KINDS: [&str; 8] = ["rs", "md", "toml", "sql", "sh", "yml", "yaml", "run"];

/// Vectors are data from elsewhere, kept as they came.
const NOT_OURS: [&str; 3] = ["target", "vectors", ".git"];

/// One file.
pub(super) struct Source {
    /// Relative to the root of the workspace.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// Whether this is Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.extension() == Some(OsStr::new("rs"))
    }
}

/// Every file below `root`, in the order of their paths.
pub(super) fn collect(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let path = entry.path();
            let kind = entry.file_type().with_context(|| format!("cannot read {}", path.display()))?;
            if kind.is_dir() && is_ours(&path) {
                folders.push(path);
            } else if kind.is_file() && is_read(&path) {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Folders of generated files carry a tag that says so, whatever their name.
fn is_ours(folder: &Path) -> bool {
    !NOT_OURS.iter().any(|name| folder.file_name() == Some(OsStr::new(name)))
        && !folder.join("CACHEDIR.TAG").exists()
}

fn is_read(path: &Path) -> bool {
    let kind = path.extension().or(path.file_name());
    KINDS.iter().any(|known| kind == Some(OsStr::new(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_and_foreign_files_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "a/b.rs",
            "a/picture.png",
            ".ci/run",
            "target/c.rs",
            "x/vectors/d.md",
            "out/CACHEDIR.TAG",
            "out/e.rs",
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found: Vec<_> = collect(root.path()).unwrap().into_iter().map(|source| source.path).collect();
        assert_eq!(found, [Path::new(".ci/run"), Path::new("a/b.rs")]);
    }
}
