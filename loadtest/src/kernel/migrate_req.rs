//! The place for measurements that change the sysctl `tcp_migrate_req`: a network namespace, so that the machine's
//! setting does not change and the kernel's counters count nothing else.

use anyhow::Result;

use crate::kernel::netns;

/// The sysctl, below `/proc/sys`.
const MIGRATE: &str = "net/ipv4/tcp_migrate_req";

/// A network namespace, or the one that this program is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The value of the sysctl there.
    pub migrates: bool,
    /// Whether it is a new namespace, or this machine as it is.
    pub apart: bool,
}

impl Namespace {
    /// A namespace with the sysctl off and one with it on; or the machine as it is, and the reason.
    pub fn both() -> (Vec<Self>, Option<String>) {
        let Err(error) = netns::within(&[(MIGRATE, "1")], || Ok(())) else {
            return ([false, true].map(|migrates| Self { migrates, apart: true }).into(), None);
        };
        // Linux before 5.14 has no such sysctl, and does not migrate.
        let migrates = netns::sysctl(MIGRATE) == Some(1);
        let number = u8::from(migrates);
        let why = format!("tcp_migrate_req stays {number} here, as this machine has it: {error:#}");
        (vec![Self { migrates, apart: false }], Some(why))
    }

    /// Runs `action` there. Processes that it starts must end in it.
    pub fn within<T: Send>(self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self.apart {
            true => netns::within(&[(MIGRATE, if self.migrates { "1" } else { "0" })], action),
            false => action(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_one_and_a_reason_where_there_is_only_one() {
        let (namespaces, missing) = Namespace::both();
        match missing {
            None => {
                for namespace in namespaces {
                    let setting = namespace.within(|| Ok(netns::sysctl(MIGRATE)));
                    assert_eq!(setting.unwrap() == Some(1), namespace.migrates);
                }
            }
            Some(reason) => {
                assert!(namespaces.len() == 1 && reason.contains("tcp_migrate_req"), "{reason}");
                crate::skip_test(&reason);
            }
        }
    }
}
