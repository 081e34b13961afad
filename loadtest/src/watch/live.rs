//! The live view in a terminal, until the user quits or the server ends.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use crate::interrupt;
use crate::watch::columns;
use crate::watch::keys::{Asked, Look, press};
use crate::watch::screen::draw;
use crate::watch::view::View;
use crate::watch::{End, Watched};

/// How often it checks for signals.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The time until the second reading: short, as there are no rates before it.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// Shows the server until it ends, the user quits or closes the terminal, or a signal arrives.
/// Fails when this terminal cannot be used.
pub fn run(watched: &mut Watched, interval: Duration) -> Result<End> {
    let mut screen = Screen::enter()?;
    // An error means that the terminal was closed.
    Ok(follow(&mut screen, watched, interval).unwrap_or(End::Asked))
}

fn follow(screen: &mut Screen, watched: &mut Watched, interval: Duration) -> io::Result<End> {
    let keys = listen();
    let mut look = Look::default();
    let Some(mut view) = watched.look() else { return Ok(End::ServerEnded) };
    let mut room = screen.show(&mut view, &look)?;
    let mut next = Instant::now() + FIRST_INTERVAL.min(interval);
    loop {
        let wait = next.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
        match keys.recv_timeout(wait) {
            Ok(Event::Key(key)) => match press(key, &mut look, room, view.rows.len()) {
                Asked::Quit => return Ok(End::Asked),
                Asked::Look => room = screen.show(&mut view, &look)?,
                Asked::Nothing => {}
            },
            Ok(Event::Resize(..)) => room = screen.show(&mut view, &look)?,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Asked), // the terminal was closed
        }
        if interrupt::count() > 0 {
            return Ok(End::Asked); // the exit status says which signal
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            let Some(latest) = watched.look() else { return Ok(End::ServerEnded) };
            if !look.is_paused {
                view = latest;
                room = screen.show(&mut view, &look)?;
            }
        }
    }
}

/// Receives keys on a separate thread, which is not joined at the end: crossterm reads from a closed terminal for
/// ever.
fn listen() -> Receiver<Event> {
    let (sender, receiver) = sync_channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal with the alternate screen, in raw mode. It is restored in any case: when this is dropped, and by
/// ratatui before the message of a panic.
///
/// Not by ratatui's own `Drop` and `restore`: if the terminal was closed, they report that on the same terminal, and
/// panic when that fails as well.
struct Screen(ManuallyDrop<DefaultTerminal>);

impl Screen {
    fn enter() -> Result<Self> {
        let entered = ratatui::try_init().inspect_err(|_| drop(ratatui::try_restore()));
        let terminal = entered.context("cannot use this terminal; use --count 1 for text")?;
        Ok(Self(ManuallyDrop::new(terminal)))
    }

    /// Shows the view. Returns how many rows had room.
    fn show(&mut self, view: &mut View, look: &Look) -> io::Result<usize> {
        columns::sort(view, look.sort);
        let mut room = 0;
        self.0.draw(|frame| room = draw(view, look, frame.area(), frame.buffer_mut()))?;
        Ok(room)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        if !thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}
