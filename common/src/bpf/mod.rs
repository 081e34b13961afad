//! BPF programs, assembled and loaded without a compiler.
//!
//! - [`assembler`]: instructions and labels; [`calls`]: bpf(2).

#[allow(missing_docs)] // of registers and operations: the names say it
pub mod assembler;
pub mod calls;
