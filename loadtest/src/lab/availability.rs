//! Who can take part on this machine: each policy is started once, and stopped.

use anyhow::Result;

use crate::interrupt;
use crate::matrix::record::Missing;
use crate::server::{Server, Spec};

/// A policy: what it is called, and the server with its options.
pub type Policy = (&'static str, &'static str);

/// Those that can be run here, and those that cannot, with the reason.
///
/// # Errors
/// After Ctrl-C.
pub fn take(policies: &[Policy]) -> Result<(Vec<Policy>, Vec<Missing>)> {
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for &(name, server) in policies {
        match Server::start(&Spec::parse(server)?, &[]) {
            Ok(started) => {
                started.stop()?;
                present.push((name, server));
            }
            Err(error) => {
                interrupt::check()?;
                missing.push(Missing { policy: name.into(), reason: format!("{error:#}") });
            }
        }
    }
    Ok((present, missing))
}
