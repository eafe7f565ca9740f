"""PyPI's aiokafka."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ProducerFenced

from scenario import expect, run, unique


async def with_admin(bootstrap, body):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await body(admin)
    finally:
        await admin.close()


async def create(bootstrap, partitions):
    topic = unique("aiokafka")
    await with_admin(bootstrap, lambda admin: admin.create_topics([NewTopic(topic, partitions, 1)]))
    return topic


def consumer_of(bootstrap, *topics, group=None, **settings):
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=6000, heartbeat_interval_ms=200, metadata_max_age_ms=500, **settings)


async def read_to_end(bootstrap, topic, isolation):
    consumer = consumer_of(bootstrap, isolation_level=isolation)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(partition, timeout_ms=200)).values():
                values += [record.value for record in records]
        return values
    finally:
        await consumer.stop()


async def eventually(condition, what):
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within 30 s: {what}")


async def produce(bootstrap):
    topic = await create(bootstrap, 2)
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=codec)
        await producer.start()
        for number in range(100):
            await producer.send(
                topic, b"%s-%d" % (str(codec).encode(), number), key=b"k", partition=1, timestamp_ms=1000 + number, headers=[("h", b"1")])
        await producer.flush()
        await producer.stop()
    group = unique("group")
    consumer = consumer_of(bootstrap, topic, group=group)
    await consumer.start()
    records = [await consumer.getone() for _ in range(500)]
    expect([record.offset for record in records], list(range(500)), "offsets")
    expect((records[401].value, records[401].timestamp, records[401].headers), (b"zstd-1", 1001, (("h", b"1"),)), "a record")
    await consumer.commit()
    await consumer.stop()
    consumer = consumer_of(bootstrap, topic, group=group)
    await consumer.start()
    expect(await consumer.committed(TopicPartition(topic, 1)), 500, "committed offset")
    await consumer.stop()


async def rebalance(bootstrap):
    topic = await create(bootstrap, 4)
    group = unique("group")
    first = consumer_of(bootstrap, topic, group=group)
    await first.start()
    await eventually(lambda: len(first.assignment()) == 4, "one member owns all partitions")
    second = consumer_of(bootstrap, topic, group=group)
    await second.start()
    await eventually(lambda: (len(first.assignment()), len(second.assignment())) == (2, 2), "two members share the partitions")
    await first.stop()
    await eventually(lambda: len(second.assignment()) == 4, "the other member takes all partitions over")
    await second.stop()


async def transactions(bootstrap):
    topic = await create(bootstrap, 1)
    group = unique("group")
    identifier = unique("transaction")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identifier)
    await producer.start()
    for name, commits in [(b"a", True), (b"b", False), (b"c", True)]:
        await producer.begin_transaction()
        for number in range(10):
            await producer.send(topic, b"%s%d" % (name, number))
        await producer.flush()
        if commits:
            await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 10}, group)
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    wanted = [b"a%d" % number for number in range(10)] + [b"c%d" % number for number in range(10)]
    expect(await read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records")
    expect(len(await read_to_end(bootstrap, topic, "read_uncommitted")), 30, "all records")
    consumer = consumer_of(bootstrap, topic, group=group)
    await consumer.start()
    expect(await consumer.committed(TopicPartition(topic, 0)), 10, "offset committed by the transaction")
    await consumer.stop()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"zombie")
    successor = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identifier)
    await successor.start()
    try:
        await producer.commit_transaction()
        raise AssertionError("a fenced producer committed")
    except ProducerFenced:
        pass
    expect(await read_to_end(bootstrap, topic, "read_committed"), wanted, "committed records after the fencing")
    await successor.stop()
    await producer.stop()


async def admin(bootstrap):
    topic = unique("aiokafka")

    async def body(admin):
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "60000"})])
        expect(topic in await admin.list_topics(), True, "whether the topic is listed")
        await admin.create_partitions({topic: NewPartitions(3)})
        described = await admin.describe_topics([topic])
        expect(len(described[0]["partitions"]), 3, "partitions")
        configs = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        values = {entry[0]: entry[1] for entry in configs[0].resources[0][4]}
        expect(values["retention.ms"], "60000", "retention.ms")
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        for number in range(5):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
        await producer.stop()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
        expect(await read_to_end(bootstrap, topic, "read_committed"), [b"3", b"4"], "records left")
        group = unique("group")
        consumer = consumer_of(bootstrap, topic, group=group)
        await consumer.start()
        await consumer.getone()
        await consumer.commit()
        expect(group in [name for name, _ in await admin.list_consumer_groups()], True, "whether the group is listed")
        offsets = await admin.list_consumer_group_offsets(group)
        expect(offsets[TopicPartition(topic, 0)].offset, 4, "offset of the group")
        await consumer.stop()
        await admin.delete_topics([topic])
        expect(topic in await admin.list_topics(), False, "whether the deleted topic is listed")

    await with_admin(bootstrap, body)


run({"produce": produce, "rebalance": rebalance, "transactions": transactions, "admin": admin})
