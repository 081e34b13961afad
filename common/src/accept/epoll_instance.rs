//! The epoll instance of a tokio runtime. tokio does not tell its descriptor; /proc does.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};

/// Builds a runtime, and finds its epoll instance. To be called while this process has one thread.
///
/// # Errors
/// When the runtime cannot be built.
pub fn build(builder: &mut Builder) -> io::Result<(Runtime, Option<i32>)> {
    // The process may have inherited an open instance. tokio's is the one that was not there before.
    let before = open_now();
    let runtime = builder.build()?;
    Ok((runtime, open_now().into_iter().find(|it| !before.contains(it))))
}

/// The descriptors of this process that are epoll instances.
fn open_now() -> Vec<i32> {
    let is_epoll = |target: PathBuf| target.as_os_str() == "anon_inode:[eventpoll]";
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let epolls = entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(is_epoll));
    epolls.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Duplicates the descriptor, so that the caller may keep it.
///
/// # Errors
/// When the kernel has none to give.
#[allow(unsafe_code)]
pub fn duplicate(descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: it is open, no other thread could close it, as there is none yet, and the borrow ends here.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned()
}
