//! Saving a result: checked before the run, and written in one step after it.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;

/// A place for a result. It is known to be writable, since a temporary file is there already. Dropping it
/// without saving removes that file.
pub struct AtomicFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl AtomicFile {
    /// Checks that a result can be saved at `path`, the value of the option `option`, and makes the
    /// folders that it names.
    ///
    /// # Errors
    /// When it cannot, or there is something other than an ordinary file: a result must not replace `/dev/null`.
    pub fn reserve(option: &str, path: &Path) -> Result<Self> {
        let show = path.display();
        let remedy =
            || format!("cannot write {option} {show}; name a file in a folder you may write to");
        // Follows a symbolic link; renaming would replace the link.
        let path = match std::fs::metadata(path) {
            Ok(found) => {
                ensure!(found.is_file(), "{option} {show} is not a file; name one to be written");
                path.canonicalize().with_context(remedy)?
            }
            Err(_) => path.to_owned(),
        };
        ensure!(
            path.file_name().is_some(),
            "{option} {show} names no file; name one to be written"
        );
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(remedy)?;
        let file = tempfile::Builder::new()
            // The mode of an ordinary new file, less the umask.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(remedy)?;
        Ok(Self { path, file })
    }

    /// Writes the result as indented JSON.
    pub fn save(self, result: &impl Serialize) -> Result<()> {
        self.save_text(
            &serde_json::to_string_pretty(result).context("cannot convert the result to JSON")?,
        )
    }

    /// Writes the result as compact JSON, for results with thousands of numbers.
    pub fn save_compact(self, result: &impl Serialize) -> Result<()> {
        self.save_text(&serde_json::to_string(result).context("cannot convert the result to JSON")?)
    }

    /// Writes a text in one step: a reader of the file finds the old text or the new one.
    pub fn save_text(mut self, text: &str) -> Result<()> {
        let to = || format!("cannot write {}", self.path.display());
        self.file.write_all(text.as_bytes()).with_context(to)?;
        self.file.write_all(b"\n").with_context(to)?;
        self.file.persist(&self.path).map(drop).map_err(|error| error.error).with_context(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_nothing_is_seen_until_it_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/result.json");
        let place = AtomicFile::reserve("--json", &path).unwrap();
        assert!(!path.exists());
        place.save(&[1, 2]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().split_whitespace().count(), 4);
    }

    #[test]
    fn what_is_not_saved_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        drop(AtomicFile::reserve("--json", &folder.path().join("result.json")).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_and_a_device_are_refused_and_a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/null"), Path::new("/proc/no/such")] {
            let refusal = AtomicFile::reserve("--json", path).err().unwrap().to_string();
            assert!(refusal.contains(&*path.to_string_lossy()), "{refusal}");
        }
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        AtomicFile::reserve("--json", &link).unwrap().save(&"new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "\"new\"\n");
        assert!(link.is_symlink());
    }
}
