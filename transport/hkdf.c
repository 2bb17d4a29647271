#include "transport/hkdf.h"

#include "transport/err.h"

#include <gnutls/crypto.h>
#include <string.h>

int wr_hkdf_label(gnutls_mac_algorithm_t hash, struct wr_bytes secret, const char *label, uint8_t *out, size_t len)
{
    static const char prefix[] = "tls13 ";
    uint8_t info[2 + 1 + sizeof(prefix) - 1 + 16 + 1];
    size_t label_len = strlen(label);
    struct wr_buf text;
    wr_buf_over(&text, info, sizeof(info));
    wr_buf_put_u16be(&text, (uint16_t)len);
    wr_buf_put_u8(&text, (uint8_t)(sizeof(prefix) - 1 + label_len));
    wr_buf_put_cstr(&text, prefix);
    wr_buf_put(&text, label, label_len);
    wr_buf_put_u8(&text, 0);
    gnutls_datum_t key = {(unsigned char *)(uintptr_t)secret.ptr, (unsigned)secret.len};
    gnutls_datum_t what = {info, (unsigned)text.len};
    return gnutls_hkdf_expand(hash, &key, &what, out, len) < 0 ? WR_ELIMIT : 0;
}
