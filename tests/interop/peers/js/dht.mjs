// Commands on the DHT.

import crypto from 'node:crypto'
import { MessageType } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import * as Digest from 'multiformats/hashes/digest'
import { failure, hex, since, sleep } from './client.mjs'

const K = 20
const SHA2_256 = 0x12
const BOOTSTRAP_WAIT = 10_000 // ms, for the dialled node to enter the routing table

function dhtOf (host) {
  if (host.dht === null) throw new Error('this process runs without a DHT (--dht)')
  return host.dht
}

const bytes = text => new Uint8Array(Buffer.from(text, 'hex'))
const sha256 = b => crypto.createHash('sha256').update(b).digest()
const nsCid = ns => CID.createV1(raw.code, Digest.create(SHA2_256, sha256(ns)))

function distance (target, id) {
  const d = sha256(id)
  for (let i = 0; i < d.length; i++) d[i] ^= target[i]
  return d
}

async function lookup (host, key, signal) {
  const target = sha256(key)
  const found = new Map()
  for await (const event of dhtOf(host).getClosestPeers(key, { signal })) {
    if (event.name !== 'FINAL_PEER') continue
    const id = event.peer.id
    if (id.toString() !== host.id) found.set(id.toString(), distance(target, id.toMultihash().bytes))
  }
  return [...found].sort((a, b) => a[1].compare(b[1])).slice(0, K).map(([id]) => id)
}

async function refresh (host, q, signal) {
  const start = performance.now()
  // the library's own refresh returns before it is done, so look up by ourselves: first near us, then anywhere
  dhtOf(host).refreshRoutingTable({ signal }).catch(() => {})
  await lookup(host, host.libp2p.peerId.toMultihash().bytes, signal)
  await Promise.all(Array.from({ length: 4 }, () => lookup(host, crypto.randomBytes(32), signal)))
  return { ms: since(start) }
}

async function entered (host) {
  for (const end = performance.now() + BOOTSTRAP_WAIT; performance.now() < end; await sleep(20)) {
    if (host.dht === null || host.dht.routingTable.size > 0) return true
  }
  return false
}

// Dials the given nodes, and looks for our own neighbourhood once one of them is in the routing table.
export async function bootstrap (host, addrs) {
  for (const addr of addrs) {
    for (let attempt = 0; attempt < 60; attempt++) {
      try {
        const connection = await host.dial(addr, AbortSignal.timeout(10_000))
        if (await entered(host)) break
        await connection.close()
        throw new Error('connected, but it did not enter the routing table')
      } catch (err) {
        console.error(`bootstrap ${addr}: ${err.message}`)
        await sleep(1000)
      }
    }
  }
  if (host.dht === null || addrs.length === 0) return
  await refresh(host, {}, AbortSignal.timeout(120_000))
}

async function table (host) {
  const peers = []
  for (const { peerId } of dhtOf(host).routingTable.kb.toIterable()) peers.push(peerId.toString())
  return { peers }
}

async function closest (host, q, signal) {
  const start = performance.now()
  return { peers: await lookup(host, bytes(q.key), signal), ms: since(start) }
}

// One FIND_NODE to one peer.
export async function findNode (host, peer, key, signal) {
  for await (const event of dhtOf(host).network.sendRequest(peer, { type: MessageType.FIND_NODE, key }, {
    signal, path: { index: -1, queued: 0, running: 0, total: 0 }
  })) {
    if (event.name === 'PEER_RESPONSE') return event.closer.map(p => p.id.toString())
    if (event.name === 'QUERY_ERROR') throw event.error
  }
  throw new Error('no answer')
}

async function query (host, q, signal) {
  const { remotePeer } = host.connection(q.peer)
  const start = performance.now()
  return { peers: await findNode(host, remotePeer, bytes(q.key), signal), ms: since(start) }
}

async function findPeer (host, q, signal) {
  const start = performance.now()
  for await (const event of dhtOf(host).findPeer(peerIdFromString(q.peer), { signal })) {
    if (event.name === 'FINAL_PEER') return { addrs: event.peer.multiaddrs.map(String), ms: since(start) }
  }
  throw new Error('peer not found')
}

async function provideCid (host, cid, signal) {
  const start = performance.now()
  let sent = 0
  for await (const event of dhtOf(host).provide(cid, { signal })) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') sent++
  }
  if (sent === 0) throw failure('no peer took the provider record', { sent })
  return { sent, ms: since(start) }
}

async function providersOf (host, cid, count, signal) {
  const start = performance.now()
  const found = new Map()
  for await (const event of dhtOf(host).findProviders(cid, { signal })) {
    if (event.name !== 'PROVIDER') continue
    for (const p of event.providers) {
      const id = p.id.toString()
      found.set(id, { id, addrs: [...new Set([...(found.get(id)?.addrs ?? []), ...p.multiaddrs.map(String)])] })
    }
    if (found.size >= count) break
  }
  return { providers: [...found.values()], ms: since(start) }
}

async function put (host, q, signal) {
  const start = performance.now()
  let sent = 0
  for await (const event of dhtOf(host).put(bytes(q.key), bytes(q.value), { signal })) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') sent++
  }
  if (sent === 0) throw failure('no peer took the record', { sent })
  return { sent, ms: since(start) }
}

async function get (host, q, signal) {
  const start = performance.now()
  let value = null
  for await (const event of dhtOf(host).get(bytes(q.key), { signal })) {
    if (event.name === 'VALUE') value = event.value
  }
  if (value === null) throw new Error('value not found')
  return { value: hex(value), ms: since(start) }
}

export const dhtCommands = {
  'dht-refresh': refresh,
  'dht-table': table,
  'dht-closest': closest,
  'dht-query': query,
  'dht-find-peer': findPeer,
  'dht-provide': (host, q, signal) => provideCid(host, CID.parse(q.cid), signal),
  'dht-find-providers': (host, q, signal) => providersOf(host, CID.parse(q.cid), q.count ?? K, signal),
  'dht-put': put,
  'dht-get': get,
  advertise: (host, q, signal) => provideCid(host, nsCid(q.ns), signal),
  'find-ns': (host, q, signal) => providersOf(host, nsCid(q.ns), q.count ?? K, signal),
  'mdns-peers': async host => ({ peers: [...host.heard] })
}
