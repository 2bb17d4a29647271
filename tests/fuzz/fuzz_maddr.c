/* Multiaddrs from bytes and from text: what was read prints and reads the same, and every question
 * about it has an answer. */
#include "fuzz/text.h"
#include "transport/maddr.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct wr_maddr *ma)
{
    struct wr_maddr again;
    struct wr_maddr_part part;
    struct wr_addr addr;
    struct wr_peerid id;
    char text[WR_MADDR_TEXT], cut[16];
    struct wr_bytes whole = wr_maddr_bytes(ma), rest = whole;
    bool path = false;
    size_t parts = 0;
    assert(ma->len <= WR_MADDR_MAX);
    for (; wr_maddr_next(&rest, &part); parts++)
        path = path || part.code == 400;
    assert(rest.len == 0 && parts > 0 && parts <= WR_MADDR_PARTS_MAX);
    wr_maddr_print(whole, text, sizeof(text));
    assert(strlen(text) < sizeof(text) - 1);
    assert(wr_maddr_parse(text, &again) == 0);
    if (!path) /* of a path, bytes without the first slash print the same */
        assert(memcmp(ma, &again, sizeof(again)) == 0);
    wr_maddr_print(whole, cut, sizeof(cut));
    assert(strncmp(text, cut, sizeof(cut) - 1) == 0);
    bool circuit = wr_maddr_kind(whole) == WR_MADDR_CIRCUIT;
    assert(circuit == wr_maddr_is_circuit(whole));
    struct wr_bytes stripped = wr_maddr_strip_peer(whole);
    if (stripped.len < whole.len)
        assert(wr_maddr_peer(whole, &id));
    if (wr_maddr_peer(whole, &id) && stripped.len && stripped.len < whole.len &&
        wr_maddr_decode(stripped, &again) == 0 && wr_maddr_append_peer(&again, &id) == 0)
        assert(memcmp(ma, &again, sizeof(again)) == 0);
    if (wr_maddr_addr(whole, &addr) && wr_maddr_kind(whole) == WR_MADDR_QUIC) {
        assert(wr_maddr_from_addr(&addr, true, &again) == 0);
        struct wr_addr back;
        assert(wr_maddr_addr(wr_maddr_bytes(&again), &back) && back.port == addr.port);
    }
    again = *ma;
    if (wr_maddr_append(&again, whole) == 0)
        assert(again.len == 2 * ma->len);
    else
        assert(memcmp(ma, &again, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_maddr ma;
    if (wr_maddr_decode(WR_BYTES(data, size), &ma) == 0)
        look(&ma);
    char *text = fuzz_text(data, size);
    if (text && wr_maddr_parse(text, &ma) == 0)
        look(&ma);
    free(text);
    return 0;
}
