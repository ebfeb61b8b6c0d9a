//! Names on the brokers that follow from a group alone: whoever publishes for the group has the same.

use crate::error::OutboxError;
use crate::kafka::{LONGEST_NAME, TopicPrefix};
use crate::publish::transactions::GroupId;
use crate::record::fnv1a;

/// Most characters of an outbox's identity that are part of a name as they are.
const LONGEST_IDENTITY: usize = 100;

/// The id of a group's producer, of the number `producer`. The deployment's prefix is part of it:
/// two deployments on one cluster do not fence each other.
pub(super) fn transactional_id(prefix: &TopicPrefix, group: &GroupId, producer: usize) -> String {
    let name = format!("outbox-{}-{}-{producer}", legal(&group.outbox), group.group);
    prefix.on_brokers(&name).into_owned()
}

/// The topic with the progress of all groups of an outbox. It is named after the outbox: a
/// partition has the progress of one group of one outbox, and of no other.
///
/// # Errors
/// If the name would be too long.
pub(super) fn progress_topic(prefix: &TopicPrefix, group: &GroupId) -> Result<String, OutboxError> {
    let name = format!("outbox-{}-progress", legal(&group.outbox));
    let name = prefix.on_brokers(&name).into_owned();
    if name.len() > LONGEST_NAME {
        return Err(OutboxError::config(format!(
            "the topic for the relay's progress would be called `{name}`, which is longer than Kafka allows ({LONGEST_NAME} \
             characters). Nothing was published. Choose a shorter `topic_prefix`"
        )));
    }
    Ok(name)
}

/// An identity as a part of names: as it is if it may be, and otherwise what may be of it, with a
/// hash by which it is told from others.
fn legal(identity: &str) -> String {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_short = identity.len() <= LONGEST_IDENTITY;
    if is_short && !identity.is_empty() && identity.chars().all(is_legal) {
        return identity.to_owned();
    }
    let cleaned = identity.chars().map(|c| if is_legal(c) { c } else { '_' });
    let cleaned: String = cleaned.take(LONGEST_IDENTITY).collect();
    format!("{cleaned}-{:016x}", fnv1a(identity.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(outbox: &str, group: u16) -> GroupId {
        GroupId { outbox: outbox.to_owned(), group, groups: 4 }
    }

    /// A change of these would publish twice: the producers of an older version would not be
    /// fenced.
    #[test]
    fn the_names_of_a_group_never_change() {
        let (none, staging) = (TopicPrefix::default(), TopicPrefix::new("staging-").unwrap());
        let shop = group("shop.outbox", 3);
        assert_eq!(transactional_id(&none, &shop, 0), "outbox-shop.outbox-3-0");
        assert_eq!(transactional_id(&staging, &shop, 2), "staging-outbox-shop.outbox-3-2");
        assert_eq!(progress_topic(&staging, &shop).unwrap(), "staging-outbox-shop.outbox-progress");
        let odd = group("größe \"a\"\n", 0);
        assert_eq!(transactional_id(&none, &odd, 1), "outbox-gr__e__a__-beb73c3d8b93e577-0-1");
    }

    #[test]
    fn any_identity_makes_a_legal_name_of_its_own() {
        let none = TopicPrefix::default();
        let long = "x".repeat(1_000);
        let longer = format!("{long}x");
        let identities = ["", " ", "a b", "a_b", "a/b", "é", &long, &longer, "..", "\0"];
        let names = identities.map(|of| progress_topic(&none, &group(of, 0)).unwrap());
        for name in &names {
            assert!(crate::kafka::is_legal_topic(name), "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn a_prefix_that_leaves_no_room_is_refused() {
        let prefix = TopicPrefix::new(&"x".repeat(240)).unwrap();
        let error = progress_topic(&prefix, &group("shop", 0)).unwrap_err().to_string();
        assert!(error.contains("topic_prefix"), "{error}");
    }
}
