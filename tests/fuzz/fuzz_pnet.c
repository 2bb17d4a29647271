/* Key files of private networks, and the cipher at any cut. The input is the file; it is the traffic too. */
#include "transport/pnet.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_file(const uint8_t *data, size_t size)
{
    uint8_t key[WR_PNET_KEY], again[WR_PNET_KEY];
    char file[200], hex[65];
    memset(key, 0xee, sizeof(key));
    if (wr_pnet_key_parse(WR_BYTES(data, size), key) != 0) {
        for (size_t i = 0; i < sizeof(key); i++)
            assert(key[i] == 0xee);
        return;
    }
    /* written the way that everybody reads, it is the same key */
    sodium_bin2hex(hex, sizeof(hex), key, sizeof(key));
    int len = snprintf(file, sizeof(file), "/key/swarm/psk/1.0.0/\n/base16/\n%s\n", hex);
    assert(wr_pnet_key_parse(WR_BYTES(file, (size_t)len), again) == 0);
    assert(memcmp(key, again, sizeof(key)) == 0);
}

static void check_stream(const uint8_t *data, size_t size)
{
    static const uint8_t key[WR_PNET_KEY] = {1}, nonce[WR_PNET_NONCE] = {2};
    struct wr_pnet whole, pieces;
    struct wr_buf out;
    uint8_t *a = malloc(size), *b = malloc(size);
    assert(a && b);
    memcpy(a, data, size);
    memcpy(b, data, size);
    wr_buf_init(&out, 100);
    wr_pnet_start(&whole, key, nonce, &out);
    wr_pnet_start(&pieces, key, nonce, &out);
    size_t skip = wr_pnet_decrypt(&whole, a, size), skipped = 0;
    assert(skip == (size < WR_PNET_NONCE ? size : WR_PNET_NONCE));
    for (size_t at = 0, len; at < size; at += len) {
        len = 1 + data[at] % 150u;
        len = len < size - at ? len : size - at;
        skipped += wr_pnet_decrypt(&pieces, b + at, len);
    }
    assert(skipped == skip && memcmp(a, b, size) == 0);
    wr_buf_clear(&out);
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_file(data, size);
    if (size)
        check_stream(data, size);
    return 0;
}
