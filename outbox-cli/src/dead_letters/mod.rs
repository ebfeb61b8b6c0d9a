//! `outbox dead-letters`.

mod render;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

use outbox::OutboxError;
use outbox::consume::{DeadLetter, DeadLetters};
use outbox::kafka::KafkaConfig;

use crate::args::{DeadLetters as Command, Of, Place, Which};

type Failure = Box<dyn Error>;

pub async fn run(command: &Command, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        Command::List { of, json } => {
            let listed = list(of).await?;
            if *json {
                for (place, letter) in &listed {
                    writeln!(out, "{}", render::json(*place, letter))?;
                }
            } else if listed.is_empty() {
                none(of);
            } else {
                out.write_all(render::table(&listed).as_bytes())?;
            }
        }
        Command::Show { of, places } => {
            let shown = chosen(places, list(of).await?)
                .map_err(|unknown| unknown_places(of, "shown", &unknown))?;
            for (i, (place, letter)) in shown.iter().enumerate() {
                let gap = if i == 0 { "" } else { "\n" };
                write!(
                    out,
                    "{gap}{}",
                    render::everything(&of.dead_letter_topic(), *place, letter)
                )?;
            }
        }
        Command::Replay { of, which } => {
            const REPLAY: Deed = Deed {
                done: "replayed",
                in_doubt: "may have been replayed too: it is listed still, and replayed again it is handled once",
            };
            let letters = which_of(which, of, &REPLAY).await?;
            let dead_letters = of.dead_letters()?;
            each(&letters, &REPLAY, out, async |letter| dead_letters.replay(letter).await).await?;
            if !letters.is_empty() {
                say(
                    out,
                    format_args!(
                        "the consumers of `{}` get them by `{}`",
                        of.group,
                        of.replay_topic()
                    ),
                );
            }
        }
        Command::Discard { of, which, .. } => {
            const DISCARD: Deed = Deed {
                done: "discarded",
                in_doubt: "may have been discarded too: if it is listed still, discard it again",
            };
            let letters = which_of(which, of, &DISCARD).await?;
            let dead_letters = of.dead_letters()?;
            each(&letters, &DISCARD, out, async |letter| dead_letters.discard(letter).await)
                .await?;
        }
    }
    Ok(())
}

type Listed<T> = Vec<(Place, T)>;

async fn list(of: &Of) -> Result<Listed<DeadLetter>, Failure> {
    let letters = of.dead_letters()?.list().await?;
    let place = |letter: &DeadLetter| Place { partition: letter.partition, offset: letter.offset };
    Ok(letters.into_iter().map(|letter| (place(&letter), letter)).collect())
}

async fn which_of(which: &Which, of: &Of, deed: &Deed) -> Result<Listed<DeadLetter>, Failure> {
    let listed = list(of).await?;
    if which.all {
        if listed.is_empty() {
            none(of);
        }
        return Ok(listed);
    }
    chosen(&which.places, listed).map_err(|unknown| unknown_places(of, deed.done, &unknown))
}

/// The dead letters at these places, in this order, each once; or the places without any.
fn chosen<T>(places: &[Place], listed: Listed<T>) -> Result<Listed<T>, Vec<Place>> {
    let mut listed: BTreeMap<Place, T> = listed.into_iter().collect();
    let unknown: Vec<Place> =
        places.iter().filter(|place| !listed.contains_key(place)).copied().collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(places.iter().filter_map(|place| Some((*place, listed.remove(place)?))).collect())
}

fn unknown_places(of: &Of, done: &str, unknown: &[Place]) -> Failure {
    let (topic, places) = (of.dead_letter_topic(), joined(unknown.iter()));
    format!(
        "there is no dead letter at {places} on `{topic}`, and nothing was {done}. It may have been replayed or discarded \
         before: `outbox dead-letters list --topic {} --group {}` lists what there is",
        of.topic, of.group
    )
    .into()
}

/// What is done to dead letters.
struct Deed {
    done: &'static str,
    /// Of one whose deed failed, because only the answer may be what is missing.
    in_doubt: &'static str,
}

