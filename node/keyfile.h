/* keyfile.h - keys on disk: the identity, a libp2p PrivateKey protobuf of mode 0600, and the key of a private
 * network. Service (files). */
#ifndef WR_KEYFILE_H
#define WR_KEYFILE_H

#include "transport/key.h"
#include "transport/pnet.h"

#define WR_KEYFILE_MAX 256 /* bytes; ours: an Ed25519 key has 68, go's older form 100 */

/* Reads a key. 0; WR_ENOTFOUND; WR_EPERM: cannot be read, or others can read it; WR_ECORRUPT: not
 * an Ed25519 key; WR_EIO. */
int wr_keyfile_read(const char *path, struct wr_key *key);
/* Writes a new file, whole or not at all, safe on disk when it returns. 0; WR_EEXIST; WR_EPERM,
 * WR_EFULL, WR_ENOTFOUND (no such directory), WR_EIO, WR_ELIMIT. */
int wr_keyfile_write(const char *path, const struct wr_key *key);

/* Reads the key that all members of a private network share, the text of a swarm.key. 0; WR_EIO, WR_EINVAL with what to
 * do about it in err (sized bytes). */
int wr_keyfile_read_psk(const char *path, uint8_t psk[static WR_PNET_KEY], char *err, size_t size);

#endif
