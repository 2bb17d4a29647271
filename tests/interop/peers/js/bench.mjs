// Plain loops for measuring.

import crypto from 'node:crypto'
import { Unsupported } from './host.mjs'
import { failure, pings, since } from './client.mjs'
import { findNode } from './dht.mjs'
import { Pull } from './pull.mjs'
import { ECHO } from './serve.mjs'

function summary (times, failed, errors, ms) {
  times.sort((a, b) => a - b)
  const at = share => times.length === 0 ? null : times[Math.floor((times.length - 1) * share)]
  return { done: times.length, failed, errors, ms, p50: at(0.5), p99: at(0.99) }
}

async function rounds (count, parallel, signal, round) {
  const times = []
  const errors = []
  let failed = 0
  let next = 0
  const start = performance.now()
  await Promise.all(Array.from({ length: parallel }, async () => {
    while (next < count && !signal.aborted) {
      const i = next++
      const t = performance.now()
      try {
        await round(i)
        times.push(since(t))
      } catch (err) {
        failed++
        if (errors.length < 5) errors.push(`${err.name}: ${err.message}`)
      }
    }
  }))
  const reply = summary(times, failed, errors, since(start))
  if (failed > 0) throw failure(`${failed} of ${count} rounds failed: ${errors[0]}`, reply)
  return reply
}

// The smallest conversation: a byte there, the same byte and EOF back.
async function oneByte (host, connection, signal) {
  const s = new Pull(await host.open(connection, ECHO, signal))
  try {
    await s.write(Buffer.from([0x5a]), signal)
    await s.closeWrite(signal)
    await s.exactly(1, signal)
    if (await s.read(1, signal) !== null) throw new Error('no EOF after the echo')
  } catch (err) {
    s.reset()
    throw err
  }
}

async function benchConns (host, q, signal) {
  if ((q.parallel ?? 1) > 1) {
    throw new Unsupported('one host holds one connection per peer: run bench-conns on several hosts instead')
  }
  return rounds(q.count ?? 1, 1, signal, async () => {
    const connection = await host.dial(q.addr, signal)
    try {
      await oneByte(host, connection, signal)
    } finally {
      await connection.close({ signal })
    }
  })
}

async function benchStreams (host, q, signal) {
  const connection = host.connection(q.peer)
  return rounds(q.count ?? 1, q.parallel ?? 1, signal, () => oneByte(host, connection, signal))
}

async function benchPing (host, q, signal) {
  const connection = host.connection(q.peer)
  const start = performance.now()
  return summary(await pings(host, connection, q.count ?? 1, signal), 0, [], since(start))
}

async function benchFindnode (host, q, signal) {
  const { remotePeer } = host.connection(q.peer)
  return rounds(q.count ?? 1, q.parallel ?? 1, signal, () =>
    findNode(host, remotePeer, crypto.randomBytes(32), signal))
}

async function hold (host, q, signal, hosts) {
  const count = q.count ?? 1
  const first = q.host ?? 0
  if (first + count > hosts.length) throw new Error('hold needs a host per connection (--hosts)')
  return rounds(count, 16, signal, async i => {
    const h = hosts[first + i]
    const connection = await h.dial(q.addr, signal)
    while (!h.identified.has(connection.id)) {
      signal.throwIfAborted()
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  })
}

export const benchCommands = {
  'bench-conns': benchConns, 'bench-streams': benchStreams, 'bench-ping': benchPing, 'bench-findnode': benchFindnode, hold
}
