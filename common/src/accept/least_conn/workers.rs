//! What workers show each other: in memory that all of them share, each writes its own part.

/// What one worker shows the others.
pub trait Shown: 'static {
    /// Its process, once it has one.
    fn pid(&self) -> Option<u32>;
    /// Whether it accepts connections at all.
    fn is_serving(&self) -> bool;
    /// When its event loop last turned, in milliseconds, and exact to some [`TICK`](super::peers::TICK)s.
    fn heartbeat(&self) -> u64;
    /// Connections accepted since it started.
    fn accepted(&self) -> u64;
    /// How many of these are open.
    fn open(&self) -> u64;
    /// How many of these are open and kept.
    fn kept(&self) -> u64;
    /// Requests answered since it started.
    fn requests(&self) -> u64;
    /// What its event loop does, as it was [shown](Workers::show).
    fn turn(&self) -> u64;
}

/// The workers of one server, as one of them sees them.
pub trait Workers: Send + 'static {
    /// What each of them shows.
    type Shown: Shown + Sync;
    /// What this worker shows.
    fn own(&self) -> &'static Self::Shown;
    /// What all workers show, this one included. It may take a while; it is called once per heartbeat.
    fn all(&self) -> Vec<&'static Self::Shown>;
    /// Shows what this worker's event loop does.
    fn show(&self, turn: u64);
    /// Counts a connection that this worker leaves to another.
    fn leaves_one(&self) {}
    /// Counts a wake-up for a connection that another worker has taken.
    fn was_woken_in_vain(&self) {}
}
