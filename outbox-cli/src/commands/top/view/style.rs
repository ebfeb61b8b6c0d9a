//! How things that matter look, with colours and without.

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours: `--color`, `NO_COLOR`.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    pub is_colored: bool,
}

impl Palette {
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is as it should be.
    pub fn good(self) -> Style {
        self.colored(Color::Green, Modifier::empty())
    }

    /// What may need somebody.
    pub fn notable(self) -> Style {
        self.colored(Color::Yellow, Modifier::BOLD)
    }

    /// What needs somebody.
    pub fn bad(self) -> Style {
        self.colored(Color::Red, Modifier::BOLD)
    }

    /// A question, or what is typed.
    pub fn prompt(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn colored(self, color: Color, plain: Modifier) -> Style {
        if self.is_colored { Style::new().fg(color) } else { Style::new().add_modifier(plain) }
    }
}
