drop table {event}, {lane}, {progress}, {group}, {witness}, {relay}, {heartbeat}, {pause}, {parked}, {parked_key}, {discarded},
  {sequence_mark}, {inbox}, {key_queue};
drop sequence {seq};
