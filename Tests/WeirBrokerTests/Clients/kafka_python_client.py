"""PyPI's kafka-python."""

import threading

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from scenario import DEADLINE_SECONDS, expect, run, unique, wait_until


def create(bootstrap, partitions):
    topic = unique("kafka-python")
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1)])
    admin.close()
    return topic


def reader(bootstrap, *topics, group=None, **settings):
    return KafkaConsumer(
        *topics, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=6000, heartbeat_interval_ms=200, metadata_max_age_ms=500, **settings)


def long_poll(consumer):
    """The next records, as long as they may take: kafka-python 3.0.12 forgets a join that a poll's time-out cuts short between the answers to
    JoinGroup and SyncGroup, and then owns nothing for ever. So no member of a group polls with a short time-out here."""
    return consumer.poll(timeout_ms=1000 * DEADLINE_SECONDS)


def take(consumer, count):
    taken = []

    def poll():
        for records in long_poll(consumer).values():
            taken.extend(records)
        return len(taken) >= count

    wait_until(poll, f"{count} records")
    return taken


def read_to_end(bootstrap, topic, isolation):
    consumer = reader(bootstrap, isolation_level=isolation)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    values = []

    def poll():
        for records in consumer.poll(timeout_ms=100).values():
            values.extend(record.value for record in records)
        return consumer.position(partition) >= end

    wait_until(poll, "the end of the partition")
    consumer.close()
    return values


def produce(bootstrap):
    topic = create(bootstrap, 1)
    for codec in [None, "gzip"]:
        producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=codec, linger_ms=5)
        sent = [
            producer.send(topic, b"%s-%d" % (str(codec).encode(), number), key=b"k", timestamp_ms=1000 + number, headers=[("h", b"1")])
            for number in range(200)]
        producer.flush()
        expect(sent[-1].get(10).partition, 0, "partition")
        producer.close()
    group = unique("group")
    consumer = reader(bootstrap, topic, group=group)
    records = take(consumer, 400)
    expect([record.offset for record in records], list(range(400)), "offsets")
    expect((records[201].value, records[201].timestamp, list(records[201].headers)), (b"gzip-1", 1001, [("h", b"1")]), "a record")
    partition = TopicPartition(topic, 0)
    expect(consumer.offsets_for_times({partition: 1050})[partition].offset, 50, "offset of a time")
    consumer.commit()
    expect(consumer.committed(partition), 400, "committed offset")
    consumer.close()


class Member:
    """A member of a group that polls in a thread of its own."""

    def __init__(self, bootstrap, topic, group):
        self.consumer = reader(bootstrap, topic, group=group)
        self.partitions = []
        self.stopped = False
        self.thread = threading.Thread(target=self._poll, daemon=True)
        self.thread.start()

    def _poll(self):
        while not self.stopped:
            self.partitions += [partition.partition for partition in long_poll(self.consumer)]
        self.consumer.close()

    def owned(self):
        return len(self.consumer.assignment())

    def received(self):
        return sorted(set(self.partitions))

    def stop(self):
        """Leaves the group with the next record that arrives."""
        self.stopped = True


def rebalance(bootstrap):
    topic = create(bootstrap, 4)
    group = unique("group")
    producer = KafkaProducer(bootstrap_servers=bootstrap)

    def send():
        for partition in range(4):
            producer.send(topic, b"record", partition=partition).get(10)

    first = Member(bootstrap, topic, group)
    wait_until(lambda: first.owned() == 4, "one member owns all partitions")
    send()
    wait_until(lambda: first.received() == [0, 1, 2, 3], "one member reads all partitions")
    second = Member(bootstrap, topic, group)
    wait_until(lambda: (first.owned(), second.owned()) == (2, 2), "two members share the partitions")
    first.stop()
    send()
    wait_until(lambda: len(second.received()) >= 2 and not first.thread.is_alive(), "the new member reads, the other leaves")
    wait_until(lambda: second.owned() == 4, "the other member takes all partitions over")
    second.stop()
    send()
    wait_until(lambda: not second.thread.is_alive(), "the last member leaves")
    producer.close()


def transactions(bootstrap):
    topic = create(bootstrap, 1)
    group = unique("group")
    identifier = unique("transaction")
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=identifier)
    producer.init_transactions()
    partition = TopicPartition(topic, 0)
    for name, commits in [(b"a", True), (b"b", False), (b"c", True)]:
        producer.begin_transaction()
        for number in range(10):
            producer.send(topic, b"%s%d" % (name, number))
        producer.flush()
        if commits:
            producer.send_offsets_to_transaction({partition: OffsetAndMetadata(10, "", -1)}, group)
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    wanted = [b"a%d" % number for number in range(10)] + [b"c%d" % number for number in range(10)]
    expect(read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records")
    expect(len(read_to_end(bootstrap, topic, "read_uncommitted")), 30, "all records")
    consumer = reader(bootstrap, topic, group=group)
    expect(consumer.committed(partition), 10, "offset committed by the transaction")
    consumer.close()
    producer.begin_transaction()
    producer.send(topic, b"zombie").get(10)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    expect(identifier in str(admin.list_transactions()), True, "whether the transaction is listed")
    expect("Ongoing" in str(admin.describe_transactions([identifier])), True, "whether the transaction is open")
    expect("producer_id" in str(admin.describe_producers([partition])), True, "whether the producer is described")
    successor = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=identifier)
    successor.init_transactions()
    try:
        producer.commit_transaction()
        raise AssertionError("a fenced producer committed")
    except KafkaError:
        pass
    expect(read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records after the fencing")
    successor.close()
    admin.close()


def admin(bootstrap):
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    topic = unique("kafka-python")
    client.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "60000"})])
    expect(topic in client.list_topics(), True, "whether the topic is listed")
    client.create_partitions({topic: 3})
    expect(len(client.describe_topics([topic])[0]["partitions"]), 3, "partitions")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(5):
        producer.send(topic, b"%d" % number, partition=0)
    producer.flush()
    producer.close()
    partition = TopicPartition(topic, 0)
    client.delete_records({partition: 3})
    expect(read_to_end(bootstrap, topic, "read_committed"), [b"3", b"4"], "records left")
    group = unique("group")
    consumer = reader(bootstrap, topic, group=group)
    take(consumer, 2)
    consumer.commit()
    expect(group in str(client.list_groups()), True, "whether the group is listed")
    expect("Stable" in str(client.describe_groups([group])), True, "whether the group is stable")
    consumer.close()
    expect("offset=5" in str(client.list_group_offsets({group: None})), True, "whether the group's offset is listed")
    client.delete_groups([group])
    expect(group in str(client.list_groups()), False, "whether the deleted group is listed")
    client.delete_topics([topic])
    expect(topic in client.list_topics(), False, "whether the deleted topic is listed")
    client.close()


run({"produce": produce, "rebalance": rebalance, "transactions": transactions, "admin": admin})
