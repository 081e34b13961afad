//! Puts results of `make lab` into this repository; what it does is in the library beside it.

fn main() -> std::process::ExitCode {
    loadtest::publish_main()
}
