-- One writer at a time, so the order of `seq` is the order of the commits. AUTOINCREMENT: a number is never reused.
create table {event} (
  seq          integer primary key autoincrement,
  lane         integer not null check (lane between 0 and 15),  -- no relay reads another one
  id           blob    not null check (length(id) = 16),
  topic        text    not null,
  key          blob,
  name         text    not null,
  version      integer not null,
  content_type text    not null,
  headers      text    not null,
  payload      blob,  -- null: a tombstone
  occurred_at  integer not null,  -- microseconds since 1970
  kafka_partition integer  -- null: the key decides
) strict;
create index {"event_lane_seq"} on {event} (lane, seq);

-- One small row per lane: who holds it, and what is delivered.
create table {lane} (
  lane     integer primary key,
  owner    blob,
  epoch    integer not null default 0,
  last_seq integer not null default 0,
  claim    blob,    -- exactly-once delivery: the claim and the wave after which it was saved
  wave     integer
);
insert into {lane} (lane) values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

-- Exactly-once delivery: the groups of lanes, each with the claim of the relay that publishes it.
-- No rows, or rows that are handed back: events are delivered at least once.
create table {group} (
  grp     integer primary key,
  groups  integer not null,  -- how many there are
  outbox  blob    not null,  -- what the producers and the progress topic are named by
  claim   blob,
  adopted integer not null default 0,  -- whether progress was ever adopted: then there is some
  ended   blob,  -- the claim that was ended by a change of delivery
  handed_back integer not null default 0  -- whether events are delivered at least once again: all groups, or none
);

-- Their witnesses: of the current claim, and of earlier ones whose progress may be adopted.
create table {witness} (
  id    integer primary key autoincrement,
  grp   integer not null,
  claim blob    not null unique,
  seq   integer not null  -- all numbers up to it were drawn in this file, and what has them is on disk
);

-- The living relays, by whose number the lanes are shared: a relay holds its lanes until
-- `alive_until`, and renews that with the next number. The last columns say where it is found.
create table {relay} (
  owner        blob    primary key,
  shares       integer not null,
  sign         integer not null,
  alive_until  integer not null,  -- milliseconds since 1970
  lease_millis integer not null,
  host         text,
  pid          integer,
  version      text,
  started_at   integer not null default (cast(unixepoch('subsec') * 1000 as integer))
) without rowid;

-- What operators have paused: relays keep their leases, and send nothing of it.
create table {pause} (
  scope     text    not null check (scope in ('all', 'lane', 'topic')),
  target    text    not null,  -- the lane's number or the topic; empty for all
  reason    text    not null,
  paused_by text    not null,
  since     integer not null,  -- milliseconds since 1970
  primary key (scope, target)
) without rowid;

-- Parked events: what the broker refused, and the later events of its topic and key.
create table {parked} (
  seq          integer primary key,
  lane         integer not null,
  key_digest   blob    not null,  -- of topic and key; without a key, the id
  id           blob    not null,
  topic        text    not null,
  key          blob,
  name         text    not null,
  version      integer not null,
  content_type text    not null,
  headers      text    not null,
  payload      blob,
  occurred_at  integer not null,
  kafka_partition integer,
  bytes        integer not null,  -- what it takes in memory
  reason       text,
  attempts     integer not null,
  since        integer not null   -- milliseconds since 1970
);
create index {"parked_key_seq"} on {parked} (lane, key_digest, seq);
create index {"parked_id"} on {parked} (id);

-- The keys with parked events. One that is released is tried again at once.
create table {parked_key} (
  lane       integer not null,
  key_digest blob    not null,
  topic      text    not null,
  since      integer not null,  -- when it was parked, or last refused: milliseconds since 1970
  released   integer not null,
  primary key (lane, key_digest)
) without rowid;
create index {"parked_key_since"} on {parked_key} (lane, since) where released = 0;
create index {"parked_released"} on {parked_key} (lane, since) where released = 1;

-- Discarded events, as long as they could be replayed.
create table {discarded} (
  seq    integer primary key,
  id     blob    not null,
  topic  text    not null,
  name   text    not null,
  reason text,
  at     integer not null  -- milliseconds since 1970
);
create index {"discarded_id"} on {discarded} (id);

-- The sequence's value at a time (milliseconds since 1970), from which the age of an event follows.
create table {sequence_mark} (
  seq integer primary key,
  at  integer not null
);

-- What each consumer group has handled, and when (milliseconds since 1970).
create table {inbox} (
  consumer_group text    not null,
  event_id       blob    not null,
  handled_at     integer not null default (cast(unixepoch('subsec') * 1000 as integer)),
  primary key (consumer_group, event_id)
);
create index {"inbox_handled_at"} on {inbox} (consumer_group, handled_at);

-- Events of keys whose order is kept: those on their way through a consumer group's retry topics,
-- and those that wait behind them, which are kept here. They are identified by their ids, since
-- offsets begin again with a topic that is created again, and ordered as they arrived.
create table {key_queue} (
  place            integer primary key autoincrement,
  consumer_group   text    not null,
  topic            text    not null,
  key_digest       blob    not null,
  event_id         blob    not null,
  key              blob    not null,
  source_partition integer not null,
  source_offset    integer not null,
  state            text    not null check (state in ('failed', 'sent', 'kept')),
  headers          blob,
  payload          blob,
  since            integer not null default (cast(unixepoch('subsec') * 1000 as integer))
);
create unique index {"key_queue_event"} on {key_queue} (consumer_group, topic, key_digest, event_id);
create index {"key_queue_place"} on {key_queue} (consumer_group, topic, key_digest, place);
