-- Draws numbers late, just before commit. A larger cache would hand out blocks to sessions, and break the order.
create sequence {seq} as bigint cache 1;

-- Append-only: rows are never updated, and leave by TRUNCATE of a leaf of the ring.
create table {event} (
  xid          xid8        not null default pg_current_xact_id(),  -- must be drawn before seq
  seq          bigint      not null default
    -- A transaction with events waits for the disk, whatever its session's default: what is published was committed.
    case when case current_setting('synchronous_commit')
                when 'off' then set_config('synchronous_commit', 'on', true) = 'on' else true end
    then nextval({'seq'}) end,
  lane         smallint    not null check (lane between 0 and 15),  -- no relay reads another one
  id           uuid        not null,
  topic        text        not null,
  key          bytea,
  name         text        not null,
  version      integer     not null,
  content_type text        not null,
  headers      json        not null,
  payload      bytea       not null,
  occurred_at  timestamptz not null
) partition by list (((seq >> 20) & 15));
-- Not compressed, so that the stored size, which is had without reading them, is their size.
alter table {event} alter column headers set storage external;

create table {event_0}  partition of {event} for values in (0);
create table {event_1}  partition of {event} for values in (1);
create table {event_2}  partition of {event} for values in (2);
create table {event_3}  partition of {event} for values in (3);
create table {event_4}  partition of {event} for values in (4);
create table {event_5}  partition of {event} for values in (5);
create table {event_6}  partition of {event} for values in (6);
create table {event_7}  partition of {event} for values in (7);
create table {event_8}  partition of {event} for values in (8);
create table {event_9}  partition of {event} for values in (9);
create table {event_10} partition of {event} for values in (10);
create table {event_11} partition of {event} for values in (11);
create table {event_12} partition of {event} for values in (12);
create table {event_13} partition of {event} for values in (13);
create table {event_14} partition of {event} for values in (14);
create table {event_15} partition of {event} for values in (15);

create index {"event_lane_seq"} on {event} (lane, seq);       -- the rows of a window
create index {"event_xid"}      on {event} (xid, lane, seq);  -- those that committed late

-- One small row per lane: its lease, and the relay's progress in it. Between the snapshots `prev` and `cur` lies
-- the window being read; without `cur`, everything visible in `prev` is delivered.
create table {lane} (
  lane        smallint    primary key,
  owner       uuid,
  epoch       bigint      not null default 0,
  lease_until timestamptz,
  prev        pg_snapshot not null default '3:3:',
  prev_floor  bigint      not null default 0,
  prev_h      xid8        not null default '3',
  cur         pg_snapshot,
  cur_floor   bigint,
  cur_h       xid8,
  last_seq    bigint      not null default 0,
  sysid       bigint  -- the cluster whose transaction ids these are
) with (fillfactor = 50);
insert into {lane} (lane) select generate_series(0, 15);

-- The relays alive, by whose number the lanes are shared out.
create table {relay} (
  owner       uuid        primary key,
  alive_until timestamptz not null
);

-- Events set aside: what the broker refused, and the later events of its key. They are copies, so that the leaf of the
-- ring which they came from can be truncated.
create table {parked} (
  seq          bigint      primary key,
  lane         smallint    not null,
  id           uuid        not null,
  topic        text        not null,
  key          bytea,
  name         text        not null,
  version      integer     not null,
  content_type text        not null,
  headers      json        not null,
  payload      bytea       not null,
  occurred_at  timestamptz not null,
  reason       text,
  attempts     integer     not null,
  since        timestamptz not null default now(),
  released     boolean     not null
);
create index {"parked_lane_key"} on {parked} (lane, key, seq);

-- Where the sequence stood at a time: how old a leaf is.
create table {mark} (
  seq bigint      primary key,
  at  timestamptz not null default now()
);

-- What each consumer group has handled.
create table {inbox} (
  consumer_group text        not null,
  event_id       uuid        not null,
  handled_at     timestamptz not null default now(),
  primary key (consumer_group, event_id)
);
create index {"inbox_handled_at"} on {inbox} (consumer_group, handled_at);

-- Events of keys whose order is kept: those on their way through a consumer group's retry topics, and those that wait
-- behind them, which are kept here. They are known by their ids, since offsets begin anew with a topic that is created
-- again, and are ordered as they arrived. Keys may be longer than an index takes: it has their digests.
create table {waiting} (
  place            bigint      generated always as identity primary key,
  consumer_group   text        not null,
  topic            text        not null,
  key_digest       uuid        not null,
  event_id         uuid        not null,
  key              bytea       not null,
  source_partition integer     not null,
  source_offset    bigint      not null,
  state            text        not null check (state in ('failed', 'sent', 'kept')),
  headers          bytea,
  payload          bytea,
  since            timestamptz not null default now()
);
create unique index {"waiting_event"} on {waiting} (consumer_group, topic, key_digest, event_id);
create index {"waiting_key"} on {waiting} (consumer_group, topic, key_digest, place);
