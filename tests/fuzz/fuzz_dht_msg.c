/* Kademlia messages from strangers: whatever decodes can be encoded into one answer and read again.
 */
#include "dht/dht_msg.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_peers(const struct wr_dht_peer *peers, size_t count)
{
    struct wr_maddr ma;
    for (size_t i = 0; i < count; i++) {
        assert(peers[i].id.len > 0 && peers[i].count <= WR_DHT_ADDRS_IN_MAX);
        for (size_t j = 0; j < peers[i].count; j++)
            assert(wr_maddr_decode(peers[i].addrs[j], &ma) == 0 && ma.len > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_dht_msg msg, again;
    struct wr_buf out;
    if (wr_dht_msg_decode(WR_BYTES(data, size), &msg) != 0) {
        assert(msg.memory == NULL && msg.closer_count == 0);
        return 0;
    }
    assert(msg.closer_count <= WR_DHT_CLOSER_MAX && msg.provider_count <= WR_DHT_PROVIDERS_MAX);
    assert(msg.key.len <= WR_DHT_KEY_MAX);
    check_peers(msg.closer, msg.closer_count);
    check_peers(msg.providers, msg.provider_count);
    wr_buf_init(&out, WR_DHT_SEND_MAX);
    if (wr_dht_msg_encode(&msg, WR_DHT_SEND_MAX, &out) == 0) {
        assert(out.len <= WR_DHT_SEND_MAX);
        assert(wr_dht_msg_decode(wr_buf_bytes(&out), &again) == 0);
        assert(again.type == msg.type && wr_bytes_equal(again.key, msg.key));
        assert(again.closer_count <= msg.closer_count && again.has_record == msg.has_record);
        check_peers(again.closer, again.closer_count);
        wr_dht_msg_clear(&again);
    }
    wr_buf_clear(&out);
    wr_dht_msg_clear(&msg);
    return 0;
}
