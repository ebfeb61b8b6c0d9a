//! What the keys and the numbers mean.

use ratatui::text::Line;

use super::fit;
use super::style::Palette;

const KEYS: [(&str, &str); 5] = [
    (
        "p",
        "pause everything, with a reason that others see, or end that pause. Services emit as before",
    ),
    (
        "r",
        "try parked events again at once: all, or with a filter those of the topics that are shown",
    ),
    ("/", "show only topics that contain a text. Enter keeps it, Esc ends it"),
    ("?", "this help. Esc goes back a step, from a question, the help, the filter, and then quits"),
    ("q", "quit, as Ctrl-C does"),
];

const NUMBERS: [(&str, &str); 6] = [
    (
        "in",
        "events emitted or replayed each second, over 10 s; transactions that roll back count as well",
    ),
    ("out", "events published or parked each second. ~: estimated from a sample of each lane"),
    (
        "grid",
        "in the line of a relay, what is pending in each lane that it holds; · where it holds none",
    ),
    (
        "<k",
        "some hundreds, where three digits do not fit; <M: ten thousands or more; +: more still",
    ),
    (
        "RETRYING",
        "messages in the group's retry topics. DEAD: dead letters, counted from time to time",
    ),
    ("red", "older than 60 s, parked, without a relay, or dead"),
];

pub fn lines(columns: usize, palette: Palette) -> Vec<Line<'static>> {
    const NAME: usize = 10;
    let name = NAME.min(columns / 3);
    let mut lines = Vec::new();
    for (what, text) in KEYS.iter().chain(&NUMBERS) {
        let texts = fit::wrapped(text, columns.saturating_sub(name), usize::MAX);
        for (at, text) in texts.into_iter().enumerate() {
            let what = if at == 0 { what } else { "" };
            lines.push(Line::from(vec![
                ratatui::text::Span::styled(fit::left(what, name), palette.heading()),
                ratatui::text::Span::raw(text),
            ]));
        }
    }
    lines
}
