//! The capabilities of a server, and how it gives them up.
//!
//! | process | keeps |
//! |---|---|
//! | the parent, from before it starts the first worker | what it will need for further workers, and nothing else: see `needed` |
//! | a worker, from before its first connection | nothing, and no program that it runs can get more (NO_NEW_PRIVS) |
//!
//! With `--user` workers also become another user, once they have their listening sockets. The parent
//! keeps its user, as nginx's does. So one user makes all sockets of a server, which SO_REUSEPORT
//! requires; workers that start later can bind a privileged port, too; and a worker cannot send a
//! signal to the parent.
//!
//! Capabilities belong to threads (capabilities(7)). All of this happens while the process has one thread.

use std::ffi::CString;

use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{self, Gid, Uid, initgroups, setgroups, setresgid, setresuid};

/// The user that workers become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name, if it has one: supplementary groups are found by name.
    name: Option<String>,
    uid: Uid,
    gid: Gid,
}

/// setresuid(2) leaves a user as it is for which it is given this number, -1.
const UNCHANGED: u32 = u32::MAX;

impl User {
    /// Reads `NAME` or `NAME:GROUP`. Both may be numbers.
    ///
    /// # Errors
    /// When there is no such user or group.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, group) = text.split_once(':').unzip();
        let name = name.unwrap_or(text);
        let number: Option<u32> = name.parse().ok();
        let found = unistd::User::from_name(name).ok().flatten();
        let found = found.or_else(|| unistd::User::from_uid(number?.into()).ok().flatten());
        let uid = found.as_ref().map(|user| user.uid).or(number.map(Uid::from_raw));
        let uid = uid.ok_or_else(|| format!("there is no user {name:?}"))?;
        let gid = match group {
            Some(group) => {
                let found = unistd::Group::from_name(group).ok().flatten().map(|it| it.gid);
                let gid = found.or_else(|| group.parse().ok().map(Gid::from_raw));
                gid.ok_or_else(|| format!("there is no group {group:?}"))?
            }
            None => found.as_ref().map(|user| user.gid).ok_or_else(|| {
                format!("user {name} has no entry, and so no group; name one: {name}:GROUP")
            })?,
        };
        if uid.as_raw() == UNCHANGED || gid.as_raw() == UNCHANGED {
            return Err(format!(
                "{UNCHANGED} is no user or group: the kernel takes it for \"as before\""
            ));
        }
        Ok(Self { name: found.map(|user| user.name), uid, gid })
    }

    /// Changes the calling process to this user, for good.
    fn become_it(&self) -> Result<()> {
        // Groups first, the user last: afterwards the process may not change its groups.
        match &self.name {
            Some(name) => initgroups(&CString::new(name.as_str())?, self.gid),
            None => setgroups(&[self.gid]),
        }
        .and_then(|()| setresgid(self.gid, self.gid, self.gid))
        .and_then(|()| setresuid(self.uid, self.uid, self.uid))
        .with_context(|| format!("a worker cannot become user {}", self.uid))
    }
}

/// What makes a server need capabilities after its start.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Workers become this user.
    pub user: Option<&'a User>,
    /// Workers bind this port themselves.
    pub binds: Option<u16>,
    /// The steering policy needs these whenever a worker starts.
    pub steering: &'a [Capability],
}

/// The capabilities that a parent keeps.
fn needed(needs: &Needs, first_free_port: u16) -> CapsHashSet {
    let mut needed: CapsHashSet = needs.steering.iter().copied().collect();
    if needs.user.is_some() {
        // The parent needs CAP_KILL to kill a worker of another user, and so does PR_SET_PDEATHSIG, which kills a
        // worker when its parent dies.
        needed.extend([Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_KILL]);
    }
    if needs.binds.is_some_and(|port| port < first_free_port) {
        needed.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    needed
}

/// In the parent, before it does anything else: checks that workers can become this user.
///
/// # Errors
/// When this process lacks a capability for that, which the message names.
pub fn ensure_can_become(user: &User) -> Result<()> {
    let has = caps::read(None, CapSet::Effective).context("cannot read capabilities")?;
    let needed = needed(&Needs { user: Some(user), binds: None, steering: &[] }, 0);
    let mut missing: Vec<String> = needed.difference(&has).map(Capability::to_string).collect();
    missing.sort();
    ensure!(
        missing.is_empty(),
        "--user needs {}; start it as root, or without --user as that user",
        missing.join(", ")
    );
    Ok(())
}

/// In the parent, at the end of its own start: gives up all capabilities except those that it needs for further
/// workers.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_only(needs: &Needs) -> Result<()> {
    let first_free_port = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    let needed = needed(needs, first_free_port);
    // The kernel removes from the ambient set what is removed from the permitted or the inheritable one.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let has = caps::read(None, set).context("cannot read capabilities")?;
        let kept: CapsHashSet = has.intersection(&needed).copied().collect();
        if kept != has {
            caps::set(None, set, &kept).context("cannot give up capabilities")?;
        }
    }
    Ok(())
}

