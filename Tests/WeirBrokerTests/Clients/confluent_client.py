"""PyPI's confluent-kafka, which brings the newest librdkafka."""

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from scenario import DEADLINE_SECONDS, expect, run, unique, wait_until


def results(futures):
    return {key: future.result(DEADLINE_SECONDS) for key, future in futures.items()}


def create(bootstrap, partitions):
    topic = unique("confluent")
    results(AdminClient({"bootstrap.servers": bootstrap}).create_topics([NewTopic(topic, partitions, 1)]))
    return topic


def write(bootstrap, topic, values, partition=0, **settings):
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    failures = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: failures.append(error) if error else None)
    expect(producer.flush(DEADLINE_SECONDS), 0, "messages left in the producer")
    expect(failures, [], "delivery errors")


def reader(bootstrap, group=None, **settings):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": group or unique("group"), "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "session.timeout.ms": 6000, "heartbeat.interval.ms": 200, **settings})


def take(consumer, count):
    """The next messages, which must be there."""
    taken = []

    def poll():
        message = consumer.poll(0.1)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            taken.append(message)
        return len(taken) == count

    wait_until(poll, f"{count} messages")
    return taken


def read_to_end(bootstrap, topic, isolation, partition=0):
    consumer = reader(bootstrap, **{"isolation.level": isolation, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values = []

    def poll():
        message = consumer.poll(0.1)
        if message is None:
            return False
        if message.error():
            return message.error().name() == "_PARTITION_EOF"
        values.append(message.value())
        return False

    wait_until(poll, "the end of the partition")
    consumer.close()
    return values


def produce(bootstrap):
    topic = create(bootstrap, 1)
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec})
        for number in range(200):
            producer.produce(
                topic, key=b"k%d" % number, value=b"%s-%d" % (codec.encode(), number), timestamp=1000 + number,
                headers=[("h", b"1"), ("h", None), ("", b"")])
        expect(producer.flush(DEADLINE_SECONDS), 0, "messages left in the producer")
    consumer = reader(bootstrap)
    consumer.subscribe([topic])
    taken = take(consumer, 1000)
    expect([message.offset() for message in taken], list(range(1000)), "offsets")
    expect(taken[3].headers(), [("h", b"1"), ("h", None), ("", b"")], "headers")
    expect(taken[801].value(), b"zstd-1", "value")
    expect(taken[801].timestamp()[1], 1001, "timestamp")
    found = consumer.offsets_for_times([TopicPartition(topic, 0, 1050)])
    expect(found[0].offset, 50, "offset of a time")
    consumer.commit(offsets=[TopicPartition(topic, 0, 7, "note")], asynchronous=False)
    committed = consumer.committed([TopicPartition(topic, 0)], DEADLINE_SECONDS)[0]
    expect((committed.offset, committed.metadata), (7, "note"), "committed offset")
    consumer.close()


def rebalance(bootstrap):
    topic = create(bootstrap, 4)
    group = unique("group")
    for strategy in ["range", "cooperative-sticky"]:
        first, second = (reader(bootstrap, group + strategy, **{"partition.assignment.strategy": strategy}) for _ in range(2))

        def owned(consumer):
            consumer.poll(0.05)
            return len(consumer.assignment())

        first.subscribe([topic])
        wait_until(lambda: owned(first) == 4, "one member owns all partitions")
        second.subscribe([topic])
        wait_until(lambda: (owned(first), owned(second)) == (2, 2), "two members share the partitions")
        first.close()
        wait_until(lambda: owned(second) == 4, "the other member takes all partitions over")
        second.close()


