#include "transport/pnet.h"

#include "transport/err.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 64    /* bytes; XSalsa20 makes its keystream in blocks of as many */

static const char file_header[] = "/key/swarm/psk/1.0.0/";

/* One line without its end ("\n" or "\r\n"); the last one may have none. */
static struct wr_bytes take_line(struct wr_bytes *in)
{
    const uint8_t *end = in->len ? memchr(in->ptr, '\n', in->len) : NULL;
    struct wr_bytes line = wr_bytes_take(in, end ? (size_t)(end - in->ptr) : in->len);
    if (end)
        wr_bytes_take(in, 1);
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* Editors leave blanks and newlines at the end of a file; nothing else may follow the key. */
static struct wr_bytes trim_end(struct wr_bytes text)
{
    while (text.len && memchr(" \t\r\n", text.ptr[text.len - 1], 4))
        text.len--;
    return text;
}

int wr_pnet_key_parse(struct wr_bytes file, uint8_t key[static WR_PNET_KEY])
{
    struct wr_bytes head = take_line(&file), coding = take_line(&file);
    struct wr_bytes text = trim_end(file);
    size_t len = 0;
    int rc = -1;
    uint8_t got[WR_PNET_KEY];
    if (!wr_bytes_equal(head, WR_BYTES_STR(file_header)))
        return WR_EINVAL;
    if (wr_bytes_equal(coding, WR_BYTES_STR("/base16/"))) {
        rc = sodium_hex2bin(got, sizeof(got), (const char *)text.ptr, text.len, NULL, &len, NULL);
    } else if (wr_bytes_equal(coding, WR_BYTES_STR("/base64/"))) {
        rc = sodium_base642bin(got, sizeof(got), (const char *)text.ptr, text.len, NULL, &len, NULL,
                               sodium_base64_VARIANT_ORIGINAL);
    } else if (wr_bytes_equal(coding, WR_BYTES_STR("/bin/")) && file.len >= sizeof(got) &&
               trim_end(WR_BYTES(file.ptr + sizeof(got), file.len - sizeof(got))).len == 0) {
        memcpy(got, file.ptr, sizeof(got));    /* raw bytes, which may look like blanks */
        len = sizeof(got);
        rc = 0;
    }
    if (rc == 0 && len == WR_PNET_KEY)
        memcpy(key, got, sizeof(got));
    else
        rc = WR_EINVAL;
    sodium_memzero(got, sizeof(got));
    return rc;
}

void wr_pnet_fingerprint(const uint8_t key[static WR_PNET_KEY], char out[static 17])
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, key, WR_PNET_KEY);
    sodium_bin2hex(out, 17, digest, 8);
}

void wr_pnet_start(struct wr_pnet *p, const uint8_t key[static WR_PNET_KEY],
                   const uint8_t nonce[static WR_PNET_NONCE], struct wr_buf *out)
{
    *p = (struct wr_pnet){0};
    memcpy(p->key, key, WR_PNET_KEY);
    memcpy(p->send_nonce, nonce, WR_PNET_NONCE);
    wr_buf_put(out, nonce, WR_PNET_NONCE);
}

/* XORs the keystream from byte `at` on: the rest of a block begun earlier, then whole blocks. */
static void apply(const uint8_t *key, const uint8_t *nonce, uint64_t at, uint8_t *data, size_t len)
{
    size_t within = at % BLOCK;
    uint64_t block = at / BLOCK;
    if (within) {
        uint8_t pad[BLOCK] = {0};
        size_t take = len < BLOCK - within ? len : BLOCK - within;
        crypto_stream_xsalsa20_xor_ic(pad, pad, BLOCK, nonce, block, key);
        for (size_t i = 0; i < take; i++)
            data[i] ^= pad[within + i];
        sodium_memzero(pad, sizeof(pad));
        data += take;
        len -= take;
        block++;
    }
    if (len)
        crypto_stream_xsalsa20_xor_ic(data, data, len, nonce, block, key);
}

size_t wr_pnet_decrypt(struct wr_pnet *p, uint8_t *data, size_t len)
{
    size_t skip = WR_PNET_NONCE - p->nonce_have;
    if (skip > len)
        skip = len;
    if (skip)
        memcpy(p->recv_nonce + p->nonce_have, data, skip);
    p->nonce_have += skip;
    if (len > skip)
        apply(p->key, p->recv_nonce, p->received, data + skip, len - skip);
    p->received += len - skip;
    return skip;
}

void wr_pnet_encrypt(struct wr_pnet *p, uint8_t *data, size_t len)
{
    if (len)
        apply(p->key, p->send_nonce, p->sent, data, len);
    p->sent += len;
}

void wr_pnet_clear(struct wr_pnet *p)
{
    sodium_memzero(p, sizeof(*p));
}
