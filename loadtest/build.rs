//! Notes which compiler builds this program, since a result may depend on it.
//!
//! Asked here and not when the program runs: then another compiler may be installed, or none.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=BUILT_WITH={}", version.unwrap_or_default());
}
