/* contract_end.h - one end of a stream that sends a known sequence and checks what it receives, and a
 * listener that keeps such ends. */
#ifndef CONTRACT_END_H
#define CONTRACT_END_H

#include "tests/env/contract.h"

struct end {
    struct contract *c;
    struct wr_sock *sock;
    bool echo;         /* sends back what comes in */
    bool unchecked;    /* takes any bytes */
    bool pause_first;  /* pauses in the first on_read */
    bool pause_each;   /* in every one; sets paused */
    bool paused;
    bool one_by_one;   /* its directions end one by one; ended: the peer's did */
    bool open, ended, closed, gone;
    int err;           /* of on_close */
    size_t received, sent, reads, drained;
    size_t send_total, backlog_max;    /* keeps the backlog filled to backlog_max until all is sent */
    bool inside;       /* a call to env.h is under way: no handler may run */
};

extern const struct wr_sock_ops end_ops, end_ops_one_by_one;

void end_connect(struct contract *c, struct end *x, struct wr_env *env, const struct wr_addr *to,
                 const struct wr_addr *from);
void end_attach(struct contract *c, struct end *x, struct wr_sock *sock);
void end_send(struct end *x, size_t len);    /* the next len bytes of the sequence */
void end_close(struct end *x, bool reset);

#define HALL_MAX 200

struct hall {
    struct contract *c;
    struct wr_listener *listener;
    struct wr_addr addr;
    bool echo, unchecked, pause_first, one_by_one;
    size_t count;
    struct end ends[HALL_MAX];
    unsigned starved;
    int starved_err;
};

extern const struct wr_listener_ops hall_ops;

void hall_open(struct contract *c, struct hall *hall, struct wr_env *env, const struct wr_addr *at,
               bool echo);
void hall_close(struct hall *hall);    /* and every end that is still open */

#endif
