package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	protoEcho   = "/warren-test/echo/1.0.0"
	protoSink   = "/warren-test/sink/1.0.0"
	protoSource = "/warren-test/source/1.0.0"
	protoReset  = "/warren-test/reset/1.0.0"
	protoPerf   = "/perf/1.0.0"

	resetCode = 0x77
	ioChunk   = 64 << 10
	serveTime = 10 * time.Minute // no handler outlives this
)

type counters struct {
	ConnsOpened, ConnsClosed, Echo, Sink, Source, Reset, Perf atomic.Int64
	ResetsSeen, ResetEofs, HandlerErrors, BytesIn, BytesOut   atomic.Int64
}

func (c *counters) export() reply {
	return reply{"connsOpened": c.ConnsOpened.Load(), "connsClosed": c.ConnsClosed.Load(),
		"echo": c.Echo.Load(), "sink": c.Sink.Load(), "source": c.Source.Load(), "reset": c.Reset.Load(),
		"perf": c.Perf.Load(), "resetsSeen": c.ResetsSeen.Load(), "resetEofs": c.ResetEofs.Load(),
		"handlerErrors": c.HandlerErrors.Load(), "bytesIn": c.BytesIn.Load(), "bytesOut": c.BytesOut.Load()}
}

// noise block that all payloads are cut from; its odd length keeps it from lining up with any buffer.
var payloadBlock = func() []byte {
	b := make([]byte, 1<<20+4099)
	rand.Read(b)
	return b
}()

// payload is an endless reader of pseudo-random bytes.
type payload struct{ at int }

func (p *payload) next(max int) []byte {
	b := payloadBlock[p.at:]
	if len(b) > max {
		b = b[:max]
	}
	p.at = (p.at + len(b)) % len(payloadBlock)
	return b
}

type handler func(s network.Stream) error

func (h *node) serve() {
	h.handle(protoEcho, &h.counters.Echo, h.serveEcho)
	h.handle(protoSink, &h.counters.Sink, h.serveSink)
	h.handle(protoSource, &h.counters.Source, h.serveSource)
	h.handle(protoReset, &h.counters.Reset, h.serveReset)
	h.handle(protoPerf, &h.counters.Perf, h.servePerf)
}

func (h *node) handle(id string, served *atomic.Int64, f handler) {
	h.host.SetStreamHandler(protocolID(id), func(s network.Stream) {
		s.SetDeadline(time.Now().Add(serveTime))
		if err := f(s); err != nil {
			h.counters.HandlerErrors.Add(1)
			fmt.Fprintf(os.Stderr, "%s: %v\n", id, err)
			s.Reset()
			return
		}
		served.Add(1)
		s.Close()
	})
}

func (h *node) serveEcho(s network.Stream) error {
	buf := make([]byte, ioChunk)
	for {
		n, err := s.Read(buf)
		h.counters.BytesIn.Add(int64(n))
		if n > 0 {
			if _, werr := s.Write(buf[:n]); werr != nil {
				return werr
			}
			h.counters.BytesOut.Add(int64(n))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h *node) serveSink(s network.Stream) error {
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{s}, make([]byte, ioChunk))
	if err != nil {
		return err
	}
	h.counters.BytesIn.Add(n)
	_, err = s.Write(binary.BigEndian.AppendUint64(sum.Sum(nil), uint64(n)))
	return err
}

func (h *node) serveSource(s network.Stream) error {
	var head [8]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return err
	}
	sum := sha256.New()
	p := payload{}
	for left := int64(binary.BigEndian.Uint64(head[:])); left > 0; {
		b := p.next(int(min(left, ioChunk)))
		sum.Write(b)
		if _, err := s.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
		h.counters.BytesOut.Add(int64(len(b)))
	}
	_, err := s.Write(sum.Sum(nil))
	return err
}

func (h *node) serveReset(s network.Stream) error {
	var op [1]byte
	if _, err := io.ReadFull(s, op[:]); err != nil {
		return err
	}
	switch op[0] {
	case 1:
		return s.ResetWithError(resetCode)
	case 2:
		if _, err := s.Write(op[:]); err != nil {
			return err
		}
		if _, err := s.Read(op[:]); err == io.EOF {
			h.counters.ResetEofs.Add(1)
		} else if err != nil {
			h.counters.ResetsSeen.Add(1)
		} else {
			return fmt.Errorf("bytes after op 2")
		}
		return nil
	}
	return fmt.Errorf("unknown op %d", op[0])
}

func (h *node) servePerf(s network.Stream) error {
	var head [8]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return err
	}
	buf := make([]byte, ioChunk)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, buf)
	if err != nil {
		return err
	}
	h.counters.BytesIn.Add(n)
	p := payload{}
	for left := int64(binary.BigEndian.Uint64(head[:])); left > 0; {
		b := p.next(int(min(left, ioChunk)))
		if _, err := s.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
		h.counters.BytesOut.Add(int64(len(b)))
	}
	return nil
}
