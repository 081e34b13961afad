//! nginx, for comparison: `return 200 "hello"` from as many workers as the servers under test have.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Where nginx may be: Debian's is not on the PATH of an ordinary user.
const PLACES: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// Finds nginx, and returns the program and its version, such as `nginx/1.22.1`.
/// Fails when it is not installed.
pub fn find() -> Result<(&'static str, String)> {
    for program in PLACES {
        // It prints `nginx version: nginx/1.22.1` to stderr.
        match Command::new(program).arg("-v").output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => {
                let output = other.with_context(|| format!("cannot run {program}"))?;
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Ok((program, text.rsplit(' ').next().unwrap_or_default().to_owned()));
            }
        }
    }
    bail!("nginx is not installed; install the package nginx")
}

/// The command that serves on this address, and the folder with its configuration. The number of workers is
/// `workers`, else `--workers` among the options, else one for each CPU.
pub fn command(
    workers: Option<u16>,
    extra: &[String],
    reuseport: bool,
    address: SocketAddr,
) -> Result<(Vec<String>, TempDir)> {
    let option = |pair: &[String]| pair[1].parse().ok().filter(|_| pair[0] == "--workers");
    let workers = workers.or_else(|| extra.windows(2).rev().find_map(option));
    let cpus = || available_parallelism().map_or(1, |cpus| cpus.get() as u16);
    let configuration = configuration(address, workers.unwrap_or_else(cpus), reuseport);
    let (program, _) = find()?;
    let folder = tempfile::tempdir().context("cannot make a folder for nginx")?;
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, configuration).context("cannot write nginx's configuration")?;
    let (place, path) = (folder.path().display().to_string(), path.display().to_string());
    // -e: otherwise it first opens the log file that it was compiled with.
    Ok(([program, "-e", "stderr", "-p", &place, "-c", &path].map(str::to_owned).into(), folder))
}

/// The cheapest way for nginx to answer. Relative paths are below the folder given with -p.
pub const CONFIGURATION: &str = include_str!("../../servers/nginx.conf");

fn configuration(address: SocketAddr, workers: u16, reuseport: bool) -> String {
    CONFIGURATION
        .replace("{workers}", &workers.to_string())
        .replace("{host}:{port}", &address.to_string())
        .replace("{setting}", if reuseport { REUSEPORT } else { "" })
}

/// The parameter of `listen` for a socket for each worker.
pub const REUSEPORT: &str = " reuseport";
