//! The terminal: taken when we begin, given back at every end.

use std::io::{self, Stdout};
use std::sync::Once;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect};

use super::state::{Drawn, State};
use super::view::{self, Look};
use crate::cli::output;

/// The whole screen, ours until this is dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        // A panic aborts: nothing is dropped then.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                before(panic);
            }));
        });
        let look = Look { colour: output::colour(&io::stdout()), unicode: is_unicode() };
        // What fails half way is given back too.
        let given_back = GiveBack;
        take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        std::mem::forget(given_back);
        Ok(Self { terminal, look })
    }

    pub(super) fn draw(&mut self, state: &State) -> io::Result<Drawn> {
        let mut drawn = Drawn::default();
        self.terminal.draw(|frame| drawn = view::draw(state, self.look, frame.area(), frame.buffer_mut()))?;
        Ok(drawn)
    }

    /// Whatever the terminal shows, the next picture is drawn whole.
    pub(super) fn repaint(&mut self) -> io::Result<()> {
        take()?;
        // Not `clear`: that asks the terminal where its cursor is, and the answer would come as keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back and stops, until somebody lets us go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        leave();
        // Not the signal that asks for it: that one we listen to ourselves.
        kill(Pid::this(), Signal::SIGSTOP)?;
        self.repaint()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        leave();
    }
}

fn take() -> io::Result<()> {
    output::screen(true);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Where the terminal is gone there is nothing to give back.
fn leave() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
    output::screen(false);
}

/// Whether the locale has signs beyond ASCII.
fn is_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().to_ascii_lowercase());
    locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}