/// Does it to one after the other, and stops at the first that fails: what was done and what was
/// not is said in any case.
async fn each<T, E: Display>(
    letters: &[(Place, T)],
    deed: &Deed,
    out: &mut impl Write,
    act: impl AsyncFn(&T) -> Result<(), E>,
) -> Result<(), Failure> {
    let Deed { done, in_doubt } = deed;
    for (i, (place, letter)) in letters.iter().enumerate() {
        if let Err(error) = act(letter).await {
            let places = |letters: &[(Place, T)]| joined(letters.iter().map(|(place, _)| place));
            let (before, after) = (places(&letters[..i]), places(&letters[i + 1..]));
            return Err(format!(
                "{place} was not {done}: {error}\n{done}: {before}\nin doubt: {place} {in_doubt}\nnot {done}: {after}"
            )
            .into());
        }
        say(out, format_args!("{done} {place}"));
    }
    Ok(())
}

fn joined<'p>(places: impl Iterator<Item = &'p Place>) -> String {
    let places: Vec<String> = places.map(Place::to_string).collect();
    if places.is_empty() { "none".to_owned() } else { places.join(", ") }
}

/// Errors of printing are ignored: the action is done, and the next one must not be skipped.
fn say(out: &mut impl Write, what: impl Display) {
    let _ = writeln!(out, "{what}");
}

/// On stderr, so that a program that reads the list reads an empty one.
fn none(of: &Of) {
    let topic = of.dead_letter_topic();
    say(
        &mut io::stderr(),
        format_args!(
            "no dead letters on `{topic}`, or no such topic: are --topic and --group what they should be?"
        ),
    );
}

impl Of {
    fn dead_letters(&self) -> Result<DeadLetters, OutboxError> {
        let properties = self.properties.iter().map(|property| (&property.name, &property.value));
        let kafka = KafkaConfig::new(&self.brokers).properties(properties);
        DeadLetters::builder(kafka).topic(&self.topic).group(&self.group).build()
    }

    fn dead_letter_topic(&self) -> String {
        format!("{}.{}.dlt", self.topic, self.group)
    }

    fn replay_topic(&self) -> String {
        format!("{}.{}.retry.0", self.topic, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEED: Deed = Deed { done: "replayed", in_doubt: "may have been replayed too" };

    fn place(offset: i64) -> Place {
        Place { partition: 0, offset }
    }

    fn four() -> Listed<i64> {
        (0..4).map(|offset| (place(offset), offset)).collect()
    }

    #[test]
    fn dead_letters_are_chosen_in_the_order_given_and_each_once() {
        let chosen = chosen(&[place(3), place(1), place(3)], four()).unwrap();
        assert_eq!(chosen, [(place(3), 3), (place(1), 1)]);
    }

    #[test]
    fn with_an_unknown_place_none_is_chosen() {
        assert_eq!(
            chosen(&[place(0), place(9), place(7)], four()).unwrap_err(),
            [place(9), place(7)]
        );
    }

    #[tokio::test]
    async fn what_was_done_and_what_was_not_is_said_when_one_fails() {
        let mut out = Vec::new();
        let act = async |letter: &i64| if *letter == 2 { Err("no broker answers") } else { Ok(()) };
        let failure = each(&four(), &DEED, &mut out, act).await.unwrap_err().to_string();
        assert_eq!(String::from_utf8(out).unwrap(), "replayed 0:0\nreplayed 0:1\n");
        assert_eq!(
            failure,
            "0:2 was not replayed: no broker answers\nreplayed: 0:0, 0:1\nin doubt: 0:2 may have been replayed too\n\
             not replayed: 0:3"
        );
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_does_not_stop_a_replay() {
        let done = std::cell::Cell::new(0);
        let act = async |_: &i64| {
            done.set(done.get() + 1);
            Ok::<_, String>(())
        };
        let mut full: &mut [u8] = &mut [0; 3];
        each(&four(), &DEED, &mut full, act).await.unwrap();
        assert_eq!(done.get(), 4);
    }
}
