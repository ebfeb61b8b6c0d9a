-- Events that are not published yet: a relay deletes what it has delivered. A number is drawn before the commit, so what
-- is committed late may have a lower number than what is delivered already; it is found since it is still here.
create table if not exists {event} (
  seq             bigint         not null auto_increment,
  lane            smallint       not null check (lane between 0 and 15),  -- no relay reads another one
  id              binary(16)     not null,
  topic           varchar(249)   not null,
  event_key       mediumblob,
  name            varchar(255)   not null,
  version         integer        not null,
  content_type    varchar(255)   not null,
  headers         mediumblob     not null,  -- JSON
  payload         longblob,  -- null: a tombstone
  occurred_at     bigint         not null,  -- microseconds since 1970, as all times here
  kafka_partition integer,  -- null: the key decides
  primary key (seq),
  key lane_seq (lane, seq)  -- narrow: deleted rows that an old snapshot keeps are passed over in it
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

-- One small row per lane: who holds it.
create table if not exists {lane} (
  lane  smallint   not null primary key,
  owner binary(16),
  epoch bigint     not null default 0
) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin;
insert ignore into {lane} (lane)
values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

-- Relays that are alive, or were a moment ago.
create table if not exists {relay} (
  owner        binary(16)   not null primary key,
  shares       tinyint(1)   not null,
  sign         bigint       not null,
  alive_until  bigint       not null,
  lease_millis bigint       not null,
  host         varchar(255),
  pid          bigint,
  version      varchar(255),
  started_at   bigint       not null
) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin;

-- What relays leave unpublished until an operator resumes it.
create table if not exists {pause} (
  scope     varchar(8)   not null,
  target    varchar(249) not null,  -- the lane's number or the topic; empty for all
  reason    text         not null,
  paused_by text         not null,
  since     bigint       not null,
  primary key (scope, target)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

-- Events that Kafka refused, and those that wait behind them.
create table if not exists {parked} (
  seq             bigint       not null primary key,
  lane            smallint     not null,
  key_digest      binary(16)   not null,  -- of topic and key, for a key may be too long for an index; without a key, the id
  id              binary(16)   not null,
  topic           varchar(249) not null,
  event_key       mediumblob,
  name            varchar(255) not null,
  version         integer      not null,
  content_type    varchar(255) not null,
  headers         mediumblob   not null,
  payload         longblob,
  occurred_at     bigint       not null,
  kafka_partition integer,
  bytes           integer      not null,  -- what it takes in memory
  reason          text,
  attempts        integer      not null,
  since           bigint       not null,
  key parked_key_seq (lane, key_digest, seq),
  key parked_id (id)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

create table if not exists {parked_key} (
  lane       smallint     not null,
  key_digest binary(16)   not null,
  topic      varchar(249) not null,
  since      bigint       not null,  -- when it was parked, or last refused
  released   tinyint(1)   not null,
  primary key (lane, key_digest),
  key parked_key_since (lane, released, since)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

create table if not exists {discarded} (
  seq    bigint       not null primary key,
  id     binary(16)   not null,
  topic  varchar(249) not null,
  name   varchar(255) not null,
  reason text,
  at     bigint       not null,
  key discarded_id (id)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

-- Copies of what is published, if the relays retain it.
create table if not exists {sent} (
  seq             bigint       not null primary key,
  lane            smallint     not null,
  id              binary(16)   not null,
  topic           varchar(249) not null,
  event_key       mediumblob,
  name            varchar(255) not null,
  version         integer      not null,
  content_type    varchar(255) not null,
  headers         mediumblob   not null,
  payload         longblob,
  occurred_at     bigint       not null,
  kafka_partition integer,
  sent_at         bigint       not null,
  key sent_at (sent_at),
  key sent_id (id)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

-- What consumers lock for a key: a row, since MySQL's named locks are those of a session. The 256 rows from 1024 on are
-- written to, so that a commit waits for the disk.
create table if not exists {slot} (
  slot    smallint not null primary key,
  flushes bigint   not null default 0
) engine = InnoDB;
insert ignore into {slot} (slot)
select a.lane + 16 * b.lane + 256 * c.lane from {lane} a join {lane} b join {lane} c where c.lane < 5;

-- What consumer groups have handled.
create table if not exists {inbox} (
  consumer_group varbinary(255) not null,
  event_id       binary(16)     not null,
  handled_at     bigint         not null,
  primary key (consumer_group, event_id),
  key inbox_handled_at (consumer_group, handled_at)
) engine = InnoDB row_format = dynamic;

-- The queues of keys of which an event is in a retry topic.
create table if not exists {key_queue} (
  place            bigint         not null auto_increment primary key,
  consumer_group   varbinary(255) not null,
  topic            varchar(249)   not null,
  key_digest       binary(16)     not null,
  event_id         binary(16)     not null,
  event_key        mediumblob     not null,
  source_partition integer        not null,
  source_offset    bigint         not null,
  state            varchar(8)     not null,  -- failed, sent or kept
  headers          mediumblob,
  payload          longblob,
  since            bigint         not null,
  unique key key_queue_event (consumer_group, topic, key_digest, event_id),
  key key_queue_place (consumer_group, topic, key_digest, place)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
