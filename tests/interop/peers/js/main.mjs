// A test peer on js-libp2p: see ../README.md for the contract.
// This file: flags, the JSON line loop and the table of commands.

import fs from 'node:fs'
import readline from 'node:readline'
import { Unsupported, makeHost } from './host.mjs'
import { streamCommands } from './client.mjs'
import { bootstrap, dhtCommands } from './dht.mjs'
import { benchCommands } from './bench.mjs'
import { natCommands } from './nat.mjs'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
const EXIT_UNSUPPORTED = 3
const BOOTSTRAP_GAP = 250 // ms between the starts of two hosts' bootstrap

function die (code, text) {
  fs.writeSync(2, text + '\n')
  process.exit(code)
}

function parseOptions (argv) {
  const o = {
    listen: [], hosts: 1, key: 'ed25519', seed: null, dht: 'off', dhtPrefix: '/ipfs', bootstrap: [],
    limits: 'lifted', psk: null, transport: 'tcp', security: 'noise', mdns: false, agent: null,
    signedRecord: 'default', relay: false, relayLimits: '', circuit: false, dcutr: false, autonat: '', reach: '',
    announce: []
  }
  const allowed = {
    key: ['ed25519', 'rsa', 'ecdsa', 'secp256k1'], dht: ['server', 'client', 'off'],
    limits: ['default', 'lifted'], transport: ['tcp', 'quic', 'both'], security: ['noise', 'tls'],
    signedRecord: ['default', 'legacy'], reach: ['public', 'private', 'auto']
  }
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i].replace(/^--?/, '').replace(/-(.)/g, (_, c) => c.toUpperCase())
    if (!argv[i].startsWith('-') || !(name in o)) die(EXIT_USAGE, `unexpected argument ${argv[i]}`)
    if (typeof o[name] === 'boolean') { o[name] = true; continue }
    const value = argv[++i]
    if (value === undefined) die(EXIT_USAGE, `${argv[i - 1]} needs a value`)
    if (allowed[name] && !allowed[name].includes(value)) {
      die(EXIT_USAGE, `${argv[i - 1]} is one of ${allowed[name].join(', ')}, not ${value}`)
    }
    if (Array.isArray(o[name])) o[name].push(value)
    else o[name] = name === 'hosts' ? Number(value) : value
  }
  if (o.signedRecord === 'legacy') die(EXIT_UNSUPPORTED, 'js-libp2p makes no legacy signed records')
  if (!(o.hosts >= 1)) die(EXIT_USAGE, '--hosts is at least 1')
  if (o.listen.length === 0) {
    if (o.transport !== 'quic') o.listen.push('/ip4/127.0.0.1/tcp/0')
    if (o.transport !== 'tcp') o.listen.push('/ip4/127.0.0.1/udp/0/quic-v1')
  }
  if (o.listen[0] === 'none') o.listen = []
  return o
}

function emit (object) {
  // synchronous, so that a line is never cut when the process ends
  let bytes = Buffer.from(JSON.stringify(object, (_, v) => typeof v === 'bigint' ? Number(v) : v) + '\n')
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes))
    } catch (err) {
      if (err.code !== 'EAGAIN') process.exit(EXIT_FAILED)
    }
  }
}

const commands = { ...streamCommands, ...dhtCommands, ...benchCommands, ...natCommands }

async function answer (hosts, q) {
  const reply = { n: q.n, ok: true }
  const seconds = (q.timeout ?? 30000) / 1000
  const abort = new AbortController()
  const timer = setTimeout(() => abort.abort(new Error(`not done within ${seconds} s`)), seconds * 1000)
  try {
    const host = hosts[q.host ?? 0]
    if (host === undefined) throw new Error(`there is no host ${q.host}`)
    const command = commands[q.cmd]
    if (command === undefined) throw new Unsupported(`unknown command ${q.cmd}`)
    const late = new Promise((resolve, reject) => {
      abort.signal.addEventListener('abort', () => reject(abort.signal.reason))
    })
    Object.assign(reply, await Promise.race([command(host, q, abort.signal, hosts), late]))
  } catch (err) {
    Object.assign(reply, err.reply ?? {}, { ok: false, error: `${err.name}: ${err.message}` })
    if (err instanceof Unsupported) reply.unsupported = true
  } finally {
    clearTimeout(timer)
  }
  emit(reply)
}

const options = parseOptions(process.argv.slice(2))
process.on('SIGTERM', () => process.exit(0))
process.on('SIGINT', () => process.exit(0))

const waiting = []
let onLine = line => waiting.push(line)
readline.createInterface({ input: process.stdin })
  .on('line', line => { if (line.trim() !== '') onLine(line) })
  .on('close', () => process.exit(0))

const hosts = []
for (let i = 0; i < options.hosts; i++) {
  try {
    hosts.push(await makeHost(options, i))
  } catch (err) {
    die(err instanceof Unsupported ? EXIT_UNSUPPORTED : EXIT_FAILED, `${err.name}: ${err.message}`)
  }
}
// what the stack itself throws later on is a finding for the log, not the end of the process
process.on('unhandledRejection', err => console.error('unhandled rejection:', err))
process.on('uncaughtException', err => console.error('uncaught exception:', err))
const { dependencies } = JSON.parse(fs.readFileSync(new URL('package.json', import.meta.url)))
emit({
  event: 'ready',
  impl: 'js',
  version: dependencies.libp2p,
  dht: options.dht === 'off' ? null : `${options.dhtPrefix}/kad/1.0.0`,
  hosts: hosts.map(h => ({ id: h.id, addrs: h.boundAddrs() }))
})
onLine = line => {
  let q
  try {
    q = JSON.parse(line)
  } catch (err) {
    emit({ n: 0, ok: false, error: `bad request: ${err.message}` })
    return
  }
  answer(hosts, q)
}
waiting.forEach(onLine)
hosts.forEach((host, i) => setTimeout(() => {
  bootstrap(host, options.bootstrap).catch(err => console.error(`bootstrap: ${err.message}`))
}, i * BOOTSTRAP_GAP))
