//! nginx, the yardstick: `return 200 "hello"` from as many workers as the servers under test have.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::interrupt;
use crate::kernel::procfs;
use crate::server::process::Child;

/// Where nginx may lie: Debian's is not on the PATH of an ordinary user.
const PLACES: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// How long it may take until all its workers run.
const START_WITHIN: Duration = Duration::from_secs(5);

/// An nginx that is installed.
pub struct Installed {
    program: &'static str,
    /// Such as `nginx/1.22.1`.
    pub version: String,
}

/// A running nginx.
pub struct Nginx {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    /// Its workers.
    pub pids: Vec<u32>,
    /// Its configuration and whatever it writes; removed with it. Dropped last.
    _folder: TempDir,
}

impl Installed {
    /// Looks for it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find() -> Result<Self> {
        for program in PLACES {
            // It prints `nginx version: nginx/1.22.1` to stderr.
            match Command::new(program).arg("-v").output() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => {
                    let output = other.with_context(|| format!("cannot run {program}"))?;
                    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    let version = text.rsplit(' ').next().unwrap_or_default().to_owned();
                    return Ok(Self { program, version });
                }
            }
        }
        bail!(
            "nginx, which the servers are measured beside, is not installed; install the package nginx"
        )
    }

    /// Starts one with its own configuration, folder and port.
    ///
    /// # Errors
    /// When its workers do not run within 5 s, with its own reason.
    pub fn start(&self, workers: u16, reuseport: bool) -> Result<Nginx> {
        let folder = tempfile::tempdir().context("cannot make a folder for nginx")?;
        let address = free_address()?;
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, configuration(address, workers, reuseport))
            .context("cannot write nginx's configuration")?;
        let mut command = Command::new(self.program);
        // -e: or it would first open the log that it was compiled with.
        command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&path);
        let mut child = Child::start("nginx", &mut command)?;
        let pids = child.wait_for(START_WITHIN, |child| {
            interrupt::check()?;
            if let Some(status) = child.ended()? {
                bail!("nginx did not start ({status}): {}", child.last_words());
            }
            let pids = procfs::children(child.pid())?;
            let serves = pids.len() == usize::from(workers) && TcpStream::connect(address).is_ok();
            Ok(serves.then_some(pids))
        })?;
        let Some(pids) = pids else {
            bail!("nginx did not serve within {} s: {}", START_WITHIN.as_secs(), child.last_words())
        };
        Ok(Nginx { child, address, pids, _folder: folder })
    }
}

impl Nginx {
    /// Fails when it is gone.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.ended()? {
            bail!("nginx ended during the run ({status}): {}", self.child.last_words());
        }
        Ok(())
    }
}

/// A port that nobody has now. Somebody may take it before nginx does; nginx then says so and ends.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn both_kinds_serve_hello_and_leave_nothing() {
        let Ok(installed) = Installed::find() else {
            return crate::skip_test("nginx is not installed");
        };
        for reuseport in [false, true] {
            let nginx = installed.start(2, reuseport).unwrap();
            let mut stream = TcpStream::connect(nginx.address).unwrap();
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");

            let (pids, folder) = (nginx.pids.clone(), nginx._folder.path().to_owned());
            assert_eq!(pids.len(), 2);
            drop(nginx);
            assert!(!folder.exists());
            for pid in pids {
                assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
            }
        }
    }
}
