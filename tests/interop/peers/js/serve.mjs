// The server side of the test protocols.

import crypto from 'node:crypto'
import { Pull } from './pull.mjs'

export const ECHO = '/warren-test/echo/1.0.0'
export const SINK = '/warren-test/sink/1.0.0'
export const SOURCE = '/warren-test/source/1.0.0'
export const RESET = '/warren-test/reset/1.0.0'
export const PERF = '/perf/1.0.0'
export const IO_CHUNK = 64 * 1024

const SERVE_TIME = 600_000 // ms; no handler outlives this

// all payloads are cut from this; its odd length keeps it from lining up with any buffer
const block = crypto.randomBytes((1 << 20) + 4099)

// An endless source of pseudo-random bytes.
export class Payload {
  constructor (at = 0) {
    this.at = at % block.length
  }

  next (max) {
    const b = block.subarray(this.at, Math.min(this.at + max, block.length))
    this.at = (this.at + b.length) % block.length
    return b
  }
}

export function count64 (n) {
  const b = Buffer.alloc(8)
  b.writeBigUInt64BE(BigInt(n))
  return b
}

async function serveEcho (host, s, signal) {
  for (let b; (b = await s.read(IO_CHUNK, signal)) !== null;) {
    host.counters.bytesIn += b.byteLength
    await s.write(b, signal)
    host.counters.bytesOut += b.byteLength
  }
}

async function serveSink (host, s, signal) {
  const sum = crypto.createHash('sha256')
  let n = 0
  for (let b; (b = await s.read(1 << 20, signal)) !== null;) {
    sum.update(b)
    n += b.byteLength
  }
  host.counters.bytesIn += n
  await s.write(Buffer.concat([sum.digest(), count64(n)]), signal)
}

async function serveSource (host, s, signal) {
  const sum = crypto.createHash('sha256')
  const payload = new Payload()
  for (let left = Number((await s.exactly(8, signal)).readBigUInt64BE()); left > 0;) {
    const b = payload.next(Math.min(left, IO_CHUNK))
    sum.update(b)
    await s.write(b, signal)
    left -= b.length
    host.counters.bytesOut += b.length
  }
  await s.write(sum.digest(), signal)
}

async function serveReset (host, s, signal) {
  const op = (await s.exactly(1, signal))[0]
  if (op === 1) {
    s.reset()
    return
  }
  if (op !== 2) throw new Error(`unknown op ${op}`)
  await s.write(Buffer.from([2]), signal)
  let more
  try {
    more = await s.read(1, signal)
  } catch (err) {
    host.counters.resetsSeen++
    return
  }
  if (more !== null) throw new Error('bytes after op 2')
  host.counters.resetEofs++
}

async function servePerf (host, s, signal) {
  const down = Number((await s.exactly(8, signal)).readBigUInt64BE())
  for (let b; (b = await s.read(1 << 20, signal)) !== null;) host.counters.bytesIn += b.byteLength
  const payload = new Payload()
  for (let left = down; left > 0;) {
    const b = payload.next(Math.min(left, IO_CHUNK))
    await s.write(b, signal)
    left -= b.length
    host.counters.bytesOut += b.length
  }
}

export async function serve (host) {
  const handlers = {
    [ECHO]: ['echo', serveEcho],
    [SINK]: ['sink', serveSink],
    [SOURCE]: ['source', serveSource],
    [RESET]: ['reset', serveReset],
    [PERF]: ['perf', servePerf]
  }
  for (const [protocol, [name, handler]] of Object.entries(handlers)) {
    await host.libp2p.handle(protocol, async stream => {
      const s = new Pull(stream)
      const abort = new AbortController()
      const timer = setTimeout(() => abort.abort(new Error('handler took too long')), SERVE_TIME)
      try {
        await handler(host, s, abort.signal)
        if (stream.status === 'open') await s.closeWrite(abort.signal)
        host.counters[name]++
      } catch (err) {
        host.counters.handlerErrors++
        console.error(`${protocol}: ${err.message}`)
        s.reset()
      } finally {
        clearTimeout(timer)
      }
    }, { runOnLimitedConnection: true, ...host.streamLimits })
  }
}
