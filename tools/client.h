/* client.h - a blocking client of the control socket: one call at a time, notes in between. */
#ifndef WARREN_CLIENT_H
#define WARREN_CLIENT_H

#include "cli.h"
#include "node/pack.h"

struct client {
    const struct cli *cli;
    int sock;
    int fd;           /* that came with the last reply, or -1; the caller closes it */
    uint32_t id;      /* of the last request */
    int64_t deadline; /* monotonic ms of the call under way; 0: none */
    struct wr_buf out, in;
    size_t used; /* bytes of in that the last message took */
    struct wr_rpc_scan scan;
    struct wr_pack pack;
    /* How a call goes that takes long, in the words of its method; or NULL. */
    void (*on_progress)(void *arg, const msgpack_object *map);
    void *progress_arg;
};

/* Connects. CLI_YES, or prints what is wrong and returns the exit code. */
int client_open(struct client *c, const struct cli *cli);
void client_close(struct client *c);
/* The parameters' map of a new request, open for fields. */
struct wr_pack *client_begin(struct client *c, const char *method);
/* Sends it and waits for its reply, within the command's timeout. CLI_YES: reply->result is there,
 * clear it with wr_rpc_message_clear. Else the reason was printed and the exit code is returned. */
int client_call(struct client *c, struct wr_rpc_message *reply);
/* As client_call, but leaves a failure of the call itself to the caller: reply->error is set then.
 */
int client_try(struct client *c, struct wr_rpc_message *reply);
/* Open, begin and call in one, with one text parameter (name NULL: none). CLI_YES: reply->result is there, client_end
 * ends both. Else nothing is left to end. */
int client_ask(struct client *c, const struct cli *cli, const char *method, const char *name, const char *value,
               struct wr_rpc_message *reply);
/* Sends what was begun and shows the result: as one JSON line, or to people by print (NULL: nothing is said). Closes,
 * and returns the exit code. */
int client_show(struct client *c, void (*print)(const msgpack_object *result));
/* Open, begin and show in one, as client_ask. */
int client_tell(const struct cli *cli, const char *method, const char *name, const char *value,
                void (*print)(const msgpack_object *result));
/* Clears the reply, closes, returns result. */
int client_end(struct client *c, struct wr_rpc_message *reply, int result);
/* Prints the error of a reply. Returns the exit code. */
int client_error(const struct client *c, const struct wr_rpc_message *reply);
/* Waits for the next note, at most until ms from now (CLI_NO_TIMEOUT: for ever). CLI_YES,
 * CLI_TIMEOUT without a word, or CLI_NO_NODE after saying that the node went. */
int client_next(struct client *c, int64_t ms, struct wr_rpc_message *note);
int64_t client_now(void); /* monotonic ms */
/* After `stop`: until the node closes the connection, within the command's timeout. */
int client_wait_end(struct client *c);

#endif