def transactions(bootstrap):
    topic = create(bootstrap, 1)
    group = unique("group")
    identifier = unique("transaction")
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": identifier})
    producer.init_transactions(DEADLINE_SECONDS)
    consumer = reader(bootstrap, group)
    consumer.subscribe([topic])
    for name, commits in [(b"a", True), (b"b", False), (b"c", True)]:
        producer.begin_transaction()
        for number in range(10):
            producer.produce(topic, b"%s%d" % (name, number))
        if commits:
            position = [TopicPartition(topic, 0, 10 if name == b"a" else 20)]
            wait_until(lambda: consumer.poll(0.05) or consumer.assignment(), "the group's assignment")
            producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), DEADLINE_SECONDS)
            producer.commit_transaction(DEADLINE_SECONDS)
        else:
            producer.flush()
            producer.abort_transaction(DEADLINE_SECONDS)
    wanted = [b"a%d" % number for number in range(10)] + [b"c%d" % number for number in range(10)]
    expect(read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records")
    expect(len(read_to_end(bootstrap, topic, "read_uncommitted")), 30, "all records")
    expect(consumer.committed([TopicPartition(topic, 0)], DEADLINE_SECONDS)[0].offset, 20, "offset committed by the transaction")
    consumer.close()
    # A second producer of the same id fences the first, and its open transaction is aborted.
    producer.begin_transaction()
    producer.produce(topic, b"zombie")
    producer.flush()
    successor = Producer({"bootstrap.servers": bootstrap, "transactional.id": identifier})
    successor.init_transactions(DEADLINE_SECONDS)
    try:
        producer.commit_transaction(DEADLINE_SECONDS)
        raise AssertionError("a fenced producer committed")
    except KafkaException as failure:
        expect(failure.args[0].fatal(), True, "whether being fenced is fatal")
    expect(read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records after the fencing")


def admin(bootstrap):
    client = AdminClient({"bootstrap.servers": bootstrap})
    topic = unique("confluent")
    results(client.create_topics([NewTopic(topic, 1, 1, config={"retention.ms": "60000"})]))
    results(client.create_partitions([NewPartitions(topic, 3)]))
    wait_until(lambda: len(client.list_topics(topic, DEADLINE_SECONDS).topics[topic].partitions) == 3, "three partitions")
    resource = ConfigResource(ResourceType.TOPIC, topic)
    expect(results(client.describe_configs([resource]))[resource]["retention.ms"].value, "60000", "retention.ms")
    results(client.incremental_alter_configs([
        ConfigResource(
            ResourceType.TOPIC, topic,
            incremental_configs=[ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET)])]))
    expect(results(client.describe_configs([resource]))[resource]["retention.ms"].value, "70000", "retention.ms")
    write(bootstrap, topic, [b"0", b"1", b"2", b"3", b"4"])
    partition = TopicPartition(topic, 0)
    for spec, offset in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 5), (OffsetSpec.max_timestamp(), None)]:
        listed = results(client.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED))[partition].offset
        expect(listed in range(5) if offset is None else listed == offset, True, f"whether {listed} is the offset")
    deleted = results(client.delete_records([TopicPartition(topic, 0, 3)]))
    expect([result.low_watermark for result in deleted.values()], [3], "low watermark")
    expect(read_to_end(bootstrap, topic, "read_committed"), [b"3", b"4"], "records left")
    cluster = client.describe_cluster().result(DEADLINE_SECONDS)
    expect(len(cluster.nodes), 1, "nodes")
    group = unique("group")
    consumer = reader(bootstrap, group)
    consumer.subscribe([topic])
    wait_until(lambda: consumer.poll(0.1) and consumer.assignment(), "the group's assignment")
    consumer.commit(asynchronous=False)
    listed = client.list_consumer_groups().result(DEADLINE_SECONDS)
    expect(group in [item.group_id for item in listed.valid], True, "whether the group is listed")
    described = results(client.describe_consumer_groups([group]))[group]
    expect((described.state.name, len(described.members)), ("STABLE", 1), "state and members")
    consumer.close()
    request = ConsumerGroupTopicPartitions(group)
    offsets = results(client.list_consumer_group_offsets([request]))[group]
    expect(len(offsets.topic_partitions) >= 1, True, "whether the group has offsets")
    wait_until(lambda: results(client.describe_consumer_groups([group]))[group].state.name == "EMPTY", "an empty group")
    results(client.delete_consumer_groups([group]))
    results(client.delete_topics([topic]))
    wait_until(lambda: topic not in client.list_topics(timeout=DEADLINE_SECONDS).topics, "a deleted topic")


run({"produce": produce, "rebalance": rebalance, "transactions": transactions, "admin": admin})
