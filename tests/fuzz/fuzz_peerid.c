/* Peer ids from bytes, from text and from keys: what was read prints and reads the same. */
#include "fuzz/text.h"
#include "transport/key.h"
#include "transport/peerid.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct wr_peerid *id)
{
    struct wr_peerid again;
    char text[WR_PEERID_TEXT];
    struct wr_bytes pubkey = wr_peerid_pubkey(id);
    assert(id->len <= WR_PEERID_MAX);
    wr_peerid_print(id, text);
    assert(strlen(text) + 1 < sizeof(text));
    assert(wr_peerid_parse(text, &again) == 0 && memcmp(id, &again, sizeof(again)) == 0);
    assert(wr_peerid_decode(wr_peerid_bytes(id), &again) == 0 && wr_peerid_equal(id, &again));
    /* A key inside is that of another id only when it is not in its one encoding. */
    if (pubkey.len && wr_peerid_from_pubkey(pubkey, &again) == 0 && !wr_peerid_equal(id, &again)) {
        uint8_t memory[WR_PUBKEY_MAX];
        struct wr_buf normal;
        wr_buf_over(&normal, memory, sizeof(memory));
        assert(wr_pubkey_normalize(pubkey, &normal) == 0);
        assert(!wr_bytes_equal(wr_buf_bytes(&normal), pubkey));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_peerid id;
    if (wr_peerid_decode(WR_BYTES(data, size), &id) == 0)
        look(&id);
    if (wr_peerid_from_pubkey(WR_BYTES(data, size), &id) == 0)
        look(&id);
    char *text = fuzz_text(data, size);
    if (text && wr_peerid_parse(text, &id) == 0)
        look(&id);
    free(text);
    return 0;
}
