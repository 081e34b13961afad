//! One file per experiment. Each begins with its page of the book, which reports show as it stands.

// A claim of a page names its source by a bare URL: pages are read by the program, too.
#![allow(rustdoc::bare_urls)]

pub mod crash;
pub mod flag;
pub mod hash;
pub mod order;
pub mod post;
pub mod reload;
pub mod spread;
pub mod stall;
pub mod tail;
pub mod twice;
