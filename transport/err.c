#include "transport/err.h"

const char *wr_err_name(int err)
{
    switch (err) {
#define WR_ERR_NAME(name, value, text)                                                             \
    case value:                                                                                    \
        return #name;
        WR_ERR_MAP(WR_ERR_NAME)
    default:
        return "unknown";
    }
}

const char *wr_err_text(int err)
{
    switch (err) {
#define WR_ERR_TEXT(name, value, text)                                                             \
    case value:                                                                                    \
        return text;
        WR_ERR_MAP(WR_ERR_TEXT)
    default:
        return "unknown";
    }
}
