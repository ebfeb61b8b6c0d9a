//! The rules, each with an id by which a person finds it.

use std::fmt;

/// What must not change of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// An event stays in the lock until it is retired.
    EventNoDelete,
    /// An event has the key that it had.
    EventSameKey,
    /// An event is on the topic on which it was.
    EventSameTopic,
    /// An event has the codec that it had.
    EventSameCodec,
    /// An event keeps its headers.
    HeaderNoDelete,
    /// What readers require stays.
    FieldNoDelete,
    /// A value can be read as what it was.
    FieldSameType,
    /// A field that readers require was there from the beginning.
    FieldNoNewRequired,
    /// Readers that refuse unknown fields get none.
    FieldNoAdd,
    /// Each value and variant that was written can be read.
    EnumValueNoDelete,
    /// Each value and variant that is written is known to all readers.
    EnumValueNoAdd,
    /// Each version reads all versions before it.
    VersionHasUpcast,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::EventNoDelete,
        Self::EventSameKey,
        Self::EventSameTopic,
        Self::EventSameCodec,
        Self::HeaderNoDelete,
        Self::FieldNoDelete,
        Self::FieldSameType,
        Self::FieldNoNewRequired,
        Self::FieldNoAdd,
        Self::EnumValueNoDelete,
        Self::EnumValueNoAdd,
        Self::VersionHasUpcast,
    ];

    /// Its id, such as `FIELD_NO_DELETE`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::EventNoDelete => "EVENT_NO_DELETE",
            Self::EventSameKey => "EVENT_SAME_KEY",
            Self::EventSameTopic => "EVENT_SAME_TOPIC",
            Self::EventSameCodec => "EVENT_SAME_CODEC",
            Self::HeaderNoDelete => "HEADER_NO_DELETE",
            Self::FieldNoDelete => "FIELD_NO_DELETE",
            Self::FieldSameType => "FIELD_SAME_TYPE",
            Self::FieldNoNewRequired => "FIELD_NO_NEW_REQUIRED",
            Self::FieldNoAdd => "FIELD_NO_ADD",
            Self::EnumValueNoDelete => "ENUM_VALUE_NO_DELETE",
            Self::EnumValueNoAdd => "ENUM_VALUE_NO_ADD",
            Self::VersionHasUpcast => "VERSION_HAS_UPCAST",
        }
    }

    /// What breaks if it is not kept.
    #[must_use]
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::EventNoDelete => {
                "events of it may come again, from the topic, a retry topic, a dead letter or a replay, and what they are would be known to nobody"
            }
            Self::EventSameKey => {
                "there is no order between events with the old key and with the new one, and a compacted topic keeps both"
            }
            Self::EventSameTopic => {
                "consumers of the old topic would wait for it forever, and there is no order between the events of two topics"
            }
            Self::EventSameCodec => {
                "a consumer that reads the one cannot read the other, and its events become dead letters"
            }
            Self::HeaderNoDelete => {
                "consumers that route or filter by the header would no longer see the events"
            }
            Self::FieldNoDelete => {
                "consumers that require it could not read the event: it becomes a dead letter"
            }
            Self::FieldSameType => {
                "consumers with the one type cannot read the other: the event becomes a dead letter"
            }
            Self::FieldNoNewRequired => {
                "events that were emitted without it could not be read again, by a new consumer group or after a replay"
            }
            Self::FieldNoAdd => {
                "consumers of an earlier state say `deny_unknown_fields`: the event becomes a dead letter"
            }
            Self::EnumValueNoDelete => {
                "events that have it could not be read again, by a new consumer group or after a replay"
            }
            Self::EnumValueNoAdd => {
                "consumers that do not know it could not read the event: it becomes a dead letter"
            }
            Self::VersionHasUpcast => {
                "a consumer of the newest version could not read the events of the older ones: they become dead letters"
            }
        }
    }

    /// What to do.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        match self {
            Self::EventNoDelete => {
                "keep its block in the lock, also when its type is gone. When no event of it can come any more, write `retired = true` into the block, and delete it in a later change"
            }
            Self::EventSameKey => {
                "keep the key; or declare another event with the new key, let consumers handle both, and then emit the new one"
            }
            Self::EventSameTopic => {
                "keep the topic; or declare a second event on the new topic, let consumers handle both, and then emit the new one"
            }
            Self::EventSameCodec => {
                "keep the codec; or make a new version of the event with the new one, and `upcast_from` the old version"
            }
            Self::HeaderNoDelete => {
                "keep the header; or make a new version of the event, and deploy the consumers that do without it first"
            }
            Self::FieldNoDelete => {
                "keep the field; or make a new version of the event without it, with `upcast_from` the old version"
            }
            Self::FieldSameType => {
                "keep the type; or add a second field that readers can do without; or make a new version of the event, with `upcast_from` the old version"
            }
            Self::FieldNoNewRequired => {
                "make it an `Option`, or give it `#[serde(default)]`; or make a new version of the event, with `upcast_from` the old version"
            }
            Self::FieldNoAdd => {
                "make a new version of the event; and take `deny_unknown_fields` off its type, so that the next field needs none"
            }
            Self::EnumValueNoDelete => {
                "keep the value, even if nothing emits it any more; or make a new version of the event, with `upcast_from` the old version"
            }
            Self::EnumValueNoAdd => {
                "make a new version of the event, with `upcast_from` the old version; or deploy all consumers first, and accept it in the mode `backward`"
            }
            Self::VersionHasUpcast => {
                "add `#[event(upcast_from = …)]` to the type of the newer version, and `impl From` for the conversion"
            }
        }
    }

    /// What to do in a program that reads what another one emits.
    #[cfg(feature = "schema")]
    pub(crate) const fn fix_of_a_reader(self) -> &'static str {
        match self {
            Self::EventSameCodec => "read it by the codec by which it is emitted: `codec = …`",
            Self::FieldSameType => "give the field the type that is emitted, or a wider one",
            Self::FieldNoDelete | Self::FieldNoNewRequired => {
                "remove the field, make it an `Option`, or give it `#[serde(default)]`"
            }
            Self::FieldNoAdd => "take `deny_unknown_fields` off the type",
            Self::EnumValueNoDelete | Self::EnumValueNoAdd => {
                "add the value, or a variant for all others: `#[serde(other)]`"
            }
            _ => self.fix(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
