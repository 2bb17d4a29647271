// js-libp2p under the contract of the public interop suites' transport test: ../../suite/README.md.

import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { quic } from '@chainsafe/libp2p-quic'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

function readPlan () {
  const test = process.env.TEST_KEY
  const pick = (newer, older, missing) => process.env[test === undefined ? older : newer] || missing
  return {
    lines: test !== undefined,
    dialer: pick('IS_DIALER', 'is_dialer', 'false') === 'true',
    transport: pick('TRANSPORT', 'transport', ''),
    security: pick('SECURE_CHANNEL', 'security', ''),
    muxer: pick('MUXER', 'muxer', ''),
    ip: pick('LISTENER_IP', 'ip', '0.0.0.0'),
    redis: pick('REDIS_ADDR', 'redis_addr', 'redis:6379'),
    key: test === undefined ? 'listenerAddr' : `${test}_listener_multiaddr`,
    timeout: Number(pick('TEST_TIMEOUT_SECS', 'test_timeout_seconds', '180')) * 1000
  }
}

// A connection to Redis that answers one command after another.
class Redis {
  static async connect (address, timeout) {
    const [host, port] = address.split(':')
    for (const end = Date.now() + timeout; ; await sleep(200)) {
      const socket = net.connect(Number(port), host)
      const error = await new Promise(resolve => {
        socket.once('connect', () => resolve(null))
        socket.once('error', resolve)
      })
      if (error === null) return new Redis(socket)
      if (Date.now() > end) throw error
    }
  }

  constructor (socket) {
    this.socket = socket
    this.text = ''
  }

  async line () {
    for (;;) {
      const end = this.text.indexOf('\r\n')
      if (end >= 0) {
        const line = this.text.slice(0, end)
        this.text = this.text.slice(end + 2)
        return line
      }
      this.text += await new Promise((resolve, reject) => {
        this.socket.once('data', resolve)
        this.socket.once('close', () => reject(new Error('Redis went away')))
      })
    }
  }

  // The last text of the answer. The values are addresses, so that no text holds a line's end.
  async ask (...args) {
    this.socket.write(`*${args.length}\r\n` + args.map(a => `$${Buffer.byteLength(a)}\r\n${a}\r\n`).join(''))
    let last = ''
    for (let left = 1; left > 0; left--) {
      const line = await this.line()
      if (line[0] === '-') throw new Error(`Redis says ${line.slice(1)}`)
      if ('*$'.includes(line[0]) && line[1] === '-') throw new Error('no value in time')
      if (line[0] === '*') left += Number(line.slice(1))
      if (line[0] === '$') last = await this.line()
    }
    return last
  }
}

function transports (plan) {
  const security = { noise, tls }[plan.security]
  if (plan.transport === 'quic-v1') return { transports: [quic()] }
  if (plan.transport === 'tcp' && security !== undefined && plan.muxer === 'yamux') {
    return { transports: [tcp()], connectionEncrypters: [security()], streamMuxers: [yamux()] }
  }
  throw new Error(`no '${plan.transport}' with '${plan.security}' and '${plan.muxer}'`)
}

async function dial (plan, node, redis) {
  const addr = multiaddr(await redis.ask('BLPOP', plan.key, String(plan.timeout / 1000)))
  const signal = AbortSignal.timeout(plan.timeout)
  const begun = performance.now()
  const connection = await node.dial(addr, { signal })
  const asked = performance.now()
  await node.services.ping.ping(connection.remotePeer, { signal }) // which counts whole milliseconds, so none at times
  const rtt = performance.now() - asked
  const all = (performance.now() - begun).toFixed(3)
  process.stdout.write(plan.lines
    ? `latency:\n  handshake_plus_one_rtt: ${all}\n  ping_rtt: ${rtt.toFixed(3)}\n  unit: ms\n`
    : `{"handshakePlusOneRTTMillis": ${all}, "pingRTTMilllis": ${rtt.toFixed(3)}}\n`)
}

async function listen (plan, node, redis) {
  const own = node.getMultiaddrs().map(a => a.toString())
  const addr = own.find(a => !a.startsWith('/ip4/127.')) ?? own[0]
  await redis.ask('DEL', plan.key)
  await redis.ask('RPUSH', plan.key, addr)
  const ended = new Promise(resolve => process.once('SIGTERM', () => resolve(true)))
  if (await Promise.race([ended, sleep(plan.timeout, false)]) !== true) throw new Error('nobody ended this in time')
}

async function main () {
  const plan = readPlan()
  const address = plan.transport === 'quic-v1' ? `/ip4/${plan.ip}/udp/0/quic-v1` : `/ip4/${plan.ip}/tcp/0`
  const node = await createLibp2p({
    ...transports(plan),
    addresses: { listen: plan.dialer ? [] : [address] },
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ping: ping() }
  })
  const redis = await Redis.connect(plan.redis, plan.timeout)
  await (plan.dialer ? dial : listen)(plan, node, redis)
}

main().then(() => process.exit(0), error => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
})
