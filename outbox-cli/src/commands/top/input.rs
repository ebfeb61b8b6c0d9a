//! A line that is typed.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Most characters of it.
const MOST: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input(String);

/// What a key meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    More,
    Done,
    Cancelled,
}

impl Input {
    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn key(&mut self, key: KeyEvent) -> Typed {
        let is_chord = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Enter => return Typed::Done,
            KeyCode::Esc => return Typed::Cancelled,
            KeyCode::Backspace => _ = self.0.pop(),
            KeyCode::Char('u') if is_chord => self.0.clear(),
            KeyCode::Char(c) if !is_chord && !c.is_control() && self.0.chars().count() < MOST => {
                self.0.push(c);
            }
            _ => {}
        }
        Typed::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_can_be_taken_back() {
        let mut input = Input::default();
        for _ in 0..MOST + 5 {
            assert_eq!(input.key(KeyCode::Char('é').into()), Typed::More);
        }
        assert_eq!(input.text().chars().count(), MOST);
        input.key(KeyCode::Backspace.into());
        assert_eq!(input.text().chars().count(), MOST - 1);
        input.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        input.key(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT));
        input.key(KeyCode::Char('\u{1b}').into());
        assert_eq!(input.text(), "");
    }
}
