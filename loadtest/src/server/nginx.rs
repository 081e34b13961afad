//! nginx, the yardstick: `return 200 "hello"` from as many workers as the servers under test have.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::server::foreign::{Foreign, free_address};

/// Where nginx may lie: Debian's is not on the PATH of an ordinary user.
const PLACES: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// Looks for it. Gives the program and its version, such as `nginx/1.22.1`.
///
/// # Errors
/// When it is not there.
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

/// Starts one with its own configuration, folder and port.
///
/// # Errors
/// When it is not installed, or does not serve, with its own reason.
pub fn start(workers: u16, reuseport: bool) -> Result<Foreign> {
    let (program, _) = find()?;
    let folder = tempfile::tempdir().context("cannot make a folder for nginx")?;
    let address = free_address()?;
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, configuration(address, workers, reuseport))
        .context("cannot write nginx's configuration")?;
    let (place, path) = (folder.path().display().to_string(), path.display().to_string());
    // -e: or it would first open the log that it was compiled with.
    let words = [program, "-e", "stderr", "-p", &place, "-c", &path].map(str::to_owned);
    Foreign::start("nginx", &words, address, Some(folder))
}

/// As little as nginx can do for an answer. Relative paths are below the folder given with -p.
fn configuration(address: SocketAddr, workers: u16, reuseport: bool) -> String {
    let reuseport = if reuseport { " reuseport" } else { "" };
    format!(
        "daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    # A connection kept alive stays so, as the other servers have it; the default closes it after
    # 1000 requests.
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/plain;
    server {{
        listen {address}{reuseport};
        location / {{ return 200 \"hello\"; }}
    }}
}}
"
    )
}