/// In a worker that has its listening sockets, and has one thread: becomes this user, if there is one, and gives up
/// all capabilities for good.
///
/// # Errors
/// When the kernel refuses.
pub fn give_up(user: Option<&User>) -> Result<()> {
    user.map_or(Ok(()), User::become_it)?;
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).context("a worker cannot give up its capabilities")?;
    }
    let left = caps::read(None, CapSet::Ambient).unwrap_or_default();
    ensure!(left.is_empty(), "a worker cannot give up its ambient capabilities");
    prctl::set_no_new_privs().context("a worker cannot set NO_NEW_PRIVS")
}

/// Whether something works without any capability, so that none need be kept for it.
///
/// # Errors
/// When the kernel refuses to drop them, or to restore them.
pub fn can_do_without(try_it: impl FnOnce() -> bool) -> Result<bool> {
    let has = caps::read(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Effective)?;
    let done = try_it();
    caps::set(None, CapSet::Effective, &has)?; // still permitted
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Needs = Needs { user: None, binds: None, steering: &[] };

    #[test]
    fn users_and_groups_go_by_name_or_number() {
        let root = User::parse("root").unwrap();
        assert_eq!((root.uid.as_raw(), root.gid.as_raw()), (0, 0));
        assert_eq!(User::parse("0").unwrap(), root);
        let both = User::parse("root:12345").unwrap();
        assert_eq!((both.uid.as_raw(), both.gid.as_raw()), (0, 12345));
        let numbers = User::parse("54321:0").unwrap();
        assert_eq!((numbers.uid.as_raw(), numbers.gid.as_raw()), (54321, 0));
        for (bad, word) in [
            ("no-such-user", "no user \"no-such-user\""),
            ("", "no user \"\""),
            ("root:no-such-group", "no group \"no-such-group\""),
            ("root:", "no group \"\""),
            ("54321", "name one: 54321:GROUP"),
            ("4294967295:0", "no user or group"),
            ("root:4294967295", "no user or group"),
        ] {
            let refusal = User::parse(bad).unwrap_err();
            assert!(refusal.contains(word), "{bad:?}: {refusal}");
        }
    }

    #[test]
    fn a_parent_keeps_only_what_further_workers_need() {
        let names = |needs: &Needs| {
            let mut names: Vec<String> =
                needed(needs, 1024).iter().map(Capability::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(&NOTHING), "");
        assert_eq!(names(&Needs { binds: Some(1024), ..NOTHING }), "");
        assert_eq!(names(&Needs { binds: Some(80), ..NOTHING }), "CAP_NET_BIND_SERVICE");
        let user = User::parse("root").unwrap();
        let needs = Needs { user: Some(&user), ..NOTHING };
        assert_eq!(names(&needs), "CAP_KILL CAP_SETGID CAP_SETUID");
        assert_eq!(names(&Needs { steering: &[Capability::CAP_BPF], ..NOTHING }), "CAP_BPF");
    }

    #[test]
    fn what_is_given_up_is_gone_from_every_set() {
        // Capabilities are a thread's own, and so is NO_NEW_PRIVS.
        std::thread::spawn(|| {
            let has = || caps::read(None, CapSet::Effective).unwrap();
            let before = has();
            assert!(can_do_without(|| has().is_empty()).unwrap());
            assert_eq!(has(), before);
            keep_only(&NOTHING).unwrap();
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient]
            {
                assert!(caps::read(None, set).unwrap().is_empty(), "{set:?}");
            }
            give_up(None).unwrap();
            assert!(prctl::get_no_new_privs().unwrap());
            let user = User::parse("root").unwrap();
            let refusal = ensure_can_become(&user).unwrap_err();
            assert!(refusal.to_string().contains("--user needs CAP_"), "{refusal}");
        })
        .join()
        .unwrap();
    }
}
