/* tape.h - records what a program does to the files below one directory, and plays it back up to a power
 * failure. The functions of the C library that change files are taken over by definitions in tape.c, which
 * the test's executable exports; LMDB, a shared library, calls them too.
 *
 * The disk that it plays: a write is durable once its file was synced, or when it returned if the
 * descriptor was opened with O_DSYNC (that range only). Of the other writes any subset arrives, each in
 * any subset of its 512-byte sectors, the file's size anywhere up to what was written. Names (create,
 * link, rename, unlink, those of directories) are durable once the directory that they stand in was synced; of the
 * others the first few of each directory arrive, in order. */
#ifndef HOSTILE_TAPE_H
#define HOSTILE_TAPE_H

#include <stddef.h>
#include <stdint.h>

#define TAPE_SECTOR 512    /* bytes that arrive whole or not at all */

/* Starts recording in this (existing, empty) directory; one tape at a time. */
void tape_start(const char *dir);
void tape_stop(void);
void tape_free(void);
/* Notes that the program knows `number` to be durable. */
void tape_mark(uint32_t number);
size_t tape_length(void);
/* Power fails during operation number `at` (0 .. length): what the directory then holds is written into
 * `dir`. *marked: the last mark before. */
void tape_play(size_t at, uint64_t seed, const char *dir, uint32_t *marked);
/* How many operations of each kind were recorded, for a check that the recording works at all. */
struct tape_counts {
    size_t writes, dsync_writes, syncs, dir_syncs, renames;
};
struct tape_counts tape_count(void);

#endif
