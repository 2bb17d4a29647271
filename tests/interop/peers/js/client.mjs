// Commands on connections and streams.

import crypto from 'node:crypto'
import fs from 'node:fs'
import { peerIdFromString } from '@libp2p/peer-id'
import { publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { Pull } from './pull.mjs'
import { ECHO, IO_CHUNK, PERF, Payload, RESET, SINK, SOURCE, count64 } from './serve.mjs'

const PING = '/ipfs/ping/1.0.0'
const PING_BYTES = 32

export const hex = bytes => Buffer.from(bytes).toString('hex')
export const since = start => performance.now() - start
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

// An error that still has something to say in the reply.
export function failure (text, reply) {
  return Object.assign(new Error(text), { reply })
}

// Opens a stream, runs f on it, resets it when f fails.
async function withStream (host, connection, protocol, signal, f) {
  const s = new Pull(await host.open(connection, protocol, signal))
  try {
    return await f(s)
  } catch (err) {
    s.reset()
    throw err
  }
}

async function connect (host, q, signal) {
  const peer = q.addr.split('/p2p/').pop()
  const already = host.libp2p.getConnections(peerIdFromString(peer)).some(c => c.status === 'open')
  const start = performance.now()
  await host.dial(q.addr, signal)
  return { peer, already, ms: since(start) }
}

async function disconnect (host, q, signal) {
  const peer = peerIdFromString(q.peer)
  const open = host.libp2p.getConnections(peer)
  await host.libp2p.hangUp(peer, { signal })
  return { closed: open.length }
}

async function peers (host) {
  return {
    peers: host.libp2p.getConnections().map(c => ({
      id: c.remotePeer.toString(),
      addr: c.remoteAddr.toString().replace(/\/p2p\/[^/]+$/, ''),
      dir: c.direction === 'inbound' ? 'in' : 'out',
      relayed: c.remoteAddr.toString().includes('/p2p-circuit'),
      limited: c.limits !== undefined,
      opened: c.timeline.open,
      limitSeconds: c.limits?.seconds ?? null,
      limitBytes: c.limits?.bytes ?? null
    }))
  }
}

// The library verifies a signed record while it consumes identify, and fails the whole identify if it is bad.
async function identify (host, q, signal) {
  const connection = host.connection(q.peer)
  for (const end = performance.now() + 6000; !host.identified.has(connection.id) && performance.now() < end;) {
    signal.throwIfAborted()
    await sleep(10)
  }
  let r = host.identified.get(connection.id)
  if (r === undefined) {
    try {
      r = await host.libp2p.services.identify.identify(connection, { signal })
    } catch (err) {
      const record = /signature|envelope|record/i.test(`${err.name} ${err.message}`)
      throw failure(`${err.name}: ${err.message}`, record ? { signedRecord: 'rejected' } : {})
    }
  }
  return {
    agent: r.agentVersion ?? null,
    protocolVersion: r.protocolVersion ?? null,
    protocols: r.protocols,
    listenAddrs: r.listenAddrs.map(String),
    observedAddr: r.observedAddr?.toString() ?? null,
    publicKey: r.publicKey == null ? null : hex(r.publicKey),
    signedRecord: r.signedPeerRecord == null ? 'absent' : 'verified',
    recordAddrs: r.signedPeerRecord?.addresses.map(String) ?? null,
    recordSeq: r.signedPeerRecord == null ? null : Number(r.signedPeerRecord.seq)
  }
}

// The library's own ping opens a stream for each and counts whole milliseconds, so this measures by itself.
export async function pings (host, connection, count, signal) {
  return withStream(host, connection, PING, signal, async s => {
    const rtts = []
    for (let i = 0; i < count; i++) {
      const data = crypto.randomBytes(PING_BYTES)
      const start = performance.now()
      await s.write(data, signal)
      const back = await s.exactly(PING_BYTES, signal)
      rtts.push(since(start))
      if (!back.equals(data)) throw new Error('ping came back with other bytes')
    }
    await s.closeWrite(signal)
    return rtts
  })
}

async function ping (host, q, signal) {
  const connection = host.connection(q.peer)
  // the library's own ping would rather dial anew than use a relayed connection
  if (connection.limits === undefined) await host.libp2p.services.ping.ping(connection.remotePeer, { signal })
  return { rtts: await pings(host, connection, q.count ?? 1, signal) }
}

// Sends total bytes and checks that the same come back, then EOF. passGate runs after the first byte came back.
async function exchange (s, total, from, passGate, signal) {
  const sent = new Payload(from)
  const check = new Payload(from)
  const expect = async n => {
    while (n > 0) {
      let got = await s.read(n, signal)
      if (got === null) throw new Error(`EOF, ${n} bytes missing`)
      n -= got.byteLength
      while (got.byteLength > 0) {
        const want = check.next(got.byteLength)
        if (want.compare(got, 0, want.length) !== 0) throw new Error('echoed bytes differ')
        got = got.subarray(want.length)
      }
    }
  }
  let left = total
  if (passGate !== null && total > 0) {
    await s.write(sent.next(1), signal)
    await expect(1)
    left--
    await passGate()
  }
  const write = async () => {
    for (let n = left; n > 0;) {
      const b = sent.next(Math.min(n, IO_CHUNK))
      await s.write(b, signal)
      n -= b.length
    }
    await s.closeWrite(signal)
  }
  const wrote = write()
  wrote.catch(() => {}) // awaited below, unless reading fails first
  await expect(left)
  await wrote
  if (await s.read(1, signal) !== null) throw new Error('expected EOF, got more bytes')
}

async function echo (host, q, signal) {
  const connection = host.connection(q.peer)
  const streams = q.streams ?? 1
  const total = q.bytes ?? 1024
  let missing = streams
  let openGate
  const gate = new Promise(resolve => { openGate = resolve })
  const leave = () => { if (--missing === 0) openGate() }
  const start = performance.now()
  const results = await Promise.allSettled(Array.from({ length: streams }, async (_, i) => {
    let left = false
    const leaveOnce = () => { if (!left) { left = true; leave() } }
    try {
      await withStream(host, connection, ECHO, signal, s =>
        exchange(s, total, i * 8191, q.hold === true ? () => { leaveOnce(); return gate } : null, signal))
    } finally {
      leaveOnce()
    }
  }))
  const errors = results.filter(r => r.status === 'rejected').map(r => `${r.reason.name}: ${r.reason.message}`)
  const good = streams - errors.length
  host.counters.bytesOut += good * total
  host.counters.bytesIn += good * total
  const reply = { good, failed: errors.length, errors: errors.slice(0, 5), ms: since(start) }
  if (errors.length > 0) throw failure(`${errors.length} of ${streams} streams failed: ${errors[0]}`, reply)
  return reply
}

async function sink (host, q, signal) {
  const connection = host.connection(q.peer)
  const total = q.bytes ?? 1 << 20
  const start = performance.now()
  return withStream(host, connection, SINK, signal, async s => {
    const sum = crypto.createHash('sha256')
    const payload = new Payload()
    for (let left = total; left > 0;) {
      const b = payload.next(Math.min(left, q.chunk ?? IO_CHUNK))
      sum.update(b)
      await s.write(b, signal)
      left -= b.length
    }
    await s.closeWrite(signal)
    const want = Buffer.concat([sum.digest(), count64(total)])
    const got = await s.rest(signal)
    if (!got.equals(want)) throw new Error(`the sink answered ${hex(got)}, not ${hex(want)}`)
    host.counters.bytesOut += total
    return { sha256: hex(want.subarray(0, 32)), ms: since(start) }
  })
}

// Asks the source for total bytes and checks the hash; between is awaited after each chunk.
async function download (host, connection, total, chunk, between, signal) {
  return withStream(host, connection, SOURCE, signal, async s => {
    await s.write(count64(total), signal)
    await s.closeWrite(signal)
    const sum = crypto.createHash('sha256')
    for (let left = total; left > 0;) {
      const b = between === null ? await s.read(left, signal) : await s.exactly(Math.min(chunk, left), signal)
      if (b === null) throw new Error(`EOF, ${left} bytes missing`)
      sum.update(b)
      left -= b.byteLength
      if (between !== null) await between()
    }
    const tail = await s.rest(signal)
    const want = sum.digest()
    if (!tail.equals(want)) throw new Error(`the source's hash is ${hex(tail)}, of what came it is ${hex(want)}`)
    host.counters.bytesIn += total
    return hex(tail)
  })
}

async function source (host, q, signal) {
  const connection = host.connection(q.peer)
  const start = performance.now()
  return { sha256: await download(host, connection, q.bytes ?? 1 << 20, IO_CHUNK, null, signal), ms: since(start) }
}

async function slow (host, q, signal) {
  const connection = host.connection(q.peer)
  const total = q.bytes ?? 4 << 20
  const chunk = q.chunk ?? IO_CHUNK
  const pause = q.pause ?? 20
  const count = q.pings ?? 5
  const gap = total / chunk * pause / (count + 1)
  const start = performance.now()
  const rtts = []
  const pinging = async () => {
    for (let i = 0; i < count; i++) {
      await sleep(gap)
      rtts.push(...await pings(host, connection, 1, signal))
    }
  }
  const pinged = pinging()
  pinged.catch(() => {}) // awaited below, unless the download fails first
  const sha256 = await download(host, connection, total, chunk, () => sleep(pause), signal)
  await pinged
  return { sha256, ms: since(start), rtts }
}

async function alive (host, connection, signal) {
  if (connection.status !== 'open') return false
  return pings(host, connection, 1, signal).then(() => true, () => false)
}

async function reset (host, q, signal) {
  const connection = host.connection(q.peer)
  const s = new Pull(await host.open(connection, RESET, signal))
  await s.write(Buffer.from([1]), signal)
  const reply = { outcome: 'reset', code: null }
  try {
    if (await s.read(1, signal) !== null) throw failure('bytes came instead of a reset', {})
    reply.outcome = 'eof'
  } catch (err) {
    if (err.reply !== undefined || signal.aborted) throw err
  } finally {
    s.reset()
  }
  reply.alive = await alive(host, connection, signal)
  if (!reply.alive) throw failure('the connection did not survive the reset', reply)
  return reply
}

async function resetOut (host, q, signal) {
  const connection = host.connection(q.peer)
  await withStream(host, connection, RESET, signal, async s => {
    await s.write(Buffer.from([2]), signal)
    await s.exactly(1, signal)
    s.reset()
  })
  if (!await alive(host, connection, signal)) throw failure('the connection did not survive the reset', { alive: false })
  return { alive: true }
}

async function wrongid (host, q, signal) {
  try {
    await host.dial(q.addr, signal)
  } catch (err) {
    const all = [err, ...(err.errors ?? [])]
    const text = all.map(e => `${e.name}: ${e.message}`).join('; ')
    return { refused: true, mismatch: /UnexpectedPeer|unexpected peer|does not match|did not match|but connected to/i.test(text), error: text }
  }
  throw failure('the dial succeeded', { refused: false })
}

async function perf (host, q, signal) {
  const connection = host.connection(q.peer)
  const up = q.up ?? 0
  const down = q.down ?? 0
  const start = performance.now()
  return withStream(host, connection, PERF, signal, async s => {
    await s.write(count64(down), signal)
    const payload = new Payload()
    for (let left = up; left > 0;) {
      const b = payload.next(Math.min(left, IO_CHUNK))
      await s.write(b, signal)
      left -= b.length
    }
    await s.closeWrite(signal)
    const turn = performance.now()
    let got = 0
    for (let b; (b = await s.read(1 << 20, signal)) !== null;) got += b.byteLength
    if (got !== down) throw new Error(`asked for ${down} bytes, got ${got}`)
    host.counters.bytesOut += up
    host.counters.bytesIn += down
    return { ms: since(start), upMs: turn - start, downMs: since(turn) }
  })
}

async function key (host) {
  const k = host.libp2p.peerId.publicKey
  return { id: host.id, publicKey: hex(publicKeyToProtobuf(k)), type: k.type.toLowerCase() }
}

async function gc () {
  globalThis.gc?.()
  const status = fs.readFileSync('/proc/self/status', 'utf8')
  const read = name => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  return { rssKiB: read('VmRSS'), anonKiB: read('RssAnon') }
}

export const streamCommands = {
  connect, disconnect, peers, identify, ping, echo, sink, source, slow, reset, 'reset-out': resetOut, wrongid, perf,
  key, counters: async host => ({ counters: host.counters }), gc
}
