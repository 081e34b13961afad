//! Installs programs without changing the system: Debian packages are downloaded and unpacked below a
//! folder of the build, so that none of their services starts; Python packages go into a virtual
//! environment there. A program that the system already has is used, unless one was unpacked before.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::servers::catalogue::{APPS, Program, Source};

/// How long one step of an installation may take, in seconds.
const PATIENCE: &str = "300";

/// Folders of programs that are not on every user's PATH.
const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The folder with all installed programs.
pub struct Place {
    folder: PathBuf,
}

/// A program that can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Installed {
    /// The words before the program's file: `env` with the environment, and any interpreter.
    pub prefix: Vec<String>,
    /// The program's file.
    pub file: PathBuf,
    /// The folder with the `usr` that it belongs to; empty for the system's.
    pub root: PathBuf,
    /// Its version, if it is known.
    pub version: Option<String>,
}

impl Place {
    /// Creates the folder, with the files that servers run and read.
    pub fn new(folder: &Path) -> Result<Self> {
        let place = Self { folder: std::path::absolute(folder)? };
        let make = || -> Result<()> {
            for name in ["apps", "root", "debian/lists/partial", "debian/archives/partial"] {
                std::fs::create_dir_all(place.folder.join(name))?;
            }
            for (name, text) in APPS {
                std::fs::write(place.apps().join(name), text)?;
            }
            Ok(())
        };
        make().with_context(|| {
            format!("cannot write to {}, where servers are installed", folder.display())
        })?;
        Ok(place)
    }

    /// The folder of `app.py` and similar files.
    pub fn apps(&self) -> PathBuf {
        self.folder.join("apps")
    }

    /// The virtual environment's Python.
    pub fn python(&self) -> PathBuf {
        self.folder.join("python/bin/python")
    }

    /// Returns a program, and installs it first if it is missing.
    /// Fails when it cannot be installed, with the package manager's own reason.
    pub fn install(&self, program: &Program) -> Result<Installed> {
        let found = match program.source {
            Source::Debian(package) => match self.find(program.file()) {
                Some(found) => found,
                None => {
                    self.unpack(package).with_context(|| format!("cannot install {package}"))?;
                    self.find(program.file()).with_context(|| {
                        format!("the package {package} has no program {}", program.file())
                    })?
                }
            },
            Source::Python(package) => {
                let file = self.folder.join("python/bin").join(program.file());
                if !file.is_file() {
                    self.pip(package).with_context(|| format!("cannot install {package}"))?;
                }
                ensure!(file.is_file(), "the package {package} has no program {}", program.file());
                file
            }
            Source::Ours => bail!("our servers are built, not installed"),
        };
        let is_unpacked = found.starts_with(&self.folder) && !self.is_python(&found);
        let root = if is_unpacked { self.folder.join("root") } else { PathBuf::new() };
        let mut prefix = self.environment(is_unpacked);
        if program.is_ruby && is_unpacked {
            let ruby = self.find("ruby").context("the package ruby has no program ruby")?;
            prefix.push(ruby.display().to_string());
        }
        let mut installed = Installed { prefix, file: found, root, version: None };
        installed.version = self.version(program, &installed);
        Ok(installed)
    }

    fn is_python(&self, file: &Path) -> bool {
        file.starts_with(self.folder.join("python"))
    }

    /// Looks for a program: first among the unpacked ones, then on the PATH, then in `SBIN`.
    fn find(&self, program: &str) -> Option<PathBuf> {
        let unpacked = ["usr/bin", "usr/sbin"].map(|it| self.folder.join("root").join(it));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = unpacked.into_iter().chain(std::env::split_paths(&path));
        let all = all.chain(SBIN.map(PathBuf::from));
        all.map(|folder| folder.join(program)).find(|file| file.is_file())
    }

    /// `env` with the variables by which a program finds its libraries and its application.
    fn environment(&self, is_unpacked: bool) -> Vec<String> {
        let mut words = vec![
            "/usr/bin/env".to_owned(),
            format!("PYTHONPATH={}", self.apps().display()),
            "PYTHONDONTWRITEBYTECODE=1".into(),
        ];
        if is_unpacked {
            let root = self.folder.join("root").display().to_string();
            let libraries = format!("{root}/usr/lib/{ARCH}-linux-gnu");
            let of_ruby = [format!("{root}/usr/lib/ruby"), format!("{libraries}/ruby")];
            let ruby = of_ruby.iter().flat_map(|folder| {
                let vendor = format!("{folder}/vendor_ruby");
                [versions(&vendor), vec![vendor], versions(folder)].concat()
            });
            let ruby: Vec<String> = ruby.collect();
            let gems = ["usr/share", &format!("usr/lib/{ARCH}-linux-gnu")];
            let gems = gems.map(|folder| format!("{root}/{folder}/rubygems-integration"));
            let gems =
                gems.iter().flat_map(|folder| [vec![format!("{folder}/all")], versions(folder)]);
            let gems: Vec<Vec<String>> = gems.collect();
            words.push(format!("LD_LIBRARY_PATH={libraries}:{root}/lib/{ARCH}-linux-gnu"));
            words.push(format!("RUBYLIB={}", ruby.join(":")));
            words.push(format!("GEM_PATH={}", gems.concat().join(":")));
        }
        words
    }

