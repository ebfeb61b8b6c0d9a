//! The terminal, from when it is taken until it is given back.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// The terminal's other screen, without echo. Dropped, it gives the terminal back as it was, as a
/// panic does before it is reported.
#[derive(Debug)]
pub struct Screen(DefaultTerminal);

impl Screen {
    pub fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init();
        if terminal.is_err() {
            // It may have failed half-way.
            let _ = ratatui::try_restore();
        }
        terminal.map(Self)
    }

    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(picture).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = self.0.show_cursor();
        // A panic has done it, before its message. Twice, the message would be written over.
        if !std::thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use portable_pty::{CommandBuilder, PtySize, native_pty_system};

    use super::Screen;

    const PANICS: &str = "OUTBOX_TEST_PANICS";

    /// This test runs itself in a terminal, where it panics.
    #[test]
    fn a_panic_leaves_the_terminal_as_it_was_and_is_told_there() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::open().unwrap();
            screen.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
            panic!("on purpose");
        }
        let pty = native_pty_system().openpty(PtySize::default()).unwrap();
        let settings = || format!("{:?}", pty.master.get_termios().unwrap());
        let before = settings();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--nocapture", "a_panic_leaves_the_terminal_as_it_was_and_is_told_there"]);
        command.env(PANICS, "1");
        command.env("RUST_BACKTRACE", "0");
        let mut program = pty.slave.spawn_command(command).unwrap();
        let mut reader = pty.master.try_clone_reader().unwrap();
        let read = std::thread::spawn(move || {
            let mut output = Vec::new();
            // It ends with an error, when the terminal is gone.
            let _ = reader.read_to_end(&mut output);
            output
        });
        assert!(!program.wait().unwrap().success());
        assert_eq!(settings(), before);
        drop(pty.slave);
        let mut parser = vt100::Parser::default();
        let output = read.join().unwrap();
        parser.process(&output);
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        let shown = screen.contents();
        assert!(shown.contains("on purpose") && !shown.contains("drawn"), "{shown}");
        assert!(String::from_utf8_lossy(&output).contains("drawn"));
    }
}
