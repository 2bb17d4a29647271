/* IPNS records and RFC 3339 times. The first byte chooses: a record (whose signature is beyond a
 * fuzzer), or a text. */
#include "dht/ipns.h"
#include "dht/record.h"
#include "dht/rfc3339.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_record(struct wr_bytes in)
{
    static const struct wr_peerid rsa = {.len = 34, .bytes = {0x12, 0x20, 1}};
    struct wr_ipns record, opened;
    int decoded = wr_ipns_decode(in, &record);
    assert(wr_ipns_open(in, &rsa, &opened) != 0);
    if (decoded != 0)
        return;
    assert(record.value.len <= in.len && record.validity.len <= in.len);
    assert(wr_ipns_compare(&record, &record) == 0);
    assert(wr_record_compare(WR_BYTES_STR("/ipns/x"), in, in) == 0);
}

static void one_time(struct wr_bytes in)
{
    char text[WR_RFC3339_TEXT];
    int64_t t, again;
    if (wr_rfc3339_parse(in, &t) != 0)
        return;
    size_t len = wr_rfc3339_print(t, text);
    assert(len == strlen(text) && len < sizeof(text));
    assert(wr_rfc3339_parse(WR_BYTES(text, len), &again) == 0 && again == t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2)
        one_time(WR_BYTES(data + 1, size - 1));
    else
        one_record(WR_BYTES(data + 1, size - 1));
    return 0;
}