    /// Downloads a Debian package with the dependencies that the system does not have, and unpacks all.
    /// Lists and archives are in the folder, not the system's: so it needs no root, and changes nothing.
    fn unpack(&self, package: &str) -> Result<()> {
        let debian = self.folder.join("debian");
        let own = [
            format!("Dir::State::lists={}/", debian.join("lists").display()),
            format!("Dir::Cache::archives={}/", debian.join("archives").display()),
            "Dir::Cache::pkgcache=".into(),
            "Dir::Cache::srcpkgcache=".into(),
            "Debug::NoLocking=1".into(),
        ];
        let apt = |arguments: &[&str]| {
            let options = own.iter().flat_map(|option| ["-o", option]);
            let words = ["apt-get", "-qq"].into_iter().chain(options);
            run(words.chain(arguments.iter().copied()))
        };
        let updated = debian.join("updated");
        if !updated.is_file() {
            apt(&["update"])?;
            std::fs::write(&updated, "")?;
        }
        apt(&["--yes", "--download-only", "--no-install-recommends", "install", package])?;
        let root = self.folder.join("root").display().to_string();
        let archives = debian.join("archives").display().to_string();
        for archive in entries(&archives, |name| name.ends_with(".deb")) {
            run(["dpkg-deb", "-x", &archive, &root])?;
            std::fs::remove_file(&archive)?;
        }
        self.link_plugin()
    }

    /// uWSGI's plugin has Python's version in its name; this adds the name without it, as an installation
    /// does.
    fn link_plugin(&self) -> Result<()> {
        let plugins = self.folder.join("root/usr/lib/uwsgi/plugins");
        let link = plugins.join("python3_plugin.so");
        let all = entries(&plugins.display().to_string(), |it| it.starts_with("python3"));
        match all.first().filter(|_| !link.exists()) {
            Some(plugin) => Ok(std::os::unix::fs::symlink(plugin, link)?),
            None => Ok(()),
        }
    }

    fn pip(&self, package: &str) -> Result<()> {
        let python = self.python().display().to_string();
        if !self.python().is_file() {
            run(["python3", "-m", "venv", &self.folder.join("python").display().to_string()])?;
        }
        let quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"];
        run([&*python, "-m", "pip", "install"].into_iter().chain(quiet).chain([package])).map(drop)
    }

    /// The program's version: the first one in its own output, or for a Python package in that of pip.
    fn version(&self, program: &Program, installed: &Installed) -> Option<String> {
        let file = installed.file.display().to_string();
        let said = match program.source {
            Source::Python(package) => {
                run([&*self.python().display().to_string(), "-m", "pip", "show", package])
            }
            _ => run(installed.prefix.iter().map(|word| &**word).chain([&*file, program.version])),
        };
        first_version(&said.ok()?)
    }
}

/// The first version in a text: a word that begins with a digit, or with `v`, and has a dot.
fn first_version(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "/(),".contains(c));
    let words = words.map(|word| word.trim_start_matches('v'));
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    words.filter(is_version).find(|word| word.contains('.')).map(str::to_owned)
}

/// The entries of a folder whose names begin with a digit, as those of versions do.
fn versions(folder: &str) -> Vec<String> {
    entries(folder, |name| name.starts_with(|c: char| c.is_ascii_digit()))
}

/// The entries of a folder whose names match, sorted.
fn entries(folder: &str, is_one: fn(&str) -> bool) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter(|entry| entry.file_name().to_str().is_some_and(is_one));
    let mut found: Vec<String> = names.map(|entry| entry.path().display().to_string()).collect();
    found.sort();
    found
}

/// Runs a command, with a time limit. Returns its output.
/// Fails with the last line of the output, if the command fails.
fn run<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let words: Vec<&str> = words.into_iter().collect();
    let what = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let output = Command::new("timeout").arg(PATIENCE).args(&words).output();
    let output = output.with_context(|| format!("cannot run {what}"))?;
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    ensure!(output.status.success(), "{what}: {}", last.unwrap_or("it printed nothing"));
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::catalogue::CATALOGUE;

    #[test]
    fn a_version_is_found_in_what_programs_say() {
        for (said, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
                "2.6.12-1+deb12u4",
            ),
            ("Server version: Apache/2.4.71 (Debian)", "2.4.71"),
            ("v20.20.2\n", "20.20.2"),
            ("unicorn v6.0.0", "6.0.0"),
            ("Name: gunicorn\nVersion: 27.0.1\n", "27.0.1"),
        ] {
            assert_eq!(first_version(said).as_deref(), Some(version));
        }
        assert_eq!(first_version("no 7 words"), None);
    }

    #[test]
    fn what_cannot_be_installed_is_a_line_with_the_reason_of_whoever_said_no() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        assert!(place.apps().join("app.py").is_file());
        let program = Program { name: "nothing", source: Source::Python("-e"), ..CATALOGUE[1] };
        std::fs::create_dir_all(folder.path().join("python/bin")).unwrap();
        std::os::unix::fs::symlink("/bin/false", place.python()).unwrap();
        let refusal = format!("{:#}", place.install(&program).unwrap_err());
        assert!(refusal.starts_with("cannot install -e: ") && refusal.lines().count() == 1);
        assert!(refusal.ends_with("it printed nothing"), "{refusal}");
    }

    #[test]
    fn a_program_that_the_system_has_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        let program = Program { file: "sh", source: Source::Debian("dash"), ..CATALOGUE[1] };
        let found = place.install(&program).unwrap();
        assert!(found.file.ends_with("sh") && found.root == PathBuf::new(), "{found:?}");
        assert!(found.prefix.iter().all(|word| !word.starts_with("LD_LIBRARY_PATH")));
    }
}
