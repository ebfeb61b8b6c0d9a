"""Prints the payloads in `frames.rs`, by the serializers of Confluent's own client for Python.

    pip install "confluent-kafka[avro,protobuf,json,schemaregistry]==2.16.1"
    python tests/vectors.py

No test runs it: it says how the bytes were made. The registry is one that knows a single id.
"""

from confluent_kafka.schema_registry import (
    RegisteredSchema,
    Schema,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ID = 0x01020304
GUID = "018f0000-0000-7000-8000-000000000a0b"


class OneId:
    """Stands in for a registry: every schema has the same id."""

    def lookup_schema(self, subject_name, schema, *_, **__):
        return RegisteredSchema(
            schema_id=ID, guid=GUID, subject=subject_name, version=1, schema=schema
        )

    def register_schema_full_response(self, subject_name, schema, *_, **__):
        return self.lookup_schema(subject_name, schema)

    def register_schema(self, *_, **__):
        return ID

    def get_latest_version(self, *_, **__):
        raise NotImplementedError

    def get_associations_by_resource_name(self, *_, **__):
        return []


AVRO = """
{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"},
    {"name": "cents", "type": "long"},
    {"name": "note", "type": ["null", "string"]}]}
"""
JSON = """
{"$schema": "http://json-schema.org/draft-07/schema#", "title": "OrderPlaced", "type": "object",
 "properties": {"order": {"type": "string"}, "cents": {"type": "integer"}}}
"""


def messages():
    """package shop; message Other {} message Placed { string order = 1; int64 cents = 2;
    message Line { string item = 1; } message Note { string text = 1; } }"""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    first = file.message_type.add(name="Other")
    first.field.add(name="text", number=1, type=9, label=1)
    placed = file.message_type.add(name="Placed")
    placed.field.add(name="order", number=1, type=9, label=1)
    placed.field.add(name="cents", number=2, type=3, label=1)
    for name, field in (("Line", "item"), ("Note", "text")):
        nested = placed.nested_type.add(name=name)
        nested.field.add(name=field, number=1, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def show(what, payload):
    print(f"{what:22} {payload.hex(' ')}")


context = SerializationContext("orders", MessageField.VALUE, headers={})
registry = OneId()
order = {"order": "o-1", "cents": 1250, "note": None}
avro = AvroSerializer(registry, AVRO, conf={"auto.register.schemas": False})
show("avro", avro(order, context))
show("avro, with a note", avro({**order, "note": "fast"}, context))
del order["note"]
json = JSONSerializer(JSON, registry, conf={"auto.register.schemas": False})
show("json", json(order, context))
message = messages()
for name, fields in (
    ("shop.Other", {"text": "o-1"}),
    ("shop.Placed", {"order": "o-1", "cents": 1250}),
    ("shop.Placed.Line", {"item": "o-1"}),
    ("shop.Placed.Note", {"text": "o-1"}),
):
    kind = message(name)
    conf = {"auto.register.schemas": False, "use.deprecated.format": False}
    protobuf = ProtobufSerializer(kind, registry, conf=conf)
    show(name, protobuf(kind(**fields), context))

# The id in a header: what is there is printed after the payload.
in_header = {"schema.id.serializer": header_schema_id_serializer}
for name, serializer in (
    ("avro", AvroSerializer(registry, AVRO, conf={"auto.register.schemas": False, **in_header})),
    ("shop.Placed", ProtobufSerializer(message("shop.Placed"), registry, conf={**conf, **in_header})),
):
    what = message(name)(order="o-1", cents=1250) if name == "shop.Placed" else {**order, "note": None}
    show(f"{name}, by header", serializer(what, context))
    show("  __value_schema_id", context.headers["__value_schema_id"])
