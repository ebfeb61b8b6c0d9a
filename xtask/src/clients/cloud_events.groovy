// BROKERS TOPIC MODE EVENT: writes an event, which is JSON, by the SDK of CloudEvents for Java and
// Kafka's own client.

import com.fasterxml.jackson.databind.ObjectMapper
import io.cloudevents.core.builder.CloudEventBuilder
import io.cloudevents.kafka.CloudEventSerializer
import org.apache.kafka.clients.producer.KafkaProducer
import org.apache.kafka.clients.producer.ProducerRecord
import org.apache.kafka.common.serialization.StringSerializer

def (brokers, topic, mode, text) = args as List
def json = new ObjectMapper()
def event = json.readValue(text, Map)
def written = CloudEventBuilder.v1()
    .withId(event.id)
    .withSource(URI.create(event.source))
    .withType(event.type)
    .withData('application/json', json.writeValueAsBytes(event.data))
    .build()
def settings = [
    'bootstrap.servers': brokers,
    'key.serializer': StringSerializer.name,
    'value.serializer': CloudEventSerializer.name,
    'cloudevents.serializer.encoding': mode.toUpperCase(),
]
if (mode == 'structured') {
    settings['cloudevents.serializer.event_format'] = 'application/cloudevents+json'
}
def producer = new KafkaProducer(settings)
producer.send(new ProducerRecord(topic, event.key, written)).get()
producer.close()
