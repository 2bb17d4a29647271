// Reachability, relays and hole punching.

import { autoNAT } from '@libp2p/autonat'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { RELAY_V2_HOP_CODEC, circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { RecordEnvelope } from '@libp2p/peer-record'
import { multiaddr } from '@multiformats/multiaddr'
import { failure, since, sleep } from './client.mjs'
import { Pull } from './pull.mjs'

const STATUS_OK = 100
const HOP_MAX = 4096 // bytes of one message
const VOUCHER_DOMAIN = 'libp2p-relay-rsvp'

// The library's limits of a relay, with what the flag names in their place.
function relayLimits (text) {
  const store = {}
  for (const pair of text.split(',').filter(p => p !== '')) {
    const [name, value] = pair.split('=')
    if (!/^\d+$/.test(value)) throw new Error(`--relay-limits ${pair}: no number`)
    const n = Number(value)
    switch (name) {
      case 'duration': store.defaultDurationLimit = n * 1000; break
      case 'data': store.defaultDataLimit = BigInt(n); break
      case 'reservations': store.maxReservations = n; break
      case 'circuits': break // it has no such limit
      case 'ttl': store.reservationTtl = n * 1000; break
      default: throw new Error(`--relay-limits has no ${name}`)
    }
  }
  if (store.defaultDurationLimit === 0 && store.defaultDataLimit === 0n) store.applyDefaultLimit = false
  return store
}

// Adds to the configuration what the options of this file ask for.
export function addNat (config, o) {
  if (o.circuit || o.dcutr) config.transports.push(circuitRelayTransport())
  if (o.dcutr) config.services.dcutr = dcutr()
  if (o.relay) config.services.relay = circuitRelayServer({ reservations: relayLimits(o.relayLimits) })
  const versions = o.autonat.split(',')
  if (versions.includes('v1')) config.services.v1 = autoNAT()
  if (versions.includes('v2')) config.services.v2 = autoNATv2()
  if (o.announce.length > 0) config.addresses.appendAnnounce = o.announce
}

// --reach public: js announces a public address only once it is confirmed.
export function confirmListening (libp2p, o) {
  if (o.reach !== 'public' && !(o.reach === '' && o.relay)) return
  const { addressManager, transportManager } = libp2p.components
  transportManager.getAddrs().forEach(addr => addressManager.confirmObservedAddr(addr, { type: 'transport' }))
}

// The fields of a protobuf message: numbers as BigInt, bytes as Buffer.
function fields (bytes) {
  const out = []
  let at = 0
  const varint = () => {
    let v = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) break
      const b = bytes[at++]
      v |= BigInt(b & 0x7f) << shift
      if (b < 0x80) return v
    }
    throw new Error('protobuf message does not parse')
  }
  while (at < bytes.length) {
    const tag = varint()
    const value = varint()
    if ((tag & 7n) === 0n) {
      out.push([Number(tag >> 3n), value])
    } else if ((tag & 7n) === 2n && at + Number(value) <= bytes.length) {
      out.push([Number(tag >> 3n), Buffer.from(bytes.subarray(at, at + Number(value)))])
      at += Number(value)
    } else {
      throw new Error('protobuf message does not parse')
    }
  }
  return out
}

const field = (list, number) => list.find(([n]) => n === number)?.[1] ?? null

async function readMessage (s, signal) {
  let len = 0
  for (let shift = 0; ; shift += 7) {
    const b = (await s.exactly(1, signal))[0]
    len |= (b & 0x7f) << shift
    if (b < 0x80) break
    if (shift > 14) throw new Error('length prefix too long')
  }
  if (len > HOP_MAX) throw new Error(`message of ${len} bytes`)
  return s.exactly(len, signal)
}

