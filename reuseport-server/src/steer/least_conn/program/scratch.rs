//! What the program remembers while it runs, and how the bits of it are shared out.

/// What lanes are compared by, from the highest bit down: whether it is closed, whether it is silent, what is in
/// hand, the load, and whose turn it is. There are more turns than LANES.
pub const CLOSED_BIT: i32 = SILENT_BIT + 1;
pub const SILENT_BIT: i32 = HAND_BIT + 16;
pub const HAND_BIT: i32 = LOAD_BIT + 16;
pub const LOAD_BIT: i32 = LANE_BITS;
pub const TURNS: i32 = (1 << LANE_BITS) - 1;

/// A load counts as no more than this, and what is in hand as one more.
pub const MOST: i32 = (1 << (SILENT_BIT - HAND_BIT)) - 2;

/// Bits for the number of a lane, and for whose turn it is.
pub const LANE_BITS: i32 = 12;

/// The program's memory, for each CPU: programs on one CPU run one after the other.
#[repr(C)]
pub struct Scratch {
    /// The lane being looked at, and in the end the one chosen.
    pub lane: u32,
    /// The lane chosen last time.
    pub last: u32,
    /// What the best so far is compared by.
    pub least: u64,
    /// A heartbeat before that is too old.
    pub oldest: u64,
    /// A `turn` before that is not young.
    pub young: u64,
    /// As many workers may be active before no other is woken.
    pub most_active: u64,
    /// Active ones among the lanes so far.
    pub active: u64,
    /// The load of the least loaded of them, and in the lowest bits its lane.
    pub least_active: u64,
    /// The first lane that is warm.
    pub first_warm: u64,
    /// Whether this lane is warm: there are too few registers.
    pub is_warm: u64,
    /// Whether it is busy: the same.
    pub is_busy: u64,
    /// As `least`, but by what is in hand.
    pub least_in_hand: u64,
    /// Whether one of the lanes so far is slow.
    pub any_slow: u64,
}

/// Bytes of the program's memory.
pub const SCRATCH_SIZE: usize = size_of::<Scratch>();
