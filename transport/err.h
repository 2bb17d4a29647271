/* err.h - every error code of the program and its text. Value.
 * A function returns 0 or a positive count on success and one of these negative codes otherwise; no
 * layer translates them. Running out of memory and reaching a limit are the same event: WR_ELIMIT. */
#ifndef WR_ERR_H
#define WR_ERR_H

#define WR_ERR_MAP(X)                                                                              \
    X(WR_EINVAL, -1, "invalid argument")                                                           \
    X(WR_EPROTO, -2, "the peer broke the protocol")                                                \
    X(WR_EREFUSED, -3, "refused by the peer")                                                      \
    X(WR_EUNSUPPORTED, -4, "protocol not supported by the peer")                                   \
    X(WR_ELIMIT, -5, "a limit is reached or memory is exhausted")                                  \
    X(WR_ETIMEOUT, -6, "timed out")                                                                \
    X(WR_ECLOSED, -7, "closed")                                                                    \
    X(WR_ERESET, -8, "reset by the peer")                                                          \
    X(WR_EAUTH, -9, "authentication failed")                                                       \
    X(WR_EPEERID, -10, "another peer answered")                                                    \
    X(WR_ENOTFOUND, -11, "not found")                                                              \
    X(WR_EEXIST, -12, "exists already")                                                            \
    X(WR_EIO, -13, "input or output failed")                                                       \
    X(WR_EUNREACH, -14, "no route or no address to try")                                           \
    X(WR_EGATED, -15, "blocked by a rule of this node")                                            \
    X(WR_ECANCELLED, -16, "cancelled")                                                             \
    X(WR_EINUSE, -17, "address or file already in use")                                            \
    X(WR_ECORRUPT, -18, "stored data is damaged")                                                  \
    X(WR_EFULL, -19, "no space left")                                                              \
    X(WR_ESELF, -20, "that is this node itself")                                                   \
    X(WR_EPERM, -21, "permission denied")                                                          \
    X(WR_EBACKOFF, -22, "failed a moment ago, not tried again yet")                                \
    X(WR_ENOFD, -23, "out of file descriptors")                                                    \
    X(WR_ESTALE, -24, "older or worse than what is stored")                                        \
    X(WR_ELIMITED, -25, "only a limited relayed connection, and this needs a direct one")          \
    X(WR_ENOADDR, -26, "no address of ours that others could use")

#define WR_ERR_ENUM(name, value, text) name = value,
enum wr_err { WR_ERR_MAP(WR_ERR_ENUM) };
#undef WR_ERR_ENUM

/* "WR_EPROTO" and "the peer broke the protocol"; "unknown" for a number that is none of ours.
 * Static strings. */
const char *wr_err_name(int err);
const char *wr_err_text(int err);

#endif
