/* A settings file: whatever is in it, there is an error with a sentence, or settings that hold. */
#include "node/config.h"
#include "transport/addr.h"
#include "transport/bytes.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_config config;
    struct wr_addr http;
    char err[WR_CONFIG_ERROR] = "";
    uint32_t restart;
    if (size > WR_CONFIG_FILE_MAX || memchr(data, '\0', size))
        return 0; /* the reader of the file refuses these */
    char *text = wr_memdup(data, size);
    if (!text || wr_config_init(&config, err)) {
        wr_free(text);
        return 0;
    }
    int error = wr_config_text(&config, "file", text, err);
    if (!error)
        error = wr_config_finish(&config, err);
    assert(!error || err[0]);
    if (!error) {
        struct wr_config other;
        (void)wr_config_on(&config, WR_CONFIG_MDNS);
        (void)wr_config_http(&config, &http);
        assert(wr_config_choice(&config, WR_CONFIG_DHT) >= 0);
        assert(wr_config_choice(&config, WR_CONFIG_RELAY) >= 0);
        if (wr_config_init(&other, err) == 0) {
            uint32_t moved = wr_config_reload(&other, &config, &restart);
            assert(!(moved & restart));
            wr_config_clear(&other);
        }
    }
    wr_config_clear(&config);
    wr_free(text);
    return 0;
}
