//! What cannot work is refused with one clear line, before any work starts.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::support::{SERVERS, assert_refused, program, run, skip};

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--prot", "80"], &["'--prot'", "'--port'"]),
        (&["--workers", "0"], &["'0'", "--workers", "1 to 1024"]),
        (&["--workers", "many"], &["'many'", "--workers"]),
        (&["--host", "localhost"], &["'localhost'", "--host"]),
        (&["--port", "65536"], &["'65536'", "--port"]),
        (&["--backlog", "0"], &["'0'", "--backlog"]),
        (&["--handler-cost", "70 parsecs"], &["70 parsecs", "--handler-cost", "us"]),
        (&["--hang-timeout", "200ms"], &["'200ms'", "--hang-timeout", "four times", "1s", "0s"]),
        (&["--handler-cost", "1h"], &["'1h'", "--handler-cost", "at most 1s"]),
        (&["--idle-timeout", "0s"], &["'0s'", "--idle-timeout", "longer"]),
        (&["--workers", "-1"], &["'-1'", "--workers"]),
        (&["extra"], &["'extra'"]),
        (&["--worker", "0"], &["start the server without it"]),
    ];
    for name in SERVERS {
        for (arguments, words) in cases {
            assert_refused(&run(name, arguments), words, (name, arguments));
        }
    }
    let join = run("reuseport-server", &["--join", "--port", "0"]);
    assert_refused(&join, &["--join", "--port 0"], "joining nobody");
}

#[test]
fn an_address_that_cannot_be_served_is_refused_with_the_reason() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port().to_string();
    for name in SERVERS {
        let away = run(name, &["--host", "192.0.2.1"]);
        assert_refused(&away, &["192.0.2.1", "this machine has no address"], name);
        let used = run(name, &["--port", &taken]);
        let who = format!("(pid {})", std::process::id());
        assert_refused(&used, &[&taken, &who, "choose another --port"], name);
    }
    let join = run("reuseport-server", &["--join", "--port", &taken]);
    assert_refused(&join, &[&taken, "listens there"], "joining somebody without SO_REUSEPORT");
}

#[test]
fn too_few_open_files_for_so_many_workers_are_refused_with_the_remedy() {
    for (name, how) in [("reuseport-server", "--steer hash"), ("shared-fd-server", "--exec")] {
        let options = "--port 0 --workers 80 --max-connections 8";
        let script = format!("ulimit -n 64; exec \"$0\" {how} {options}");
        let output = Command::new("sh").args(["-c", &script]).arg(program(name)).output().unwrap();
        assert_refused(&output, &["open files, 64", "ulimit -n", "--workers"], (name, how));
    }
}

#[test]
fn a_worker_whose_parent_has_ended_before_it_started_it_says_nothing() {
    let (stdin, parent) = UnixStream::pair().unwrap();
    drop(parent);
    let mut worker = Command::new(program("reuseport-server"));
    worker.args(["--worker", "0"]).stdin(OwnedFd::from(stdin));
    let output = worker.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_privileged_port_without_the_right_is_refused_with_the_remedy() {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        return skip("setpriv is needed to give up a right");
    }
    for name in SERVERS {
        let mut command = Command::new(if is_root { "setpriv".into() } else { program(name) });
        if is_root {
            command.arg("--bounding-set=-net_bind_service").arg(program(name));
        }
        let output = command.args(["--port", "81"]).output().unwrap();
        assert_refused(&output, &["port 81", "CAP_NET_BIND_SERVICE", "1024"], name);
    }
}

#[test]
fn a_scoreboard_path_that_cannot_be_used_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter");
    std::fs::write(&letter, "dear").unwrap();
    for name in SERVERS {
        let missing = folder.path().join("no/such/folder");
        for path in [missing.as_path(), folder.path(), &letter] {
            let path = path.to_str().unwrap();
            let output = run(name, &["--port", "0", "--scoreboard", path]);
            assert_refused(&output, &["--scoreboard", path, "name"], (name, path));
        }
    }
    assert_eq!(std::fs::read(&letter).unwrap(), b"dear");
}

#[test]
fn a_server_that_is_refused_leaves_no_scoreboard_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scoreboard");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port().to_string();
    for name in SERVERS {
        run(name, &["--port", &taken, "--scoreboard", path.to_str().unwrap()]);
        assert!(!path.exists());
    }
}
