// What Swift cannot reach of librdkafka by itself: variadic functions, cast macros, and loops that are cheaper on this side.
#ifndef WEIR_CRDKAFKA_SHIM_H
#define WEIR_CRDKAFKA_SHIM_H

#include <librdkafka/rdkafka.h>
#include <stdint.h>

static const int32_t weir_kafka_partition_any = RD_KAFKA_PARTITION_UA;
static const int64_t weir_kafka_offset_earliest = RD_KAFKA_OFFSET_BEGINNING;
static const int64_t weir_kafka_offset_latest = RD_KAFKA_OFFSET_END;
static const int64_t weir_kafka_offset_invalid = RD_KAFKA_OFFSET_INVALID;

// Takes up to `capacity` messages. Waits at most `timeout_ms` for the first, never for the rest: rd_kafka_consume_batch_queue
// alone waits for a full batch.
static inline ssize_t weir_kafka_consume(rd_kafka_queue_t *queue, int timeout_ms, rd_kafka_message_t **messages, size_t capacity) {
    ssize_t taken = 0;
    if (timeout_ms > 0) {
        taken = rd_kafka_consume_batch_queue(queue, timeout_ms, messages, 1);
        if (taken <= 0) return taken;
    }
    if ((size_t)taken < capacity) {
        ssize_t more = rd_kafka_consume_batch_queue(queue, 0, messages + taken, capacity - (size_t)taken);
        if (more > 0) taken += more;
        else if (taken == 0) return more;
    }
    return taken;
}

static inline void weir_kafka_release(rd_kafka_message_t **messages, size_t count) {
    for (size_t i = 0; i < count; i++) rd_kafka_message_destroy(messages[i]);
}

// Hands one record to a producer, which copies key and value. `timestamp` 0: now. A NULL value is a tombstone.
static inline rd_kafka_resp_err_t weir_kafka_produce(
    rd_kafka_t *client, rd_kafka_topic_t *topic, int32_t partition, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes, int64_t timestamp) {
    return rd_kafka_producev(
        client, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(key, key_bytes), RD_KAFKA_V_VALUE((void *)value, value_bytes), RD_KAFKA_V_TIMESTAMP(timestamp),
        RD_KAFKA_V_END);
}

#endif
