//! A scoreboard's copy in a file: shared, left behind, truncated, refused.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Scoreboard, ScoreboardOwner, Slots};

fn port(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn read(path: &Path) -> Scoreboard {
    Scoreboard::from_file(File::open(path).unwrap()).unwrap()
}

#[test]
fn two_who_join_get_different_slots_and_the_last_one_removes_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut one = ScoreboardOwner::at(&path, port(80), true).unwrap();
    let first = one.claim().unwrap();
    let mut two = ScoreboardOwner::at(&path, port(80), true).unwrap();
    let second = two.claim().unwrap();
    assert_ne!(first, second);
    let own = Slots::map(one.file().try_clone().unwrap()).unwrap().own(first);
    own.add(|slot| &slot.requests, 7);
    one.publish();
    assert_eq!(read(&path).total_requests(), 7);
    assert_eq!(read(&path).workers().count(), 2);
    one.leave();
    assert_eq!(read(&path).total_requests(), 7);
    assert_eq!(read(&path).workers().count(), 1);
    two.leave();
    assert!(!path.exists());
}

#[test]
fn what_a_dead_server_left_is_taken_over_whatever_its_pid_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut dead = ScoreboardOwner::at(&path, port(80), false).unwrap();
    assert_eq!(dead.claim().unwrap(), 0);
    drop(dead); // as if killed; the slot's owner is this process, which lives
    assert_eq!(read(&path).slot(0).owner(), std::process::id());
    let mut next = ScoreboardOwner::at(&path, port(81), false).unwrap();
    assert_eq!(read(&path).workers().count(), 0);
    assert_eq!(next.claim().unwrap(), 0);
}

#[test]
fn the_slots_of_one_that_died_are_claimed_by_those_who_share_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut one = ScoreboardOwner::at(&path, port(80), true).unwrap();
    let mut two = ScoreboardOwner::at(&path, port(80), true).unwrap();
    assert_eq!([one.claim().unwrap(), two.claim().unwrap()], [0, 1]);
    drop(one);
    assert_eq!(two.claim().unwrap(), 0);
}

#[test]
fn a_copy_that_is_truncated_or_removed_is_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for lose in [
        |path: &Path| std::fs::write(path, "").unwrap(),
        |path: &Path| {
            std::fs::remove_file(path).unwrap();
        },
    ] {
        let path = folder.path().join("board");
        let mut owner = ScoreboardOwner::at(&path, port(80), false).unwrap();
        let index = owner.claim().unwrap();
        lose(&path);
        owner.publish();
        assert!(!owner.has_copy());
        assert_ne!(owner.claim().unwrap(), index);
        owner.release(index);
        owner.leave();
        let _ = std::fs::remove_file(&path);
    }
}

#[test]
fn a_scoreboard_in_use_is_refused_without_join_and_on_another_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut one = ScoreboardOwner::at(&path, port(80), false).unwrap();
    one.claim().unwrap();
    let refusal = ScoreboardOwner::at(&path, port(80), false).unwrap_err().to_string();
    assert!(refusal.contains("in use by the server with pid"), "{refusal}");
    let refusal = ScoreboardOwner::at(&path, port(81), true).unwrap_err().to_string();
    assert!(refusal.contains("on 127.0.0.1:80, not 127.0.0.1:81"), "{refusal}");
    let mapped: SocketAddr = "[::ffff:127.0.0.1]:80".parse().unwrap();
    ScoreboardOwner::at(&path, mapped, true).expect("the same address");
}

#[test]
fn somebody_elses_file_and_a_link_are_refused_and_left_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter");
    std::fs::write(&file, "dear").unwrap();
    let refusal = ScoreboardOwner::at(&file, port(80), false).unwrap_err();
    assert!(format!("{refusal:#}").contains("not a usable scoreboard"));
    assert_eq!(std::fs::read(&file).unwrap(), b"dear");

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
    let refusal = ScoreboardOwner::at(&link, port(80), false).unwrap_err();
    assert!(refusal.to_string().contains("symbolic link"));
    assert!(!folder.path().join("target").exists());
}

#[test]
fn the_file_is_readable_by_its_owner_alone_and_says_what_the_memory_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut owner = ScoreboardOwner::at(&path, port(80), false).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let index = owner.claim().unwrap();
    owner.publish();
    let (copied, own) = (read(&path), owner.board().slot(index));
    assert_eq!(copied.address(), port(80));
    assert_eq!(copied.slot(index).owner(), own.owner());
    assert_eq!(copied.slot(index).requests.load(Relaxed), own.requests.load(Relaxed));
}

#[test]
fn the_mode_of_a_file_that_is_there_already_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mode = || path.metadata().unwrap().mode() & 0o7777;
    for (left, mended) in [(0o666, 0o600), (0o640, 0o600), (0o4755, 0o600), (0o600, 0o600)] {
        drop(ScoreboardOwner::at(&path, port(80), false).unwrap()); // as if killed
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(left)).unwrap();
        let _owner = ScoreboardOwner::at(&path, port(80), false).unwrap();
        assert_eq!(mode(), mended, "{left:o}");
    }
}

#[test]
fn whose_slots_are_whose_in_the_file_is_not_for_a_worker_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut owner = ScoreboardOwner::at(&path, port(80), false).unwrap();
    assert_eq!(owner.claim().unwrap(), 0);
    owner.board().slot(0).owner.store(0, Relaxed);
    owner.board().slot(0).server.store(77, Relaxed);
    owner.publish();
    assert_eq!(read(&path).slot(0).owner(), std::process::id());
    assert_eq!(owner.claim().unwrap(), 1, "the first is in use still");
}

#[test]
fn a_copy_whose_lock_another_process_never_lets_go_is_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut owner = ScoreboardOwner::at(&path, port(80), true).unwrap();
    let index = owner.claim().unwrap();
    let stopped = File::open(&path).unwrap(); // as in a server that is stopped in that moment
    stopped.lock().unwrap();
    let start = Instant::now();
    assert_ne!(owner.claim().unwrap(), index);
    owner.release(index);
    assert!(!owner.has_copy());
    let refusal = ScoreboardOwner::at(&path, port(80), true).unwrap_err();
    let refusal = format!("{refusal:#}");
    assert!(
        refusal.contains("name another path") && refusal.contains("kept it locked"),
        "{refusal}"
    );
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_lock_that_is_let_go_soon_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let mut owner = ScoreboardOwner::at(&path, port(80), true).unwrap();
    let busy = File::open(&path).unwrap();
    busy.lock().unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(busy);
    });
    owner.claim().unwrap();
    other.join().unwrap();
    assert!(owner.has_copy());
}
