"""Reads and writes records by the SDK of CloudEvents for Python, without a client of Kafka.

read RECORD…: prints each record, as `kcat -J` shows it, as the event that the SDK makes of it.
write MODE EVENT: prints the record that the SDK makes of an event. Both are JSON.
"""

import json
import sys

from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent


def read(*records):
    for record in map(json.loads, records):
        names, values = record["headers"][::2], record["headers"][1::2]
        message = kafka.KafkaMessage(
            headers={name: value.encode() for name, value in zip(names, values)},
            key=record["key"].encode(),
            value=record["payload"].encode(),
        )
        event = kafka.from_kafka_event(message)
        shown = {**event.get_attributes(), "data": event.get_data()}
        print(json.dumps(shown, default=lambda time: time.isoformat()))


def write(mode, event):
    event = json.loads(event)
    attributes = {name: event[name] for name in ("id", "source", "type")}
    # Which is the record's key in this SDK.
    attributes["partitionkey"] = event["key"]
    written = {"binary": kafka.to_binary_event, "structured": kafka.to_structured_event}
    message = written[mode](CloudEvent(attributes, event["data"]))
    headers = {name: value.decode() for name, value in message.headers.items()}
    print(json.dumps({"key": message.key, "headers": headers, "value": message.value.decode()}))


{"read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
