package main

import (
	"flag"
	"net"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
)

// retry: whoever dials over QUIC has to prove its address first.
var retry = flag.Bool("retry", false, "QUIC dialers have to prove their address")

func retryOption() libp2p.Option {
	always := quicreuse.VerifySourceAddress(func(net.Addr) bool { return true })
	return libp2p.QUICReuse(quicreuse.NewConnManager, always)
}
