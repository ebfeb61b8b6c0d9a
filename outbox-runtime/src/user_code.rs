//! Protects our code from the user's. That may panic: in a handler, in a codec, and in the
//! `Display`, `source` and `Drop` of what they return. Its texts may be endless, and so may the
//! chain of its causes.

use std::any::Any;
use std::error::Error;
use std::fmt::{self, Display, Write as _};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Most bytes that are kept of a text.
const LONGEST_TEXT: usize = 4_000;
/// Most causes of an error that are looked at.
const MOST_CAUSES: usize = 32;

/// Runs the user's code. If it panics, the error is its message.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = said(&*panic);
        let text = text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned();
        drop_caught(panic);
        text
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn drop_caught<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The panic's value may panic when it is dropped, too.
        std::mem::forget(panic);
    }
}

/// A value of the user, whose `Drop` may panic. As a future, it ends with the message if the user's
/// future panics.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, until it is taken.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The value, once.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        drop_caught(self.0.take());
    }
}

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        match caught(|| Pin::new(future).poll(context)) {
            Ok(poll) => poll.map(Ok),
            Err(said) => Poll::Ready(Err(said)),
        }
    }
}

/// An error of the user's.
pub(crate) struct UserError(Guarded<Box<dyn Error + Send + Sync>>);

impl UserError {
    pub(crate) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Guarded::new(error.into()))
    }

    pub(crate) fn as_dyn(&self) -> &(dyn Error + 'static) {
        // Nothing takes it out before it is dropped.
        match self.0.get() {
            Some(error) => &**error,
            None => &fmt::Error,
        }
    }
}

/// The error's message, followed by its causes as far as the message does not contain them.
impl Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for cause in causes(self.as_dyn()) {
            let cause = text_of(cause);
            if !text.contains(&cause) {
                text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
            }
            if text.len() >= LONGEST_TEXT {
                break;
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserError({self})")
    }
}

/// An error and its causes, the outermost first. The chain may be a ring, and `source` may panic.
pub(crate) fn causes<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // Its `source()` omits the error that it wraps.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match within {
            Some(within) => Some(within as &(dyn Error + 'static)),
            None => caught(|| error.source()).ok().flatten(),
        }
    })
    .take(MOST_CAUSES)
}

/// The `Display` text of a value of the user, up to a bound.
pub(crate) fn text_of(value: &(impl Display + ?Sized)) -> String {
    let mut text = Bounded(String::new());
    match caught(|| write!(text, "{value}")) {
        Ok(Ok(())) => {}
        Ok(Err(_)) => text.0.push('…'),
        Err(said) => text.0 = format!("{} (its `Display` panicked: {said})", text.0),
    }
    text.0
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(LONGEST_TEXT.saturating_sub(self.0.len()));
        self.0.push_str(&text[..room]);
        if room < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hostile(&'static str);

    impl fmt::Debug for Hostile {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("in Debug")
        }
    }

    impl Display for Hostile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("begun")?;
            match self.0 {
                "display" => panic!("in Display"),
                "refuses" => Err(fmt::Error),
                "endless" => loop {
                    f.write_str("äöü")?;
                },
                _ => Ok(()),
            }
        }
    }

    static RING: Hostile = Hostile("ring");

    impl Error for Hostile {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self.0 {
                "source" => panic!("in source"),
                "ring" => Some(&RING),
                _ => None,
            }
        }
    }

    impl Drop for Hostile {
        fn drop(&mut self) {
            if self.0 == "drop" {
                std::panic::panic_any(Hostile("drop"));
            }
        }
    }

    #[test]
    fn an_error_says_what_it_can_whatever_it_does() {
        let say = |how| UserError::new(Hostile(how)).to_string();
        assert_eq!(say("display"), "begun (its `Display` panicked: in Display)");
        assert_eq!(say("refuses"), "begun…");
        assert_eq!(say("source"), "begun");
        assert_eq!(say("ring"), "begun");
        assert_eq!(say("drop"), "begun");
        let endless = say("endless");
        assert!(endless.len() < LONGEST_TEXT + 10 && endless.ends_with('…'), "{}", endless.len());
        let wrapped = std::io::Error::other(std::io::Error::other(Hostile("ring")));
        assert_eq!(causes(&wrapped).count(), MOST_CAUSES);
    }

    #[test]
    fn a_panic_is_an_error_even_if_what_it_carries_panics() {
        let panicked = caught(|| std::panic::panic_any(Hostile("drop")));
        assert_eq!(panicked, Err("no message".to_owned()));
        drop(Guarded::new(Hostile("drop")));
        let long = caught(|| -> () { panic!("{}", "x".repeat(1 << 20)) });
        assert_eq!(long.map_err(|said| said.len()), Err(LONGEST_TEXT));
    }
}