// A voucher counts when its relay signed it, for us; its expiry.
async function checkVoucher (bytes, relay, own) {
  const envelope = await RecordEnvelope.openAndCertify(bytes, VOUCHER_DOMAIN)
  if (Buffer.from(envelope.payloadType).toString('hex') !== '0302') throw new Error('another payload type')
  const payload = fields(envelope.payload)
  const same = (number, id) => field(payload, number)?.equals(Buffer.from(id.toMultihash().bytes)) === true
  if (!peerIdFromPublicKey(envelope.publicKey).equals(relay)) throw new Error('signed by somebody else')
  if (!same(1, relay) || !same(2, own)) throw new Error('about somebody else')
  return Number(field(payload, 3))
}

// Asks once more by hand: the library keeps limits and voucher to itself.
async function ask (host, connection, signal) {
  const s = new Pull(await host.open(connection, RELAY_V2_HOP_CODEC, signal))
  await s.write(Buffer.from([2, 0x08, 0]), signal) // HopMessage { type: RESERVE }
  const answer = fields(await readMessage(s, signal))
  s.closeWrite(signal).catch(() => {}) // the relay may have closed already
  const status = Number(field(answer, 5) ?? 0)
  if (status !== STATUS_OK) throw failure(`RESERVE: status ${status}`, { status })
  const reservation = fields(field(answer, 3))
  const limit = field(answer, 4) === null ? null : fields(field(answer, 4))
  const reply = {
    status,
    expire: Number(field(reservation, 1)),
    addrs: reservation.filter(([n]) => n === 2).map(([, b]) => multiaddr(b).toString()),
    voucher: 'absent',
    limitSeconds: limit === null ? null : Number(field(limit, 1) ?? 0),
    limitBytes: limit === null ? null : Number(field(limit, 2) ?? 0)
  }
  const voucher = field(reservation, 3)
  if (voucher !== null) {
    reply.voucher = 'rejected'
    try {
      reply.voucherExpire = await checkVoucher(voucher, connection.remotePeer, host.libp2p.peerId)
      reply.voucher = 'verified'
    } catch (err) {
      console.error(`voucher of ${connection.remotePeer}: ${err.message}`)
    }
  }
  return reply
}

async function reserve (host, q, signal) {
  const start = performance.now()
  const relay = peerIdFromString(q.addr.split('/p2p/').pop())
  let refusal = null
  try {
    await host.libp2p.components.transportManager.listen([multiaddr(`${q.addr}/p2p-circuit`)])
  } catch (err) {
    refusal = err
  }
  const ms = since(start)
  const connection = host.libp2p.getConnections(relay).find(c => c.status === 'open' && c.limits === undefined)
  if (connection === undefined) throw refusal ?? new Error('the connection to the relay is gone')
  if (refusal === null && q.look === false) return { relay: relay.toString(), ms }
  const reply = await ask(host, connection, signal)
  if (refusal !== null) throw refusal
  return { ...reply, relay: relay.toString(), ms }
}

async function nat (host) {
  const all = host.libp2p.components.addressManager.getAddressesWithMetadata()
  return {
    reachability: null,
    addrs: all.map(a => ({
      addr: a.multiaddr.toString(), verdict: a.verified ? 'reachable' : 'unknown', type: a.type, checked: a.lastVerified ?? null
    }))
  }
}

async function addrs (host) {
  return { addrs: host.announcedAddrs() }
}

async function known (host, q) {
  const peer = await host.libp2p.peerStore.get(peerIdFromString(q.peer))
  return { addrs: peer.addresses.map(a => a.multiaddr.toString()), protocols: peer.protocols }
}

async function announce (host, q, signal) {
  const start = performance.now()
  // Only an address that somebody observed can be confirmed.
  host.libp2p.components.addressManager.addObservedAddr(multiaddr(q.addr))
  host.libp2p.components.addressManager.confirmObservedAddr(multiaddr(q.addr))
  while (!host.announcedAddrs().includes(q.addr)) {
    signal.throwIfAborted()
    await sleep(10)
  }
  return { ms: since(start) }
}

export const natCommands = { reserve, nat, addrs, known, announce }
