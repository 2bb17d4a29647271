// One libp2p host of this process.

import crypto from 'node:crypto'
import fs from 'node:fs'
import { quic } from '@chainsafe/libp2p-quic'
import { generateKeyPair, generateKeyPairFromSeed, privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { addNat, confirmListening } from './nat.mjs'
import { serve } from './serve.mjs'

export class Unsupported extends Error {
  name = 'Unsupported'
}

const MANY = 1_000_000
const DAY_MS = 24 * 3600 * 1000

async function makeKey (o, i) {
  const seed = o.seed === null
    ? crypto.randomBytes(32)
    : crypto.createHash('sha256').update(`warren-test-key:${o.seed}:${i}`).digest()
  switch (o.key) {
    case 'ed25519': return generateKeyPairFromSeed('Ed25519', seed)
    case 'secp256k1': return privateKeyFromProtobuf(Buffer.concat([Buffer.from([0x08, 0x02, 0x12, 0x20]), seed]))
    case 'rsa': return generateKeyPair('RSA', 2048)
    default: throw new Unsupported(`js-libp2p has no peer ids of ${o.key} keys`)
  }
}

// Everything that bounds connections, streams, rates or idle time, as wide as it goes.
const lifted = {
  streams: { maxInboundStreams: MANY, maxOutboundStreams: MANY },
  muxer: {
    maxInboundStreams: MANY,
    maxOutboundStreams: MANY,
    maxEarlyStreams: MANY,
    // a paused stream buffers what its window still lets in: the window grows to 16 MiB, the default buffer is 4
    streamOptions: { inactivityTimeout: DAY_MS, maxReadBufferLength: 32 << 20 }
  },
  quic: { maxConcurrentStreamLimit: MANY },
  tcp: { inboundSocketInactivityTimeout: DAY_MS, outboundSocketInactivityTimeout: DAY_MS, backlog: 4096 },
  connectionManager: {
    maxConnections: MANY,
    inboundConnectionThreshold: MANY,
    maxIncomingPendingConnections: MANY,
    maxParallelDials: 1000,
    maxDialQueueLength: MANY,
    dialTimeout: 30_000,
    addressDialTimeout: 30_000,
    inboundUpgradeTimeout: 30_000
  },
  connectionMonitor: { enabled: false },
  ping: { maxInboundStreams: MANY, maxOutboundStreams: MANY, timeout: 600_000 }
}
const untouched = { streams: {}, muxer: {}, quic: {}, tcp: {}, connectionManager: {}, connectionMonitor: {}, ping: {} }

export async function makeHost (o, i) {
  const limits = o.limits === 'lifted' ? lifted : untouched
  const config = {
    privateKey: await makeKey(o, i),
    addresses: {
      listen: o.listen.map(a => a.replaceAll('{h}', 1 + Math.floor(i / 250)).replaceAll('{l}', 1 + i % 250))
    },
    transports: [],
    connectionEncrypters: [o.security === 'tls' ? tls() : noise()],
    streamMuxers: [yamux(limits.muxer)],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionManager: limits.connectionManager,
    connectionMonitor: limits.connectionMonitor,
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(limits.ping) }
  }
  if (o.transport !== 'quic') config.transports.push(tcp(limits.tcp))
  if (o.transport !== 'tcp') config.transports.push(quic(limits.quic))
  addNat(config, o)
  if (o.agent !== null) config.nodeInfo = { userAgent: o.agent }
  if (o.psk !== null) config.connectionProtector = preSharedKey({ psk: new Uint8Array(fs.readFileSync(o.psk)) })
  if (o.mdns) config.peerDiscovery = [mdns()]
  if (o.dht !== 'off') {
    config.services.dht = kadDHT({
      protocol: `${o.dhtPrefix}/kad/1.0.0`,
      clientMode: o.dht === 'client',
      peerInfoMapper: passthroughMapper,
      allowQueryWithZeroPeers: true,
      ...limits.streams
    })
  }
  const host = new Host(await createLibp2p(config), limits)
  confirmListening(host.libp2p, o)
  await serve(host)
  return host
}

export class Host {
  constructor (libp2p, limits) {
    this.libp2p = libp2p
    this.streamLimits = limits.streams
    this.id = libp2p.peerId.toString()
    this.dht = libp2p.services.dht ?? null
    this.heard = new Set() // by multicast
    this.identified = new Map() // connection id to what its identify round gave
    this.counters = {
      connsOpened: 0, connsClosed: 0, echo: 0, sink: 0, source: 0, reset: 0, perf: 0,
      resetsSeen: 0, resetEofs: 0, handlerErrors: 0, bytesIn: 0, bytesOut: 0
    }
    libp2p.addEventListener('connection:open', () => { this.counters.connsOpened++ })
    libp2p.addEventListener('connection:close', evt => {
      this.counters.connsClosed++
      this.identified.delete(evt.detail.id)
    })
    // a later push carries only some of the fields
    libp2p.addEventListener('peer:identify', evt => {
      const news = Object.entries(evt.detail).filter(([, value]) => value != null)
      const id = evt.detail.connection.id
      this.identified.set(id, { ...this.identified.get(id), ...Object.fromEntries(news) })
    })
    libp2p.addEventListener('peer:discovery', evt => this.heard.add(evt.detail.id.toString()))
  }

  boundAddrs () {
    return this.libp2p.components.transportManager.getAddrs().map(a => a.toString())
  }

  announcedAddrs () {
    return this.libp2p.getMultiaddrs().map(a => a.toString().replace(/\/p2p\/[^/]+$/, ''))
  }

  connection (peer) {
    const open = this.libp2p.getConnections(peerIdFromString(peer)).filter(c => c.status === 'open')
    const c = open.find(c => c.limits === undefined) ?? open[0] // direct before relayed
    if (c === undefined) throw new Error(`not connected to ${peer}`)
    return c
  }

  dial (addr, signal) {
    return this.libp2p.dial(multiaddr(addr), { signal })
  }

  open (connection, protocol, signal) {
    return connection.newStream(protocol, { signal, runOnLimitedConnection: true, ...this.streamLimits })
  }
}
