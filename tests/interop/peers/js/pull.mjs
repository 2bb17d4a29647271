// js-libp2p streams push; the test protocols are easier to read with reads that pull and writes that wait.

const HIGH = 512 * 1024 // bytes held here before the stream is paused

export class Pull {
  constructor (stream) {
    this.stream = stream
    this.chunks = []
    this.held = 0
    // Bytes that arrived together with the negotiation are handed back to the stream after its end was announced, so
    // an announced end counts only once nothing is left to read.
    const atEnd = () => stream.remoteWriteStatus === 'closed' && stream.readBufferLength === 0
    this.ended = atEnd()
    this.error = null
    this.wake = null
    stream.addEventListener('message', evt => {
      for (const part of evt.data instanceof Uint8Array ? [evt.data] : evt.data) {
        this.chunks.push(part)
        this.held += part.byteLength
      }
      if (atEnd()) this.ended = true
      if (this.held >= HIGH && stream.readStatus === 'readable') stream.pause()
      this.#changed()
    })
    stream.addEventListener('end', () => {
      if (atEnd()) this.ended = true
      this.#changed()
    })
    stream.addEventListener('close', evt => {
      if (evt.error != null) this.error = evt.error
      else if (stream.readBufferLength === 0) this.ended = true
      this.#changed()
    })
    if (stream.status === 'reset' || stream.status === 'aborted') this.error = new Error(`stream is ${stream.status}`)
  }

  #changed () {
    const wake = this.wake
    this.wake = null
    wake?.()
  }

  // Up to max bytes as they came, null at EOF; throws when the stream was reset.
  async read (max, signal) {
    for (;;) {
      if (this.held > 0) {
        let chunk = this.chunks[0]
        if (chunk.byteLength > max) {
          this.chunks[0] = chunk.subarray(max)
          chunk = chunk.subarray(0, max)
        } else {
          this.chunks.shift()
        }
        this.held -= chunk.byteLength
        if (this.held < HIGH / 2 && this.stream.readStatus === 'paused') this.stream.resume()
        return chunk
      }
      if (this.error !== null) throw this.error
      if (this.ended) return null
      signal?.throwIfAborted()
      await new Promise((resolve, reject) => {
        this.wake = resolve
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
    }
  }

  // Exactly n bytes.
  async exactly (n, signal) {
    const parts = []
    for (let left = n; left > 0;) {
      const part = await this.read(left, signal)
      if (part === null) throw new Error(`EOF, ${left} bytes missing`)
      parts.push(part)
      left -= part.byteLength
    }
    return Buffer.concat(parts)
  }

  async rest (signal) {
    const parts = []
    for (let part; (part = await this.read(1 << 20, signal)) !== null;) parts.push(part)
    return Buffer.concat(parts)
  }

  async write (bytes, signal) {
    if (!this.stream.send(bytes)) await this.stream.onDrain({ signal })
  }

  closeWrite (signal) {
    return this.stream.close({ signal })
  }

  reset () {
    this.stream.abort(new Error('reset by the test peer'))
  }
}
