//! Ends the build with one clear line where the project cannot run.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" {
        println!(
            "cargo::error=this project runs on Linux only (it reads /proc and compares what Linux \
             does with SO_REUSEPORT); for {system} see \"Elsewhere\" in README.md"
        );
    }
}
