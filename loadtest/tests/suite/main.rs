//! Process-level tests: they start the real programs, talk to them over real sockets, look into
//! /proc, and end what they started. One test binary, one module per subject.

mod accept;
mod affinity;
mod bad_input;
mod bench;
mod chromium;
mod clients;
mod compare;
mod cost;
mod faults;
mod foreign;
mod foreign_socket;
mod fuzz;
mod http;
mod lab;
mod lifecycle;
mod listening;
mod load;
mod matrix;
mod probe;
mod readme;
mod rebalance;
mod report;
mod rights;
mod soak;
mod steer;
mod stopping;
mod support;
mod upgrade;
mod watch;
mod who;
