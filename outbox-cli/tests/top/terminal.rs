//! A real terminal: what a program draws on it, and the keys that it is given.

use std::ffi::OsStr;
use std::io::{Read as _, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use vt100::{Parser, Screen};

/// Bounds a hang.
const WITHIN: Duration = Duration::from_secs(120);

pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    /// Open until the program has ended, so that its settings can be read then.
    slave: Option<Box<dyn SlavePty + Send>>,
    program: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: Parser,
    /// The settings before the program was started.
    settings: String,
}

impl Terminal {
    /// A terminal of this size in which `outbox` is started, with these variables and no others.
    pub fn open(
        (rows, cols): (u16, u16),
        arguments: &[&str],
        variables: &[(&str, &str)],
        folder: impl AsRef<OsStr>,
    ) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let settings = settings(&*pty.master);
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_outbox"));
        command.env_clear();
        command.env("TERM", "xterm-256color");
        variables.iter().for_each(|(name, value)| command.env(name, value));
        command.args(arguments);
        command.cwd(folder);
        let program = pty.slave.spawn_command(command).unwrap();
        let mut reader = pty.master.try_clone_reader().unwrap();
        let (send, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys: pty.master.take_writer().unwrap(),
            master: pty.master,
            slave: Some(pty.slave),
            program,
            output,
            parser: Parser::new(size_of(rows), size_of(cols), 0),
            settings,
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.parser.screen_mut().set_size(size_of(rows), size_of(cols));
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    pub fn text(&self) -> String {
        self.screen().contents()
    }

    pub fn pid(&self) -> u32 {
        self.program.process_id().unwrap()
    }

    /// Waits until this is on the screen.
    pub fn shows(&mut self, text: &str) {
        self.until(text, |shown| shown.contains(text));
    }

    pub fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.text()) {
            let left = WITHIN.saturating_sub(begun.elapsed());
            match self.output.recv_timeout(left) {
                Ok(output) => self.parser.process(&output),
                Err(error) => panic!("{error} before the screen had `{what}`:\n{}", self.text()),
            }
        }
    }

    /// Waits until the program has ended. Returns its exit code and what is on the screen then.
    /// The terminal has to be as it was before.
    pub fn ended(mut self) -> (u32, String) {
        let begun = Instant::now();
        let status = loop {
            match self.output.recv_timeout(Duration::from_millis(10)) {
                Ok(output) => self.parser.process(&output),
                Err(RecvTimeoutError::Disconnected) => panic!("the terminal is gone"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(status) = self.program.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < WITHIN, "it does not end:\n{}", self.text());
        };
        assert_eq!(settings(&*self.master), self.settings, "the terminal has other settings");
        // With the last one who could write to it gone, the output has an end.
        self.slave = None;
        while let Ok(output) = self.output.recv() {
            self.parser.process(&output);
        }
        let screen = self.screen();
        assert!(!screen.alternate_screen(), "it left the other screen open");
        assert!(!screen.hide_cursor(), "it left the cursor hidden");
        (status.exit_code(), self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn size_of(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("a screen has rows and columns")
}

/// Echo, line mode, signals by keys and the rest.
fn settings(terminal: &dyn MasterPty) -> String {
    format!("{:?}", terminal.get_termios().expect("a terminal of Unix"))
}
