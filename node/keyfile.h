/* keyfile.h - the identity on disk: a libp2p PrivateKey protobuf of mode 0600. Service (files). */
#ifndef WR_KEYFILE_H
#define WR_KEYFILE_H

#include "transport/key.h"

#define WR_KEYFILE_MAX 256 /* bytes; ours: an Ed25519 key has 68, go's older form 100 */

/* Reads a key. 0; WR_ENOTFOUND; WR_EPERM: cannot be read, or others can read it; WR_ECORRUPT: not
 * an Ed25519 key; WR_EIO. */
int wr_keyfile_read(const char *path, struct wr_key *key);
/* Writes a new file, whole or not at all, safe on disk when it returns. 0; WR_EEXIST; WR_EPERM,
 * WR_EFULL, WR_ENOTFOUND (no such directory), WR_EIO, WR_ELIMIT. */
int wr_keyfile_write(const char *path, const struct wr_key *key);

#endif
