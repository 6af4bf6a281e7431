//! The public part of a task file, whichever party it was written for.

use std::path::{Path, PathBuf};

use mica_aggregator::TaskFile;
use mica_collector::CollectorTask;
use mica_dap::Draft;
use mica_dap::id::TaskId;
use mica_dap::task::TaskConfiguration;
use mica_dp::parse_task_info;

use crate::exit::Failure;
use crate::files;

/// What every party of a task knows.
pub(crate) struct Known {
    pub(crate) task_id: TaskId,
    pub(crate) draft: Draft,
    pub(crate) configuration: TaskConfiguration,
    /// What is counted, where this party knows it.
    pub(crate) prefixes: Vec<String>,
    /// Whose file it was read from.
    pub(crate) party: String,
}

impl Known {
    /// Reads any of the files of a task, or the first there is in the folder of them.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let path = resolve(path)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            let task = CollectorTask::from_json(&files::read(&path, "collector's task file")?)?;
            let prefixes = task.prefixes();
            let (task_id, draft, configuration) = (task.task_id, task.draft, task.configuration);
            return Ok(Self { task_id, draft, configuration, prefixes, party: "collector".to_owned() });
        }
        let task = TaskFile::load(&path)?;
        let prefixes = task.prefixes();
        let (task_id, draft, configuration) = (task.task_id, task.draft, task.configuration);
        Ok(Self { task_id, draft, configuration, prefixes, party: task.role.to_string() })
    }

    /// What people call the task, and the hash of the release statement it is bound to.
    pub(crate) fn label(&self) -> (String, Option<String>) {
        let info = self.configuration.task_info();
        match parse_task_info(info) {
            Some((label, hash)) => (label.to_owned(), Some(hex::encode(hash))),
            None => (String::from_utf8_lossy(info).into_owned(), None),
        }
    }
}

fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let files = ["leader.task.toml", "helper.task.toml", "collector.task.json"];
    let found = files.iter().map(|file| path.join(file)).find(|file| file.is_file());
    found.ok_or_else(|| {
        Failure::invalid(format!(
            "there is no task file in {}; make one with `mica task new`",
            path.display()
        ))
    })
}
