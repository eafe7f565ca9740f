// What Swift cannot reach of librdkafka by itself: variadic functions, cast macros, and loops that are cheaper on this side.
#ifndef WEIR_CRDKAFKA_SHIM_H
#define WEIR_CRDKAFKA_SHIM_H

#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

// A record that waits to be handed over; its key and then its value lie at `at` in a buffer of many.
typedef struct {
    size_t at;
    int64_t key_bytes;    // -1: no key
    int64_t value_bytes;  // -1: a tombstone
    int64_t timestamp;    // 0: now
    int32_t partition;    // weir_kafka_partition_any: the one that is given for all
} weir_kafka_waiting_t;

// As weir_kafka_produce for each record in order, up to one that is not taken. Returns how many were taken; `error` says why not all.
static inline size_t weir_kafka_produce_all(
    rd_kafka_t *client, rd_kafka_topic_t *topic, int32_t partition, const char *bytes, const weir_kafka_waiting_t *records, size_t count,
    rd_kafka_resp_err_t *error) {
    *error = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (size_t i = 0; i < count; i++) {
        const weir_kafka_waiting_t *record = records + i;
        size_t key_bytes = record->key_bytes < 0 ? 0 : (size_t)record->key_bytes;
        const char *key = bytes + record->at;
        *error = weir_kafka_produce(
            client, topic, record->partition == RD_KAFKA_PARTITION_UA ? partition : record->partition, record->key_bytes < 0 ? NULL : key,
            key_bytes, record->value_bytes < 0 ? NULL : key + key_bytes, record->value_bytes < 0 ? 0 : (size_t)record->value_bytes,
            record->timestamp);
        if (*error) return i;
    }
    return count;
}

// As weir_kafka_produce, to a topic by its name and with headers, which belong to the client if it succeeds, else to the caller.
static inline rd_kafka_resp_err_t weir_kafka_produce_with_headers(
    rd_kafka_t *client, const char *topic, int32_t partition, const void *key, size_t key_bytes, const void *value, size_t value_bytes,
    int64_t timestamp, rd_kafka_headers_t *headers) {
    return rd_kafka_producev(
        client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(key, key_bytes), RD_KAFKA_V_VALUE((void *)value, value_bytes), RD_KAFKA_V_TIMESTAMP(timestamp),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
}

// As weir_kafka_produce, with headers, which belong to the client if it succeeds, else to the caller.
static inline rd_kafka_resp_err_t weir_kafka_produce_headers(
    rd_kafka_t *client, rd_kafka_topic_t *topic, int32_t partition, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes, int64_t timestamp, rd_kafka_headers_t *headers) {
    return rd_kafka_producev(
        client, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(key, key_bytes), RD_KAFKA_V_VALUE((void *)value, value_bytes), RD_KAFKA_V_TIMESTAMP(timestamp),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
}

// Memory for structures of librdkafka that free what they point to.
static inline void *weir_kafka_copy(const void *bytes, size_t count) {
    void *copy = malloc(count);
    if (copy) memcpy(copy, bytes, count);
    return copy;
}

// Where `needle` first occurs in `bytes`; NULL if it does not.
static inline const void *weir_kafka_find(const void *bytes, size_t count, const void *needle, size_t needle_count) {
    const char *from = (const char *)bytes, *end = from + count;
    while ((size_t)(end - from) >= needle_count) {
        const char *found = (const char *)memchr(from, *(const char *)needle, (size_t)(end - from) - needle_count + 1);
        if (!found) return NULL;
        if (memcmp(found, needle, needle_count) == 0) return found;
        from = found + 1;
    }
    return NULL;
}

#endif
