//! Assembles an eBPF program: instructions as in the kernel's documentation
//! (Documentation/bpf/standardization/instruction-set.rst), and labels for jumps.

use std::collections::HashMap;

/// An instruction as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u8,
    /// The destination register in the lower four bits, the source register in the upper four.
    pub registers: u8,
    /// The distance of a jump, or an offset in memory.
    pub offset: i16,
    /// A constant.
    pub constant: i32,
}

/// A register. R0 is the result of a function; R1 to R5 are its arguments, and undefined after the
/// call; R6 to R9 keep their values across calls; R10 is the end of the stack.
#[derive(Clone, Copy)]
pub struct Register(u8);

pub const R0: Register = Register(0);
pub const R1: Register = Register(1);
pub const R2: Register = Register(2);
pub const R3: Register = Register(3);
pub const R4: Register = Register(4);
pub const R5: Register = Register(5);
pub const R6: Register = Register(6);
pub const R7: Register = Register(7);
pub const R8: Register = Register(8);
pub const R9: Register = Register(9);
pub const R10: Register = Register(10);

/// The right-hand side of a calculation or comparison.
pub enum Operand {
    Register(Register),
    Constant(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Self {
        Self::Constant(constant)
    }
}

/// Calculations, on 64 bits.
#[derive(Clone, Copy)]
pub enum Calculate {
    Add = 0x07,
    Subtract = 0x17,
    Or = 0x47,
    And = 0x57,
    ShiftLeft = 0x67,
    ShiftRight = 0x77,
    ExclusiveOr = 0xa7,
    Set = 0xb7,
    /// Fills up with the sign bit: by 63 bits a negative number becomes -1, any other 0.
    ShiftRightSigned = 0xc7,
}

/// Unsigned comparisons, on 64 bits.
#[derive(Clone, Copy)]
pub enum If {
    Equal = 0x15,
    Greater = 0x25,
    AtLeast = 0x35,
    NotEqual = 0x55,
    AtMost = 0xb5,
}

/// A program being written.
#[derive(Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
}

/// The second operand is a register (BPF_X) and not a constant (BPF_K).
const FROM_REGISTER: u8 = 0x08;

impl Assembler {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, constant: i32) {
        self.instructions.push(Instruction { code, registers: from << 4 | to, offset, constant });
    }

    fn push_with(&mut self, code: u8, to: Register, operand: Operand, offset: i16) {
        match operand {
            Operand::Register(from) => self.push(code | FROM_REGISTER, to.0, from.0, offset, 0),
            Operand::Constant(constant) => self.push(code, to.0, 0, offset, constant),
        }
    }

    /// to = to OPERATION operand
    pub fn calculate(&mut self, to: Register, how: Calculate, operand: impl Into<Operand>) {
        self.push_with(how as u8, to, operand.into(), 0);
    }

    /// to = a constant of 64 bits; takes the space of two instructions
    pub fn set_wide(&mut self, to: Register, constant: u64) {
        self.push(0x18, to.0, 0, 0, constant as u32 as i32);
        self.push(0, 0, 0, 0, (constant >> 32) as i32);
    }

    /// to = the map behind this descriptor (BPF_PSEUDO_MAP_FD)
    pub fn set_map(&mut self, to: Register, map: i32) {
        self.push(0x18, to.0, 1, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    /// to = the 8 bits at address from + offset
    pub fn load8(&mut self, to: Register, from: Register, offset: usize) {
        self.push(0x71, to.0, from.0, offset as i16, 0);
    }

    /// to = the 32 bits at address from + offset
    pub fn load32(&mut self, to: Register, from: Register, offset: usize) {
        self.push(0x61, to.0, from.0, offset as i16, 0);
    }

    /// to = the 64 bits at address from + offset
    pub fn load64(&mut self, to: Register, from: Register, offset: usize) {
        self.push(0x79, to.0, from.0, offset as i16, 0);
    }

    /// the 32 bits at address to + offset = a register or a constant
    pub fn store32(&mut self, to: Register, offset: i16, value: impl Into<Operand>) {
        let code = 0x62;
        match value.into() {
            Operand::Register(from) => self.push(code | 1, to.0, from.0, offset, 0),
            Operand::Constant(constant) => self.push(code, to.0, 0, offset, constant),
        }
    }

    /// the 64 bits at address to + offset = a register
    pub fn store64(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x7b, to.0, from.0, offset, 0);
    }

    /// the 64 bits at address to + offset += a register, at once for all CPUs
    pub fn add_atomically(&mut self, to: Register, offset: usize, from: Register) {
        self.push(ADD_ATOMICALLY, to.0, from.0, offset as i16, 0);
    }

    /// R0 = a function of the kernel (a helper) of R1 to R5
    pub fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    /// if the comparison holds, goes on at the label
    pub fn jump_if(
        &mut self,
        left: Register,
        comparison: If,
        right: impl Into<Operand>,
        label: &'static str,
    ) {
        self.jumps.push((self.instructions.len(), label));
        self.push_with(comparison as u8, left, right.into(), 0);
    }

    /// goes on at the label
    pub fn jump(&mut self, label: &'static str) {
        self.jumps.push((self.instructions.len(), label));
        self.push(0x05, 0, 0, 0, 0);
    }

    /// returns R0
    pub fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    /// The place to which jumps to this label lead.
    pub fn label(&mut self, label: &'static str) {
        self.labels.insert(label, self.instructions.len());
    }

    /// The program.
    ///
    /// # Panics
    /// If a label is missing.
    pub fn finish(mut self) -> Vec<Instruction> {
        for (from, label) in self.jumps {
            let to = self.labels[label] as i16;
            self.instructions[from].offset = to - from as i16 - 1; // counted from the next instruction
        }
        self.instructions
    }
}

/// The code of an atomic addition of 64 bits.
pub const ADD_ATOMICALLY: u8 = 0xdb;
